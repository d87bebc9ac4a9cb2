//! What goes back in time: a database, a node's directory, a whole PC, from an old copy (F29, F32,
//! F34) or by a power cut (F20). The node has to tell it, and nobody may take anything of it. Then
//! all is put back as it was before, as its alarm asks: rolling forward is not here yet.

use super::Begun;
use super::telling::Known;
use crate::checker::Hashes;
use crate::disk::Kept;
use crate::drive::{Checked, Drive, FILE};
use crate::oracle::Loss;
use crate::plan::{At, Old};
use crate::workload::Operation;
use std::path::Path;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
/// In which others come to hold more than the old copy does.
const OUTRUN: Duration = Duration::from_secs(40 * 60);
/// Transactions right before a plug is pulled.
const AT_THE_PLUG: u32 = 3;
/// Minutes in which a node notices, counted while it has what it needs for that.
const NOTICES: u32 = 20;
/// Minutes after which it is left alone, if it could not.
const ENOUGH: u32 = 90;

/// Which files are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Database,
    Directory,
    Machine,
}

/// What came of an old copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It is told.
    Yes,
    /// An old node numbered from the newer database's notes, and it came to the very batches that
    /// it had numbered before: nothing is to be told.
    Caught,
    /// Those who could have told were not together.
    No,
}

/// What is true, while an old copy stands in its place.
struct Truth {
    files: Kept,
    part: Part,
    line: Hashes,
    /// What was told before.
    known: Known,
}

