//! Many seeds, each in a process of its own, some at a time; a table of faults at the end, and the
//! failing seeds in a file.

use super::{Which, child};
use sim::outcome::{Outcome, table};
use sim::plan::Request;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How many.
#[derive(Clone, Copy, Debug)]
pub struct Size<'a> {
    /// Seeds, counting up from that of the request.
    pub seeds: u64,
    /// At the same time.
    pub jobs: usize,
    /// Where failing ones are kept.
    pub failures: &'a Path,
    /// Ends with the first that fails: it is looked for.
    pub until_failure: bool,
}

/// Runs them; how many failed, or what kept them from running.
pub fn run(which: &Which, size: Size<'_>) -> Result<u64, String> {
    let request = which.request()?;
    if request.seed.checked_add(size.seeds).is_none() {
        return Err("There are not so many seeds behind --seed.".into());
    }
    let breakage = which.breakage.as_deref();
    let begun = Instant::now();
    let mut sum = Sum::default();
    each(&request, breakage, (size.seeds, size.jobs), |request, outcome| {
        sum.add(request, breakage, outcome);
        match size.until_failure && sum.failed > 0 {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    println!("\nFaults that fired in {} runs:\n{}", sum.runs, table(&sum.fired));
    println!(
        "{} runs, {} failed, {:.1} days, {} commits, {} batches, {} packets in {:.0} s",
        sum.runs,
        sum.failed,
        sum.virtual_ms as f64 / 86_400_000.0,
        sum.commits,
        sum.batches,
        sum.packets,
        begun.elapsed().as_secs_f64()
    );
    if sum.failed > 0 {
        if let Some(folder) = size.failures.parent() {
            std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        }
        std::fs::write(size.failures, &sum.failures)
            .map_err(|error| format!("{} can't be written: {error}.", size.failures.display()))?;
        println!("The failing seeds are in {}.", size.failures.display());
    }
    Ok(sum.failed)
}

/// Runs so many seeds, counting up from that of the request, some at a time. Outcomes are taken
/// one by one, until one is enough; those still running then are waited for and not taken.
pub fn each(
    request: &Request,
    breakage: Option<&str>,
    (seeds, jobs): (u64, usize),
    take: impl FnMut(&Request, std::io::Result<Outcome>) -> ControlFlow<()> + Send,
) {
    let next = AtomicU64::new(0);
    let taking = Mutex::new((take, false));
    let taking = || taking.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds || taking().1 {
                        return;
                    }
                    let request = Request { seed: request.seed + number, ..request.clone() };
                    let outcome = child::run(&request, breakage);
                    let (take, enough) = &mut *taking();
                    if !*enough {
                        *enough = take(&request, outcome).is_break();
                    }
                }
            });
        }
    });
}

#[derive(Debug, Default)]
struct Sum {
    runs: u64,
    failed: u64,
    virtual_ms: u64,
    commits: u64,
    batches: u64,
    packets: u64,
    fired: BTreeMap<u8, u64>,
    failures: String,
}

impl Sum {
    fn add(
        &mut self,
        request: &Request,
        breakage: Option<&str>,
        outcome: std::io::Result<Outcome>,
    ) {
        self.runs += 1;
        let (outcome, problem) = match outcome {
            Ok(outcome) => {
                let problem = outcome.failure.as_ref().map(ToString::to_string);
                (outcome, problem)
            }
            Err(error) => (Outcome::default(), Some(format!("it could not be run: {error}"))),
        };
        let figures = &outcome.figures;
        self.virtual_ms += figures.virtual_ms;
        self.commits += figures.commits;
        self.batches += figures.batches;
        self.packets += figures.packets;
        for (number, times) in &outcome.fired {
            *self.fired.entry(*number).or_default() += times;
        }
        if let Some(problem) = problem {
            self.failed += 1;
            let command = super::command(request, breakage);
            println!("seed {} FAILED\n{problem}\n  {command}", request.seed);
            let _ = writeln!(self.failures, "{command}\n{problem}\n");
        } else if self.runs.is_multiple_of(10) {
            println!("{} runs, {} failed", self.runs, self.failed);
        }
    }
}
