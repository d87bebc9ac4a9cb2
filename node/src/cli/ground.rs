//! On what a command works: the node that runs on the directory, or the directory itself.

use super::Context;
use node::control::DirectoryLock;
use node::directory::Directory;
use node::engine::{Engine, EngineWorker};
use node::failure::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Who answers.
pub enum Ground {
    /// A node runs: it is to be asked.
    Running(Directory),
    /// None runs, and none can start while this lives.
    Resting {
        /// The site.
        engine: EngineWorker,
        /// Keeps others away.
        _lock: DirectoryLock,
    },
}

/// How long another command may keep the directory.
const PATIENCE: Duration = Duration::from_secs(10);

impl Ground {
    /// Looks who answers for the directory.
    ///
    /// # Errors
    /// It is no site's, or is kept by something that does not answer.
    pub async fn find(context: &Context) -> Result<Self, Failure> {
        let directory = directory(context)?;
        require_site(context, &directory)?;
        let begun = tokio::time::Instant::now();
        loop {
            if let Some(lock) = take(&directory)? {
                let engine = Engine::open(Arc::clone(&context.environment), directory)
                    .map_err(Failure::from)?;
                let engine = EngineWorker::new(&*context.environment, engine);
                return Ok(Self::Resting { engine, _lock: lock });
            }
            // A node, or another command that is soon done.
            if answers(&directory).await {
                return Ok(Self::Running(directory));
            }
            if begun.elapsed() > PATIENCE {
                return Err(in_use(&directory));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The directory named by `--dir` or `NODE_DIR`.
///
/// # Errors
/// None is named.
pub fn directory(context: &Context) -> Result<Directory, Failure> {
    let path = context.dir.clone().ok_or_else(|| {
        Failure::usage(
            "No site's directory is named.",
            "Name it with --dir DIR or the environment variable NODE_DIR.",
        )
    })?;
    let path = std::path::absolute(&path).map_err(|error| {
        Failure::usage(format!("{} is no path: {error}.", path.display()), "Name another.")
    })?;
    Ok(Directory::new(path))
}

/// # Errors
/// The directory is no site's.
pub fn require_site(context: &Context, directory: &Directory) -> Result<(), Failure> {
    match context.environment.file_identity(&directory.store()) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(no_site(directory)),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Err(no_site(directory)),
        Err(error) => Err(Failure::unable(
            format!("{} can't be looked at: {error}.", directory.path().display()),
            "Look at its permissions.",
        )),
    }
}

fn no_site(directory: &Directory) -> Failure {
    Failure::usage(
        format!("{} is not a site's directory.", directory.path().display()),
        "Name the right one with --dir, or make one with `init` or `join`.",
    )
}

/// Takes the directory's lock; `None`: another process has it.
///
/// # Errors
/// The directory can't be written.
fn take(directory: &Directory) -> Result<Option<DirectoryLock>, Failure> {
    DirectoryLock::take(directory).map_err(|error| {
        Failure::unable(
            format!("{} can't be written: {error}.", directory.path().display()),
            "Look at its permissions.",
        )
    })
}

/// Takes the directory's lock for a node; a command that is soon done is waited for.
///
/// # Errors
/// A node runs on it, or something keeps it.
pub async fn take_for_long(directory: &Directory) -> Result<DirectoryLock, Failure> {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(lock) = take(directory)? {
            return Ok(lock);
        }
        if answers(directory).await || begun.elapsed() > PATIENCE {
            return Err(in_use(directory));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The directory is somebody else's just now.
fn in_use(directory: &Directory) -> Failure {
    Failure::unable(
        format!("Another process works on {}.", directory.path().display()),
        "Stop it, or wait until it is done.",
    )
}

async fn answers(directory: &Directory) -> bool {
    node::control::ping(directory).await
}

/// What the running node answered.
///
/// # Errors
/// It is of another version.
pub fn answered<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| {
        Failure::unable(
            format!("The node's answer can't be read: {error}."),
            "Use the same version of the program for the node and for its commands.",
        )
    })
}

/// A result as JSON.
///
/// # Errors
/// It has no JSON, which is a bug.
pub fn as_json<T: Serialize>(result: &T) -> Result<Value, Failure> {
    serde_json::to_value(result).map_err(|error| {
        Failure::unable(format!("The answer can't be written: {error}."), "This is a bug.")
    })
}
