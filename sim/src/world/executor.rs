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
                    if computer.is_on() && owner.is_struck() {
                        computer.fall();
                    }
                    // Nothing runs any more, and nobody learns that it did not.
                    return std::future::pending().await;
                }
                computer.between_steps(step);
                let begun = std::time::Instant::now();
                if owner.is_alive() {
                    owner.begin_step(step);
                    if catch_unwind(AssertUnwindSafe(job)).is_err() {
                        owner.note_panic();
                    }
                    if owner.end_step(step) {
                        computer.fall();
                    }
                }
                computer.note_step(step, begun.elapsed());
                let debt = computer.disk.take_debt();
                if !debt.is_zero() {
                    tokio::time::sleep(debt).await;
                }
                if !owner.is_alive() {
                    return std::future::pending().await;
                }
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
