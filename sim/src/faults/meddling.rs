//! What a member may publish that no node would: changes of tables that are not shared, and of the
//! node's own (F52); a stamp at the end of time (F53), which nobody can apply (F64). The batches are
//! genuine: signed with the site's own key, by somebody who sits at its disk.

use super::Begun;
use crate::drive::{Checked, DATABASE, Drive};
use crate::plan::At;
use crate::workload::clerk::Task;
use conflict::{Timestamp, Value};
use protocol::change::{Body, Operation, RowChange, SchemaReference};
use protocol::limits::Limits;
use protocol::schema::{ColumnIndex, RowIdentity, Schema, Table, TableIndex};
use protocol::{ChainHash, Frame, Meta, Sequence, SigningKey, flight};
use rusqlite::Connection;
use std::time::Duration;

/// In which a batch gets about and is merged.
const ARRIVES: Duration = Duration::from_secs(30 * 60);
/// Tables that nobody shares.
const SMUGGLED: [&str; 4] = ["_holdfast_marker", "_holdfast_log", "sqlite_sequence", "smuggled"];

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meddling {
    /// Rows of tables that are not shared, or the node's own.
    Tables,
    /// A row whose stamp nothing can follow.
    EndOfTime,
}

impl Drive<'_> {
    /// F52: the others take it, and nothing comes of it.
    pub(super) async fn meddled(&mut self, at: At) -> Checked<Begun> {
        if !self.at_work(&[at]) {
            return Ok(Begun::NotNow);
        }
        self.shops[at.0].held = true;
        self.shut_down(at).await?;
        let published = self.publish(at, Meddling::Tables);
        self.start(at).await?;
        self.reopen(at);
        let Some(sequence) = published else {
            self.shops[at.0].held = false;
            return Ok(Begun::NotNow);
        };
        let others = self.others(at);
        let merged = self
            .pass_while(ARRIVES, async |drive: &mut Self| {
                others.iter().any(|other| {
                    drive.holding(*other, at).is_some_and(|holding| holding.applied >= sequence)
                })
            })
            .await?;
        self.shops[at.0].held = false;
        for other in others {
            self.look_for_smuggled(other)?;
        }
        Ok(if merged { Begun::Over } else { Begun::NotNow })
    }

    /// D: none of it stands in an application's file.
    fn look_for_smuggled(&self, at: At) -> Checked {
        let path = self.original(at);
        let looked = self.world.disk(self.name(at)).look(&path).and_then(|connection| {
            let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'smuggled'";
            let made: i64 = connection.query_row(sql, [], |row| row.get(0))?;
            let sql = "SELECT count(*) FROM sqlite_sequence WHERE name = 'smuggled'";
            let numbered: i64 = connection.query_row(sql, [], |row| row.get(0))?;
            Ok(made + numbered)
        });
        match looked {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => {
                let what =
                    format!("{}'s file has what {SMUGGLED:?} were told to have", self.name(at));
                Err(self.broken("D: changes of tables that are not shared change nothing", what))
            }
        }
    }

    /// F53, F64, when all else is over: a batch that nobody can apply is set aside and told, and
    /// what others say goes on.
    pub(crate) async fn end_of_time(&mut self) -> Checked {
        let at = At(self.random.below(self.shops.len() as u64) as usize);
        self.shut_down(at).await?;
        let Some(_) = self.publish(at, Meddling::EndOfTime) else { return Ok(()) };
        self.start(at).await?;
        let others = self.others(at);
        for other in &others {
            let told = self
                .pass_while(ARRIVES, async |drive: &mut Self| {
                    let status = drive.world.try_status(drive.name(*other)).await;
                    let alarms = status.into_iter().flat_map(|status| status.alarms);
                    alarms.filter(|alarm| alarm.severity == "critical").any(|alarm| {
                        alarm.what.contains(drive.name(at)) && alarm.what.contains("merged")
                    })
                })
                .await?;
            if !told {
                let what = format!(
                    "{} says nothing of {}'s batch at the end of time.",
                    self.name(*other),
                    self.name(at)
                );
                return Err(self.broken("H: a batch that can't be applied is told", what));
            }
        }
        let [first, second, ..] = others[..] else { return Ok(()) };
        let Some(clerk) = self.shops[first.0].clerk.clone() else { return Ok(()) };
        if !clerk.lock().perform(Task::Sell) {
            return Ok(());
        }
        let latest = self.shops[first.0].latest();
        let arrived = self
            .pass_while(ARRIVES, async |drive: &mut Self| {
                drive.shows(second, first) >= Some(latest)
            })
            .await?;
        if !arrived {
            let what = format!(
                "{} does not show transaction {latest} of {}, beside a batch of {} that nobody can \
                 apply.",
                self.name(second),
                self.name(first),
                self.name(at)
            );
            return Err(self.broken("G: other origins go on", what));
        }
        self.note_fired(53);
        self.note_fired(64);
        Ok(())
    }

    /// Signs a batch with a site's key and puts it into its journal, with the PC off; its number.
    fn publish(&mut self, at: At, what: Meddling) -> Option<u64> {
        let name = self.name(at);
        let disk = self.world.disk(name);
        let seed = disk.read(&self.world.node_folder(name).join("key")).ok()?;
        let key = SigningKey::from_seed(seed.try_into().ok()?);
        let (number, branch) = self.in_branch(at, at, |_, number, branch| Ok((number, branch)))?;
        let published = disk.edit(&self.node_db(at), |connection| {
            let sql = "SELECT held, hash, timestamp FROM branch WHERE number = ?1";
            let (held, hash, time): (i64, [u8; 32], i64) =
                connection
                    .query_row(sql, [number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let Some(schema) = schema(connection, number)? else { return Ok(None) };
            let timestamp = Timestamp::try_from(time.unsigned_abs() + 1).unwrap_or(Timestamp::MAX);
            let body = what.body(schema);
            let sequence = Sequence(held.unsigned_abs() + 1);
            let meta = Meta { sequence, timestamp, more: false, last: false };
            let Ok(frame) = Frame::encode(&meta, &body) else { return Ok(None) };
            let hash = ChainHash(hash).extend(frame.as_bytes());
            let signature = flight::sign(&key, branch, sequence, hash);
            connection.execute(
                "INSERT INTO batch (branch, sequence, more, hash, signature, frame)
                 VALUES (?1, ?2, 0, ?3, ?4, ?5)",
                (number, held + 1, hash.0, &signature.0[..], frame.as_bytes()),
            )?;
            connection.execute(
                "UPDATE branch SET held = ?2, applied = ?2, hash = ?3, timestamp = ?4
                 WHERE number = ?1",
                (number, held + 1, hash.0, timestamp.as_u64().cast_signed()),
            )?;
            let sql = "UPDATE setting SET value = ?1 WHERE name = 'clock'";
            connection.execute(sql, [&timestamp.as_u64().to_be_bytes()[..]])?;
            Ok(Some(sequence.0))
        });
        let published = published.ok().flatten();
        if published.is_some() {
            self.tell(format!("{name} publishes what no node would, for {DATABASE}: {what:?}"));
        }
        published
    }
}

impl Meddling {
    fn body(self, mut schema: Schema) -> Body {
        let mut changes = Vec::new();
        match self {
            Self::Tables => {
                for name in SMUGGLED {
                    let table = TableIndex(schema.tables.len() as u32);
                    schema.tables.push(Table {
                        name: name.to_owned(),
                        columns: vec!["name".to_owned(), "seq".to_owned()],
                        identity: RowIdentity::Key(vec![ColumnIndex(0)]),
                    });
                    let key = vec![Value::text("smuggled")];
                    let operation = Operation::Insert(vec![Value::Integer(1 << 40)]);
                    changes.push(RowChange::plain(table, key, operation));
                }
            }
            Self::EndOfTime => {
                let stock = schema.find("stock").unwrap_or(TableIndex(0));
                let key = vec![Value::text("sku-0")];
                let change = RowChange::plain(stock, key, Operation::Delete);
                changes.push(RowChange { stamp: Some(Timestamp::MAX), ..change });
            }
        }
        Body { schema: SchemaReference::Here(Box::new(schema)), changes, ..Body::default() }
    }
}

/// The schema that a branch's batches are in.
fn schema(connection: &Connection, number: i64) -> rusqlite::Result<Option<Schema>> {
    let mut batches =
        connection.prepare("SELECT frame FROM batch WHERE branch = ?1 ORDER BY sequence DESC")?;
    let mut rows = batches.query([number])?;
    while let Some(row) = rows.next()? {
        let frame: Vec<u8> = row.get(0)?;
        if let Ok(Body { schema: SchemaReference::Here(schema), .. }) =
            Frame::decode_body(&frame, &Limits::default())
        {
            return Ok(Some(*schema));
        }
    }
    Ok(None)
}
