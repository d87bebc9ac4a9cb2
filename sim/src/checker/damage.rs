//! Damage done by hand to a journal, and how far a site is in it.

use super::{Books, Holding};
use crate::drive::Drive;
use crate::plan::At;
use conflict::Value;
use protocol::change::{Assignment, Operation};
use protocol::limits::Limits;
use protocol::{ChainHash, Frame, Header};
use rusqlite::OptionalExtension;

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
        if self.plan.life.shared {
            let path = self.original(site);
            let looked = self.world.disk(self.name(site)).look(&path).and_then(|connection| {
                let sql = "SELECT done FROM till WHERE name = ?1";
                connection.query_row(sql, [self.name(origin)], |row| row.get::<_, i64>(0))
            });
            return looked.ok().map(i64::unsigned_abs);
        }
        let till = self.shops[origin.0].till.clone()?;
        let path = self.mirror(site, origin);
        let disk = self.world.disk(self.name(site));
        let program = till.lock();
        let seen = self.checker.copies.look((site, origin), (disk, &path), program.history());
        seen.ok()?.shows
    }

    /// Writes another batch in the place of one that a site carries for the origin, while that PC is
    /// off: all but the origin's signature is as it should be. Whether there was such a batch.
    pub(crate) fn forge(&mut self, site: At, origin: At, sequence: u64) -> bool {
        let frame = self.frame(site, origin, sequence);
        let forged = frame.and_then(|frame| forged(&frame));
        forged.is_some_and(|forged| self.rewrite(site, origin, sequence, &forged))
    }

    /// Puts a batch into a journal, and all hashes as they follow from it.
    pub(crate) fn rewrite(&mut self, site: At, origin: At, sequence: u64, batch: &[u8]) -> bool {
        let number = self.in_branch(site, origin, |_, number, branch| Ok((number, branch)));
        let Some((number, branch)) = number else { return false };
        let path = self.node_db(site);
        let Ok(sequence) = i64::try_from(sequence) else { return false };
        let changed = self.world.disk(self.name(site)).edit(&path, |connection| {
            let frame = |sequence: i64| -> rusqlite::Result<Option<Vec<u8>>> {
                let sql = "SELECT frame FROM batch WHERE branch = ?1 AND sequence = ?2";
                connection.query_row(sql, (number, sequence), |row| row.get(0)).optional()
            };
            let mut line = ChainHash::start(branch);
            for before in 1..sequence {
                let Some(frame) = frame(before)? else { return Ok(false) };
                line = line.extend(&frame);
            }
            let sql = "UPDATE batch SET frame = ?3 WHERE branch = ?1 AND sequence = ?2";
            connection.execute(sql, (number, sequence, batch))?;
            for at in sequence.. {
                let Some(frame) = frame(at)? else { break };
                line = line.extend(&frame);
                let sql = "UPDATE batch SET hash = ?3 WHERE branch = ?1 AND sequence = ?2";
                connection.execute(sql, (number, at, line.0))?;
            }
            let sql = "UPDATE branch SET hash = ?2 WHERE number = ?1";
            connection.execute(sql, (number, line.0))?;
            Ok(true)
        });
        changed.unwrap_or(false)
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

/// The same batch with other values in it; none where it has no text that could be another.
fn forged(frame: &[u8]) -> Option<Vec<u8>> {
    let meta = Header::read(frame).ok()?.meta;
    let mut body = Frame::decode_body(frame, &Limits::default()).ok()?;
    let mut forged = false;
    for change in &mut body.changes {
        let values: Vec<&mut Value> = match &mut change.operation {
            Operation::Insert(values) => values.iter_mut().collect(),
            Operation::Update(columns) => columns
                .iter_mut()
                .map(|(_, assignment)| match assignment {
                    Assignment::Set(value) | Assignment::Add(value) => value,
                })
                .collect(),
            Operation::Delete => Vec::new(),
        };
        for value in values {
            if let Value::Text(text) = value {
                text.extend(b" (forged)");
                forged = true;
            }
        }
    }
    let frame = Frame::encode(&meta, &body).ok()?;
    forged.then(|| frame.into_bytes())
}
