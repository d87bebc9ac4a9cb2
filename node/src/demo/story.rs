//! The demo's story, act by act, with the figures that each act measured. Everything that it says
//! was seen in this run.

use super::compare::{Comparison, compare};
use super::meter::{Board, SITES};
use super::screen::{count, size};
use super::stage::{DATABASE, Demo, copies, name, own};
use crate::environment::Worker;
use crate::failure::Failure;
use crate::status::Status;
use rusqlite::OpenFlags;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const DOWNTOWN: usize = 0;
const UPTOWN: usize = 1;
const HARBOUR: usize = 2;
/// Products of each shop at the beginning.
const PRODUCTS: [u32; SITES] = [1000, 40, 40];
/// How long one of the later acts goes on, at most.
const ACT: Duration = Duration::from_secs(3);

/// What the demo found.
#[derive(Debug)]
pub struct Told {
    /// The JSON of the whole.
    pub document: Value,
    /// Whether every copy is its original's equal, by rows and by the tills' own count.
    pub identical: bool,
}

impl Demo {
    /// Tells the whole story.
    ///
    /// # Errors
    /// A step that could not be done.
    pub async fn tell(&mut self) -> Result<Told, Failure> {
        let begun = Instant::now();
        self.screen.say(
            "Three shops on this machine. Each has a till with a SQLite database of its own and, \
             beside it, a node: a process like any `node run`. They talk QUIC through relays on \
             127.0.0.1, so that a line can be cut. All figures are measured in this run; a real \
             line adds its own delay.",
        )?;
        let mut acts = Vec::new();
        acts.push(self.shops_open().await?);
        acts.push(self.sales().await?);
        acts.push(self.night().await?);
        acts.push(self.cut_line().await?);
        acts.push(self.crash().await?);
        let (act, identical) = self.comparison().await?;
        let seconds = begun.elapsed().as_secs_f64();
        self.screen.line("")?;
        self.screen.say(&match identical {
            true => format!("Every copy has all that its original has. {seconds:.0} s in all."),
            false => "NOT every copy has what its original has: see above.".to_owned(),
        })?;
        let mut document = json!({"identical": identical, "seconds": round(seconds), "acts": acts});
        if let (Some(document), Value::Object(act)) = (document.as_object_mut(), act) {
            document.extend(act);
        }
        Ok(Told { document, identical })
    }

    async fn shops_open(&mut self) -> Result<Value, Failure> {
        self.begin("1. Three shops open")?;
        self.build(PRODUCTS).await?;
        self.screen.say(
            "downtown has been open for years, uptown and harbour are new. `attach` puts each \
             till's database under sync, and every shop gets a first copy of the two others.",
        )?;
        self.found(DOWNTOWN).await?;
        let invited = Instant::now();
        self.found(UPTOWN).await?;
        self.found(HARBOUR).await?;
        self.show_until("The first copy of each database", |board, known| {
            settled(known) && whole(board)
        })
        .await?;
        let seconds = invited.elapsed().as_secs_f64();
        let rows: u64 = self.board().rows.iter().sum();
        let bytes = self.line_bytes();
        self.screen.say(&format!(
            "{} rows at three shops, and all six copies there {seconds:.1} s after the first \
             invitation. {} went over the lines for six copies of {} in all.",
            count(rows),
            size(bytes),
            size(self.board().sizes.iter().map(|size| size * (SITES as u64 - 1)).sum()),
        ))?;
        Ok(json!({"act": 1, "title": "three shops open", "rows": rows,
            "first_copies_s": round(seconds), "line_bytes": bytes}))
    }

