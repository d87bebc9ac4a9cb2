//! What happened in a run, for people: a line an event that matters, and the spans and samples
//! from which [`crate::picture`] is drawn. Decides nothing.

use std::time::Duration;

/// An event that matters.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When, from the world's begin.
    pub at: Duration,
    /// What.
    pub text: String,
}

/// How a site was, from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// PC and node run.
    On,
    /// The PC runs, the node does not.
    NodeDown,
    /// The PC is off.
    Off,
}

/// A fault from begin to end.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its number in the plan.
    pub number: usize,
    /// What it was, with the numbers of FAULTS.md.
    pub what: String,
    /// The sites concerned, by place; none: all.
    pub sites: Vec<usize>,
    /// From when.
    pub from: Duration,
    /// Until when; none: the end of the run.
    pub until: Option<Duration>,
}

/// How far a copy was behind its original at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    /// When.
    pub at: Duration,
    /// Whose database, by place.
    pub origin: usize,
    /// Whose copy, by place.
    pub site: usize,
    /// Commits that the copy did not show yet.
    pub commits: u64,
}

/// What one site sent another in a stretch of time.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// When the stretch ended.
    pub at: Duration,
    /// From whom, by place.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// Batches that arrived and were stored in it.
    pub batches: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Chronicle {
    /// The story.
    pub entries: Vec<Entry>,
    /// Each change of a site's condition.
    pub conditions: Vec<(Duration, usize, Condition)>,
    /// The faults.
    pub spans: Vec<Span>,
    /// How far copies were behind.
    pub behind: Vec<Behind>,
    /// What travelled.
    pub flows: Vec<Flow>,
    /// How long the world has lasted.
    pub end: Duration,
    aloud: bool,
}

impl Chronicle {
    /// An empty one; `aloud` prints each line as it happens.
    pub fn new(aloud: bool) -> Self {
        Self { aloud, ..Self::default() }
    }

    /// Something happened.
    #[expect(clippy::print_stdout, reason = "the story is what the program prints")]
    pub fn tell(&mut self, at: Duration, text: String) {
        if self.aloud {
            println!("{}  {text}", clock(at));
        }
        self.entries.push(Entry { at, text });
    }

    /// A fault is over.
    pub fn end_span(&mut self, number: usize, at: Duration) {
        for span in self.spans.iter_mut().filter(|span| span.number == number) {
            span.until.get_or_insert(at);
        }
    }
}

/// A moment as the shops' calendar has it: the world begins on day 1 at eight.
pub fn clock(at: Duration) -> String {
    let seconds = at.as_secs() + 8 * 3600;
    let (day, rest) = (seconds / 86_400 + 1, seconds % 86_400);
    format!("day {day} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_day_begins_at_eight() {
        assert_eq!(clock(Duration::ZERO), "day 1 08:00:00");
        assert_eq!(clock(Duration::from_secs(16 * 3600 + 61)), "day 2 00:01:01");
    }
}
