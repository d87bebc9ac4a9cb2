//! Putting a database under sync. Attaching takes several steps, so that other
//! databases are served between them; until the last one nothing of it counts, and one that was
//! cut off is begun again by attaching again. How a site joins a database that the group shares
//! already is told next door.

use super::births::Births;
use super::numbering::{Draft, append};
use super::request::{AttachRequest, Attached, AttachedTable, Plan, word};
use super::shared::with_rules;
use super::{Engine, EngineError, EngineWorker, ProposalView};
use crate::capture::{
    Application, CaptureError, Captured, Finding, Images, Inspection, JournalMode, Limits,
    PackedKey, Polite, Position, Reading, Rescan, Weight, fold,
};
use crate::failure::Failure;
use crate::shared::convert::convert;
use crate::shared::{Policy, fit, pack_version, policy};
use crate::store::{BranchRow, DatabaseNumber, DatabaseRow, DatabaseState, StoreError, databases};
use conflict::{Timestamp, Value, Version, WallTime};
use protocol::branch::{Mode, Opening};
use protocol::change::{Body, Operation, RowChange};
use protocol::limits::CHUNK;
use protocol::schema::{RowIdentity, Table, TableIndex};
use protocol::snapshot::{ChunkInfo, Manifest, encode_chunk};
use protocol::{
    BranchId, ChainHash, DatabaseId, Epoch, Name, Sequence, SignedManifest, SignedOpening,
};
use std::time::Duration;

/// An attach under way.
pub(super) struct Attaching {
    database: DatabaseRow,
    position: Position,
    rescan: Rescan,
    application: Application,
}

/// How long attach and detach wait for a moment at which nobody is at the file.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Puts a database under sync: one that begins here, or one that the group shares already, for
/// whose first content it waits while some of it comes every `patience`.
///
/// # Errors
/// Why it is refused or could not be done; then nothing has changed but perhaps that triggers
/// stay in the file, which the next attach or detach removes.
pub async fn attach(
    engine: &EngineWorker,
    request: AttachRequest,
    patience: Duration,
) -> Result<(DatabaseNumber, BranchId, Attached), EngineError> {
    let wanted = request.clone();
    match engine.step("attach.plan", move |engine| engine.plan_attach(&wanted)).await? {
        Plan::Found(mode) => found(engine, request, mode).await,
        Plan::Join(number) => super::share::join(engine, request, number, patience).await,
    }
}