impl Drive<'_> {
    /// F29, F32, F34.
    pub(super) async fn put_back(&mut self, at: At, old: Old) -> Checked<Begun> {
        let Some(copy) = self.outrun_copy(at).await? else { return Ok(Begun::NotNow) };
        let (part, running) = match old {
            Old::Backup => (Part::Database, true),
            Old::Database => (Part::Database, false),
            Old::Directory => (Part::Directory, false),
            Old::Machine => (Part::Machine, false),
        };
        self.shops[at.0].held = true;
        self.shops[at.0].set_open(false);
        let known = self.known().await;
        if !running {
            self.shut_down(at).await?;
        }
        let truth = self.put_old(at, part, &copy, known)?;
        self.tell(format!("{}: {}", self.name(at), what(old)));
        if !running {
            self.start(at).await?;
        }
        self.live_on_old(at, &truth).await
    }

    /// F20. An application at NORMAL loses its last commits with the power, and none that was sent,
    /// for the node syncs what it numbers. A disk that had not written what it said it had takes
    /// those as well.
    pub(super) async fn undone(&mut self, at: At) -> Checked<Begun> {
        let Some(till) = self.shops[at.0].till.clone() else { return Ok(Begun::NotNow) };
        till.lock().set_loss(Loss::Allowed);
        let Some(copy) = self.outrun_copy(at).await? else { return Ok(Begun::NotNow) };
        self.shops[at.0].held = true;
        let known = self.known().await;
        // No node has seen these when the power goes.
        for _ in 0..AT_THE_PLUG {
            till.perform(Operation::Edit);
        }
        self.plug(at).await?;
        till.lock().set_loss(Loss::Forbidden);
        self.shops[at.0].set_open(false);
        let truth = self.put_old(at, Part::Database, &copy, known)?;
        self.tell(format!("{}: its disk had lied: what was sent is gone", self.name(at)));
        self.start(at).await?;
        self.live_on_old(at, &truth).await
    }

    /// A copy of all files of a PC, made when its application had committed less than all others
    /// show now. None if it does not come to that.
    async fn outrun_copy(&mut self, at: At) -> Checked<Option<Kept>> {
        if !self.at_work(&[at]) {
            return Ok(None);
        }
        let (copy, commits) = (self.world.disk(self.name(at)).keep(), self.shops[at.0].commits());
        let outrun = self
            .pass_while(OUTRUN, async |drive: &mut Self| {
                drive.at_work(&[at]) && drive.all_show_more(at, commits)
            })
            .await?;
        Ok((outrun && !self.shops[at.0].held).then_some(copy))
    }

    /// Whether all others show something that the origin committed after that.
    pub(super) fn all_show_more(&mut self, origin: At, commit: u64) -> bool {
        self.others(origin).into_iter().all(|site| {
            let shows = self.shows(site, origin);
            let then = self.shops[origin.0].history(|history| history.state(commit)).flatten();
            let now = shows.and_then(|shows| {
                self.shops[origin.0].history(|history| history.state(shows)).flatten()
            });
            shows > Some(commit) && now.map(|now| now.hash()) != then.map(|then| then.hash())
        })
    }

    /// All other sites that there still are.
    pub(super) fn others(&self, but: At) -> Vec<At> {
        let others = self.places().into_iter();
        others.filter(|site| *site != but && !self.shops[site.0].burned).collect()
    }

    /// Puts the old copy in the place of what is true.
    fn put_old(&mut self, at: At, part: Part, copy: &Kept, known: Known) -> Checked<Truth> {
        let (files, line) = (self.world.disk(self.name(at)).keep(), self.hashes(at, at));
        let truth = Truth { files, part, line, known };
        self.checker.is_not_itself(at, true);
        if part != Part::Database {
            self.checker.went_back(at, true);
        }
        self.put_files(at, part, copy)?;
        Ok(truth)
    }

    fn put_files(&mut self, at: At, part: Part, files: &Kept) -> Checked {
        let (database, folder) = (self.original(at), self.world.node_folder(self.name(at)));
        self.world.disk(self.name(at)).put_back(files, |path| match part {
            Part::Database => belongs_to(path, &database),
            Part::Directory => path.starts_with(&folder),
            Part::Machine => true,
        });
        // Its copies of others' are those of then.
        self.checker.power_failed(at);
        self.read_anew(at)
    }

    /// The oracle takes what an application's file holds now for what it committed.
    fn read_anew(&mut self, at: At) -> Checked {
        let Some(till) = self.shops[at.0].till.clone() else { return Ok(()) };
        let path = self.original(at);
        let read = self.world.disk(self.name(at)).look(&path);
        read.and_then(|connection| till.lock().read_anew(&connection))
            .map_err(|error| self.broken("E: originals can be read", error.to_string()))
    }

    /// The application works on what was put back; the node tells, and nobody takes anything of it.
    /// Then all is as it was.
    async fn live_on_old(&mut self, at: At, truth: &Truth) -> Checked<Begun> {
        if self.random.below(2) == 0 {
            self.reopen(at);
        }
        let told = self.is_told(at, truth).await?;
        self.reopen(at);
        if told == Told::Caught {
            self.tell(format!("{}'s node has come to where it was", self.name(at)));
            self.checker.is_not_itself(at, false);
            self.shops[at.0].held = false;
            return Ok(Begun::Over);
        }
        self.pass(15 * MINUTE).await?;
        self.shops[at.0].set_open(false);
        self.look_for_strangers(at, &truth.line)?;
        if told == Told::Yes {
            self.promises_nothing(at).await?;
        }
        if truth.part == Part::Database {
            let line = self.hashes(at, at);
            if line != truth.line {
                return Err(self.broken(
                    "B: nothing is numbered of a database that went back",
                    format!(
                        "{} was at batch {} and is at {}.",
                        self.name(at),
                        truth.line.len(),
                        line.len()
                    ),
                ));
            }
        }
        if truth.part != Part::Database {
            self.note_standing().await;
        }
        self.shut_down(at).await?;
        self.put_files(at, truth.part.whole(), &truth.files)?;
        self.tell(format!("{} has its own files again", self.name(at)));
        self.start(at).await?;
        if truth.part != Part::Database {
            self.start_others_anew(at).await?;
        }
        self.checker.is_not_itself(at, false);
        self.shops[at.0].held = false;
        self.reopen(at);
        Ok(if told == Told::Yes { Begun::Over } else { Begun::NotNow })
    }

    /// H: it is told, at the site or, for a fork, anywhere. A node whose directory is old can learn
    /// it only from others.
    async fn is_told(&mut self, at: At, truth: &Truth) -> Checked<Told> {
        let mut could = 0;
        for _ in 0..ENOUGH {
            if let Some(told) = self.told_of(at, &truth.known).await {
                self.tell(told);
                return Ok(Told::Yes);
            }
            if truth.part == Part::Directory {
                let line = self.hashes(at, at);
                if truth.line.iter().all(|(sequence, hash)| line.get(sequence) == Some(hash)) {
                    return Ok(Told::Caught);
                }
            }
            let on = self.shops[at.0].is_on() && !self.world.is_fallen(self.name(at));
            let met = || self.others(at).into_iter().any(|other| self.can_meet(at, other));
            could += u32::from(on && (truth.part == Part::Database || met()));
            if could == NOTICES {
                let said = self.world.try_status(self.name(at)).await;
                let said = said.as_ref().map(node::status::render).unwrap_or_default();
                return Err(self.broken(
                    "H: what went back in time is told",
                    format!("{} says nothing in {NOTICES} minutes:\n{said}", self.name(at)),
                ));
            }
            self.pass(MINUTE).await?;
        }
        Ok(Told::No)
    }
}

impl Part {
    /// What is put back in the end: a node that ran beside an application belongs to its files.
    fn whole(self) -> Self {
        match self {
            Self::Database => Self::Database,
            Self::Directory | Self::Machine => Self::Machine,
        }
    }
}

/// Whether a file is the database or stands beside it.
fn belongs_to(path: &Path, database: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    path.parent() == database.parent() && name.is_some_and(|name| name.starts_with(FILE))
}

fn what(old: Old) -> &'static str {
    match old {
        Old::Backup => "an old backup of its database is put in its place",
        Old::Database => "its database is of an old copy, its node is not",
        Old::Directory => "its node is of an old copy, its database is not",
        Old::Machine => "all is as it was a while ago",
    }
}
