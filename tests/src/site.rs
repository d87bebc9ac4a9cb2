//! Sites as a shop has them: a directory each, and the program run on it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a failed test shows the logs")]

use crate::binary;
use crate::relay::Relay;
use crate::wait::{PATIENCE, wait_until, wait_until_equal};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use tempfile::TempDir;

/// How a command ended and what it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit code; -1: killed.
    pub code: i32,
    /// What it printed as its result.
    pub stdout: String,
    /// What it said beside that.
    pub stderr: String,
}

impl Ended {
    /// The result as the one JSON document that it must be.
    ///
    /// # Panics
    /// It is not.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs the program to its end, in a directory of its own choosing and without settings from
/// outside.
///
/// # Panics
/// It can't be started.
pub fn run_node<A: AsRef<OsStr>>(arguments: &[A]) -> Ended {
    ended(program().args(arguments))
}

fn program() -> Command {
    let mut command = Command::new(binary::node());
    command.env_remove("NODE_DIR").env_remove("HOLDFAST_LOG").stdin(Stdio::null());
    command
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A folder for one test: its sites' directories and its applications' databases. Its sites listen
/// on a loopback address of their own, so that no other test's socket takes the port of one that
/// is off for a while.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
    ip: Ipv4Addr,
}

/// Counts the homes of this process.
static HOMES: AtomicU32 = AtomicU32::new(0);

impl Home {
    /// An empty one, gone with the value.
    ///
    /// # Panics
    /// There is no room for it.
    #[allow(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        let number = HOMES.fetch_add(1, Ordering::Relaxed) % 250;
        let ip = Ipv4Addr::new(127, 1 + high % 250, low, 1 + number as u8);
        Self { folder: TempDir::with_prefix("holdfast-").unwrap(), ip }
    }

    /// Where its sites listen: a free port of its own loopback address.
    pub fn listen(&self) -> String {
        format!("{}:0", self.ip)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The first site of a new group. It listens on a free port.
    ///
    /// # Panics
    /// `init` fails.
    pub fn found(&self, name: &str) -> Site {
        self.found_with(name, &["--listen", &self.listen()])
    }

    /// The same with other arguments of `init`.
    ///
    /// # Panics
    /// `init` fails.
    pub fn found_with(&self, name: &str, arguments: &[&str]) -> Site {
        let site = Site::at(self.path(name), name);
        let mut all = vec!["init", "--site", name];
        all.extend(arguments);
        site.done(&all);
        site.set_batch_interval("100ms");
        site
    }

    /// A site that joins the group of `code`.
    ///
    /// # Panics
    /// `join` fails.
    pub fn join(&self, name: &str, code: &str) -> Site {
        self.join_with(name, &["--listen", &self.listen()], code)
    }

    /// The same with other arguments of `join`.
    ///
    /// # Panics
    /// `join` fails.
    pub fn join_with(&self, name: &str, arguments: &[&str], code: &str) -> Site {
        let site = Site::at(self.path(name), name);
        let mut all = vec!["join", "--site", name];
        all.extend(arguments);
        all.push(code);
        site.done(&all);
        site.set_batch_interval("100ms");
        site
    }

    /// Two running sites of one group.
    ///
    /// # Panics
    /// Something fails.
    pub fn two(&self) -> (Site, Site) {
        let mut first = self.found("downtown");
        first.run();
        let mut second = self.join("uptown", &first.invite());
        second.run();
        (first, second)
    }

    /// Two running sites that reach each other only through relays: to the first, and to the
    /// second.
    ///
    /// # Panics
    /// Something fails.
    pub fn two_over_relays(&self) -> (Site, Site, Relay, Relay) {
        let (to_first, to_second) = (Relay::open().unwrap(), Relay::open().unwrap());
        let listen = self.listen();
        let at = |relay: &Relay| relay.address().to_string();
        let mut first =
            self.found_with("downtown", &["--listen", &listen, "--address", &at(&to_first)]);
        first.run();
        to_first.set_target(first.address.unwrap());
        let given = ["--listen", &listen, "--address", &at(&to_second)];
        let mut second = self.join_with("uptown", &given, &first.invite());
        second.run();
        to_second.set_target(second.address.unwrap());
        first.wait_until_connected("uptown");
        (first, second, to_first, to_second)
    }
}

/// One site. Its process is killed and, after a failure, its log shown when it is dropped.
#[derive(Debug)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Where it listens, once it ran.
    pub address: Option<SocketAddr>,
    process: Option<Child>,
}

impl Site {
    /// A site whose directory exists already or is made by a command to come.
    pub fn at(dir: PathBuf, name: &str) -> Self {
        Self { name: name.to_owned(), dir, address: None, process: None }
    }

