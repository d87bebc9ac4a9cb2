//! A sample shop: an application as one finds it beside a till, on a SQLite database of its own.
//!
//! It knows nothing of the node. It opens transactions and runs plain SQL that SQLite 3.8 would
//! take, and leaves to the schema what a schema can do: keys that count up, foreign keys that
//! cascade, checks, a trigger that keeps totals. What happens is decided by the seed alone, also
//! what time it is: the shop opens on 2026-03-02 at 08:00 and every call takes a while.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

const SCHEMA: &str = "
CREATE TABLE products (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sku TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  category TEXT NOT NULL DEFAULT 'other',
  price_cents INTEGER NOT NULL CHECK (price_cents >= 0),
  vat REAL NOT NULL DEFAULT 0.19
);
CREATE TABLE customers (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  email TEXT UNIQUE COLLATE NOCASE,
  joined_on TEXT NOT NULL,
  points INTEGER NOT NULL DEFAULT 0 CHECK (points >= 0)
);
CREATE TABLE orders (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  customer_id INTEGER REFERENCES customers (id) ON DELETE SET NULL,
  placed_at TEXT NOT NULL,
  till TEXT NOT NULL CHECK (till IN ('front', 'back')),
  total_cents INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE order_lines (
  order_id INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
  line INTEGER NOT NULL,
  product_id INTEGER NOT NULL REFERENCES products (id),
  quantity INTEGER NOT NULL CHECK (quantity > 0),
  price_cents INTEGER NOT NULL,
  PRIMARY KEY (order_id, line)
);
CREATE TABLE payments (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  order_id INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
  method TEXT NOT NULL CHECK (method IN ('cash', 'card')),
  amount_cents INTEGER NOT NULL,
  paid_at TEXT NOT NULL
);
CREATE TABLE stock (
  product_id INTEGER PRIMARY KEY REFERENCES products (id) ON DELETE CASCADE,
  on_hand INTEGER NOT NULL,
  counted_on TEXT
);
CREATE INDEX orders_by_time ON orders (placed_at);
CREATE INDEX order_lines_by_product ON order_lines (product_id);
CREATE INDEX payments_by_order ON payments (order_id);
CREATE VIEW takings AS
  SELECT substr(placed_at, 1, 10) AS day, count(*) AS orders, sum(total_cents) AS cents
  FROM orders GROUP BY day;
CREATE TRIGGER order_lines_total AFTER INSERT ON order_lines BEGIN
  UPDATE orders SET total_cents = total_cents + new.quantity * new.price_cents
  WHERE id = new.order_id;
END;
PRAGMA user_version = 3;
";

/// What is 0 after every transaction of the shop: the sum of all orders less all payments.
pub const BALANCE: &str = "SELECT (SELECT coalesce(sum(total_cents), 0) FROM orders) \
     - (SELECT coalesce(sum(amount_cents), 0) FROM payments)";

/// The application: its dice and its clock. The database is handed in at every call.
#[derive(Clone, Debug)]
pub struct Shop {
    dice: Dice,
    /// Seconds since 1970.
    now: i64,
}

/// A sale, as it is on the receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    /// The order's number.
    pub order: i64,
    /// How many things of which name.
    pub lines: Vec<(i64, String)>,
    /// The sum, in cents.
    pub total_cents: i64,
    /// How it was paid.
    pub method: &'static str,
}

impl Shop {
    /// Makes the tables, `size` products (at least one) with their stock, half as many customers and three
    /// orders a product, in one transaction.
    ///
    /// # Errors
    /// SQLite's, as in all calls.
    pub fn create(connection: &mut Connection, seed: u64, size: u32) -> rusqlite::Result<Self> {
        connection.execute_batch("PRAGMA foreign_keys = ON")?;
        let size = size.max(1);
        let mut shop = Self::open(seed);
        let transaction = begin(connection)?;
        transaction.execute_batch(SCHEMA)?;
        for _ in 0..size {
            shop.add_product(&transaction)?;
        }
        for _ in 0..size.div_ceil(2) {
            shop.add_customer(&transaction)?;
        }
        for _ in 0..size.saturating_mul(3) {
            shop.add_order(&transaction)?;
        }
        transaction.commit()?;
        Ok(shop)
    }