    async fn sales(&mut self) -> Result<Value, Failure> {
        self.begin("2. A busy hour")?;
        self.screen.say(
            "All three tills sell, change prices and take goods back, each some 20 customers a \
             second. A batch is closed at most a second after its first change, so a copy is \
             about a second behind.",
        )?;
        let (books, bytes, sent, batches) =
            (self.sold(), self.line_bytes(), self.sent(), self.batches());
        self.board().copies.iter_mut().for_each(|copy| copy.delays.clear());
        for site in 0..SITES {
            self.open_till(site);
        }
        self.show_for(self.sales).await?;
        let sold = self.sold();
        let (sales, others) = (sold.0 - books.0, sold.1 - books.1);
        let end = Instant::now();
        self.show_until("The last copy", |board, _| board.missing(end, None) == 0).await?;
        let mut delays: Vec<Duration> = self
            .board()
            .copies
            .iter_mut()
            .flat_map(|copy| std::mem::take(&mut copy.delays))
            .collect();
        delays.sort_unstable();
        let (p50, p99) = (percentile(&delays, 50), percentile(&delays, 99));
        let bytes = self.line_bytes().saturating_sub(bytes);
        let batches = self.batches().saturating_sub(batches);
        let sent: Vec<u64> =
            self.sent().iter().zip(sent).map(|(now, then)| now.saturating_sub(then)).collect();
        self.screen.say(&format!(
            "{} sales and {} other transactions. From the commit at the till until the sale can \
             be read at another shop: half within {p50:.2} s, 99 of 100 within {p99:.2} s ({} \
             measured).",
            count(sales),
            count(others),
            count(delays.len() as u64),
        ))?;
        let each: Vec<String> = sent
            .iter()
            .enumerate()
            .map(|(site, bytes)| format!("{} sent {}", name(site), size(*bytes)))
            .collect();
        self.screen.say(&format!(
            "{} to both others, in {} batches; {} on the lines with all headers.",
            each.join(", "),
            count(batches),
            size(bytes),
        ))?;
        Ok(json!({"act": 2, "title": "a busy hour", "sales": sales, "other_transactions": others,
            "visible_p50_s": round(p50), "visible_p99_s": round(p99), "measured": delays.len(),
            "batches": batches, "line_bytes": bytes,
            "sent_bytes": {name(0): sent.first(), name(1): sent.get(1), name(2): sent.get(2)}}))
    }

    async fn night(&mut self) -> Result<Value, Failure> {
        self.begin("3. uptown is switched off for the night")?;
        let off = Instant::now();
        self.switch_off(UPTOWN).await?;
        let off = off.elapsed().as_secs_f64();
        self.screen.say(&format!(
            "Its till is closed, its node gets SIGTERM, sends what was pending, and is gone \
             {off:.1} s later. The two others go on selling.",
        ))?;
        self.show_for(self.act()).await?;
        self.screen.say("In the morning it is switched on again.")?;
        let (waiting, seconds) = {
            let on = Instant::now();
            let waiting = self.board().missing(on, Some(UPTOWN));
            self.switch_on(UPTOWN).await?;
            self.open_till(UPTOWN);
            self.show_until("Catching up", |board, _| board.missing(on, Some(UPTOWN)) == 0).await?;
            (waiting, on.elapsed().as_secs_f64())
        };
        self.screen.say(&format!(
            "{} sales of the night were missing; all could be read at uptown {seconds:.1} s after \
             its node was started.",
            count(waiting),
        ))?;
        Ok(json!({"act": 3, "title": "switched off for the night", "switch_off_s": round(off),
            "missing_sales": waiting, "catch_up_s": round(seconds)}))
    }

    async fn cut_line(&mut self) -> Result<Value, Failure> {
        self.begin("4. harbour's line is cut")?;
        self.cut(HARBOUR);
        self.screen.say(
            "Nothing gets to harbour or from it, and nobody is told. All three tills go on \
             selling; none of them waits for a line.",
        )?;
        self.show_for(self.act()).await?;
        let healed = Instant::now();
        let waiting = self.board().missing(healed, Some(HARBOUR));
        self.heal();
        self.screen.say("The line is back.")?;
        self.show_until("Catching up", |board, _| board.missing(healed, Some(HARBOUR)) == 0)
            .await?;
        let seconds = healed.elapsed().as_secs_f64();
        self.screen.say(&format!(
            "{} times a sale was missing, at harbour or one of harbour's at another shop; all could \
             be read {seconds:.1} s after the line was back.",
            count(waiting),
        ))?;
        Ok(json!({"act": 4, "title": "a line is cut", "missing_sales": waiting,
            "catch_up_s": round(seconds)}))
    }

