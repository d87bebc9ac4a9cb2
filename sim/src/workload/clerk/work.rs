//! What a clerk does in one transaction, and which deeds that makes.

use super::Task;
use crate::oracle::ledger::{Cell, Deed, RowName, What};
use crate::random::Random;
use crate::workload::odd;
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

/// So many codes of badges there are, and of vouchers.
const CODES: u64 = 12;
const VOUCHERS: u64 = 10;

type Done = rusqlite::Result<()>;

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

    /// What another site does at the same instant, to the same rows where it has them. `choice` is
    /// the same there.
    pub fn duel(&mut self, choice: u64) -> Done {
        let sku = format!("sku-{}", choice / 8 % 40);
        match choice % 8 {
            0..=2 => self.price_of(&sku),
            3 => self.list(&sku),
            4 => self.claim_code(choice / 8 % CODES),
            5 => self.issue_code(choice / 8 % VOUCHERS),
            6 => self.redeem_code(&voucher(choice / 8 % VOUCHERS), -1),
            _ => match choice / 8 % 2 == self.till.len() as u64 % 2 {
                true => self.price_of(&sku),
                false => self.drop_sku(&sku),
            },
        }
    }

    /// Effects whose causes are not here.
    pub fn without_cause(connection: &Connection) -> rusqlite::Result<Option<String>> {
        let sql =
            "SELECT g.by || ' saw transaction ' || g.done || ' of ' || g.of || ', of which ' ||
                          ifnull('here is only ' || t.done, 'nothing is here')
                   FROM glance g LEFT JOIN till t ON t.name = g.of
                   WHERE t.done IS NULL OR t.done < g.done LIMIT 1";
        connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()
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

    fn did(&mut self, table: &'static str, token: &str, what: What) {
        self.deeds.push(Deed { row: RowName { table, token: token.to_owned() }, what });
    }

    fn execute(&self, sql: &str, parameters: impl Params) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute(parameters)
    }

    /// A text that is nowhere else.
    fn fresh(&mut self) -> String {
        self.tokens += 1;
        format!("{}-{}-{}", self.till, self.attempt, self.tokens)
    }

    /// Some row's number and token.
    fn pick(&mut self, table: &str) -> rusqlite::Result<Option<(i64, String)>> {
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

    fn list(&mut self, sku: &str) -> Done {
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

    fn price_of(&mut self, sku: &str) -> Done {
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

    fn drop_sku(&mut self, sku: &str) -> Done {
        let sql = "DELETE FROM stock WHERE sku = ?1 AND sku NOT IN (SELECT sku FROM line)";
        if self.execute(sql, [sku])? > 0 {
            self.did("stock", sku, What::Ended);
        }
        Ok(())
    }

    /// A voucher under a code that means the same everywhere; it may have been there before.
    fn issue(&mut self) -> Done {
        let code = self.random.below(VOUCHERS);
        self.issue_code(code)
    }

    fn issue_code(&mut self, code: u64) -> Done {
        let (code, owner) = (voucher(code), self.fresh());
        let worth = 1 + self.random.below(3) as i64;
        let sql = "INSERT OR IGNORE INTO voucher (code, owner, worth) VALUES (?1, ?2, ?3)";
        if self.execute(sql, params![code, owner, worth])? > 0 {
            let columns = vec![("owner", Cell::Text(owner)), ("worth", Cell::Number(worth))];
            self.did("voucher", &code, What::Begun(columns));
        }
        Ok(())
    }

    /// Some of a voucher's worth is spent, or added: as far as one can see here there is enough.
    fn redeem(&mut self, amount: i64) -> Done {
        let sql = "SELECT code FROM voucher WHERE worth + ?1 >= 0 ORDER BY worth, code LIMIT 4";
        let codes: Vec<String> = self
            .connection
            .prepare_cached(sql)?
            .query_map([amount], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let at = self.random.below(codes.len().max(1) as u64) as usize;
        codes.get(at).map_or(Ok(()), |code| self.redeem_code(code, amount))
    }

    fn redeem_code(&mut self, code: &str, amount: i64) -> Done {
        let sql = "UPDATE voucher SET worth = worth + ?1 WHERE code = ?2 AND worth + ?1 >= 0";
        if self.execute(sql, params![amount, code])? > 0 {
            self.did("voucher", code, What::Added("worth", amount));
        }
        Ok(())
    }

    fn drop_voucher(&mut self) -> Done {
        let code = voucher(self.random.below(VOUCHERS));
        if self.execute("DELETE FROM voucher WHERE code = ?1", [&code])? > 0 {
            self.did("voucher", &code, What::Ended);
        }
        Ok(())
    }

    /// A badge of few codes; half of them take the code from whoever has it (F42).
    fn claim(&mut self) -> Done {
        let code = self.random.below(CODES);
        self.claim_code(code)
    }

    fn claim_code(&mut self, code: u64) -> Done {
        let code = format!("B{code}");
        let (token, colour) = (self.fresh(), self.fresh());
        let holder: Option<String> = self
            .connection
            .prepare_cached("SELECT token FROM badge WHERE code = ?1")?
            .query_row([&code], |row| row.get(0))
            .optional()?;
        if holder.is_some() && self.random.below(2) == 0 {
            // It may have a mark by now; any other colour does.
            let holder = holder.unwrap_or_default();
            self.execute("UPDATE badge SET colour = ?1 WHERE token = ?2", params![colour, holder])?;
            self.did("badge", &holder, What::Set("colour", Cell::Text(colour)));
            return Ok(());
        }
        let sql = "INSERT OR REPLACE INTO badge (token, code, colour) VALUES (?1, ?2, ?3)";
        self.execute(sql, params![token, code, colour])?;
        if let Some(holder) = holder {
            self.did("badge", &holder, What::Ended);
            self.replaced = true;
        }
        let columns = vec![("code", Cell::Text(code)), ("colour", Cell::Text(colour))];
        self.did("badge", &token, What::Begun(columns));
        Ok(())
    }

    fn drop_badge(&mut self) -> Done {
        let Some((id, token)) = self.pick("badge")? else { return Ok(()) };
        self.execute("DELETE FROM badge WHERE id = ?1", [id])?;
        self.did("badge", &token, What::Ended);
        Ok(())
    }

    /// F46.
    fn odd(&mut self) -> Done {
        let id = format!("odd-{}", self.random.below(6));
        let value = odd::one(&mut self.random);
        let cell = |desk: &Self| -> rusqlite::Result<Cell> {
            let sql = "SELECT v FROM oddity WHERE id = ?1";
            desk.connection
                .prepare_cached(sql)?
                .query_row([&id], |row| Ok(Cell::of(row.get_ref(0)?)))
        };
        if self.execute("UPDATE oddity SET v = ?1 WHERE id = ?2", params![value, id])? > 0 {
            let cell = cell(self)?;
            self.did("oddity", &id, What::Set("v", cell));
        } else {
            self.execute("INSERT INTO oddity (id, v) VALUES (?1, ?2)", params![id, value])?;
            let cell = cell(self)?;
            self.did("oddity", &id, What::Begun(vec![("v", cell)]));
        }
        Ok(())
    }

    /// Writes down what it sees of another till: who sees this must see that too.
    fn glance(&mut self) -> Done {
        let sql = "SELECT name, done FROM till WHERE name <> ?1 ORDER BY name";
        let tills: Vec<(String, i64)> = self
            .connection
            .prepare_cached(sql)?
            .query_map([self.till], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let at = self.random.below(tills.len().max(1) as u64) as usize;
        let Some((of, done)) = tills.get(at) else { return Ok(()) };
        let name = format!("{}/{of}", self.till);
        let sql = "SELECT done FROM glance WHERE by = ?1 AND of = ?2";
        let known: Option<i64> = self
            .connection
            .prepare_cached(sql)?
            .query_row([self.till, of], |row| row.get(0))
            .optional()?;
        let cell = Cell::Number(*done);
        match known {
            Some(known) if known == *done => {}
            Some(_) => {
                let sql = "UPDATE glance SET done = ?1 WHERE by = ?2 AND of = ?3";
                self.execute(sql, params![done, self.till, of])?;
                self.did("glance", &name, What::Set("done", cell));
            }
            None => {
                let sql = "INSERT INTO glance (by, of, done) VALUES (?1, ?2, ?3)";
                self.execute(sql, params![self.till, of, done])?;
                self.did("glance", &name, What::Begun(vec![("done", cell)]));
            }
        }
        Ok(())
    }

    /// A column that a later version of the application brought, if this is one.
    fn extra(&mut self) -> Done {
        let sql = "SELECT name FROM pragma_table_info('customer')
                   WHERE name IN ('email', 'extra', 'mail') ORDER BY name";
        let columns: Vec<String> = self
            .connection
            .prepare(sql)?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let at = self.random.below(columns.len().max(1) as u64) as usize;
        let (Some(column), Some((id, _))) = (columns.get(at), self.pick("customer")?) else {
            return Ok(());
        };
        let value = self.fresh();
        // Not kept: the schema moves.
        let sql = format!("UPDATE customer SET {column} = ?1 WHERE id = ?2");
        self.connection.execute(&sql, params![value, id])?;
        Ok(())
    }
}

fn voucher(code: u64) -> String {
    format!("V{code}")
}
