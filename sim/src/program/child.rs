//! A run in a process of its own: a crash or a hang there is a finding here.

use sim::outcome::{Failure, Outcome};
use sim::plan::Request;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often a child is looked after.
const LOOK: Duration = Duration::from_millis(20);

/// Runs a request and waits for what it came to.
pub fn run(request: &Request, breakage: Option<&str>) -> std::io::Result<Outcome> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(super::options(request, breakage))
        .arg("--json")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let out = std::thread::spawn(move || all(out));
    let err = std::thread::spawn(move || all(err));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(LOOK);
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    let told = out.lines().last().and_then(|line| serde_json::from_str::<Outcome>(line).ok());
    Ok(told.unwrap_or_else(|| {
        let check = match status {
            None => format!("G: a run ends within {PATIENCE:?}"),
            Some(status) => format!("the simulator itself: it ended with {status}"),
        };
        let failure = Failure { check, what: last_lines(&err), at_ms: 0 };
        Outcome { failure: Some(failure), ..Outcome::default() }
    }))
}

fn all(stream: Option<impl Read>) -> String {
    let mut text = Vec::new();
    if let Some(mut stream) = stream {
        // What could not be read is missing in a report of a failure, and nowhere else.
        drop(stream.read_to_end(&mut text));
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