    async fn crash(&mut self) -> Result<Value, Failure> {
        self.begin("5. downtown's node is killed in the middle of sales")?;
        let killed = Instant::now();
        self.kill(DOWNTOWN).await?;
        let before = self.board().books.first().map_or(0, |books| books.sales);
        self.screen.say(
            "SIGKILL: it can't put anything in order. Its till does not notice and sells on; the \
             database itself notes what changes.",
        )?;
        self.show_for(self.act()).await?;
        let on = Instant::now();
        let alone = self.board().books.first().map_or(0, |books| books.sales) - before;
        self.screen.say("It is started again.")?;
        self.switch_on(DOWNTOWN).await?;
        self.show_until("Catching up", |board, _| board.missing(on, Some(DOWNTOWN)) == 0).await?;
        let seconds = on.elapsed().as_secs_f64();
        let down = on.duration_since(killed).as_secs_f64();
        self.screen.say(&format!(
            "{} sales were made at downtown in the {down:.1} s without a node; they could be read at \
             the others, and theirs at downtown, {seconds:.1} s after it was started.",
            count(alone),
        ))?;
        Ok(json!({"act": 5, "title": "a node is killed", "sales_without_node": alone,
            "catch_up_s": round(seconds)}))
    }

    async fn comparison(&mut self) -> Result<(Value, bool), Failure> {
        self.begin("6. Every copy is compared with its original")?;
        self.screen.say(
            "The tills close. Row by row and bit by bit, by code that has nothing in common with \
             what made the copies; and each copy's orders are counted against the till's own books.",
        )?;
        for site in 0..SITES {
            self.close_till(site).await;
        }
        let closed = Instant::now();
        self.show_until("Catching up", |board, known| {
            board.missing(closed, None) == 0 && settled(known) && whole(board)
        })
        .await?;
        let mut statuses = Vec::new();
        for site in 0..SITES {
            statuses.push(self.final_status(site).await?);
        }
        self.switch_all_off().await?;
        self.screen.line("")?;
        self.screen.line(&format!(
            "  {:<16}{:<12}{:>8}{:>8}{:>9}",
            "database", "copy at", "tables", "rows", "orders"
        ))?;
        let judge = Worker::new(&*self.environment, "judge", ());
        let (mut found, mut identical) = (Vec::new(), true);
        for (origin, at) in copies() {
            let compared = self.judge(&judge, origin, at).await?;
            let books = self.board().books.get(origin).cloned().unwrap_or_default();
            let booked = books.orders.saturating_sub(books.returns);
            let (comparison, orders) = compared;
            let same = comparison.identical() && orders == booked;
            identical &= same;
            let database = format!("{DATABASE}@{}", name(origin));
            self.screen.line(&format!(
                "  {database:<16}{:<12}{:>8}{:>8}{:>9}  {}",
                name(at),
                comparison.tables,
                count(comparison.rows),
                count(orders),
                match (same, comparison.found) {
                    (true, _) => "identical".to_owned(),
                    (false, 0) => format!("THE TILL'S BOOKS SAY {booked} ORDERS"),
                    (false, found) => format!("{found} DIFFERENCES"),
                },
            ))?;
            for difference in &comparison.differences {
                self.screen.line(&format!("    {difference:?}"))?;
            }
            found.push(json!({"database": database, "at": name(at), "tables": comparison.tables,
                "rows": comparison.rows, "orders": orders, "booked_orders": booked,
                "identical": same, "differences": comparison.found}));
        }
        self.screen.line("")?;
        let mut sites = Vec::new();
        for (site, status) in statuses.iter().enumerate() {
            sites.push(self.tell_status(site, status)?);
        }
        Ok((json!({"copies": found, "sites": sites}), identical))
    }