    /// Runs a command of this site.
    ///
    /// # Panics
    /// It can't be started.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ended {
        ended(program().arg("--dir").arg(&self.dir).args(arguments))
    }

    /// Runs a command that must end with 0; gives its stdout.
    ///
    /// # Panics
    /// It does not.
    pub fn done<A: AsRef<OsStr>>(&self, arguments: &[A]) -> String {
        let ended = self.command(arguments);
        assert_eq!(ended.code, 0, "{}: {ended:?}", self.name);
        ended.stdout
    }

    /// The settings of the next run: only how long a batch stays open.
    ///
    /// # Panics
    /// They can't be written.
    pub fn set_batch_interval(&self, interval: &str) {
        let settings = format!("[link]\nbatch_interval = \"{interval}\"\n");
        std::fs::write(self.dir.join("node.toml"), settings).unwrap();
    }

    /// Starts the node and waits until it listens.
    ///
    /// # Panics
    /// It does not.
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut process = program()
            .arg("--dir")
            .arg(&self.dir)
            .arg("run")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().unwrap();
        self.process = Some(process);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let line = receiver.recv_timeout(PATIENCE);
        let Ok(line) = line else { panic!("{} did not start", self.name) };
        let address = line.strip_prefix("ready ").and_then(|address| address.parse().ok());
        assert!(address.is_some(), "{}: {line}", self.name);
        self.address = address;
    }

    /// Ends the node as a plug pulled out does.
    ///
    /// # Panics
    /// It does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Ends the node as the system does that shuts down: it must end with 0 and leave every
    /// mirror in one file.
    ///
    /// # Panics
    /// It does not.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let signalled =
            Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
        assert!(signalled.success());
        let mut status = None;
        wait_until("the node ends", PATIENCE, || {
            status = process.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(0), "{} ended badly", self.name);
        for file in files_below(&self.dir.join("mirrors")) {
            let name = file.to_string_lossy().into_owned();
            assert!(!name.ends_with("-wal"), "{name} was left");
        }
    }

    /// Whether the node runs still.
    ///
    /// # Panics
    /// It was not started.
    pub fn is_alive(&mut self) -> bool {
        self.process.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// The number of its process, if it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// A code that admits one site.
    ///
    /// # Panics
    /// There is none.
    pub fn invite(&self) -> String {
        self.done(&["invite"]).lines().last().unwrap().to_owned()
    }

    /// Puts a database under sync.
    ///
    /// # Panics
    /// It is refused.
    pub fn attach(&self, name: &str, path: &Path) {
        self.done(&[OsStr::new("attach"), OsStr::new(name), path.as_os_str()]);
    }

    /// `status --json`.
    ///
    /// # Panics
    /// There is none.
    pub fn status(&self) -> Value {
        let ended = self.command(&["status", "--json"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.json()
    }

    /// What `status` says of one database, `NAME@SITE`, or `NAME` of a shared one; null if it does
    /// not know it.
    ///
    /// # Panics
    /// There is no status.
    pub fn database(&self, full_name: &str) -> Value {
        let (name, site) = match full_name.split_once('@') {
            Some((name, site)) => (name, Value::from(site)),
            None => (full_name, Value::Null),
        };
        let status = self.status();
        let found = status["databases"]
            .as_array()
            .unwrap()
            .iter()
            .find(|database| database["name"] == name && database["site"] == site);
        found.cloned().unwrap_or(Value::Null)
    }

    /// Waits until everything written in this site's database is durable elsewhere.
    ///
    /// # Panics
    /// It is not in time.
    pub fn wait_until_safe(&self, name: &str) {
        let full_name = format!("{name}@{}", self.name);
        wait_until(&format!("{full_name} is safe"), PATIENCE, || {
            self.database(&full_name)["safe"] == true
        });
    }

    /// Waits until this site is connected with another.
    ///
    /// # Panics
    /// It is not in time.
    pub fn wait_until_connected(&self, peer: &str) {
        wait_until(&format!("{} is connected with {peer}", self.name), PATIENCE, || {
            self.peer(peer)["state"] == "connected"
        });
    }

    /// What `status` says of a peer; null if it does not know it.
    ///
    /// # Panics
    /// There is no status.
    pub fn peer(&self, name: &str) -> Value {
        let status = self.status();
        let found = status["peers"].as_array().unwrap().iter().find(|peer| peer["site"] == name);
        found.cloned().unwrap_or(Value::Null)
    }

    /// Where this site keeps its copy of another's database.
    pub fn mirror(&self, site: &str, name: &str) -> PathBuf {
        self.dir.join("mirrors").join(site).join(format!("{name}.db"))
    }

    /// Waits until this site's copy is like the original.
    ///
    /// # Panics
    /// It is not in time, or has fewer than `rows` rows.
    pub fn wait_for_mirror(&self, site: &str, name: &str, original: &Path, rows: u64) {
        wait_until_equal(original, &self.mirror(site, name), rows);
    }

    /// What the node has logged so far.
    ///
    /// # Panics
    /// It can't be read.
    pub fn logged(&self) -> String {
        match std::fs::read(self.log()) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => panic!("{error}"),
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.with_extension("log")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // One that ended by itself is what the test is about.
            drop(process.kill());
            drop(process.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- log of {}", self.name);
            let log = self.logged();
            let lines: Vec<&str> = log.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(60)) {
                eprintln!("{line}");
            }
        }
    }
}

/// All files below a folder; none if there is no such folder.
///
/// # Panics
/// It can't be read.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if !folder.exists() {
        return files;
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}
