//! What a clerk does in one transaction, and which deeds that makes.

use super::Task;
use crate::oracle::ledger::{Cell, Deed, RowName, What};
use crate::random::Random;
use rusqlite::{Connection, OptionalExtension, Params, params};

/// What a task works with.
#[derive(Debug)]
pub struct Desk<'a> {
    pub connection: &'a Connection,
    pub random: Random,
    /// Whose it is.
    pub till: &'a str,
    /// Of this site the attempt of that number: no other will have it.
    pub attempt: u64,
    pub deeds: Vec<Deed>,
    /// Whether a row was removed by REPLACE (F42).
    pub replaced: bool,
    tokens: u64,
}

pub(super) type Done = rusqlite::Result<()>;

impl<'a> Desk<'a> {
    pub fn new(connection: &'a Connection, random: Random, till: &'a str, attempt: u64) -> Self {
        Self { connection, random, till, attempt, deeds: Vec::new(), replaced: false, tokens: 0 }
    }

    /// Does it.
    pub fn work(&mut self, task: Task) -> Done {
        match task {
            Task::Sell => self.sell(),
            Task::Enrol => self.add_customer().map(drop),
            Task::List => self.add_stock(),
            Task::Edit => self.edit(),
            Task::Save => self.save(),
            Task::Assign => self.assign(),
            Task::Restock => self.restock(),
            Task::Bulk => self.bulk(),
            Task::Sweep => self.sweep(),
            Task::DropSale => self.drop_sale(),
            Task::DropLine => self.drop_line(),
            Task::DropCustomer => self.drop_customer(),
            Task::DropStock => self.drop_stock(),
            Task::Price | Task::Think => self.price(),
            Task::Issue => self.issue(),
            Task::Redeem => self.redeem(-1),
            Task::Recharge => self.redeem(2),
            Task::DropVoucher => self.drop_voucher(),
            Task::Claim => self.claim(),
            Task::DropBadge => self.drop_badge(),
            Task::Odd => self.odd(),
            Task::Glance => self.glance(),
            Task::Extra => self.extra(),
        }
    }

    /// That it was done stands in the database too.
    pub fn sign(&mut self) -> Done {
        let (till, done) = (self.till, Cell::Number(self.attempt as i64));
        let sql = "UPDATE till SET done = ?1 WHERE name = ?2";
        let known = self.execute(sql, params![self.attempt as i64, till])? > 0;
        let what = match known {
            true => What::Set("done", done),
            false => {
                let sql = "INSERT INTO till (name, done) VALUES (?1, ?2)";
                self.execute(sql, params![till, self.attempt as i64])?;
                What::Begun(vec![("done", done)])
            }
        };
        self.did("till", till, what);
        Ok(())
    }

    /// The first rows.
    pub fn stock(&mut self) -> Done {
        for _ in 0..12 {
            self.add_stock()?;
            self.add_customer()?;
        }
        for _ in 0..8 {
            self.sell()?;
            self.issue()?;
            self.claim()?;
        }
        Ok(())
    }

    pub(super) fn did(&mut self, table: &'static str, token: &str, what: What) {
        self.deeds.push(Deed { row: RowName { table, token: token.to_owned() }, what });
    }

