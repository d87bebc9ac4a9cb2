//! A clerk's work at things of which there are few, so that sites meet at them: vouchers and badges,
//! odd values, what one till sees of another, and what two sites do at the same instant.

use super::work::{Desk, Done};
use crate::oracle::ledger::{Cell, What};
use crate::workload::odd;
use rusqlite::{Connection, OptionalExtension, params};

/// So many codes of badges there are, and of vouchers.
const CODES: u64 = 12;
const VOUCHERS: u64 = 10;

impl Desk<'_> {
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

    /// A voucher under a code that means the same everywhere; it may have been there before.
    pub(super) fn issue(&mut self) -> Done {
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
    pub(super) fn redeem(&mut self, amount: i64) -> Done {
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

    pub(super) fn drop_voucher(&mut self) -> Done {
        let code = voucher(self.random.below(VOUCHERS));
        if self.execute("DELETE FROM voucher WHERE code = ?1", [&code])? > 0 {
            self.did("voucher", &code, What::Ended);
        }
        Ok(())
    }

    /// A badge of few codes; half of them take the code from whoever has it (F42).
    pub(super) fn claim(&mut self) -> Done {
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

    pub(super) fn drop_badge(&mut self) -> Done {
        let Some((id, token)) = self.pick("badge")? else { return Ok(()) };
        self.execute("DELETE FROM badge WHERE id = ?1", [id])?;
        self.did("badge", &token, What::Ended);
        Ok(())
    }

    /// F46.
    pub(super) fn odd(&mut self) -> Done {
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
    pub(super) fn glance(&mut self) -> Done {
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
    pub(super) fn extra(&mut self) -> Done {
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
