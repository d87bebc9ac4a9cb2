//! Damage done by hand to a journal, and how far a site is in it.

use super::{Books, Holding};
use crate::drive::Drive;
use crate::plan::At;

impl Drive<'_> {
    /// How many batches of the origin a site holds.
    pub(crate) fn held(&self, site: At, origin: At) -> Option<u64> {
        self.holding(site, origin).map(|holding| holding.held)
    }

    /// How far a site is in the origin's branch.
    pub(crate) fn holding(&self, site: At, origin: At) -> Option<Holding> {
        let connection = self.world.disk(self.name(site)).look(&self.node_db(site)).ok()?;
        let books = Books::read(&connection).ok()?;
        let of = books.holdings.iter().find(|(id, _)| self.checker.site(**id) == Some(origin));
        of.map(|(_, holding)| *holding)
    }

    /// Whether a site's `node.db` still has what others were told that it has.
    pub(crate) fn holds_what_others_count_on(&self, at: At) -> Result<(), String> {
        let read = |at: At| {
            let disk = self.world.disk(self.name(at));
            disk.look_durable(&self.node_db(at)).and_then(|connection| Books::read(&connection))
        };
        let own = read(at).map_err(|error| error.to_string())?;
        for other in self.places().into_iter().filter(|other| *other != at) {
            if self.shops[other.0].burned {
                continue;
            }
            // One that can't be read is looked at for itself.
            for ((origin, holder), claimed) in read(other).unwrap_or_default().claims {
                let held = own.holdings.get(&origin).map_or(0, |holding| holding.durable);
                if self.checker.site(holder) == Some(at) && claimed > held {
                    let whose = self.checker.site(origin).map_or("?", |origin| self.name(origin));
                    return Err(format!(
                        "of {whose} it has batch {held}, and {} counts on {claimed}",
                        self.name(other)
                    ));
                }
            }
        }
        Ok(())
    }

    /// The commit of the origin that a site's copy shows.
    pub(crate) fn shows(&mut self, site: At, origin: At) -> Option<u64> {
        let till = self.shops[origin.0].till.clone()?;
        let path = self.mirror(site, origin);
        let disk = self.world.disk(self.name(site));
        let program = till.lock();
        let seen = self.checker.copies.look((site, origin), (disk, &path), program.history());
        seen.ok()?.shows
    }

    /// Flips a bit of a batch of the origin in a site's journal, while that PC is off; whether
    /// there was such a batch.
    pub(crate) fn damage(&mut self, site: At, origin: At, sequence: u64) -> bool {
        let number = self.in_branch(site, origin, |_, number, _| Ok(number));
        let Some(number) = number else { return false };
        let path = self.node_db(site);
        let choice = self.random.draw();
        let Ok(sequence) = i64::try_from(sequence) else { return false };
        let changed = self.world.disk(self.name(site)).edit(&path, |connection| {
            let mut frame: Vec<u8> = connection.query_row(
                "SELECT frame FROM batch WHERE branch = ?1 AND sequence = ?2",
                (number, sequence),
                |row| row.get(0),
            )?;
            let bit = choice as usize % (frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
            connection.execute(
                "UPDATE batch SET frame = ?3 WHERE branch = ?1 AND sequence = ?2",
                (number, sequence, frame),
            )
        });
        changed.is_ok_and(|changed| changed == 1)
    }
}