    fn tell_status(&mut self, site: usize, status: &Status) -> Result<Value, Failure> {
        let own = own(Some(status));
        let safe = own.is_some_and(|own| own.safe == Some(true));
        let sequence = own.map_or(0, |own| own.sequence);
        let sales = self.board().books.get(site).map_or(0, |books| books.sales);
        self.screen.line(&format!(
            "  status of {:<10} {}  batch {sequence}, {} pending, {} sales in this demo",
            name(site),
            if safe { "SAFE    " } else { "NOT SAFE" },
            own.and_then(|own| own.pending_changes).map_or("?".to_owned(), count),
            count(sales),
        ))?;
        for alarm in &status.alarms {
            self.screen.say(&format!("  {}: {} {}", alarm.severity, alarm.what, alarm.remedy))?;
        }
        Ok(json!({"site": name(site), "safe": safe, "sequence": sequence, "sales": sales,
            "alarms": status.alarms}))
    }

    async fn judge(
        &self,
        judge: &Worker<()>,
        origin: usize,
        at: usize,
    ) -> Result<(Comparison, u64), Failure> {
        let (original, copy) = (self.original(origin), self.copy(origin, at));
        let environment = self.environment.clone();
        let compared = judge.step("judge.compare", move |()| {
            let comparison = compare(&original, &copy).map_err(|error| error.to_string())?;
            let count = || {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
                let connection = environment.open_database(&copy, flags)?;
                connection.query_row("SELECT count(*) FROM orders", [], |row| row.get::<_, i64>(0))
            };
            let orders = count().map_err(|error| format!("{}: {error}", copy.display()))?;
            Ok((comparison, orders.unsigned_abs()))
        });
        compared.await.map_err(|error: String| {
            Failure::unable(format!("A copy can't be compared: {error}."), "Look at the logs.")
        })
    }

    /// How long one of the later acts goes on.
    fn act(&self) -> Duration {
        self.sales.min(ACT)
    }

    /// Sales and other transactions at all tills.
    fn sold(&self) -> (u64, u64) {
        let board = self.board();
        let sum = |of: fn(&super::till::Books) -> u64| board.books.iter().map(of).sum();
        (sum(|books| books.sales), sum(|books| books.returns + books.others))
    }

    /// What the lines carried so far, with the headers of UDP and IP.
    fn line_bytes(&self) -> u64 {
        let carried = self.lines.iter().map(super::relay::Relay::carried);
        carried.map(|(there, back)| there.line_bytes() + back.line_bytes()).sum()
    }

    /// What each site says that it sent.
    fn sent(&self) -> [u64; SITES] {
        self.known.each_ref().map(|status| {
            let peers = status.iter().flat_map(|status| &status.peers);
            peers.map(|peer| peer.sent_bytes).sum()
        })
    }

    /// Batches that all sites made.
    fn batches(&self) -> u64 {
        self.known.iter().filter_map(|status| own(status.as_ref())).map(|own| own.sequence).sum()
    }
}

/// Every site says that its database is safe, and shown at both others.
fn settled(known: &[Option<Status>; SITES]) -> bool {
    known.iter().all(|status| {
        own(status.as_ref()).is_some_and(|own| {
            let copies = own.copies.as_deref().unwrap_or_default();
            own.safe == Some(true)
                && own.pending_changes == Some(0)
                && copies.len() == SITES - 1
                && copies.iter().all(|copy| copy.applied_sequence >= own.sequence)
        })
    })
}

/// Every copy has as many rows as its original.
fn whole(board: &Board) -> bool {
    let same = |copy: &super::meter::CopyBoard| board.rows.get(copy.origin) == Some(&copy.rows);
    board.copies.iter().all(same)
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).map_or(0.0, Duration::as_secs_f64)
}

fn round(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
