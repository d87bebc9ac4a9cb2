//! The real world, tried on real files, processes and sockets.

use super::*;
use crate::environment::Worker;
use rusqlite::{Connection, OpenFlags};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn open(path: &Path) -> Connection {
    Production::new().open_database(path, OpenFlags::default()).unwrap()
}

/// A database in WAL mode with one row.
fn wal_database(path: &Path) -> Connection {
    let database = open(path);
    database
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1);")
        .unwrap();
    database
}

fn count(database: &Connection) -> i64 {
    database.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

#[test]
fn the_clock_is_the_computers() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let told = Production::new().wall_clock().0;
    assert!((told - i64::try_from(now).unwrap()).abs() < 1000);
}

#[test]
fn randomness_fills_and_differs() {
    let world = Production::new();
    assert_ne!(world.endpoint_seed(), world.endpoint_seed());
    assert_ne!(world.endpoint_seed()[16..], [0; 16]);
}

#[test]
fn tasks_run_and_are_aborted() {
    runtime().block_on(async {
        let world = Production::new();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        world.spawn(Box::pin(async move { sender.send(7).unwrap() }));
        assert_eq!(receiver.await, Ok(7));

        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let task = world.spawn(Box::pin(async move {
            std::future::pending::<()>().await;
            drop(sender);
        }));
        task.abort();
        assert!(timeout(PATIENCE, receiver).await.unwrap().is_err());
    });
}

#[test]
fn steps_run_in_order_off_this_thread_and_survive_a_panic() {
    runtime().block_on(async {
        let world = Production::new();
        let worker = Worker::new(&world, "test", Vec::new());
        let here = std::thread::current().id();
        // A job counts even if nobody waits for it.
        let executor = world.executor("unawaited");
        let (sender, receiver) = mpsc::channel();
        drop(executor.execute("send", Box::new(move || sender.send(1).unwrap())));
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok(1));

        worker
            .step("one", move |seen| {
                assert_ne!(std::thread::current().id(), here);
                seen.push(1);
            })
            .await;
        let panicking = worker.step("panic", |_| panic!("a bug"));
        assert!(timeout(Duration::from_millis(100), panicking).await.is_err());
        worker.step("two", |seen| seen.push(2)).await;
        assert_eq!(worker.step("read", |seen| seen.clone()).await, [1, 2]);
    });
}

#[test]
fn a_socket_at_all_addresses_takes_ipv4() {
    runtime().block_on(async {
        let world = Production::new();
        let socket = world.bind("[::]:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_ne!(port, 0);
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", ("127.0.0.1", port)).unwrap();
        let mut buffer = [0; 2000];
        let mut meta = [quinn::udp::RecvMeta::default()];
        let received = std::future::poll_fn(|context| {
            socket.poll_recv(context, &mut [io::IoSliceMut::new(&mut buffer)], &mut meta)
        });
        assert_eq!(timeout(PATIENCE, received).await.unwrap().unwrap(), 1);
        assert_eq!((meta[0].len, buffer[0]), (1, b'x'));

        let taken = world.bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        assert_eq!(taken.err().unwrap().kind(), io::ErrorKind::AddrInUse);
    });
    assert!(Production::new().bind("127.0.0.1:0".parse().unwrap()).is_err(), "no runtime");
}

#[test]
fn names_and_interfaces_are_found() {
    let world = Production::new();
    let found = runtime().block_on(world.resolve("localhost:4433")).unwrap();
    assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 4433));
    assert!(!found.is_empty());
    assert!(runtime().block_on(world.resolve("no port")).is_err());
    assert!(world.interfaces().unwrap().iter().any(IpAddr::is_loopback));
}

#[test]
fn a_database_is_opened_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let holder = wal_database(&path);
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let start = Instant::now();
    assert!(open(&path).execute_batch("BEGIN IMMEDIATE").is_err());
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn files_are_written_whole_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let world = Production::new();
    let deep = folder.path().join("a/b");
    assert_eq!(world.list_directory(&deep).unwrap(), Vec::<PathBuf>::new());
    world.create_directory(&deep).unwrap();
    world.create_directory(&deep).unwrap();
    let file = deep.join("key");
    assert_eq!(world.read_file(&file).unwrap(), None);
    assert_eq!(world.file_identity(&file).unwrap(), None);
    // The leavings of an interrupted write neither hinder nor show through.
    std::fs::write(deep.join(".key.new"), "garbage, readable by all").unwrap();
    world.write_file(&file, b"secret", true).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let first = world.file_identity(&file).unwrap();
    std::fs::write(&file, "edited").unwrap();
    assert_eq!(world.file_identity(&file).unwrap(), first);
    world.write_file(&file, b"new", false).unwrap();
    assert_eq!(world.read_file(&file).unwrap().as_deref(), Some(&b"new"[..]));
    assert_ne!(world.file_identity(&file).unwrap(), first);
    world.rename(&file, &folder.path().join("moved")).unwrap();
    assert_eq!(world.list_directory(folder.path()).unwrap(), ["a", "moved"].map(PathBuf::from));
    assert_eq!(world.list_directory(&deep).unwrap(), Vec::<PathBuf>::new());
    world.remove_file(&folder.path().join("moved")).unwrap();
    world.remove_file(&folder.path().join("moved")).unwrap();
    assert!(world.write_file(&folder.path().join("none/x"), b"", false).is_err());
    let there = world.free_space(folder.path()).unwrap();
    let yet_to_be = world.free_space(&folder.path().join("x/y/z")).unwrap();
    assert!(there > 0 && yet_to_be.abs_diff(there) < there / 2);
}

