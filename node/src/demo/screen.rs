//! Where the demo is told: paragraphs, and one line of live counters that is written over itself
//! on a terminal and printed now and then elsewhere. No escape codes but on a terminal.

use crate::failure::Failure;
use std::fmt;
use std::io::Write;
use std::time::Duration;
use tokio::time::Instant;

/// The width of a paragraph.
const WIDTH: usize = 88;
/// How often live counters are printed where they can't be written over.
const PLAIN: Duration = Duration::from_secs(1);

/// The place of the story.
pub struct Screen {
    output: Box<dyn Write + Send>,
    terminal: bool,
    live: Option<String>,
    printed: Option<Instant>,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

impl Screen {
    /// Tells on `output`, which is a `terminal` or not.
    pub fn new(output: Box<dyn Write + Send>, terminal: bool) -> Self {
        Self { output, terminal, live: None, printed: None }
    }

    /// Begins an act.
    ///
    /// # Errors
    /// As for all: the output is gone.
    pub fn title(&mut self, text: &str) -> Result<(), Failure> {
        let (bold, plain) = if self.terminal { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.line(&format!("\n{bold}{text}{plain}"))
    }

    /// A paragraph, broken into lines.
    ///
    /// # Errors
    /// The output is gone.
    pub fn say(&mut self, text: &str) -> Result<(), Failure> {
        let mut line = String::new();
        let mut lines = Vec::new();
        for word in text.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
        lines.iter().try_for_each(|line| self.line(&format!("  {line}")))
    }

    /// One line as it is. The last live counters stay above it.
    ///
    /// # Errors
    /// The output is gone.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        let kept = match self.live.take() {
            Some(_) if self.terminal => "\n".to_owned(),
            Some(live) => format!("{live}\n"),
            None => String::new(),
        };
        self.printed = None;
        self.write(&format!("{kept}{text}\n"))
    }

    /// The live counters, in place of the last.
    ///
    /// # Errors
    /// The output is gone.
    pub fn live(&mut self, text: &str) -> Result<(), Failure> {
        if self.terminal {
            self.live = Some(String::new());
            // What is wider than the terminal is cut off, not wrapped.
            return self.write(&format!("\r\x1b[?7l  {text}\x1b[K\x1b[?7h"));
        }
        if self.printed.is_some_and(|printed| printed.elapsed() < PLAIN) {
            self.live = Some(format!("  {text}"));
            return Ok(());
        }
        self.printed = Some(Instant::now());
        self.live = None;
        self.write(&format!("  {text}\n"))
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.output.write_all(text.as_bytes()).and_then(|()| self.output.flush()).map_err(|error| {
            Failure::unable(
                format!("The story can't be printed: {error}."),
                "Look at where the output goes.",
            )
        })
    }
}

/// A count with its thousands apart: `20 561`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Bytes as people say them.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn told(terminal: bool) -> String {
        let page = Page::default();
        let mut screen = Screen::new(Box::new(page.clone()), terminal);
        screen.title("Act").unwrap();
        screen.live("one").unwrap();
        screen.live("two").unwrap();
        screen.live("three").unwrap();
        screen.say(&"word ".repeat(30)).unwrap();
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn plain_output_has_no_codes_and_ends_with_the_last_counters() {
        let text = told(false);
        assert!(!text.contains('\x1b') && !text.contains('\r'), "{text}");
        assert!(text.starts_with("\nAct\n  one\n  three\n  word word"), "{text}");
        assert!(text.lines().all(|line| line.len() <= WIDTH + 2), "{text}");
    }

    #[test]
    fn a_terminal_is_written_over() {
        let text = told(true);
        assert_eq!(text.matches('\r').count(), 3);
        assert!(text.contains("three\x1b[K\x1b[?7h\n  word"), "{text:?}");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 20_561, 1_234_567].map(count).join(","), {
            "0,999,1 000,20 561,1 234 567"
        });
        assert_eq!([5, 2048, 3 << 20].map(size).join(","), "5 B,2.0 KiB,3.0 MiB");
    }
}
