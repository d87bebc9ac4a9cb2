//! Work on databases as named steps on something that one thread owns at a time.

use super::{Environment, Executor};
use std::sync::{Arc, Mutex, PoisonError};

/// Owns a `T` (connections, mostly) and runs steps on it, one after another, off the network's
/// thread. Clones share it.
#[derive(Debug)]
pub struct Worker<T> {
    executor: Arc<dyn Executor>,
    subject: Arc<Mutex<T>>,
}

impl<T> Clone for Worker<T> {
    fn clone(&self) -> Self {
        Self { executor: Arc::clone(&self.executor), subject: Arc::clone(&self.subject) }
    }
}

impl<T: Send + 'static> Worker<T> {
    /// Puts `subject` on an executor of its own.
    pub fn new(environment: &dyn Environment, name: &'static str, subject: T) -> Self {
        Self { executor: environment.executor(name), subject: Arc::new(Mutex::new(subject)) }
    }

    /// Runs one step. Its name is what the simulator and the logs call it.
    ///
    /// A step that a dropped future no longer waits for still runs.
    pub async fn step<R: Send + 'static>(
        &self,
        step: &'static str,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> R {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let subject = Arc::clone(&self.subject);
        let job = Box::new(move || {
            // A step that panicked left its own transaction rolled back; the next one goes on.
            let mut subject = subject.lock().unwrap_or_else(PoisonError::into_inner);
            // The receiver is gone if the caller no longer waits: nobody to tell.
            drop(sender.send(work(&mut subject)));
        });
        self.executor.execute(step, job).await;
        match receiver.await {
            Ok(result) => result,
            // The step panicked, which is a bug, or this boot has ended: stay away for good.
            Err(_) => std::future::pending().await,
        }
    }
}
