//! Making a mirror's file from a base: a schema and chunks of rows, of one manifest.
//!
//! The file lies beside the mirror until it is complete; the caller then renames it into place.
//! Chunks are fetched elsewhere. A loader that was interrupted goes on at the next chunk.

use super::error::{ApplyError, Doing};
use super::mirror::{Marker, close, has_table, make_marker_table, open, roll_back, write_marker};
use super::rows::{RowWriter, targets};
use super::schema::{LeftOut, Movement};
use crate::environment::Environment;
use protocol::change::Body;
use protocol::schema::Schema;
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const LOADING: &str = "loading a base";

/// Fills a new file with the content of a base.
#[derive(Debug)]
pub struct BaseLoader {
    connection: Connection,
    schema: Schema,
    progress: Progress,
}

/// How far a base is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The chunk of this number, from 0, comes next.
    Chunk(u64),
    /// All is there: the file may be closed and renamed.
    Finished,
}

impl BaseLoader {
    /// Opens the file at `path`, which is made if it does not exist, to load the base of
    /// `manifest`, its hash. A file that holds another manifest's chunks is begun anew.
    ///
    /// # Errors
    /// SQLite's and the file system's, and a schema that can't be made here.
    pub fn open(
        environment: &dyn Environment,
        path: &Path,
        manifest: [u8; 32],
        schema: Schema,
    ) -> Result<Self, ApplyError> {
        let mut connection = open(environment, path)?;
        let progress = read_progress(&connection, manifest)?;
        if progress.is_none() && has_table(&connection, "_holdfast_loading")? {
            close(connection)?;
            for ending in ["", "-wal", "-shm"] {
                let mut file = path.as_os_str().to_owned();
                file.push(ending);
                environment.remove_file(&PathBuf::from(file))?;
            }
            connection = open(environment, path)?;
        }
        let progress = match progress {
            Some(progress) => progress,
            None => {
                connection.execute_batch("BEGIN IMMEDIATE").doing(LOADING)?;
                if let Err(error) = begin(&connection, manifest, &schema) {
                    roll_back(&connection)?;
                    return Err(error);
                }
                connection.execute_batch("COMMIT").doing(LOADING)?;
                Progress::Chunk(0)
            }
        };
        Ok(Self { connection, schema, progress })
    }

    /// What comes next.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Writes the rows of a chunk, all of them inserts. One that is there already is skipped.
    ///
    /// # Errors
    /// A chunk is missing before this one, it is malformed, or SQLite's. The file is as before.
    pub fn load(&mut self, chunk: u64, body: &Body) -> Result<(), ApplyError> {
        let next = match self.progress {
            Progress::Chunk(next) if chunk >= next => next,
            Progress::Chunk(_) | Progress::Finished => return Ok(()),
        };
        if chunk > next {
            return Err(ApplyError::Gap { applied: next.saturating_sub(1), found: chunk });
        }
        let next = next.saturating_add(1);
        self.transaction(|connection, schema| {
            let mut writer = RowWriter::new(targets(schema, &BTreeMap::new())?);
            writer.write(connection, body)?;
            writer.settle(connection)?;
            connection
                .execute("UPDATE _holdfast_loading SET next_chunk = ?1", [next.cast_signed()])
                .map(drop)
                .doing(LOADING)
        })?;
        self.progress = Progress::Chunk(next);
        Ok(())
    }

    /// Makes indexes, views and triggers and writes the marker, once all chunks are loaded.
    /// Gives what could not be made here. Once finished, nothing is done.
    ///
    /// # Errors
    /// SQLite's, and objects that can't be made of these rows. The file is as before.
    pub fn finish(&mut self, marker: &Marker) -> Result<Vec<LeftOut>, ApplyError> {
        if self.progress == Progress::Finished {
            return Ok(Vec::new());
        }
        let left_out = self.transaction(|connection, schema| {
            let left_out =
                Movement::begin(connection, schema, schema, &[])?.finish(connection, schema)?;
            make_marker_table(connection)?;
            write_marker(connection, marker, schema)?;
            connection
                .execute("UPDATE _holdfast_loading SET next_chunk = NULL", [])
                .doing(LOADING)?;
            Ok(left_out)
        })?;
        self.progress = Progress::Finished;
        Ok(left_out)
    }

    /// Makes indexes, views and triggers, once all chunks are loaded, and leaves nothing of ours
    /// in the file: it becomes an application's own. Gives what could not be made here.
    ///
    /// # Errors
    /// As [`BaseLoader::finish`].
    pub fn finish_bare<T>(
        &mut self,
        complete: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<(Vec<LeftOut>, T), ApplyError> {
        self.transaction(|connection, schema| {
            let left_out =
                Movement::begin(connection, schema, schema, &[])?.finish(connection, schema)?;
            connection.execute_batch("DROP TABLE _holdfast_loading").doing(LOADING)?;
            Ok((left_out, complete(connection).doing(LOADING)?))
        })
    }

    /// Moves everything into the file itself and closes it: no `-wal` remains. A base that is not
    /// finished can be gone on with. The table that counts chunks stays in the file: whoever
    /// opens it again before it is renamed must see that it is complete.
    ///
    /// # Errors
    /// SQLite's.
    pub fn close(self) -> Result<(), ApplyError> {
        close(self.connection)
    }

    fn transaction<T>(
        &self,
        work: impl FnOnce(&Connection, &Schema) -> Result<T, ApplyError>,
    ) -> Result<T, ApplyError> {
        roll_back(&self.connection)?;
        self.connection.execute_batch("BEGIN IMMEDIATE").doing(LOADING)?;
        let outcome = work(&self.connection, &self.schema).and_then(|outcome| {
            self.connection.execute_batch("COMMIT").doing(LOADING)?;
            Ok(outcome)
        });
        if outcome.is_err() {
            roll_back(&self.connection)?;
        }
        outcome
    }
}

fn begin(connection: &Connection, manifest: [u8; 32], schema: &Schema) -> Result<(), ApplyError> {
    connection
        .execute_batch(
            "CREATE TABLE _holdfast_loading (manifest BLOB NOT NULL, next_chunk INTEGER)",
        )
        .doing(LOADING)?;
    connection
        .execute("INSERT INTO _holdfast_loading VALUES (?1, 0)", [manifest])
        .doing(LOADING)?;
    Movement::begin(connection, &Schema::default(), schema, &[]).map(drop)
}

/// How far the file is with this manifest's base; `None` where it holds nothing of it.
fn read_progress(
    connection: &Connection,
    manifest: [u8; 32],
) -> Result<Option<Progress>, ApplyError> {
    if !has_table(connection, "_holdfast_loading")? {
        return Ok(None);
    }
    let sql = "SELECT next_chunk FROM _holdfast_loading WHERE manifest = ?1";
    let next: Option<Option<i64>> =
        connection.query_row(sql, [manifest], |row| row.get(0)).optional().doing(LOADING)?;
    Ok(next.map(|next| match next {
        Some(next) => Progress::Chunk(next.cast_unsigned()),
        None => Progress::Finished,
    }))
}