#[test]
fn the_wal_is_synced_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let world = Production::new();
    world.sync_committed(&path).unwrap();
    world.rewrite_wal(&path).unwrap();
    let database = wal_database(&path);
    world.sync_committed(&path).unwrap();
    let wal = std::fs::read(files::beside(&path, "-wal").unwrap()).unwrap();
    world.rewrite_wal(&path).unwrap();
    assert_eq!(std::fs::read(files::beside(&path, "-wal").unwrap()).unwrap(), wal);
    // SQLite finds the -wal beside the file that a link points to.
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(files::beside(&link, "-wal").unwrap(), files::beside(&path, "-wal").unwrap());
    assert_eq!(count(&database), 1);
}

/// A process of its own: it does `what` to the database at `path` and answers a line.
struct Other {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn start(what: &str, path: &Path) -> (Self, String) {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "environment::production::tests::other_process"])
            .args(["--nocapture", "--quiet"])
            .env("OTHER_DOES", what)
            .env("OTHER_PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("other: ") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "the other process said nothing");
        }
        (Self { process, said }, line["other: ".len()..].trim().to_owned())
    }

    fn end(mut self) {
        self.process.stdin.take().unwrap().write_all(b"\n").unwrap();
        io::copy(&mut self.said, &mut io::sink()).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

/// What the tests of readers start as another process; by itself it does nothing.
#[test]
fn other_process() {
    let Ok(what) = std::env::var("OTHER_DOES") else { return };
    let path = PathBuf::from(std::env::var_os("OTHER_PATH").unwrap());
    let database = open(&path);
    let answer = match what.as_str() {
        "read" => {
            database.execute_batch("BEGIN").unwrap();
            format!("{}", count(&database))
        }
        "write" => {
            database.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES(2)").unwrap();
            "writing".to_owned()
        }
        #[cfg(target_os = "linux")]
        "knock" => may_read(&path).to_string(),
        "ask" => format!("{:?}", Production::new().readers(&path).unwrap()),
        other => panic!("{other}?"),
    };
    println!("\nother: {answer}");
    io::stdin().read_line(&mut String::new()).unwrap();
    drop(database);
}

/// Whether nobody keeps this process from reading the `-wal`.
#[cfg(target_os = "linux")]
fn may_read(path: &Path) -> bool {
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    let shm = std::fs::File::open(files::beside(path, "-shm").unwrap()).unwrap();
    let mut lock = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 124,
        l_len: 4,
        l_pid: 0,
    };
    fcntl(&shm, FcntlArg::F_GETLK(&mut lock)).unwrap();
    lock.l_type == libc::F_UNLCK as libc::c_short
}

#[cfg(target_os = "linux")]
#[test]
fn readers_in_other_processes_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let world = Production::new();
    assert_eq!(world.readers(&path).unwrap(), Readers::None, "no database at all");
    let database = wal_database(&path);
    assert_eq!(world.readers(&path).unwrap(), Readers::None);

    let (reader, seen) = Other::start("read", &path);
    assert_eq!(seen, "1");
    assert_eq!(world.readers(&path).unwrap(), Readers::Some);
    reader.end();
    assert_eq!(world.readers(&path).unwrap(), Readers::None);

    // A writer reads, too.
    let (writer, _) = Other::start("write", &path);
    assert_eq!(world.readers(&path).unwrap(), Readers::Some);
    writer.end();
    assert_eq!(world.readers(&path).unwrap(), Readers::None);

    // A new -shm is another file.
    drop(database);
    assert!(!folder.path().join("a.db-shm").exists());
    assert_eq!(world.readers(&path).unwrap(), Readers::None);
    let (reader, _) = Other::start("read", &path);
    assert_eq!(world.readers(&path).unwrap(), Readers::Some);
    reader.end();
}

