//! The disk by itself: what is durable, what goes wrong, what people do, and what is seen of it.

use super::{Program, assert_code, path, with_disk};
use crate::disk::{Disk, Failure, Faults, Kind};
use crate::random::Random;
use node::environment::FileWatch;
use rusqlite::ErrorCode;
use std::sync::Arc;
use std::time::Duration;

/// Cuts the power from a disk on which `work` was done after a synced file of zeros; what became
/// of the file, under many seeds.
fn after_cuts(work: impl Fn(&mut super::super::state::State, u64)) -> Vec<Vec<u8>> {
    let one = |seed| {
        with_disk(seed, |disk| {
            disk.put(&path("f"), &[0; 4096]).unwrap();
            {
                let mut state = disk.state();
                let inode = state.names.find("/disk/box/f").unwrap();
                work(&mut state, inode);
            }
            disk.power_off();
            disk.read(&path("f")).unwrap()
        })
    };
    (0..60).map(one).collect()
}

fn count(found: &[Vec<u8>], matches: impl Fn(&[u8]) -> bool) -> usize {
    found.iter().filter(|content| matches(content)).count()
}

#[test]
fn what_is_synced_stays_and_the_rest_is_lost_torn_or_kept() {
    let found = after_cuts(|state, inode| {
        state.write(inode, 0, &[1; 2048]).unwrap();
        state.sync(inode).unwrap();
        state.write(inode, 1024, &[2; 2048]).unwrap();
    });
    for content in &found {
        assert_eq!((content.len(), &content[..1024]), (4096, &[1; 1024][..]));
        assert_eq!(content[3072..], [0; 1024]);
        let sectors = content.chunks(512);
        assert!(sectors.into_iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])));
    }
    let lost = count(&found, |content| !content.contains(&2));
    let kept = count(&found, |content| content[1024..3072] == [2; 2048]);
    assert!(lost > 5 && kept > 5 && lost + kept < 55, "{lost} {kept}");
}

#[test]
fn later_writes_may_survive_earlier_ones_and_earlier_versions_later() {
    let found = after_cuts(|state, inode| {
        state.write(inode, 0, &[1; 512]).unwrap();
        state.write(inode, 512, &[2; 512]).unwrap();
        state.write(inode, 0, &[3; 512]).unwrap();
    });
    assert!(count(&found, |content| content[0] == 0 && content[512] == 2) > 0);
    assert!(count(&found, |content| content[0] == 1) > 0, "an earlier version of a sector");
    assert!(count(&found, |content| content[0] == 3 && content[512] == 0) > 0);
}

#[test]
fn what_was_cut_off_comes_back_whole_or_not_at_all() {
    let found = after_cuts(|state, inode| {
        state.write(inode, 0, &[1; 4096]).unwrap();
        state.sync(inode).unwrap();
        state.set_length(inode, 1000).unwrap();
        state.write(inode, 1000, &[2; 2000]).unwrap();
    });
    for content in &found {
        assert!(content.starts_with(&[1; 1000]), "{content:?}");
        match content.len() {
            4096 => assert_eq!(content[..], [1; 4096]),
            1000 => {}
            3000 => assert!(content[1000..].iter().all(|byte| matches!(byte, 0 | 2))),
            length => panic!("{length}"),
        }
    }
    assert!([4096, 1000, 3000].iter().all(|l| count(&found, |content| content.len() == *l) > 2));
}

#[test]
fn what_a_failed_sync_gave_up_is_lost_unless_written_again() {
    let found = after_cuts(|state, inode| {
        state.write(inode, 0, &[1; 1024]).unwrap();
        state.faults.sync = 1_000_000;
        assert_eq!(state.sync(inode), Err(Failure::Broken));
        state.faults.sync = 0;
        assert_eq!(state.sync(inode), Ok(()), "the second says all is well");
        state.write(inode, 512, &[2; 512]).unwrap();
        state.sync(inode).unwrap();
    });
    let expected: Vec<u8> = [[0; 512], [2; 512], [0; 512]].concat();
    assert_eq!(count(&found, |content| content.starts_with(&expected)), 60);
}

