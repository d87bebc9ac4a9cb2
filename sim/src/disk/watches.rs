//! Notices that a database changed: who waits for them, and which are missed. They come with every
//! write of the file, its `-wal` or its `-journal`, and with names made, moved and removed.

use crate::random::Random;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Of ten thousand, how many notices are missed. What happens at one moment is one notice.
const MISSED: u64 = 300;

/// Who watches which database.
#[derive(Debug)]
pub(super) struct Watches {
    random: Random,
    watched: BTreeMap<String, Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    by: Vec<Weak<Notify>>,
    /// The last notice, and whether it was missed.
    last: Option<(Instant, bool)>,
}

/// The database that a file belongs to.
pub(super) fn base(path: &str) -> &str {
    let strip = |suffix| path.strip_suffix(suffix);
    strip("-wal").or_else(|| strip("-journal")).or_else(|| strip("-shm")).unwrap_or(path)
}

impl Watches {
    pub fn new(random: Random) -> Self {
        Self { random, watched: BTreeMap::new() }
    }

    /// Watches the database at a path.
    pub fn watch(&mut self, path: &str) -> Arc<Notify> {
        let notify = Arc::new(Notify::new());
        for watched in self.watched.values_mut() {
            watched.by.retain(|watch| watch.strong_count() > 0);
        }
        self.watched.retain(|_, watched| !watched.by.is_empty());
        self.watched.entry(path.to_owned()).or_default().by.push(Arc::downgrade(&notify));
        notify
    }

    /// Something happened to a database.
    pub fn tell(&mut self, base: &str) {
        if self.watched.is_empty() {
            return;
        }
        let Some(watched) = self.watched.get_mut(base) else { return };
        let now = Instant::now();
        let missed = match watched.last {
            Some((at, missed)) if at == now => missed,
            _ => self.random.happens(MISSED),
        };
        watched.last = Some((now, missed));
        if !missed {
            watched.by.iter().filter_map(Weak::upgrade).for_each(|notify| notify.notify_one());
        }
    }
}
