//! Faults of the database's file, by people: F33, F35, F64. Each is a script of its own: somebody does
//! something, the node has to notice, and it is put right again.

use super::Begun;
use crate::drive::{Checked, Drive, FILE};
use crate::plan::{At, Fault};
use crate::workload::Operation;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
/// In which a node notices what happened to a file.
const NOTICES: Duration = Duration::from_secs(10 * 60);

impl Drive<'_> {
    pub(super) async fn begin_file(&mut self, fault: Fault) -> Checked<Begun> {
        let Some(at) = fault.site() else { return Ok(Begun::NotNow) };
        if !self.at_work(&[at]) {
            return Ok(Begun::NotNow);
        }
        let (name, path) = (self.name(at), self.world.file(self.name(at), FILE));
        let number = self.active.values().find(|active| active.event.fault == fault);
        let number = number.map_or(0, |active| active.event.number);
        self.tell(format!("fault {number}: {}", self.plan.tell(fault)));
        let old = path.with_file_name("old-copy.db");
        if matches!(fault, Fault::StaleWal(_)) {
            self.world.disk(name).copy(&path, &old).unwrap();
            self.leave_behind(at, &path);
            self.pass(20 * MINUTE).await?;
            if !self.at_work(&[at]) {
                return Ok(Begun::NotNow);
            }
        }
        // The shop's software is closed meanwhile, as far as one can see.
        self.shops[at.0].held = true;
        self.shops[at.0].set_open(false);
        if matches!(fault, Fault::StaleWal(_)) {
            self.stop_node(at).await?;
        }
        let aside = self.set_aside(name, &path, fault);
        match fault {
            Fault::StaleWal(_) => {
                self.world.disk(name).copy(&old, &path).unwrap();
                self.start(at).await?;
            }
            Fault::Emptied(_) => self.world.disk(name).put(&path, &[]).unwrap(),
            _ => {}
        }
        self.checker.is_not_itself(at, true);
        // An old copy with all that is new in the -wal beside it is the database as it was.
        let another = !self.is_as_committed(at);
        if another {
            self.must_be_told(at).await?;
        }
        self.pass(10 * MINUTE).await?;
        if matches!(fault, Fault::StaleWal(_)) {
            self.stop_node(at).await?;
        }
        for suffix in ["", "-wal", "-shm", "-journal"] {
            self.remove(name, &beside(&path, suffix));
        }
        for (from, to) in aside {
            self.world.disk(name).rename(&from, &to).unwrap();
        }
        self.remove(name, &old);
        if matches!(fault, Fault::StaleWal(_)) {
            self.start(at).await?;
        }
        self.checker.is_not_itself(at, false);
        self.shops[at.0].held = false;
        self.shops[at.0].set_open(true);
        Ok(if another { Begun::Over } else { Begun::NotNow })
    }

    /// Sees to it that a copy made a moment ago is an old one, also with the `-wal` beside it.
    fn leave_behind(&self, at: At, path: &Path) {
        let Some(till) = self.shops[at.0].till.as_ref().filter(|_| self.at_work(&[at])) else {
            return;
        };
        till.perform(Operation::Sale);
        // Whoever reads may keep it from moving; then it is an old copy another time.
        let _ = self.world.disk(self.name(at)).edit(path, |connection| {
            connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
        });
        till.perform(Operation::Sale);
    }

    /// Whether a site's database holds what its application has committed.
    fn is_as_committed(&self, at: At) -> bool {
        let Some(till) = &self.shops[at.0].till else { return false };
        let looked = self.world.disk(self.name(at)).look(&self.original(at));
        let checked = looked.and_then(|connection| till.lock().history().check(&connection));
        matches!(checked, Ok(Ok(())))
    }

    /// Moves the database's files away: all of them, or for an old copy beside the `-wal` of today
    /// all but that, of which a copy is kept. Returns what goes back where.
    fn set_aside(&mut self, name: &str, path: &Path, fault: Fault) -> Vec<(PathBuf, PathBuf)> {
        let disk = self.world.disk(name);
        let mut aside = Vec::new();
        for suffix in ["", "-wal", "-journal"] {
            let from = beside(path, suffix);
            if !disk.exists(&from) {
                continue;
            }
            let to = beside(&path.with_file_name("aside.db"), suffix);
            match fault {
                Fault::StaleWal(_) if suffix == "-wal" => disk.copy(&from, &to).unwrap(),
                _ => disk.rename(&from, &to).unwrap(),
            }
            aside.push((to, from));
        }
        aside
    }

    /// H: a node whose database is not itself says so, and calls nothing safe.
    async fn must_be_told(&mut self, at: At) -> Checked {
        let name = self.name(at);
        let told = self
            .pass_while(NOTICES, async |drive: &mut Self| {
                if !drive.shops[at.0].is_on() || drive.world.is_fallen(name) {
                    return false;
                }
                let status = drive.world.try_status(name).await;
                status.is_some_and(|status| !status.alarms.is_empty())
            })
            .await?;
        // A PC that lost its power meanwhile can tell nobody.
        if told || !self.shops[at.0].is_on() {
            return Ok(());
        }
        let Some(status) = self.world.try_status(name).await else { return Ok(()) };
        Err(self.broken(
            "H: a file that is not the one we left raises an alarm",
            format!(
                "{name} has had another file for {NOTICES:?} and says nothing:\n{}",
                node::status::render(&status)
            ),
        ))
    }

    /// F64: somebody deletes rows in a mirror, and the next batch changes them.
    pub(super) async fn unappliable(&mut self, origin: At) -> Checked<Begun> {
        let left = |at: &At| *at != origin && !self.shops[at.0].burned;
        let Some(site) = self.places().into_iter().find(left) else {
            return Ok(Begun::NotNow);
        };
        if !self.at_work(&[origin, site]) {
            return Ok(Begun::NotNow);
        }
        let mirror = self.mirror(site, origin);
        if !self.world.disk(self.name(site)).exists(&mirror) {
            return Ok(Begun::NotNow);
        }
        let name = self.name(site);
        self.tell(format!("somebody deletes rows in {name}'s copy of {}", self.name(origin)));
        self.checker.spoiled(site, origin, true);
        let edited = self.world.disk(name).edit(&mirror, |connection| {
            connection.execute_batch(
                "PRAGMA foreign_keys = OFF; DELETE FROM products; DELETE FROM customers; \
                 DELETE FROM sales; DELETE FROM lines",
            )
        });
        if edited.is_err() {
            // The node is at it.
            self.checker.spoiled(site, origin, false);
            return Ok(Begun::NotNow);
        }
        if let Some(till) = self.shops[origin.0].till.clone() {
            for _ in 0..20 {
                till.perform(Operation::Edit);
            }
            let _ = till.lock().hold_lock();
            let _ = till.lock().let_go(true);
        }
        let told = self
            .pass_while(NOTICES * 3, async |drive: &mut Self| {
                let here = drive.shops[site.0].is_on() && !drive.world.is_fallen(name);
                let status = drive.world.try_status(name).await.filter(|_| here);
                status.is_some_and(|status| !status.alarms.is_empty())
            })
            .await?;
        // The remedy: the copy is deleted, and made anew.
        for suffix in ["", "-wal", "-shm"] {
            self.remove(name, &beside(&mirror, suffix));
        }
        self.checker.spoiled(site, origin, false);
        Ok(if told { Begun::Over } else { Begun::NotNow })
    }
}

impl Drive<'_> {
    pub(super) fn remove(&self, name: &str, path: &Path) {
        let disk = self.world.disk(name);
        if disk.exists(path) {
            disk.remove(path).unwrap();
        }
    }
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
