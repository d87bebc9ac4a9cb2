//! Shops that share one database `club`: a site each, and its own file, where an application writes
//! that knows nothing of the others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use crate::application::{execute, open};
use crate::site::{Home, Site};
use crate::wait::{PATIENCE, wait_for, wait_until};
use node::demo::compare::{Comparison, compare};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A site and its file of the shared database.
#[derive(Debug)]
pub struct Shop {
    /// The site.
    pub site: Site,
    /// The application's database.
    pub path: PathBuf,
}

impl Shop {
    /// Makes a database of this schema and shares it.
    ///
    /// # Panics
    /// It is refused.
    pub fn sharing(site: Site, path: PathBuf, schema: &str) -> Self {
        execute(&path, "PRAGMA journal_mode = WAL");
        execute(&path, schema);
        let words = ["attach", "club", "--mode", "shared"].map(OsStr::new);
        site.done(&[&words[..], &[path.as_os_str()]].concat());
        Self { site, path }
    }

    /// Makes a file of what the group shares.
    ///
    /// # Panics
    /// It is refused.
    pub fn joining(site: Site, path: PathBuf) -> Self {
        wait_until("the first copy is there", PATIENCE, || {
            let club = site.database("club");
            !club.is_null() && club["first_copy"].is_null()
        });
        site.attach("club", &path);
        Self { site, path }
    }

    /// Two running ones.
    ///
    /// # Panics
    /// Something fails.
    pub fn two(home: &Home, schema: &str) -> (Self, Self) {
        let (downtown, uptown) = home.two();
        Self::both(home, (downtown, uptown), schema)
    }

    /// Two sites that run, made to share.
    ///
    /// # Panics
    /// Something fails.
    pub fn both(home: &Home, (first, second): (Site, Site), schema: &str) -> (Self, Self) {
        let first = Self::sharing(first, home.path("downtown.db"), schema);
        let second = Self::joining(second, home.path("uptown.db"));
        wait_until_alike(&[&first, &second]);
        (first, second)
    }

    /// Runs SQL as the application, with foreign keys enforced.
    ///
    /// # Panics
    /// SQLite refuses.
    pub fn run(&self, sql: &str) {
        open(&self.path).execute_batch(sql).unwrap();
    }

    /// The first column of what a query gives, as text.
    ///
    /// # Panics
    /// SQLite refuses.
    pub fn rows(&self, sql: &str) -> Vec<String> {
        let connection = open(&self.path);
        let mut statement = connection.prepare(sql).unwrap();
        let text = |row: &rusqlite::Row<'_>| {
            Ok(match row.get_ref(0)? {
                rusqlite::types::ValueRef::Null => "NULL".to_owned(),
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                rusqlite::types::ValueRef::Real(number) => number.to_string(),
                other => other.as_str().unwrap_or("no text").to_owned(),
            })
        };
        statement.query_map([], text).unwrap().map(Result::unwrap).collect()
    }

    /// What `status` says of the database.
    ///
    /// # Panics
    /// There is no status.
    pub fn club(&self) -> Value {
        self.site.database("club")
    }

    /// What `conflicts --json` lists.
    ///
    /// # Panics
    /// It lists nothing.
    pub fn conflicts(&self) -> Vec<Value> {
        let ended = self.site.command(&["conflicts", "--json"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.json()["conflicts"].as_array().unwrap().clone()
    }

    /// The kinds of the conflicts, in order.
    ///
    /// # Panics
    /// There is no list.
    pub fn kinds(&self) -> Vec<String> {
        let mut kinds: Vec<String> = self
            .conflicts()
            .iter()
            .map(|conflict| conflict["kind"].as_str().unwrap().to_owned())
            .collect();
        kinds.sort();
        kinds
    }

    /// That the file is sound.
    ///
    /// # Panics
    /// It is not.
    pub fn check(&self) {
        let none: [&str; 0] = [];
        assert_eq!(self.rows("SELECT \"table\" FROM pragma_foreign_key_check"), none);
        assert_eq!(self.rows("PRAGMA integrity_check"), ["ok"]);
    }

    /// How far it is, if all that is known of is here and there: nothing pending, every batch of
    /// each applied at the others.
    fn at_rest(&self, others: usize) -> Option<u64> {
        let club = self.club();
        let sequence = club["sequence"].as_u64()?;
        let copies = club["copies"].as_array()?;
        let origins = club["origins"].as_array()?;
        let rest = club["pending_changes"] == 0
            && copies.len() == others
            && copies.iter().all(|copy| copy["applied_sequence"] == club["sequence"])
            && origins.iter().all(|origin| origin["applied_sequence"] == origin["sequence"]);
        rest.then_some(sequence)
    }
}

/// Waits until all shops hold the same and nothing is under way; gives the comparison of the
/// last two.
///
/// # Panics
/// They do not in time, or a file is not sound.
pub fn wait_until_alike(shops: &[&Shop]) -> Comparison {
    wait_until_alike_within(shops, PATIENCE)
}

/// The same, for as long as is said.
///
/// # Panics
/// They do not in time, or a file is not sound.
pub fn wait_until_alike_within(shops: &[&Shop], limit: Duration) -> Comparison {
    let others = shops.len() - 1;
    let mut last = None;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for("the shops hold the same", limit, || {
            let before: Option<Vec<u64>> = shops.iter().map(|shop| shop.at_rest(others)).collect();
            let before = before?;
            let compared = compare_all(shops);
            let equal = compared.as_ref().is_ok_and(Comparison::identical);
            last = Some(compared);
            let after: Option<Vec<u64>> = shops.iter().map(|shop| shop.at_rest(others)).collect();
            (equal && after? == before).then_some(())
        });
    }));
    if result.is_err() {
        let clubs: Vec<Value> = shops.iter().map(|shop| shop.club()).collect();
        panic!("the shops do not come to hold the same: {last:#?} {clubs:#?}");
    }
    for shop in shops {
        shop.check();
    }
    last.unwrap().unwrap()
}

fn compare_all(shops: &[&Shop]) -> Result<Comparison, String> {
    let mut last = Comparison::default();
    for pair in shops.windows(2) {
        let (a, b): (&Path, &Path) = (&pair[0].path, &pair[1].path);
        last = compare(a, b).map_err(|error| error.to_string())?;
        if !last.identical() {
            break;
        }
    }
    Ok(last)
}
