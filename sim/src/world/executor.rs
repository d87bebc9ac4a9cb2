//! Runs the node's database work inline, a named step at a time, where production has a thread.

use crate::world::boot::Boot;
use crate::world::computer::Computer;
use node::environment::{BoxFuture, Executor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

struct Submitted {
    step: &'static str,
    job: Box<dyn FnOnce() + Send>,
    done: oneshot::Sender<()>,
}

/// A queue of steps, and the task that runs them.
#[derive(Debug)]
pub struct Inline(mpsc::UnboundedSender<Submitted>);

impl Inline {
    /// The executor of that name.
    pub fn start(computer: &Arc<Computer>, boot: &Arc<Boot>) -> Self {
        let (sender, mut queue) = mpsc::unbounded_channel::<Submitted>();
        let (owner, computer) = (Arc::clone(boot), Arc::clone(computer));
        boot.spawn(async move {
            while let Some(Submitted { step, job, done }) = queue.recv().await {
                if !owner.before_step(step).await {
                    computer.unplug();
                    // Nothing runs any more, and nobody learns that it did not.
                    return std::future::pending().await;
                }
                let begun = std::time::Instant::now();
                let _here = computer.here_for_sqlite();
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    owner.note_panic();
                }
                let mut steps = computer.steps.lock().unwrap();
                let (times, took) = steps.entry(step).or_default();
                *times += 1;
                *took += begun.elapsed();
                drop(steps);
                // Nobody waits if the future was dropped; the step counts all the same.
                let _ = done.send(());
            }
        });
        Self(sender)
    }
}

impl Executor for Inline {
    fn execute(&self, step: &'static str, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let (done, finished) = oneshot::channel();
        // Fails only when the boot is over: `finished` fails then as well.
        drop(self.0.send(Submitted { step, job, done }));
        Box::pin(async move {
            if finished.await.is_err() {
                std::future::pending().await
            }
        })
    }
}
