//! F31: a disk is cloned and both copies run under one key, on two computers at the same time. The
//! fork has to be told. Whom the others heard first they stay with: if that is the true computer,
//! the clone is thrown away; if it is the clone, the true site is given up.

use super::Begun;
use super::telling::Known;
use crate::disk::Kept;
use crate::drive::{Checked, Drive, FILE};
use crate::plan::At;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
/// In which batches get about.
const ARRIVES: Duration = Duration::from_secs(40 * 60);
/// Minutes in which a fork is told, counted while those concerned could meet.
const NOTICES: u32 = 20;
/// Minutes after which it is left alone.
const ENOUGH: u32 = 90;

impl Drive<'_> {
    /// The clone turns up when all others hold more than it does.
    pub(super) async fn cloned(&mut self, at: At) -> Checked<Begun> {
        let known = self.known().await;
        let Some((files, commits)) = self.copy_disk(at).await? else { return Ok(Begun::NotNow) };
        self.start(at).await?;
        self.reopen(at);
        let outrun = self
            .pass_while(ARRIVES, async |drive: &mut Self| drive.all_show_more(at, commits))
            .await?;
        if !outrun {
            self.shops[at.0].held = false;
            return Ok(Begun::NotNow);
        }
        let clone = self.make_clone(at, &files);
        self.world.isolate(&clone);
        self.start_clone(at, &clone).await?;
        self.pass(2 * MINUTE).await?;
        self.world.reconnect(&clone);
        let told = self.clone_is_told(at, &clone, &known).await?;
        self.pass(10 * MINUTE).await?;
        self.look_for_strangers(at, &self.hashes(at, at))?;
        self.note_standing().await;
        self.world.power_off(&clone).await;
        self.tell(format!("{}'s clone is thrown away", self.name(at)));
        // Its address was the clone's for all, and it says its own again when it starts.
        self.stop_node(at).await?;
        self.start(at).await?;
        self.start_others_anew(at).await?;
        self.shops[at.0].held = false;
        Ok(if told { Begun::Over } else { Begun::NotNow })
    }

    /// The true computer has no line for a while, and the others hear of the clone first.
    pub(super) async fn cloned_and_heard_first(&mut self, at: At) -> Checked<Begun> {
        let known = self.known().await;
        let Some((files, _)) = self.copy_disk(at).await? else { return Ok(Begun::NotNow) };
        let before = self.held(at, at);
        self.world.isolate(self.name(at));
        self.start(at).await?;
        self.reopen(at);
        let worked =
            self.pass_while(ARRIVES, async |drive: &mut Self| drive.held(at, at) > before).await?;
        if !worked {
            self.world.reconnect(self.name(at));
            self.shops[at.0].held = false;
            return Ok(Begun::NotNow);
        }
        let clone = self.make_clone(at, &files);
        self.start_clone(at, &clone).await?;
        let heard = |drive: &Self| {
            let others = drive.others(at).into_iter();
            others.map(|other| drive.held(other, at) > before).collect::<Vec<_>>()
        };
        self.pass_while(ARRIVES, async |drive: &mut Self| !heard(drive).contains(&false)).await?;
        self.world.reconnect(self.name(at));
        if !heard(self).contains(&true) {
            self.world.power_off(&clone).await;
            self.shops[at.0].held = false;
            return Ok(Begun::NotNow);
        }
        let told = self.clone_is_told(at, &clone, &known).await?;
        self.pass(10 * MINUTE).await?;
        if told {
            self.promises_nothing(at).await?;
        }
        self.note_standing().await;
        self.world.power_off(&clone).await;
        self.tell(format!("{} is given up: the others went with its clone", self.name(at)));
        self.give_up(at).await?;
        Ok(Begun::Over)
    }

    /// Copies the disk of a PC that is off, and how many commits it has. The PC stays off.
    async fn copy_disk(&mut self, at: At) -> Checked<Option<(Kept, u64)>> {
        if !self.at_work(&[at]) {
            return Ok(None);
        }
        self.shops[at.0].held = true;
        self.shut_down(at).await?;
        self.tell(format!("{}'s disk is cloned", self.name(at)));
        Ok(Some((self.world.disk(self.name(at)).keep(), self.shops[at.0].commits())))
    }

    /// Puts the copy into a second computer, whose name is returned.
    fn make_clone(&mut self, at: At, files: &Kept) -> String {
        let name = self.name(at);
        let mut clone = format!("{name}-2");
        for number in 3.. {
            if !self.world.has_computer(&clone) {
                break;
            }
            clone = format!("{name}-{number}");
        }
        self.world.clone_computer(name, &clone, files);
        // Two computers of one name: what others know of it is of the one or the other.
        self.checker.went_back(at, true);
        clone
    }

    /// Switches the clone on, and somebody works there.
    async fn start_clone(&mut self, at: At, clone: &str) -> Checked {
        self.tell(format!("{}'s clone is switched on", self.name(at)));
        if let Err(error) = self.world.boot(clone).await {
            let what = format!("{}'s clone does not start: {error}", self.name(at));
            return Err(self.broken("H: a clone starts", what));
        }
        for price in 1..=3 {
            self.work_at_clone(at, clone, price)?;
            self.pass(MINUTE / 2).await?;
        }
        Ok(())
    }

    fn work_at_clone(&mut self, at: At, clone: &str, price: i64) -> Checked {
        let Some(till) = self.shops[at.0].till.clone() else { return Ok(()) };
        let (disk, path) = (self.world.disk(clone), self.world.file(clone, FILE));
        let worked = disk.edit(&path, |connection| {
            let sql = "UPDATE products SET cents = cents + ?1, name = 'of the clone' \
                       WHERE id IN (SELECT id FROM products ORDER BY id LIMIT 3)";
            connection.execute(sql, [price]).map(drop)
        });
        let worked = worked
            .and_then(|()| disk.look(&path))
            .and_then(|connection| till.lock().also_had(&connection));
        worked.map_err(|error| self.broken("the clone can be written", error.to_string()))
    }

    /// H: somebody tells of the fork; whether somebody does.
    async fn clone_is_told(&mut self, at: At, clone: &str, known: &Known) -> Checked<bool> {
        let mut could = 0;
        for _ in 0..ENOUGH {
            let said = self.world.try_status(clone).await;
            let by_clone = known.new_of(at, self.name(at), said.as_ref());
            let by_clone = by_clone.map(|what| format!("{}'s clone tells: {what}", self.name(at)));
            let told = match by_clone {
                None => self.told_of(at, known).await,
                told => told,
            };
            if let Some(told) = told {
                self.tell(told);
                return Ok(true);
            }
            // Both can be met by somebody.
            let met = self.others(at).into_iter().any(|other| self.can_meet(at, other));
            could += u32::from(met);
            if could == NOTICES {
                let mut all = said.as_ref().map(node::status::render).unwrap_or_default();
                for site in self.others(at).into_iter().chain([at]) {
                    let status = self.world.try_status(self.name(site)).await;
                    all += &status.as_ref().map(node::status::render).unwrap_or_default();
                }
                return Err(self.broken(
                    "F: a fork is told",
                    format!("{} and its clone run, and nobody says so:\n{all}", self.name(at)),
                ));
            }
            self.pass(MINUTE).await?;
        }
        Ok(false)
    }
}