    /// The application started anew on a database that [`Shop::create`] made: other dice, and a
    /// clock that begins again.
    pub fn open(seed: u64) -> Self {
        Self { dice: Dice(seed), now: 1_772_438_400 }
    }

    /// Somebody buys three to five things: order, lines, payment and stock in one transaction.
    ///
    /// # Errors
    /// SQLite's.
    pub fn sell(&mut self, connection: &mut Connection) -> rusqlite::Result<Sale> {
        let transaction = begin(connection)?;
        let sale = self.add_order(&transaction)?;
        transaction.commit()?;
        Ok(sale)
    }

    /// Somebody at the desk changes one thing: a price, a name, a customer's points, a count of
    /// the stock, or swaps two products' shelf codes. Says what.
    ///
    /// # Errors
    /// SQLite's.
    pub fn edit(&mut self, connection: &mut Connection) -> rusqlite::Result<String> {
        self.now += 60;
        let transaction = begin(connection)?;
        let product = self.pick(&transaction, "products")?;
        let done = match self.dice.below(5) {
            0 => {
                let price = self.dice.between(50, 20_000);
                let sql = "UPDATE products SET price_cents = ?1 WHERE id = ?2";
                transaction.execute(sql, [price, product])?;
                format!("product {product} now costs {price} cents")
            }
            1 => {
                let name = self.product_name();
                let sql = "UPDATE products SET name = ?1 WHERE id = ?2";
                transaction.execute(sql, params![name, product])?;
                format!("product {product} is now called {name}")
            }
            2 => {
                let customer = self.pick(&transaction, "customers")?;
                let points = self.dice.between(1, 100);
                let sql = "UPDATE customers SET points = points + ?1 WHERE id = ?2";
                transaction.execute(sql, [points, customer])?;
                format!("customer {customer} gets {points} points")
            }
            3 => {
                let count = self.dice.between(0, 500);
                let sql = "UPDATE stock SET on_hand = ?1, counted_on = ?2 WHERE product_id = ?3";
                transaction.execute(sql, params![count, &self.time()[..10], product])?;
                format!("{count} of product {product} were counted")
            }
            _ => {
                let other = self.pick(&transaction, "products")?;
                let sku = |id: i64| -> rusqlite::Result<String> {
                    let sql = "SELECT sku FROM products WHERE id = ?1";
                    transaction.query_row(sql, [id], |row| row.get(0))
                };
                let (first, second) = (sku(product)?, sku(other)?);
                let sql = "UPDATE products SET sku = ?1 WHERE id = ?2";
                transaction.execute(sql, params![format!("{first}-moving"), product])?;
                transaction.execute(sql, params![first, other])?;
                // A product swapped with itself ends where it began.
                transaction.execute(sql, params![second, product])?;
                format!("products {product} and {other} change places on the shelf")
            }
        };
        transaction.commit()?;
        Ok(done)
    }

    /// A customer brings an order back: it goes, with its lines and payment, and the goods return
    /// to the stock. Gives the order's number; `None` where there is none left.
    ///
    /// # Errors
    /// SQLite's.
    pub fn return_goods(&mut self, connection: &mut Connection) -> rusqlite::Result<Option<i64>> {
        self.now += 120;
        let transaction = begin(connection)?;
        let order = self.pick(&transaction, "orders").optional()?;
        if let Some(order) = order {
            transaction.execute(
                "UPDATE stock SET on_hand = on_hand + (SELECT sum(quantity) FROM order_lines \
                 WHERE order_id = ?1 AND product_id = stock.product_id) WHERE product_id IN \
                 (SELECT product_id FROM order_lines WHERE order_id = ?1)",
                [order],
            )?;
            transaction.execute("DELETE FROM orders WHERE id = ?1", [order])?;
        }
        transaction.commit()?;
        Ok(order)
    }