/// Installs the triggers, takes the images of all rows, and makes the base that others start from.
async fn found(
    engine: &EngineWorker,
    request: AttachRequest,
    mode: Mode,
) -> Result<(DatabaseNumber, BranchId, Attached), EngineError> {
    let mut attached = Attached {
        database: request.name.to_string(),
        database_id: String::new(),
        path: request.path.display().to_string(),
        mode: word(mode).into(),
        set_aside: None,
        tables: Vec::new(),
        findings: Vec::new(),
    };
    let begun = tokio::time::Instant::now();
    let (database, tables, findings) = loop {
        let wanted = request.clone();
        let looked =
            engine.step("attach.begin", move |engine| engine.begin_attach(&wanted, mode)).await;
        match looked {
            Err(EngineError::Capture(error)) if error.is_busy() && begun.elapsed() < PATIENCE => {}
            other => break other?,
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    };
    attached.tables = tables;
    attached.findings = findings;
    attached.database_id = database.id.to_string();
    let mut attaching = loop {
        let row = database.clone();
        let installed =
            engine.step("attach.install", move |engine| engine.install_capture(row)).await;
        match installed {
            Ok(Some(attaching)) => break attaching,
            Ok(None) if begun.elapsed() < PATIENCE => {}
            Err(EngineError::Capture(error)) if error.is_busy() && begun.elapsed() < PATIENCE => {}
            Ok(None) => return Err(CaptureError::Locked(database.path.clone()).into()),
            // Refused: nothing of ours is in the file, so nothing is to be remembered.
            Err(EngineError::Capture(
                error @ (CaptureError::Refused { .. } | CaptureError::AttachedElsewhere(..)),
            )) => {
                engine
                    .step("attach.forget", move |engine| engine.forget_database(&database))
                    .await?;
                return Err(error.into());
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    };
    loop {
        let (back, done) =
            engine.step("attach.images", move |engine| engine.take_images(attaching)).await?;
        attaching = back;
        if done {
            break;
        }
    }
    let base = engine.step("attach.open", move |engine| engine.open_base(attaching)).await?;
    let mut base = base;
    loop {
        let (back, done) =
            engine.step("attach.base", move |engine| engine.write_base(base)).await?;
        base = back;
        if done {
            break;
        }
    }
    let number = base.database.number;
    let (branch, counts) =
        engine.step("attach.finish", move |engine| engine.finish_attach(base)).await?;
    for (table, count) in attached.tables.iter_mut().zip(counts) {
        table.rows = count;
    }
    Ok((number, branch, attached))
}

/// A finding as people read it.
fn told(found: &Finding) -> String {
    format!("{}. {}", found.what, found.remedy).trim_end().to_owned()
}

/// A base being written.
struct BaseWriter {
    database: DatabaseRow,
    position: Position,
    captured: Captured,
    /// Shared mode: which rows it begins with.
    births: Option<Births>,
    opening: SignedOpening,
    chunks: Vec<ChunkInfo>,
    counts: Vec<u64>,
    /// Where to go on: the table, and the key after which.
    table: u32,
    after: Option<PackedKey>,
}

impl Engine {
    /// Looks at the request and the file, and remembers that an attach has begun.
    pub(super) fn begin_attach(
        &mut self,
        request: &AttachRequest,
        mode: Mode,
    ) -> Result<(DatabaseRow, Vec<AttachedTable>, Vec<String>), EngineError> {
        let path = self.resolve(&request.path)?;
        self.look_whose(&path, None)?;
        let interrupted: Vec<DatabaseRow> = self
            .store
            .databases()?
            .into_iter()
            .filter(|row| row.state == DatabaseState::Attaching && row.branch.is_none())
            .filter(|row| row.name == request.name || row.path == path)
            .collect();
        let mut id = [0; 16];
        self.environment.fill_random(&mut id);
        let id = DatabaseId(uuid::Builder::from_random_bytes(id).into_uuid());
        let mut database = DatabaseRow {
            number: DatabaseNumber(0),
            id,
            name: request.name.clone(),
            site: self.identity.site,
            mode,
            state: DatabaseState::Attaching,
            path,
            branch: None,
        };
        let mut application =
            self.application(database.path.clone(), &database, Captured::default());
        let inspection = application.inspect()?;
        if let Some(refusal) = inspection.refusal() {
            let (what, remedy) = (refusal.what.clone(), refusal.remedy.clone());
            return Err(CaptureError::Refused { what, remedy }.into());
        }
        let fitness = match mode {
            Mode::Mirror => Vec::new(),
            Mode::Shared => self.fitness(&mut application, &inspection, request)?,
        };
        if let Some(refusal) = fitness.iter().find(|found| found.weight == Weight::Refusal) {
            let (what, remedy) = (refusal.what.clone(), refusal.remedy.clone());
            return Err(CaptureError::Refused { what, remedy }.into());
        }
        let inspection = match request.convert_keys {
            true => self.convert_keys(&mut application, &inspection)?,
            false => inspection,
        };
        let findings = inspection.findings.iter().chain(&fitness).map(told).collect();
        if request.wal && inspection.journal != JournalMode::Wal {
            application.switch_to_wal()?;
        }
        let tables = inspection
            .schema
            .tables
            .iter()
            .zip(&inspection.tables)
            .map(|(table, inspected)| AttachedTable {
                name: table.name.clone(),
                rows: 0,
                finding: inspected.finding.clone(),
            })
            .collect();
        // Only now that this one will be remembered in their place: `detach` must find what an
        // interrupted attach may have left in the file.
        for row in &interrupted {
            self.forget_database(row)?;
        }
        database.number = databases::add_database(self.store.connection(), &database)?;
        Ok((database, tables, findings))
    }

    /// What stands in the way of several sites' writing the database, or should be known of it;
    /// rules that may fit it better than the defaults are named, and not set.
    ///
    /// # Errors
    /// The file can't be read.
    fn fitness(
        &self,
        application: &mut Application,
        inspection: &Inspection,
        request: &AttachRequest,
    ) -> Result<Vec<Finding>, EngineError> {
        let convert = request.convert_keys;
        let residues = self.residues();
        let mut findings = application.reading(|connection| {
            fit::findings(connection, inspection, convert, residues, &Policy::default())
        })?;
        for proposal in policy::propose(&inspection.schema)? {
            let ProposalView { command, why, .. } = ProposalView::new(&request.name, proposal);
            findings.push(Finding {
                weight: Weight::Note,
                table: None,
                what: why.trim_end_matches('.').to_owned(),
                remedy: format!("To have it so: `{command}`."),
            });
        }
        Ok(findings)
    }

    /// What is to be known of how an application's rows are numbered here, in sentences.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn number_findings(
        &self,
        number: DatabaseNumber,
    ) -> Result<Vec<String>, EngineError> {
        let database = self.store.database(number)?;
        let mut application =
            self.application(database.path.clone(), &database, Captured::default());
        let (inspection, residues) = (application.inspect()?, self.residues());
        let findings = application
            .reading(|connection| fit::number_findings(connection, &inspection, residues))?;
        Ok(findings.iter().map(told).collect())
    }

    /// Converts keys that several sites can't hand out.
    fn convert_keys(
        &self,
        application: &mut Application,
        inspection: &Inspection,
    ) -> Result<Inspection, EngineError> {
        let Polite::Done(converted) =
            application.alter(|connection| Ok(convert(connection, inspection)))?
        else {
            return Err(CaptureError::Locked(application.path().to_owned()).into());
        };
        converted.map_err(|error| {
            Failure::unable(
                format!("Keys can't be converted: {error}."),
                "Nothing was changed; attach again when no other program changes the schema.",
            )
        })?;
        Ok(application.inspect()?)
    }

    /// Puts log, marker and triggers into the file; `None`: somebody is at it.
    pub(super) fn install_capture(
        &mut self,
        database: DatabaseRow,
    ) -> Result<Option<Attaching>, EngineError> {
        let mut application =
            self.application(database.path.clone(), &database, Captured::default());
        // What an attach of this site left that was cut off, or whose database was detached with
        // the file away, is taken over; what another site's has put there is not.
        let take_over = match application.marker()? {
            Some(marker) if marker.site == self.identity.site => !self
                .store
                .databases()?
                .iter()
                .any(|row| row.id == marker.database && row.state == DatabaseState::Attached),
            _ => false,
        };
        let number = database.number.0;
        let installed = self.store.transaction(|transaction| -> Result<_, EngineError> {
            let images = Images::new(transaction, number);
            let Polite::Done(position) = application.install(&images, take_over)? else {
                return Ok(None);
            };
            let schema = application.captured().schema.clone();
            images.store_schema(&position, &schema, Sequence(1))?;
            Ok(Some(position))
        })?;
        let Some(position) = installed else { return Ok(None) };
        let tables = 0..application.captured().schema.tables.len() as u32;
        let rescan = Rescan::fresh(tables.map(TableIndex));
        Ok(Some(Attaching { database, position, rescan, application }))
    }

    /// Takes the images of some more rows; whether all are taken, and nothing was noted since.
    fn take_images(&mut self, attaching: Attaching) -> Result<(Attaching, bool), EngineError> {
        let Attaching { database, mut position, mut rescan, mut application } = attaching;
        let number = database.number.0;
        let work = {
            let images = Images::new(self.store.connection(), number);
            rescan.next(application.captured(), &images, Limits::default())?
        };
        let done = match application.read(&position, Limits::default(), work.as_ref()) {
            Ok(Reading::Nothing) => true,
            Ok(Reading::Notes(notes)) => {
                position = self.store.transaction(|transaction| -> Result<_, EngineError> {
                    let images = Images::new(transaction, number);
                    let folded = fold(&notes, application.captured(), &images, Timestamp::ZERO)?;
                    let position = rescan.advance(&notes, &folded);
                    images.store_position(&position)?;
                    Ok(position)
                })?;
                application.harvested(&notes);
                rescan.is_done() && !notes.more && work.is_none()
            }
            Ok(Reading::Moved | Reading::WentBack) => {
                return Err(Failure::unable(
                    format!(
                        "The schema of {} was changed while it was being attached.",
                        database.path.display()
                    ),
                    "Attach it again.",
                )
                .into());
            }
            Err(error) if error.is_busy() => false,
            Err(error) => return Err(error.into()),
        };
        Ok((Attaching { database, position, rescan, application }, done))
    }

    /// Opens the branch, and begins the base of what is in the images.
    fn open_base(&mut self, attaching: Attaching) -> Result<BaseWriter, EngineError> {
        let Attaching { database, position, application, .. } = attaching;
        let captured = application.captured().clone();
        let images = Images::new(self.store.connection(), database.number.0);
        let counts = captured
            .numbers
            .iter()
            .map(|number| images.count(*number))
            .collect::<Result<Vec<_>, _>>()?;
        // Later than every opening before, whatever the computer's clock says: of two databases
        // that had one name here, others tell by it which is the former.
        let stamp = self.stamp(None)?;
        let opened = stamp.wall_time();
        let opening = Opening {
            database: database.id,
            name: database.name.clone(),
            mode: database.mode,
            origin: self.identity.site,
            epoch: Epoch(1),
            parent: None,
            // A shared database has one even if it is empty: it tells the founder's branch from
            // those of the others.
            base: database.mode == Mode::Shared || counts.iter().any(|count| *count > 0),
            opened,
        };
        let opening = SignedOpening::open(opening, &self.key)
            .map_err(|error| EngineError::Encoding(error.to_string()))?;
        if opening.opening().base {
            self.base_file(opening.id())?.clear()?;
        }
        let births = match database.mode {
            Mode::Mirror => None,
            Mode::Shared => {
                let birth = Version { timestamp: stamp, origin: self.identity.site };
                Some(Births::new(&captured.schema, birth)?)
            }
        };
        Ok(BaseWriter {
            database,
            position,
            captured,
            births,
            opening,
            chunks: Vec::new(),
            counts,
            table: 0,
            after: None,
        })
    }

    /// Writes the next chunk of the base; whether it was the last.
    fn write_base(&mut self, mut base: BaseWriter) -> Result<(BaseWriter, bool), EngineError> {
        const ROWS_AT_ONCE: usize = 256;
        const CHUNK_ROWS: usize = 16 << 10;
        if !base.opening.opening().base {
            return Ok((base, true));
        }
        let images = Images::new(self.store.connection(), base.database.number.0);
        let mut changes = Vec::new();
        let mut bytes = 0;
        while bytes < CHUNK && changes.len() < CHUNK_ROWS {
            let index = TableIndex(base.table);
            let (Some(table), Some(number)) =
                (base.captured.schema.table(index), base.captured.number(index))
            else {
                break;
            };
            let rows = images.after(number, base.after.as_ref(), ROWS_AT_ONCE)?;
            if rows.is_empty() {
                base.table += 1;
                base.after = None;
            }
            for (key, row) in rows {
                bytes += row.iter().map(Value::size).sum::<usize>();
                let change = insert(index, table, &key, row)?;
                changes.push(match &base.births {
                    Some(births) => births.of(change, table),
                    None => change,
                });
                base.after = Some(key);
                if bytes >= CHUNK {
                    break;
                }
            }
        }
        if changes.is_empty() {
            return Ok((base, true));
        }
        let body = Body { changes, ..Body::default() };
        let (info, chunk) =
            encode_chunk(&body).map_err(|error| EngineError::Encoding(error.to_string()))?;
        self.base_file(base.opening.id())?.append([chunk.as_slice()])?;
        base.chunks.push(info);
        Ok((base, false))
    }

    /// Makes the database attached: its branch with the schema as its first batch, and the base's
    /// manifest, all at once.
    fn finish_attach(&mut self, base: BaseWriter) -> Result<(BranchId, Vec<u64>), EngineError> {
        let BaseWriter { database, captured, births, opening, chunks, counts, position, .. } = base;
        let numbers = captured.numbers.clone();
        let number = database.number;
        let has_base = opening.opening().base;
        let first = if has_base { Sequence(1) } else { Sequence::ZERO };
        let id = opening.id();
        let start = ChainHash::start(id);
        let stamp = self.stamp(None)?;
        let (key, schema) = (&self.key, captured.schema);
        self.store.transaction(|transaction| -> Result<(), EngineError> {
            let branch = databases::add_branch(transaction, number, &opening, start, first, true)?;
            databases::follow_branch(transaction, number, branch)?;
            let branch = append(
                transaction,
                &added(transaction, id)?,
                match database.mode {
                    Mode::Mirror => Draft::first(schema.clone(), stamp),
                    Mode::Shared => Draft::first(with_rules(&schema), stamp),
                },
                key,
            )?;
            if let Some(births) = &births {
                let images = Images::new(transaction, number.0);
                for number in births.tables(&numbers) {
                    images.set_births(number, &pack_version(births.birth()))?;
                }
            }
            if database.mode == Mode::Shared {
                // Its base is merged here as at every other site.
                databases::set_applied(transaction, branch.number, Sequence::ZERO, WallTime(0))?;
            }
            if has_base {
                let manifest = Manifest {
                    branch: id,
                    sequence: Sequence(1),
                    hash: branch.hash,
                    schema: schema.clone(),
                    rows: counts.iter().sum(),
                    chunks,
                };
                let manifest = SignedManifest::sign(manifest, key)
                    .map_err(|error| EngineError::Encoding(error.to_string()))?;
                databases::set_manifest(transaction, branch.number, &manifest)?;
            }
            Images::new(transaction, number.0).store_schema(&position, &schema, Sequence(1))?;
            databases::set_state(transaction, number, DatabaseState::Attached)?;
            Ok(())
        })?;
        self.clear_alarm(&interrupted(&database.name))?;
        Ok((id, counts))
    }

    /// Raises an alarm for each attach that was cut off: its triggers write notes that nobody
    /// reads.
    ///
    /// # Errors
    /// The store fails.
    pub fn look_for_interrupted_attaches(&mut self) -> Result<(), EngineError> {
        for row in self.store.databases()? {
            if row.state == DatabaseState::Attaching {
                self.raise(
                    interrupted(&row.name),
                    crate::store::alarms::Severity::Critical,
                    Some(row.number),
                    format!("Attaching {} was interrupted: it is not under sync.", row.name),
                    "Run `attach` again, or `detach` to leave its file as it was.",
                )?;
            }
        }
        Ok(())
    }

    pub(super) fn forget_database(&mut self, database: &DatabaseRow) -> Result<(), EngineError> {
        self.store.transaction(|transaction| -> Result<(), EngineError> {
            Images::new(transaction, database.number.0).forget()?;
            databases::remove_database(transaction, database.number)?;
            Ok(())
        })?;
        Ok(self.clear_alarm(&interrupted(&database.name))?)
    }
}

/// The branch as it is in this transaction.
pub(super) fn added(
    transaction: &rusqlite::Connection,
    id: BranchId,
) -> Result<BranchRow, StoreError> {
    databases::find_branch(transaction, id)?
        .ok_or_else(|| StoreError::Damaged("a branch just added is gone".into()))
}

pub(super) fn interrupted(name: &Name) -> String {
    format!("attach:{name}")
}

/// A row of an image as a base carries it.
pub(super) fn insert(
    index: TableIndex,
    table: &Table,
    key: &PackedKey,
    row: Vec<Value>,
) -> Result<RowChange, EngineError> {
    let short = || EngineError::Encoding(format!("an image of {} is too short", table.name));
    let identity = match &table.identity {
        RowIdentity::Key(columns) => columns
            .iter()
            .map(|column| row.get(column.0 as usize).cloned().ok_or_else(short))
            .collect::<Result<Vec<_>, _>>()?,
        RowIdentity::Rowid(_) => crate::capture::unpack(key.as_bytes())?,
    };
    let others = table
        .other_columns()
        .map(|column| row.get(column.0 as usize).cloned().ok_or_else(short))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(RowChange::plain(index, identity, Operation::Insert(others)))
}