#[test]
fn names_are_durable_with_their_folder() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..60 {
        with_disk(seed, |disk| {
            for name in ["a", "b"] {
                disk.put(&path(name), name.as_bytes()).unwrap();
            }
            {
                let mut state = disk.state();
                state.remove("/disk/box/a", false).unwrap();
                state.rename("/disk/box/b", "/disk/box/c").unwrap();
                assert_eq!(state.create("/disk/box/no/d"), Err(Failure::NoFolder));
            }
            let durable = disk.state().names.durable();
            assert_eq!(durable.keys().collect::<Vec<_>>(), ["/disk/box/a", "/disk/box/b"]);
            let synced = seed >= 50;
            if synced {
                disk.state().sync_folder("/disk/box").unwrap();
            }
            disk.power_off();
            let left = disk.list();
            assert!(disk.read(&left[left.len() - 1]).unwrap() == b"b");
            if synced {
                assert_eq!(left, [path("c")]);
            } else {
                outcomes.insert(left);
            }
        });
    }
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
}

#[test]
fn a_file_written_at_once_is_old_or_new_wherever_the_power_goes() {
    let (mut old, mut new, mut left_over) = (0, 0, 0);
    for seed in 0..200 {
        with_disk(seed, |disk| {
            let process = disk.process();
            disk.write_file(&process, &path("f"), b"old").unwrap();
            disk.set_fuse(1 + seed % 8);
            let written = disk.write_file(&process, &path("f"), b"new");
            match &disk.read(&path("f")).unwrap()[..] {
                b"old" => old += u64::from(written.is_err()),
                b"new" => new += 1,
                half => panic!("{half:?}"),
            }
            left_over += u64::from(disk.exists(&path(".f.new")));
            disk.power_off();
            disk.power_on();
            assert_ne!(disk.process().id, process.id);
            assert!(disk.read_file(&process, &path("f")).is_err() || written.is_ok());
        });
    }
    assert!(old > 20 && new > 20 && left_over > 5, "{old} {new} {left_over}");
}

#[test]
fn a_full_disk_says_so_and_goes_on_when_there_is_room() {
    with_disk(1, |disk| {
        let program = Program::start(disk, "some.db");
        program.one::<String>("PRAGMA journal_mode = WAL").unwrap();
        program.run("CREATE TABLE t (x)");
        disk.set_free(Some(10_000));
        assert_eq!(disk.free_space(&program.process).unwrap(), 10_000);
        let insert = "INSERT INTO t VALUES (randomblob(20000))";
        assert_code(program.try_run(insert), ErrorCode::DiskFull);
        let written = disk.write_file(&program.process, &path("f"), &[0; 20_000]);
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(program.number("SELECT count(*) FROM t"), 0);
        disk.set_free(None);
        program.run(insert);
        assert_eq!(program.one::<String>("PRAGMA integrity_check").unwrap(), "ok");
        assert!(disk.struck().full >= 2);
    });
}

fn struck_by(faults: Faults, name: &str) -> (Arc<Disk>, u64) {
    with_disk(1, |disk| {
        disk.make_folder(&path("holdfast"));
        let program = Program::start(disk, name);
        program.run("CREATE TABLE t (x); INSERT INTO t VALUES (randomblob(100000))");
        disk.set_faults(faults);
        let mut errors = 0;
        for _ in 0..100 {
            let done = program
                .try_run("UPDATE t SET x = randomblob(100000)")
                .and_then(|()| Program::try_start(disk, name))
                .and_then(|other| other.one::<i64>("SELECT sum(length(x)) FROM t"));
            errors += u64::from(done.is_err());
        }
        (Arc::clone(disk), errors)
    })
}

