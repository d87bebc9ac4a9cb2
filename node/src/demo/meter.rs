//! The meter: looks at every copy many times a second, through a connection of its own as any
//! reader has, and notes when each sale of the tills becomes visible there. It asks no node.

use super::till::Books;
use crate::environment::{BoxFuture, Environment, TaskHandle, Worker};
use rusqlite::{Connection, OpenFlags};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// From one look to the next: so exact is what it measures.
pub const LOOK: Duration = Duration::from_millis(10);
/// Rows are counted at each so many looks.
const COUNT: u32 = 20;
/// How many sites there are.
pub const SITES: usize = 3;

/// What the meter and the tills write down, for the story to read.
#[derive(Debug, Default)]
pub struct Board {
    /// What each till did.
    pub books: [Books; SITES],
    /// Rows in each original.
    pub rows: [u64; SITES],
    /// Bytes of each original.
    pub sizes: [u64; SITES],
    /// The copies.
    pub copies: Vec<CopyBoard>,
    /// The first thing that went wrong with a till.
    pub trouble: Option<String>,
}

/// One copy, as the meter sees it.
#[derive(Debug)]
pub struct CopyBoard {
    /// Whose database it is.
    pub origin: usize,
    /// Where the copy is.
    pub at: usize,
    /// Rows in it.
    pub rows: u64,
    /// Sales committed and not yet seen here: the order, and when it was committed.
    pub missing: VecDeque<(i64, Instant)>,
    /// From commit to visible, of the sales since they were taken last.
    pub delays: Vec<Duration>,
}

impl CopyBoard {
    /// For how long something has been missing.
    pub fn behind(&self) -> Duration {
        self.missing.front().map_or(Duration::ZERO, |(_, committed)| committed.elapsed())
    }
}

impl Board {
    /// A till sold something.
    pub fn sold(&mut self, origin: usize, order: i64, committed: Instant) {
        for copy in self.copies.iter_mut().filter(|copy| copy.origin == origin) {
            copy.missing.push_back((order, committed));
        }
    }

    /// An order was brought back: whether it was seen before can't be told any more.
    pub fn returned(&mut self, origin: usize, order: i64) {
        for copy in self.copies.iter_mut().filter(|copy| copy.origin == origin) {
            copy.missing.retain(|(missing, _)| *missing != order);
        }
    }

    /// How many sales before `moment` are missing, counted once for each copy that lacks them: of
    /// the copies at a site and those of its database, or of all.
    pub fn missing(&self, moment: Instant, site: Option<usize>) -> u64 {
        let concerned =
            |copy: &&CopyBoard| site.is_none_or(|site| copy.origin == site || copy.at == site);
        let older = |copy: &CopyBoard| {
            copy.missing.iter().take_while(|(_, committed)| *committed < moment).count() as u64
        };
        self.copies.iter().filter(concerned).map(older).sum()
    }
}

/// The meter.
#[derive(Debug)]
pub struct Meter {
    readers: Worker<Readers>,
    task: Box<dyn TaskHandle>,
}

/// The connections: to originals and copies that may be looked at now.
#[derive(Debug)]
struct Readers {
    environment: Arc<dyn Environment>,
    board: Arc<Mutex<Board>>,
    /// A computer that is switched off shows nothing.
    awake: [bool; SITES],
    looks: u32,
    originals: Vec<Reader>,
    copies: Vec<Reader>,
}

#[derive(Debug)]
struct Reader {
    site: usize,
    path: PathBuf,
    connection: Option<Connection>,
}

impl Meter {
    /// Looks at the `originals`, one a site, and at the copies: origin, place and path. Computers
    /// sleep until they are woken.
    pub fn start(
        environment: &Arc<dyn Environment>,
        board: &Arc<Mutex<Board>>,
        originals: Vec<PathBuf>,
        copies: Vec<(usize, usize, PathBuf)>,
    ) -> Self {
        let reader = |site, path| Reader { site, path, connection: None };
        let mut places = board.lock().unwrap_or_else(PoisonError::into_inner);
        places.copies = copies
            .iter()
            .map(|(origin, at, _)| CopyBoard {
                origin: *origin,
                at: *at,
                rows: 0,
                missing: VecDeque::new(),
                delays: Vec::new(),
            })
            .collect();
        drop(places);
        let readers = Readers {
            environment: Arc::clone(environment),
            board: Arc::clone(board),
            awake: [false; SITES],
            looks: 0,
            originals: originals.into_iter().enumerate().map(|(n, p)| reader(n, p)).collect(),
            copies: copies.into_iter().map(|(_, at, path)| reader(at, path)).collect(),
        };
        let readers = Worker::new(&**environment, "meter", readers);
        let looking = readers.clone();
        let task: BoxFuture<'static, ()> = Box::pin(async move {
            let mut looks = tokio::time::interval(LOOK);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                looking.step("meter.look", Readers::look).await;
            }
        });
        Self { readers, task: environment.spawn(task) }
    }

    /// The copies at a site may be looked at from now on, or no longer.
    pub async fn set_awake(&self, site: usize, awake: bool) {
        self.readers
            .step("meter.wake", move |readers| {
                if let Some(place) = readers.awake.get_mut(site) {
                    *place = awake;
                }
                for reader in readers.copies.iter_mut().filter(|reader| reader.site == site) {
                    reader.connection = None;
                }
            })
            .await;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Readers {
    fn look(&mut self) {
        let counting = self.looks.is_multiple_of(COUNT);
        self.looks = self.looks.wrapping_add(1);
        for (index, reader) in self.copies.iter_mut().enumerate() {
            if !self.awake.get(reader.site).is_some_and(|awake| *awake) {
                continue;
            }
            let newest = reader.ask(&*self.environment, newest_order);
            let seen = Instant::now();
            let rows = if counting { reader.ask(&*self.environment, all_rows) } else { None };
            let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(copy) = board.copies.get_mut(index) else { continue };
            if let Some(rows) = rows {
                copy.rows = rows.unsigned_abs();
            }
            let Some(newest) = newest else { continue };
            while let Some((order, committed)) = copy.missing.front().copied()
                && order <= newest
            {
                copy.delays.push(seen.saturating_duration_since(committed));
                copy.missing.pop_front();
            }
        }
        if counting {
            for reader in &mut self.originals {
                let rows = reader.ask(&*self.environment, all_rows);
                let size = reader.ask(&*self.environment, pages);
                let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
                if let (Some(rows), Some(place)) = (rows, board.rows.get_mut(reader.site)) {
                    *place = rows.unsigned_abs();
                }
                if let (Some(size), Some(place)) = (size, board.sizes.get_mut(reader.site)) {
                    *place = size.unsigned_abs();
                }
            }
        }
    }
}

impl Reader {
    /// What the file says; `None` where there is none yet, or just now none to be read.
    fn ask(
        &mut self,
        environment: &dyn Environment,
        question: fn(&Connection) -> rusqlite::Result<i64>,
    ) -> Option<i64> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                environment.open_database(&self.path, flags).ok()?
            }
        };
        let answer = question(&connection).ok()?;
        // After an error the file is opened anew.
        self.connection = Some(connection);
        Some(answer)
    }
}

fn newest_order(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT coalesce(max(id), 0) FROM orders")?
        .query_row([], |row| row.get(0))
}

fn pages(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?
        .query_row([], |row| row.get(0))
}

fn all_rows(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM products) + (SELECT count(*) FROM customers) \
             + (SELECT count(*) FROM orders) + (SELECT count(*) FROM order_lines) \
             + (SELECT count(*) FROM payments) + (SELECT count(*) FROM stock)",
        )?
        .query_row([], |row| row.get(0))
}
