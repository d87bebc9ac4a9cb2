//! How a command asks the node that runs on the same directory: one request and one answer, each
//! a line of JSON, over a Unix socket in DIR that only its owner may open.
//!
//! The simulator has no such socket: it calls the site itself.

mod lock;
mod server;

use crate::directory::Directory;
use crate::failure::Failure;
use crate::failure::FailureKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

pub use lock::DirectoryLock;
pub use server::serve;

/// What a command asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How safe is the data?
    Status,
    /// What would go wrong?
    Doctor {
        /// With which file; none: with those that are attached.
        path: Option<PathBuf>,
    },
    /// Make an invitation.
    Invite {
        /// How long it admits.
        lifetime_ms: u64,
    },
    /// Put a database under sync.
    Attach(crate::engine::AttachRequest),
    /// Remove what attach put into a database.
    Detach {
        /// Which.
        name: String,
    },
    /// Take a site out of the group.
    Remove {
        /// Which.
        name: String,
    },
    /// Which merge rules does a shared database have?
    Policy {
        /// Which database.
        name: String,
    },
    /// Set a merge rule.
    SetPolicy {
        /// Of which database.
        name: String,
        /// `TABLE` or `TABLE.COLUMN`.
        subject: String,
        /// The rule.
        rule: String,
    },
    /// What did the merge have to decide?
    Conflicts,
    /// One of these.
    Conflict {
        /// Its number.
        id: i64,
    },
    /// Decide one.
    Keep {
        /// Its number.
        id: i64,
        /// What is to count.
        choose: crate::engine::Choose,
    },
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(Value),
    Failed { kind: FailureKind, what: String, remedy: String },
}

/// The greatest length of a socket's path on Linux, less its NUL.
const SOCKET_PATH: usize = 107;

/// A path to the control socket that is short enough for the system, and what keeps it valid.
struct SocketPath {
    path: PathBuf,
    _directory: Option<std::os::fd::OwnedFd>,
}

impl SocketPath {
    fn of(directory: &Directory) -> std::io::Result<Self> {
        let path = directory.control();
        if path.as_os_str().len() <= SOCKET_PATH {
            return Ok(Self { path, _directory: None });
        }
        // A long path is reached through a descriptor of its directory.
        let descriptor = nix::fcntl::open(
            directory.path(),
            nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )?;
        let name = path.file_name().unwrap_or_default();
        let path = Path::new("/proc/self/fd").join(descriptor.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _directory: Some(descriptor) })
    }
}

/// Asks the node that runs on a directory.
///
/// # Errors
/// It does not answer, or says why it could not be done.
pub async fn ask(directory: &Directory, request: &Request) -> Result<Value, Failure> {
    match converse(directory, request).await {
        Ok(Answer::Done(value)) => Ok(value),
        Ok(Answer::Failed { kind, what, remedy }) => Err(Failure { kind, what, remedy }),
        Err(error) => Err(Failure::unable(
            format!(
                "The node that runs on {} does not answer: {error}.",
                directory.path().display()
            ),
            "Look at its log; if it hangs, stop it and start it again: nothing is lost by that.",
        )),
    }
}

/// Whether a node answers on a directory.
pub async fn ping(directory: &Directory) -> bool {
    match SocketPath::of(directory) {
        Ok(socket) => UnixStream::connect(&socket.path).await.is_ok(),
        Err(_) => false,
    }
}

async fn converse(directory: &Directory, request: &Request) -> std::io::Result<Answer> {
    let socket = SocketPath::of(directory)?;
    let mut stream = UnixStream::connect(&socket.path).await?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    if answer.is_empty() {
        return Err(std::io::Error::other("it closed the connection without an answer"));
    }
    Ok(serde_json::from_str(&answer)?)
}