#[test]
fn the_disk_errs_as_often_as_told_and_where() {
    let often = 20_000;
    let (disk, errors) = struck_by(Faults { read: often, ..Faults::default() }, "some.db");
    assert!(disk.struck().read > 10 && errors > 10);
    let (disk, errors) = struck_by(Faults { write: often, ..Faults::default() }, "some.db");
    assert!(disk.struck().write > 10 && errors > 10);
    let sync = Faults { sync: often * 5, ..Faults::default() };
    let (disk, errors) = struck_by(sync, "some.db");
    assert!(disk.struck().sync > 10 && errors > 10);
    let journal = Faults { only: Some(Kind::Journal), ..sync };
    let (disk, errors) = struck_by(journal, "some.db");
    assert_eq!((disk.struck().sync, errors), (0, 0));
    let (disk, errors) = struck_by(journal, "holdfast/node.db");
    assert!(disk.struck().sync > 10 && errors > 10);
    let (disk, _) = struck_by(Faults { stale: often, ..Faults::default() }, "some.db");
    assert!(disk.struck().stale > 0);
    let (disk, _) = struck_by(Faults { misdirected: often, ..Faults::default() }, "some.db");
    assert!(disk.struck().misdirected > 10);
    let slow = Faults { slow: Duration::from_secs(5), ..Faults::default() };
    let (disk, errors) = struck_by(slow, "some.db");
    let operations = disk.struck().slow;
    assert!((300..2000).contains(&operations) && errors == 0, "{operations}");
    assert_eq!(disk.take_debt(), Duration::from_secs(5 * operations));
    assert_eq!(disk.take_debt(), Duration::ZERO);
}

#[test]
fn people_move_files_about_and_inodes_tell() {
    with_disk(1, |disk| {
        let process = disk.process();
        let inode = |name: &str| disk.identity(&process, &path(name)).unwrap().map(|id| id.inode);
        disk.put(&path("a"), b"one").unwrap();
        let first = inode("a");
        disk.copy(&path("a"), &path("b")).unwrap();
        assert!(inode("b").is_some() && inode("b") != first);
        disk.overwrite(&path("a"), b"two").unwrap();
        assert_eq!(inode("a"), first, "the same file with another content");
        disk.put(&path("a"), b"three").unwrap();
        assert_ne!(inode("a"), first);
        disk.rename(&path("b"), &path("a")).unwrap();
        assert_eq!(disk.read(&path("a")).unwrap(), b"one");
        disk.empty(&path("a")).unwrap();
        disk.power_off();
        assert_eq!(disk.list(), [path("a")], "durable at once");
        assert!(disk.read(&path("a")).unwrap().is_empty());
        disk.remove(&path("a")).unwrap();
        assert_eq!(disk.remove(&path("a")), Err(Failure::Missing));
        assert_eq!(disk.bytes(), 0);
    });
}

#[test]
fn a_turned_bit_is_found_by_nobody_but_sqlite() {
    with_disk(1, |disk| {
        let program = Program::start(disk, "some.db");
        program.run("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000))");
        let before = disk.read(&path("some.db")).unwrap();
        assert!(disk.flip_bit(&path("some.db"), &mut Random::new(1, "bits")));
        disk.power_off();
        let after = disk.read(&path("some.db")).unwrap();
        let bits = before.iter().zip(&after).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
        assert_eq!((bits, disk.struck().flipped), (1, 1));
        assert!(!disk.flip_bit(&path("none"), &mut Random::new(1, "bits")));
    });
}

