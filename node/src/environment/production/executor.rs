//! A thread that runs jobs one after another. It does not outlive its owner's last job.

use crate::environment::{BoxFuture, Executor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A queue of jobs and the thread that runs them.
#[derive(Debug)]
pub(super) struct Thread {
    /// `None` where the system gave no thread: then jobs run where they are submitted.
    jobs: Option<Sender<Submitted>>,
}

struct Submitted {
    step: &'static str,
    job: Job,
    done: oneshot::Sender<()>,
}

impl Thread {
    /// Starts the thread. It ends when this value is dropped and the queue is empty.
    pub(super) fn start(name: &'static str) -> Self {
        let (jobs, queue) = channel::<Submitted>();
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for Submitted { step, job, done } in queue {
                run(step, job);
                // Nobody waits if the future was dropped; the job counts all the same.
                let _ = done.send(());
            }
        });
        match started {
            Ok(_) => Self { jobs: Some(jobs) },
            Err(error) => {
                tracing::error!(%error, name, "no thread to be had: going on without, and slower");
                Self { jobs: None }
            }
        }
    }
}

impl Executor for Thread {
    fn execute(&self, step: &'static str, job: Job) -> BoxFuture<'static, ()> {
        let Some(jobs) = &self.jobs else {
            run(step, job);
            return Box::pin(std::future::ready(()));
        };
        let (done, finished) = oneshot::channel();
        // Fails only if the thread is gone, and it ends only after this sender: `finished` then
        // fails as well.
        drop(jobs.send(Submitted { step, job, done }));
        Box::pin(async move {
            if finished.await.is_err() {
                // Only the end of the process takes the thread away.
                std::future::pending().await
            }
        })
    }
}

/// Runs one job. A panic is a bug in that step, not the end of those after it.
fn run(step: &'static str, job: Job) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(job)) {
        let what = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        tracing::error!(step, what, "a step panicked");
    }
}