    /// A new product comes into the shop, with its stock. Gives its number.
    ///
    /// # Errors
    /// SQLite's.
    pub fn new_product(&mut self, connection: &mut Connection) -> rusqlite::Result<i64> {
        let transaction = begin(connection)?;
        let product = self.add_product(&transaction)?;
        transaction.commit()?;
        Ok(product)
    }

    fn add_product(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
        self.now += 30;
        let name = self.product_name();
        let category = self.dice.one_of(&["kitchen", "garden", "office", "toys"]);
        let price = self.dice.between(50, 20_000);
        let vat = self.dice.one_of(&[0.07, 0.19]);
        let arrived = self.dice.between(20, 400);
        // The suffix makes it unique among all that this shop ever numbered.
        let number: i64 =
            transaction
                .query_row("SELECT coalesce(max(id), 0) + 1 FROM products", [], |row| row.get(0))?;
        let sku = format!("{}{:03}-{number}", category[..2].to_uppercase(), self.dice.below(1000));
        let mut insert = transaction.prepare_cached(
            "INSERT INTO products (sku, name, category, price_cents, vat) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let product = insert.insert(params![sku, name, category, price, vat])?;
        transaction
            .prepare_cached("INSERT INTO stock (product_id, on_hand) VALUES (?1, ?2)")?
            .execute([product, arrived])?;
        Ok(product)
    }

    fn add_customer(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
        self.now += 30;
        let first = self.dice.one_of(&["Ada", "Björn", "Chloé", "Dragan", "Eun-ji", "Fatma"]);
        let last = self.dice.one_of(&["Okafor", "Nguyễn", "O'Neill", "Müller", "Silva", "Wang"]);
        // Not everybody leaves an address.
        let email =
            (self.dice.below(4) > 0).then(|| format!("guest{}@example.com", self.dice.next()));
        let mut insert = transaction
            .prepare_cached("INSERT INTO customers (name, email, joined_on) VALUES (?1, ?2, ?3)")?;
        insert.insert(params![format!("{first} {last}"), email, &self.time()[..10]])
    }

    fn add_order(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Sale> {
        self.now += self.dice.between(20, 300);
        let time = self.time();
        let customer = match self.dice.below(3) {
            0 => self.pick(transaction, "customers").optional()?,
            _ => None,
        };
        let till = self.dice.one_of(&["front", "back"]);
        let order = transaction
            .prepare_cached(
                "INSERT INTO orders (customer_id, placed_at, till) VALUES (?1, ?2, ?3)",
            )?
            .insert(params![customer, time, till])?;
        let mut lines = Vec::new();
        for line in 1..=self.dice.between(3, 5) {
            let product = self.pick(transaction, "products")?;
            let quantity = self.dice.between(1, 4);
            let (name, price): (String, i64) = transaction
                .prepare_cached("SELECT name, price_cents FROM products WHERE id = ?1")?
                .query_row([product], |row| Ok((row.get(0)?, row.get(1)?)))?;
            transaction
                .prepare_cached("INSERT INTO order_lines VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute([order, line, product, quantity, price])?;
            transaction
                .prepare_cached("UPDATE stock SET on_hand = on_hand - ?1 WHERE product_id = ?2")?
                .execute([quantity, product])?;
            lines.push((quantity, name));
        }
        // The trigger on order_lines has added it up.
        let total_cents = transaction
            .prepare_cached("SELECT total_cents FROM orders WHERE id = ?1")?
            .query_row([order], |row| row.get(0))?;
        let method = self.dice.one_of(&["cash", "card"]);
        transaction
            .prepare_cached(
                "INSERT INTO payments (order_id, method, amount_cents, paid_at) \
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![order, method, total_cents, time])?;
        Ok(Sale { order, lines, total_cents, method })
    }

    /// The id of some row: the first at or after a random number below the greatest.
    fn pick(&mut self, transaction: &Transaction<'_>, table: &str) -> rusqlite::Result<i64> {
        let greatest: i64 = transaction
            .prepare_cached(&format!("SELECT coalesce(max(id), 0) FROM {table}"))?
            .query_row([], |row| row.get(0))?;
        let from = self.dice.between(0, greatest.max(0));
        transaction
            .prepare_cached(&format!("SELECT id FROM {table} WHERE id >= ?1 ORDER BY id LIMIT 1"))?
            .query_row([from], |row| row.get(0))
    }

    fn product_name(&mut self) -> String {
        let kind = self.dice.one_of(&["Red", "Blue", "Small", "Large", "Folding", "Süßer", "木の"]);
        let thing = self.dice.one_of(&["mug", "lamp", "spade", "notebook", "kite", "café cup"]);
        format!("{kind} {thing} {}", self.dice.below(1000))
    }

    /// The shop's clock as its database keeps it: `2026-03-02 08:00:00`.
    fn time(&self) -> String {
        let (days, seconds) = (self.now.div_euclid(86_400), self.now.rem_euclid(86_400));
        // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": civil_from_days.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// SplitMix64 (Steele, Lea and Flood, 2014): good enough to shop by, and the same everywhere.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is small: the bias does not matter here.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A number from `low` to `high`, both included.
    fn between(&mut self, low: i64, high: i64) -> i64 {
        low.saturating_add_unsigned(self.below(high.abs_diff(low).saturating_add(1)))
    }

    fn one_of<T: Copy, const N: usize>(&mut self, choices: &[T; N]) -> T {
        const { assert!(N > 0) };
        choices[self.below(N as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy_shop(seed: u64) -> (Connection, Vec<String>) {
        let mut connection = Connection::open_in_memory().unwrap();
        let mut shop = Shop::create(&mut connection, seed, 20).unwrap();
        let mut story = Vec::new();
        for _ in 0..50 {
            let sale = shop.sell(&mut connection).unwrap();
            assert!((3..=5).contains(&sale.lines.len()));
            story.push(format!("{sale:?}"));
            story.push(shop.edit(&mut connection).unwrap());
            story.push(format!("{:?}", shop.return_goods(&mut connection).unwrap()));
            story.push(format!("{}", shop.new_product(&mut connection).unwrap()));
        }
        (connection, story)
    }

    fn number(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(busy_shop(1).1, busy_shop(1).1);
        assert_ne!(busy_shop(1).1, busy_shop(2).1);
    }

    #[test]
    fn the_books_balance_and_nothing_dangles() {
        let (connection, _) = busy_shop(3);
        assert_eq!(number(&connection, BALANCE), 0);
        assert!(number(&connection, "SELECT sum(total_cents) FROM orders") > 0);
        assert_eq!(number(&connection, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
        assert_eq!(number(&connection, "SELECT count(*) FROM products"), 70);
        let orders = number(&connection, "SELECT count(*) FROM orders");
        assert!(orders < 110, "some were returned");
        assert_eq!(number(&connection, "SELECT count(DISTINCT order_id) FROM order_lines"), orders);
        assert_eq!(number(&connection, "SELECT sum(orders) FROM takings"), orders);
    }

    #[test]
    fn every_order_can_be_returned() {
        let mut connection = Connection::open_in_memory().unwrap();
        let mut shop = Shop::create(&mut connection, 5, 4).unwrap();
        while shop.return_goods(&mut connection).unwrap().is_some() {}
        for table in ["orders", "order_lines", "payments"] {
            assert_eq!(number(&connection, &format!("SELECT count(*) FROM {table}")), 0);
        }
        assert_eq!(shop.return_goods(&mut connection).unwrap(), None);
    }

    #[test]
    fn the_clock_tells_civil_time() {
        let at = |now| Shop { dice: Dice(0), now }.time();
        assert_eq!(Shop::open(0).time(), "2026-03-02 08:00:00");
        assert_eq!(at(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(at(951_868_799), "2000-02-29 23:59:59");
    }
}