#[test]
fn a_look_disturbs_nobody() {
    for mode in ["WAL", "DELETE"] {
        with_disk(1, |disk| {
            let program = Program::start(disk, "some.db");
            program.one::<String>(&format!("PRAGMA journal_mode = {mode}")).unwrap();
            program.run("CREATE TABLE t (x); INSERT INTO t VALUES (1); BEGIN IMMEDIATE");
            program.run("INSERT INTO t VALUES (2)");
            let (files, changed) = (disk.list(), disk.mutations(&path("some.db")));
            let sum = |connection: &rusqlite::Connection| {
                connection.query_row("SELECT sum(x) FROM t", [], |row| row.get::<_, i64>(0))
            };
            let look = disk.look(&path("some.db")).unwrap();
            assert_eq!(sum(&look).unwrap(), 1);
            assert!(look.execute_batch("INSERT INTO t VALUES (3)").is_err(), "it only reads");
            program.run("COMMIT");
            assert_eq!(sum(&look).unwrap(), 1, "it is of that moment");
            let copied = disk.copied(&path("some.db")).unwrap();
            let copy = rusqlite::Connection::open(copied.path()).unwrap();
            copy.execute_batch("INSERT INTO t VALUES (10)").unwrap();
            assert_eq!(sum(&copy).unwrap(), 13);
            assert_ne!(disk.mutations(&path("some.db")), changed);
            assert_eq!(sum(&disk.look(&path("some.db")).unwrap()).unwrap(), 3);
            assert_eq!(
                disk.list(),
                files.into_iter().filter(|path| disk.exists(path)).collect::<Vec<_>>()
            );
            drop((look, copy, copied));
            let desk = crate::disk::here::desk().unwrap();
            assert_eq!((desk.list().len(), desk.bytes()), (0, 0), "nothing is left behind");
            assert!(disk.look(&path("none.db")).is_err());
        });
    }
}

#[test]
fn a_durable_look_shows_what_a_cut_would_leave() {
    with_disk(1, |disk| {
        let program = Program::start(disk, "some.db");
        program.run("PRAGMA synchronous = EXTRA");
        program.one::<String>("PRAGMA journal_mode = WAL").unwrap();
        program.run("CREATE TABLE t (x); INSERT INTO t VALUES (1); PRAGMA synchronous = NORMAL");
        program.run("INSERT INTO t VALUES (2)");
        let sum = |connection: rusqlite::Connection| {
            connection.query_row("SELECT sum(x) FROM t", [], |row| row.get::<_, i64>(0)).unwrap()
        };
        assert_eq!(sum(disk.look(&path("some.db")).unwrap()), 3);
        assert_eq!(sum(disk.look_durable(&path("some.db")).unwrap()), 1);
        disk.sync_committed(&program.process, &path("some.db")).unwrap();
        assert_eq!(sum(disk.look_durable(&path("some.db")).unwrap()), 3);
    });
}

#[test]
fn a_rollback_journal_comes_back_unless_its_removal_is_synced() {
    with_disk(1, |disk| {
        let program = Program::start(disk, "some.db");
        program.run("PRAGMA synchronous = EXTRA; CREATE TABLE t (x); INSERT INTO t VALUES (1)");
        program.run("PRAGMA synchronous = FULL; INSERT INTO t VALUES (2)");
        let sum = |connection: rusqlite::Connection| {
            connection.query_row("SELECT sum(x) FROM t", [], |row| row.get::<_, i64>(0)).unwrap()
        };
        assert_eq!(sum(disk.look_durable(&path("some.db")).unwrap()), 1);
        disk.sync_committed(&program.process, &path("some.db")).unwrap();
        assert_eq!(sum(disk.look_durable(&path("some.db")).unwrap()), 3);
    });
}

#[test]
fn whoever_watches_is_told_of_writes_and_new_files() {
    with_disk(1, |disk| {
        let mut told = 0;
        let program = Program::start(disk, "some.db");
        program.one::<String>("PRAGMA journal_mode = WAL").unwrap();
        program.run("CREATE TABLE t (x)");
        let mut watch = disk.watch(&path("some.db"));
        let mut noticed = || {
            let mut changed = watch.changed();
            let waker = std::task::Waker::noop();
            let mut context = std::task::Context::from_waker(waker);
            changed.as_mut().poll(&mut context).is_ready()
        };
        assert!(!noticed());
        program.number("SELECT count(*) FROM t");
        assert!(!noticed(), "reading is no change");
        disk.put(&path("other.db"), b"").unwrap();
        assert!(!noticed());
        program.run("INSERT INTO t VALUES (1)");
        told += u64::from(noticed());
        disk.put(&path("some.db"), b"").unwrap();
        told += u64::from(noticed());
        disk.remove(&path("some.db")).unwrap();
        told += u64::from(noticed());
        assert!(told == 3 || told == 0, "one moment is one notice: {told}");
    });
}
