//! Notices that a database file changed. They come at once, and a few are missed, as the seed
//! decides: the node's slow poll stands behind.

use crate::random::Random;
use node::environment::{BoxFuture, FileWatch};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::Notify;

/// Of ten thousand, how many notices are missed.
const MISSED: u64 = 300;

/// Who watches which file of a computer.
#[derive(Debug)]
pub struct Notices {
    random: Mutex<Random>,
    watches: Mutex<Vec<(PathBuf, Weak<Notify>)>>,
}

impl Notices {
    /// Nobody watches anything yet.
    pub fn new(random: Random) -> Self {
        Self { random: Mutex::new(random), watches: Mutex::default() }
    }

    /// Watches a file.
    pub fn watch(&self, path: &Path) -> Watch {
        let notify = Arc::new(Notify::new());
        let mut watches = self.watches.lock().unwrap();
        watches.retain(|(_, watch)| watch.strong_count() > 0);
        watches.push((path.to_owned(), Arc::downgrade(&notify)));
        Watch(notify)
    }

    /// A file was written.
    pub fn tell(&self, path: &Path) {
        for (watched, notify) in self.watches.lock().unwrap().iter() {
            if watched == path
                && let Some(notify) = notify.upgrade()
                && !self.random.lock().unwrap().happens(MISSED)
            {
                notify.notify_one();
            }
        }
    }
}

/// A watch on one file.
#[derive(Debug)]
pub struct Watch(Arc<Notify>);

impl FileWatch for Watch {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.notified())
    }
}
