//! A till: the sample shop's application at one site, which sells by itself while it is open. It
//! knows nothing of the node beside it.

use super::meter::Board;
use super::shop::Shop;
use crate::environment::{BoxFuture, Environment, TaskHandle, Worker};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// From one customer to the next.
const CUSTOMER: Duration = Duration::from_millis(50);

/// What a till did, by its own count.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Orders placed, those before the demo included.
    pub orders: u64,
    /// Sales during the demo.
    pub sales: u64,
    /// Orders that were brought back.
    pub returns: u64,
    /// Other transactions: prices, names, points, counts, new products.
    pub others: u64,
}

/// One shop's till.
#[derive(Debug)]
pub struct Till {
    site: usize,
    worker: Worker<Application>,
    board: Arc<Mutex<Board>>,
    open: Option<Box<dyn TaskHandle>>,
}

#[derive(Debug)]
struct Application {
    connection: Connection,
    shop: Shop,
    turn: u64,
    books: Books,
}

impl Till {
    /// Makes the shop's database, with `size` products.
    ///
    /// # Errors
    /// SQLite's.
    pub async fn make(
        environment: &Arc<dyn Environment>,
        board: &Arc<Mutex<Board>>,
        site: usize,
        path: &Path,
        size: u32,
    ) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = environment.open_database(path, flags)?;
        // The wait that applications are used to.
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch("PRAGMA journal_mode = WAL")?;
        let application =
            Application { connection, shop: Shop::open(0), turn: 0, books: Books::default() };
        let worker = Worker::new(&**environment, "till", application);
        worker.step("till.make", move |application| application.make(site, size)).await?;
        Ok(Self { site, worker, board: Arc::clone(board), open: None })
    }

    /// Opens: from now on customers come.
    pub fn open(&mut self, environment: &dyn Environment) {
        let (worker, board, site) = (self.worker.clone(), Arc::clone(&self.board), self.site);
        let task: BoxFuture<'static, ()> = Box::pin(async move {
            let mut customers = tokio::time::interval(CUSTOMER);
            customers.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                customers.tick().await;
                let board = Arc::clone(&board);
                worker
                    .step("till.serve", move |application| {
                        let served = application.serve(&board, site);
                        let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Err(error) = served {
                            board.trouble.get_or_insert(error.to_string());
                        }
                        if let Some(books) = board.books.get_mut(site) {
                            *books = application.books.clone();
                        }
                    })
                    .await;
            }
        });
        self.open = Some(environment.spawn(task));
    }

    /// Closes, and lets the last customer go.
    pub async fn close(&mut self) {
        if let Some(task) = self.open.take() {
            task.abort();
        }
        self.worker.step("till.close", |_| ()).await;
    }
}

impl Drop for Till {
    fn drop(&mut self) {
        if let Some(task) = self.open.take() {
            task.abort();
        }
    }
}

impl Application {
    fn make(&mut self, site: usize, size: u32) -> rusqlite::Result<()> {
        self.shop = Shop::create(&mut self.connection, site as u64 + 1, size)?;
        let sql = "SELECT count(*) FROM orders";
        let orders: i64 = self.connection.query_row(sql, [], |row| row.get(0))?;
        self.books.orders = orders.unsigned_abs();
        Ok(())
    }

    /// One customer, and now and then something else.
    fn serve(&mut self, board: &Mutex<Board>, site: usize) -> rusqlite::Result<()> {
        let board = || board.lock().unwrap_or_else(PoisonError::into_inner);
        self.turn += 1;
        let sale = self.shop.sell(&mut self.connection)?;
        board().sold(site, sale.order, Instant::now());
        self.books.orders += 1;
        self.books.sales += 1;
        if self.turn.is_multiple_of(3) {
            self.shop.edit(&mut self.connection)?;
            self.books.others += 1;
        }
        if self.turn.is_multiple_of(11) {
            self.shop.new_product(&mut self.connection)?;
            self.books.others += 1;
        }
        if self.turn.is_multiple_of(7)
            && let Some(order) = self.shop.return_goods(&mut self.connection)?
        {
            board().returned(site, order);
            self.books.returns += 1;
        }
        Ok(())
    }
}
