//! Watches one mirror: at every instant it must show a state that the origin had after some
//! commit, and never an older one than it showed before.

use super::content::{Content, ContentHash, read};
use super::difference::difference;
use super::history::History;
use rusqlite::Connection;

/// What a look at a mirror says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// There is no mirror yet, or it holds nothing yet.
    NotYet,
    /// It shows the state after one of these commits: a state may recur.
    Shows {
        /// The oldest commit that it can be.
        oldest: u64,
        /// The newest.
        newest: u64,
    },
    /// The origin's state is not known at the moment ([`History::is_uncertain`]), and this is none
    /// of the known ones.
    Unknown,
    /// What must not be, in plain words.
    Violation(String),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Watcher {
    mirror: String,
    shown: Option<u64>,
}

impl Watcher {
    /// A watcher of a mirror that nobody has seen yet; the name is for messages.
    pub fn new(mirror: &str) -> Self {
        Self { mirror: mirror.to_owned(), shown: None }
    }

    /// The commit that the mirror showed at least, when it was last looked at.
    pub fn shown(&self) -> Option<u64> {
        self.shown
    }

    /// The mirror is made anew, by order: it may begin again, and show older states.
    pub fn begin_anew(&mut self) {
        self.shown = None;
    }

    /// Looks at a mirror: `None` if its file does not exist.
    ///
    /// # Errors
    /// SQLite's.
    pub fn look(
        &mut self,
        history: &History,
        mirror: Option<&Connection>,
    ) -> rusqlite::Result<Verdict> {
        let content = mirror.map(read).transpose()?;
        Ok(self.judge(history, content.as_ref()))
    }

    /// As [`Watcher::look`], on a content that was read already.
    pub fn judge(&mut self, history: &History, content: Option<&Content>) -> Verdict {
        let content = content.filter(|content| !content.is_empty());
        let Some(hash) = content.map(Content::hash) else {
            return match self.shown {
                None => Verdict::NotYet,
                Some(shown) => Verdict::Violation(format!(
                    "{} is gone, and showed commit {shown} before",
                    self.mirror
                )),
            };
        };
        let commits = history.position(hash);
        let at_least = self.shown.unwrap_or(0);
        match (commits.iter().find(|commit| **commit >= at_least), commits.last()) {
            (Some(&oldest), Some(&newest)) => {
                self.shown = Some(oldest);
                Verdict::Shows { oldest, newest }
            }
            _ if history.is_uncertain() => Verdict::Unknown,
            (_, Some(newest)) => Verdict::Violation(format!(
                "{} went back: it shows the state {hash} of commit {newest} ({:?}), and showed \
                 commit {at_least} before",
                self.mirror,
                history.state(*newest).map(|state| state.time()).unwrap_or_default(),
            )),
            (_, None) => Verdict::Violation(self.never(history, hash)),
        }
    }

    fn never(&self, history: &History, hash: ContentHash) -> String {
        let (latest, state) = history.latest();
        format!(
            "{} shows a state {hash} that its origin never had; it showed commit {:?} before, and \
             the origin is at commit {latest} ({}, {:?})",
            self.mirror,
            self.shown,
            state.hash(),
            state.time(),
        )
    }

    /// Where the mirror and its origin differ now, for the report. The nearest state whose rows
    /// are still there is the origin's own.
    ///
    /// # Errors
    /// SQLite's.
    pub fn explain(&self, origin: &Connection, mirror: &Connection) -> rusqlite::Result<String> {
        difference(("the origin", origin), (&self.mirror, mirror), 5)
    }
}
