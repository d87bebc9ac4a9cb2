//! The demo's child processes: commands of this same program, and nodes that can be switched off,
//! killed, and started again. None outlives its value here.

use crate::failure::Failure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long a command, or the start or the end of a node, may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// This program, to be run as a child.
#[derive(Clone, Debug)]
pub struct Program(pub PathBuf);

impl Program {
    fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(&self.0);
        command
            .arg("--dir")
            .arg(dir)
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C is the demo's to handle.
            .process_group(0);
        command
    }

    /// Runs one command on a site's directory and returns the JSON that it printed.
    ///
    /// # Errors
    /// It did not end with 0, or in time.
    pub async fn run<A: AsRef<OsStr>>(
        &self,
        dir: &Path,
        name: &str,
        arguments: &[A],
    ) -> Result<Value, Failure> {
        let remedy = "Look at what it says; nothing outside of the demo's directory is touched.";
        let unable = |what: String| Failure::unable(format!("`node {name}` {what}."), remedy);
        let child = self.command(dir).arg(name).args(arguments).stderr(Stdio::piped()).spawn();
        let child = child.map_err(|error| unable(format!("can't be started: {error}")))?;
        let output = timeout(PATIENCE, child.wait_with_output())
            .await
            .map_err(|_| unable(format!("is not done after {} s", PATIENCE.as_secs())))?
            .map_err(|error| unable(format!("can't be waited for: {error}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().trim_end_matches('.');
            return Err(unable(format!("failed ({}): {said}", output.status)));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| unable(format!("printed no JSON: {error}")))
    }
}

/// A node that runs.
#[derive(Debug)]
pub struct Node {
    child: Child,
    site: String,
    listen: SocketAddr,
    /// Open as long as the node runs, so that it can always print.
    _stdout: BufReader<ChildStdout>,
}

impl Node {
    /// Starts the node of a directory and waits until it listens; what it logs goes to `log`.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(
        program: &Program,
        site: &str,
        dir: &Path,
        log: &Path,
    ) -> Result<Self, Failure> {
        let unable = |what: String| {
            Failure::unable(
                format!("The node of {site} {what}."),
                format!("Look at its log, {}.", log.display()),
            )
        };
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.map_err(|error| unable(format!("has no log: {error}")))?;
        let mut child = program
            .command(dir)
            .arg("run")
            .stderr(Stdio::from(file))
            .spawn()
            .map_err(|error| unable(format!("can't be started: {error}")))?;
        let stdout = child.stdout.take().ok_or_else(|| unable("has no output".into()))?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        timeout(PATIENCE, stdout.read_line(&mut line))
            .await
            .map_err(|_| unable(format!("is not ready after {} s", PATIENCE.as_secs())))?
            .map_err(|error| unable(format!("can't be heard: {error}")))?;
        let listen = serde_json::from_str::<Value>(&line)
            .ok()
            .and_then(|value| value.get("ready")?.as_str()?.parse().ok())
            .ok_or_else(|| unable("ended before it was ready".into()))?;
        Ok(Self { child, site: site.to_owned(), listen, _stdout: stdout })
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Switches it off as a system does that shuts down, and waits for its end.
    ///
    /// # Errors
    /// It does not end, or not with 0.
    pub async fn switch_off(mut self) -> Result<(), Failure> {
        let unable = |what: String| {
            Failure::unable(what, "Look at its log in the demo's directory, under logs.")
        };
        let site = self.site.clone();
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|error| {
                unable(format!("The node of {site} can't be switched off: {error}."))
            })?;
        }
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .map_err(|_| {
                unable(format!(
                    "The node of {site} still runs {} s after it was switched off.",
                    PATIENCE.as_secs()
                ))
            })?
            .map_err(|error| unable(format!("The node of {site} can't be waited for: {error}.")))?;
        if status.success() {
            Ok(())
        } else {
            Err(unable(format!("The node of {site} ended badly when switched off ({status}).")))
        }
    }

    /// Kills it with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// The system does not let us.
    pub async fn kill(mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| {
            Failure::unable(
                format!("The node of {} can't be killed: {error}.", self.site),
                "Look for it in the list of processes.",
            )
        })
    }

    /// How it ended, if it did so by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}
