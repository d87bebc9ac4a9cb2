//! F13: bits flip at rest, in an origin's own journal and in the base that it keeps. Whoever asks for
//! it does not take it. Then the bits are flipped back: refilling is not here yet.

use super::Begun;
use crate::disk::Disk;
use crate::drive::{Checked, Drive};
use crate::plan::At;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// In which something is numbered.
const WORKS: Duration = Duration::from_secs(40 * 60);
/// In which two nodes that have just begun meet and ask.
const MEET: Duration = Duration::from_secs(5 * 60);
/// In which what is whole arrives, or what is damaged is refused.
const ASKED: Duration = Duration::from_secs(20 * 60);

impl Drive<'_> {
    /// A batch, right behind what the asker holds.
    pub(super) async fn rotten_batch(&mut self, origin: At, asker: At) -> Checked<Begun> {
        let sites = [origin, asker];
        if !self.at_work(&sites) {
            return Ok(Begun::NotNow);
        }
        self.hold(&sites, true);
        self.shut_down(asker).await?;
        let held = self.held(asker, origin);
        let numbered = self
            .pass_while(WORKS, async |drive: &mut Self| drive.held(origin, origin) > held)
            .await?;
        self.shut_down(origin).await?;
        let next = held.map_or(1, |held| held + 1);
        let whole = self.frame(origin, origin, next);
        let flipped = numbered && self.damage(origin, origin, next);
        self.start(origin).await?;
        self.start(asker).await?;
        self.reopen(origin);
        let got = |drive: &Self| drive.frame(asker, origin, next);
        self.pass(MEET).await?;
        let refused = self
            .pass_while(ASKED, async |drive: &mut Self| {
                got(drive).is_some() || drive.forgery(asker).await.is_some()
            })
            .await?;
        if let Some(what) = self.forgery(asker).await {
            self.tell(format!("{} tells: {what}", self.name(asker)));
        }
        self.note_standing().await;
        if flipped && got(self).is_some_and(|got| Some(got) != whole) {
            return Err(self.broken(
                "D: a damaged batch is not taken",
                format!(
                    "{} took batch {next} of {}, in whose own journal a bit of it is flipped.",
                    self.name(asker),
                    self.name(origin)
                ),
            ));
        }
        if flipped && !refused && self.can_meet(origin, asker) {
            return Err(self.broken(
                "H: damage is told",
                format!(
                    "{} neither has batch {next} of {} nor says why.",
                    self.name(asker),
                    self.name(origin)
                ),
            ));
        }
        self.shut_down(origin).await?;
        if let Some(whole) = whole.filter(|_| flipped) {
            self.mend(origin, next, &whole)?;
        }
        self.start(origin).await?;
        self.let_go(&sites);
        Ok(if flipped && refused { Begun::Over } else { Begun::NotNow })
    }

    /// A base, of which the asker has lost what it had.
    pub(super) async fn rotten_base(&mut self, origin: At, asker: At) -> Checked<Begun> {
        let sites = [origin, asker];
        if !self.at_work(&sites) {
            return Ok(Begun::NotNow);
        }
        self.hold(&sites, true);
        self.shut_down(asker).await?;
        self.shut_down(origin).await?;
        let branch = self.in_branch(origin, origin, |_, _, branch| Ok(branch));
        let Some(branch) = branch else { return self.not_now(&sites).await };
        let (kept, wanted) =
            (self.world.base(self.name(origin), branch), self.world.base(self.name(asker), branch));
        let whole = self.chunks(origin, &kept);
        let number = self.random.below(whole.len().max(1) as u64) as i64;
        let Some(chunk) = whole.get(&number).filter(|_| self.forget_base(asker, origin, &wanted))
        else {
            return self.not_now(&sites).await;
        };
        let mut damaged = chunk.clone();
        let bit = self.random.below(damaged.len() as u64 * 8) as usize;
        damaged[bit / 8] ^= 1 << (bit % 8);
        self.checker.went_back(asker, true);
        let disk = Arc::clone(self.world.disk(self.name(origin)));
        self.set_chunk(&disk, &kept, number, &damaged)?;
        self.start(origin).await?;
        self.start(asker).await?;
        self.reopen(asker);
        let before = self.world.counts_from(self.name(origin), self.name(asker)).bytes;
        let other = self.held(origin, asker);
        let got = |drive: &Self| drive.chunks(asker, &wanted);
        self.pass_while(ASKED, async |drive: &mut Self| got(drive).len() == whole.len()).await?;
        if let Some((number, _)) =
            got(self).iter().find(|(number, chunk)| whole.get(*number) != Some(*chunk))
        {
            return Err(self.broken(
                "D: a damaged base is not taken",
                format!(
                    "{} took chunk {number} of {}'s base, of which a bit is flipped.",
                    self.name(asker),
                    self.name(origin)
                ),
            ));
        }
        let sent = self.world.counts_from(self.name(origin), self.name(asker)).bytes - before;
        self.tell(format!(
            "{} has {} of {} chunks of {}'s base, and was sent {sent} bytes; its own database there \
             went from {other:?} to {:?} of {:?}",
            self.name(asker),
            got(self).len(),
            whole.len(),
            self.name(origin),
            self.held(origin, asker),
            self.held(asker, asker),
        ));
        self.note_standing().await;
        let asked = sent > damaged.len() as u64 / 8 || got(self).len() == whole.len();
        self.shut_down(origin).await?;
        let chunk = chunk.clone();
        self.set_chunk(&disk, &kept, number, &chunk)?;
        self.start(origin).await?;
        self.let_go(&sites);
        Ok(if asked { Begun::Over } else { Begun::NotNow })
    }

    /// What a site tells of batches that are not genuine.
    async fn forgery(&mut self, at: At) -> Option<String> {
        let status = self.world.try_status(self.name(at)).await?;
        let mut alarms = status.alarms.into_iter();
        alarms.find(|alarm| alarm.what.contains("not genuine")).map(|alarm| alarm.what)
    }

    /// A site loses a base that it had, with the PC off; whether it had one.
    fn forget_base(&self, site: At, origin: At, base: &Path) -> bool {
        let disk = self.world.disk(self.name(site));
        let number = self.in_branch(site, origin, |_, number, _| Ok(number));
        let Some(number) = number.filter(|_| disk.exists(base)) else { return false };
        let forgotten = disk.edit(&self.node_db(site), |connection| {
            connection.execute("DELETE FROM manifest WHERE branch = ?1", [number])?;
            connection.execute("UPDATE branch SET base_held = 0 WHERE number = ?1", [number])
        });
        for suffix in ["", "-wal", "-shm"] {
            self.remove(self.name(site), &super::files::beside(base, suffix));
        }
        forgotten == Ok(1)
    }

    fn set_chunk(&self, disk: &Arc<Disk>, base: &Path, number: i64, bytes: &[u8]) -> Checked {
        let set = disk.edit(base, |connection| {
            connection.execute("UPDATE chunk SET bytes = ?2 WHERE number = ?1", (number, bytes))
        });
        set.map(drop).map_err(|error| self.broken("a base can be edited", error.to_string()))
    }

    /// Flips the bit back.
    fn mend(&self, origin: At, sequence: u64, frame: &[u8]) -> Checked {
        let number = self.in_branch(origin, origin, |_, number, _| Ok(number));
        let mended = self.world.disk(self.name(origin)).edit(&self.node_db(origin), |connection| {
            connection.execute(
                "UPDATE batch SET frame = ?3 WHERE branch = ?1 AND sequence = ?2",
                (number, sequence as i64, frame),
            )
        });
        mended.map(drop).map_err(|error| self.broken("a journal can be edited", error.to_string()))
    }

    async fn not_now(&mut self, sites: &[At]) -> Checked<Begun> {
        for at in sites {
            self.start(*at).await?;
        }
        self.let_go(sites);
        Ok(Begun::NotNow)
    }

    fn let_go(&mut self, sites: &[At]) {
        self.hold(sites, false);
        for at in sites {
            self.reopen(*at);
        }
    }
}