#[cfg(target_os = "linux")]
#[test]
fn asking_leaves_our_own_locks_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = wal_database(&path);
    database.execute_batch("BEGIN").unwrap();
    assert_eq!(count(&database), 1);
    for _ in 0..3 {
        let world = Production::new();
        assert_eq!(world.readers(&path).unwrap(), Readers::None, "our own are invisible");
        world.sync_committed(&path).unwrap();
    }
    let (asker, seen) = Other::start("ask", &path);
    assert_eq!(seen, "Some");
    asker.end();
}

#[cfg(target_os = "linux")]
#[test]
fn a_held_log_is_not_begun_anew_and_readers_stay_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let world = Production::new();
    let database = wal_database(&path);
    let frames = || -> i64 {
        database.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1)).unwrap()
    };
    for held in [true, false, true] {
        let before = frames();
        if held {
            assert_eq!(world.hold_log(&path).unwrap(), Readers::None);
        }
        database.execute_batch("BEGIN").unwrap();
        count(&database);
        if held {
            world.release_log(&path).unwrap();
        }
        assert_eq!(world.shut_readers_out(&path).unwrap(), Readers::None);
        database.execute_batch("INSERT INTO t VALUES(2)").unwrap();
        database.cache_flush().unwrap();
        // SQLite gave the locks up if it began anew.
        let (other, may_read) = Other::start("knock", &path);
        assert_eq!(may_read == "true", !held);
        other.end();
        database.execute_batch("COMMIT").unwrap();
        world.let_readers_in(&path).unwrap();
        assert_eq!(frames() > before, held);
    }
}

#[test]
fn commits_are_noticed_and_bursts_merged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    runtime().block_on(async {
        let world = Production::new();
        let mut watch = world.watch(&path).unwrap();
        let database = wal_database(&path);
        timeout(PATIENCE, watch.changed()).await.unwrap();
        for _ in 0..20 {
            database.execute_batch("INSERT INTO t VALUES(2)").unwrap();
            timeout(PATIENCE, watch.changed()).await.unwrap();
        }

        for change in ["PRAGMA journal_mode=DELETE", "INSERT INTO t VALUES(3)", "VACUUM"] {
            while timeout(Duration::from_millis(20), watch.changed()).await.is_ok() {}
            let _ = database.query_row(change, [], |_| Ok(()));
            timeout(PATIENCE, watch.changed()).await.unwrap();
        }
        drop(database);
        while timeout(Duration::from_millis(20), watch.changed()).await.is_ok() {}
        let other = folder.path().join("b.db");
        drop(wal_database(&other));
        assert!(timeout(Duration::from_millis(50), watch.changed()).await.is_err(), "not ours");
        world.rename(&other, &path).unwrap();
        timeout(PATIENCE, watch.changed()).await.unwrap();
    });
}

#[test]
fn notices_come_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut wal = std::fs::File::create(folder.path().join("a.db-wal")).unwrap();
    runtime().block_on(async {
        let mut watch = Production::new().watch(&path).unwrap();
        let mut delays = Vec::new();
        for _ in 0..200 {
            while timeout(Duration::from_millis(2), watch.changed()).await.is_ok() {}
            let written = Instant::now();
            wal.write_all(&[1; 4096]).unwrap();
            timeout(PATIENCE, watch.changed()).await.unwrap();
            delays.push(written.elapsed());
        }
        delays.sort_unstable();
        println!("write to notice: p50 {:?}, p99 {:?}", delays[100], delays[198]);
        assert!(delays[100] < Duration::from_millis(100));
    });
}

#[test]
fn our_own_reads_are_no_notice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let fence = folder.path().join("b.db");
    let writer = wal_database(&path);
    let (events, seen) = mpsc::channel();
    let _watcher = watch::observe(&path, move |event| events.send(event).unwrap()).unwrap();
    let names = watch::names(&path).unwrap();
    for _ in 0..20 {
        let reader = open(&path);
        assert_eq!(count(&reader), 1);
        Production::new().sync_committed(&path).unwrap();
    }
    // Notices come in order: all of the reads come before that of this file.
    std::fs::write(&fence, "x").unwrap();
    let mut accesses = 0;
    loop {
        let event = seen.recv_timeout(PATIENCE).unwrap();
        assert!(!watch::concerns(&names, &event), "{event:?}");
        let event = event.unwrap();
        accesses += usize::from(event.kind.is_access());
        if event.paths == [fence.as_path()] {
            break;
        }
    }
    assert!(accesses > 20, "the reads were seen, and told apart");
    drop(writer);
}
