//! What is looked at after every loss of power and every end of a node: the application's database
//! holds what it committed, every file is whole (E), and nothing is lost that others count on (A).

use crate::drive::{Checked, Drive};
use crate::oracle::Found;
use crate::plan::At;

impl Drive<'_> {
    /// Looks at what a computer's disk holds now.
    pub async fn look_after_crash(&mut self, at: At) -> Checked {
        self.look_at_application(at)?;
        self.look_at_integrity(at)?;
        self.look_at_copies()?;
        self.look_at_shared()?;
        self.look_at_claims().map(drop)
    }

    /// The simulated disk keeps SQLite's own promise: what was committed at FULL is there.
    fn look_at_application(&mut self, at: At) -> Checked {
        self.look_at_clerk(at)?;
        let Some(till) = self.shops[at.0].till.clone() else { return Ok(()) };
        let path = self.original(at);
        let disk = self.world.disk(self.name(at));
        if self.checker.not_themselves.contains(&at) || !disk.exists(&path) {
            return Ok(());
        }
        let found = disk.look(&path).and_then(|connection| {
            let mut program = till.lock();
            let loss = program.loss();
            program.look_after_crash(&connection, loss)
        });
        match found {
            Ok(Ok(Found::Latest | Found::InFlight(_))) => Ok(()),
            Ok(Ok(Found::WentBack(commit))) => self.look_at_undone(at, commit.0),
            Ok(Err(undone)) => Err(self.broken(
                "the application's own database survives",
                format!("{}: {}", self.name(at), undone.0),
            )),
            Err(error) => Err(self.broken(
                "the application's own database survives",
                format!("{} can't be read: {error}", path.display()),
            )),
        }
    }

    fn look_at_clerk(&mut self, at: At) -> Checked {
        let Some(clerk) = self.shops[at.0].clerk.clone() else { return Ok(()) };
        let path = self.original(at);
        let disk = self.world.disk(self.name(at));
        let found = disk
            .look(&path)
            .and_then(|connection| clerk.lock().look_after_crash(&connection))
            .unwrap_or_else(|error| Err(format!("{} can't be read: {error}", path.display())));
        found.map_err(|what| {
            let what = format!("{}: {what}", self.name(at));
            self.broken("the application's own database survives", what)
        })
    }

    /// F20: a power cut took back what an application at NORMAL committed after `commit`: nothing
    /// of that was sent, since the node syncs what it numbers.
    fn look_at_undone(&mut self, origin: At, commit: u64) -> Checked {
        let latest = self.shops[origin.0].commits();
        for site in self.places() {
            let shows = if site == origin { None } else { self.shows(site, origin) };
            if let Some(shows) = shows.filter(|shows| *shows > commit && *shows < latest) {
                return Err(self.broken(
                    "A: what has a number outlives a power cut",
                    format!(
                        "{}'s application is back at commit {commit}, and {}'s copy shows commit \
                         {shows}.",
                        self.name(origin),
                        self.name(site)
                    ),
                ));
            }
        }
        let undone = (latest - 1).saturating_sub(commit);
        self.tell(format!("{}'s power cut took back {undone} commits", self.name(origin)));
        Ok(())
    }

    /// E: `PRAGMA integrity_check` is ok for every database of a site.
    pub(crate) fn look_at_integrity(&mut self, at: At) -> Checked {
        let disk = self.world.disk(self.name(at));
        let mut paths = Vec::new();
        if !self.checker.not_themselves.contains(&at) {
            paths.push(self.original(at));
        }
        // It lies about the node's own files; what it made of them is looked at afterwards.
        if !self.has_a_lying_disk(at) {
            paths.push(self.node_db(at));
            let others = self.places().into_iter().filter(|origin| *origin != at);
            paths.extend(others.map(|origin| self.mirror(at, origin)));
        }
        for path in paths.into_iter().filter(|path| disk.exists(path)) {
            let said = disk.look(&path).and_then(|connection| {
                connection.query_row("PRAGMA integrity_check(3)", [], |row| row.get::<_, String>(0))
            });
            let said = said.unwrap_or_else(|error| error.to_string());
            if said != "ok" {
                return Err(self.broken(
                    "E: every database is whole at any moment",
                    format!("{}: {said}", path.display()),
                ));
            }
        }
        Ok(())
    }
}