    pub(super) fn execute(&self, sql: &str, parameters: impl Params) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(parameters)
    }

    /// A text that is nowhere else.
    pub(super) fn fresh(&mut self) -> String {
        self.tokens += 1;
        format!("{}-{}-{}", self.till, self.attempt, self.tokens)
    }

    /// Some row's number and token.
    pub(super) fn pick(&mut self, table: &str) -> rusqlite::Result<Option<(i64, String)>> {
        let sql = format!("SELECT count(*) FROM {table}");
        let count: i64 = self.connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
        // The newest are met more often.
        let (one, other) = (
            self.random.below(count.unsigned_abs().max(1)),
            self.random.below(count.unsigned_abs().max(1)),
        );
        let sql = format!("SELECT id, token FROM {table} ORDER BY id DESC LIMIT 1 OFFSET ?1");
        self.connection
            .prepare_cached(&sql)?
            .query_row([one.min(other) as i64], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    fn pick_stock(&mut self) -> rusqlite::Result<Option<String>> {
        let count: i64 =
            self.connection.query_row("SELECT count(*) FROM stock", [], |row| row.get(0))?;
        let at = self.random.below(count.unsigned_abs().max(1));
        self.connection
            .prepare_cached("SELECT sku FROM stock ORDER BY sku LIMIT 1 OFFSET ?1")?
            .query_row([at as i64], |row| row.get(0))
            .optional()
    }

    fn strings(&self, sql: &str, id: i64) -> rusqlite::Result<Vec<String>> {
        self.connection.prepare_cached(sql)?.query_map([id], |row| row.get(0))?.collect()
    }

    fn add_customer(&mut self) -> rusqlite::Result<(i64, String)> {
        let (token, name) = (self.fresh(), self.fresh());
        let sql = "INSERT INTO customer (token, name, phone) VALUES (?1, ?2, NULL)";
        self.execute(sql, params![token, name])?;
        let columns = vec![("name", Cell::Text(name)), ("phone", Cell::Null), ("note", Cell::Null)];
        let id = self.connection.last_insert_rowid();
        self.did("customer", &token, What::Begun(columns));
        Ok((id, token))
    }

    /// Two sites may list one article.
    fn add_stock(&mut self) -> Done {
        let sku = format!("sku-{}", self.random.below(40));
        self.list(&sku)
    }

    pub(super) fn list(&mut self, sku: &str) -> Done {
        let sql = "SELECT 1 FROM stock WHERE sku = ?1";
        if self.connection.prepare_cached(sql)?.exists([&sku])? {
            return Ok(());
        }
        let (title, price, n) = (self.fresh(), self.fresh(), 20 + self.random.below(50) as i64);
        let sql = "INSERT INTO stock (sku, title, price, n) VALUES (?1, ?2, ?3, ?4)";
        self.execute(sql, params![sku, title, price, n])?;
        let columns = vec![
            ("title", Cell::Text(title)),
            ("price", Cell::Text(price)),
            ("n", Cell::Number(n)),
        ];
        self.did("stock", sku, What::Begun(columns));
        Ok(())
    }

    fn sell(&mut self) -> Done {
        let customer = match self.random.below(4) {
            0 => None,
            1 => Some(self.add_customer()?),
            _ => self.pick("customer")?,
        };
        // As applications number their invoices: two sites that are apart take the same.
        let next: i64 = self
            .connection
            .prepare_cached(
                "SELECT ifnull(max(CAST(substr(number, 5) AS INTEGER)), 0) + 1 FROM sale",
            )?
            .query_row([], |row| row.get(0))?;
        let number = (self.random.below(10) > 0).then(|| format!("INV-{next}"));
        let (token, total) = (self.fresh(), self.fresh());
        let sql = "INSERT INTO sale (token, customer, number, total) VALUES (?1, ?2, ?3, ?4)";
        let id = customer.as_ref().map(|(id, _)| *id);
        self.execute(sql, params![token, id, number, total])?;
        let sale = self.connection.last_insert_rowid();
        let text = |text: Option<String>| text.map_or(Cell::Null, Cell::Text);
        let columns = vec![
            ("customer", text(customer.map(|(_, token)| token))),
            ("number", text(number)),
            ("total", Cell::Text(total)),
        ];
        self.did("sale", &token, What::Begun(columns));
        for _ in 0..1 + self.random.below(3) {
            let Some(sku) = self.pick_stock()? else { break };
            let (line, quantity) = (self.fresh(), 1 + self.random.below(4) as i64);
            let sql = "INSERT INTO line (token, sale, sku, quantity) VALUES (?1, ?2, ?3, ?4)";
            self.execute(sql, params![line, sale, sku, quantity])?;
            let columns = vec![
                ("sale", Cell::Text(token.clone())),
                ("sku", Cell::Text(sku.clone())),
                ("quantity", Cell::Number(quantity)),
            ];
            self.did("line", &line, What::Begun(columns));
            self.count(&sku, -quantity)?;
        }
        Ok(())
    }

    fn count(&mut self, sku: &str, amount: i64) -> Done {
        self.execute("UPDATE stock SET n = n + ?1 WHERE sku = ?2", params![amount, sku])?;
        self.did("stock", sku, What::Added("n", amount));
        Ok(())
    }

    fn restock(&mut self) -> Done {
        match self.pick_stock()? {
            Some(sku) => self.count(&sku, 10),
            None => Ok(()),
        }
    }

    /// One column of one row.
    fn edit(&mut self) -> Done {
        let (table, column) =
            [("customer", "name"), ("customer", "phone"), ("customer", "note"), ("sale", "total")]
                [self.random.below(4) as usize];
        let Some((id, token)) = self.pick(table)? else { return Ok(()) };
        let value = self.fresh();
        let sql = format!("UPDATE {table} SET {column} = ?1 WHERE id = ?2");
        self.execute(&sql, params![value, id])?;
        self.did(table, &token, What::Set(column, Cell::Text(value)));
        Ok(())
    }

    /// A form that writes back all that it shows, of which one field was changed.
    fn save(&mut self) -> Done {
        let Some((id, token)) = self.pick("sale")? else { return Ok(()) };
        let value = self.fresh();
        let (customer, number): (Option<i64>, Option<String>) = self
            .connection
            .prepare_cached("SELECT customer, number FROM sale WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let sql = "UPDATE sale SET customer = ?1, number = ?2, total = ?3 WHERE id = ?4";
        self.execute(sql, params![customer, number, value, id])?;
        self.did("sale", &token, What::Set("total", Cell::Text(value)));
        Ok(())
    }

    /// A sale is another customer's.
    fn assign(&mut self) -> Done {
        let (Some((id, sale)), Some((customer, token))) =
            (self.pick("sale")?, self.pick("customer")?)
        else {
            return Ok(());
        };
        let sql = "UPDATE sale SET customer = ?1 WHERE id = ?2 AND customer IS NOT ?1";
        if self.execute(sql, [customer, id])? > 0 {
            self.did("sale", &sale, What::Set("customer", Cell::Text(token)));
        }
        Ok(())
    }

    fn price(&mut self) -> Done {
        match self.pick_stock()? {
            Some(sku) => self.price_of(&sku),
            None => Ok(()),
        }
    }

    pub(super) fn price_of(&mut self, sku: &str) -> Done {
        let value = self.fresh();
        let column = ["price", "title"][self.random.below(2) as usize];
        let sql = format!("UPDATE stock SET {column} = ?1 WHERE sku = ?2");
        if self.execute(&sql, params![value, sku])? > 0 {
            self.did("stock", sku, What::Set(column, Cell::Text(value)));
        }
        Ok(())
    }

    fn drop_sale(&mut self) -> Done {
        let Some((id, token)) = self.pick("sale")? else { return Ok(()) };
        for line in self.strings("SELECT token FROM line WHERE sale = ?1", id)? {
            self.did("line", &line, What::Ended);
        }
        self.execute("DELETE FROM sale WHERE id = ?1", [id])?;
        self.did("sale", &token, What::Ended);
        Ok(())
    }

    fn drop_line(&mut self) -> Done {
        let Some((id, token)) = self.pick("line")? else { return Ok(()) };
        self.execute("DELETE FROM line WHERE id = ?1", [id])?;
        self.did("line", &token, What::Ended);
        Ok(())
    }

    fn drop_customer(&mut self) -> Done {
        let Some((id, token)) = self.pick("customer")? else { return Ok(()) };
        for sale in self.strings("SELECT token FROM sale WHERE customer = ?1", id)? {
            self.did("sale", &sale, What::Set("customer", Cell::Null));
        }
        self.execute("DELETE FROM customer WHERE id = ?1", [id])?;
        self.did("customer", &token, What::Ended);
        Ok(())
    }

    fn bulk(&mut self) -> Done {
        for _ in 0..20 + self.random.below(400) {
            self.add_customer()?;
        }
        Ok(())
    }

    fn sweep(&mut self) -> Done {
        let sql = "SELECT id FROM customer
                   WHERE id NOT IN (SELECT customer FROM sale WHERE customer IS NOT NULL)
                   ORDER BY id DESC LIMIT -1 OFFSET 60";
        let ids: Vec<i64> = self
            .connection
            .prepare_cached(sql)?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for id in ids {
            for token in self.strings("SELECT token FROM customer WHERE id = ?1", id)? {
                self.did("customer", &token, What::Ended);
            }
            self.execute("DELETE FROM customer WHERE id = ?1", [id])?;
        }
        Ok(())
    }

    /// An article that was never sold, as far as one can see here.
    fn drop_stock(&mut self) -> Done {
        let sql = "SELECT sku FROM stock WHERE sku NOT IN (SELECT sku FROM line) ORDER BY sku";
        let unsold: Option<String> =
            self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
        unsold.map_or(Ok(()), |sku| self.drop_sku(&sku))
    }

    pub(super) fn drop_sku(&mut self, sku: &str) -> Done {
        let sql = "DELETE FROM stock WHERE sku = ?1 AND sku NOT IN (SELECT sku FROM line)";
        if self.execute(sql, [sku])? > 0 {
            self.did("stock", sku, What::Ended);
        }
        Ok(())
    }
}
