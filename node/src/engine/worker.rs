//! The engine on a thread of its own.

use super::{Engine, EngineError};
use crate::environment::{Environment, Worker};

/// Runs the engine's steps, one after another. Clones share it.
#[derive(Clone, Debug)]
pub struct EngineWorker(Worker<Option<Engine>>);

impl EngineWorker {
    /// Puts the engine on its thread.
    pub fn new(environment: &dyn Environment, engine: Engine) -> Self {
        Self(Worker::new(environment, "engine", Some(engine)))
    }

    /// Runs one step. After [`EngineWorker::close`] there is none, and this never completes:
    /// whoever waits for it is ending too.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn step<R: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut Engine) -> Result<R, EngineError> + Send + 'static,
    ) -> Result<R, EngineError> {
        match self.0.step(name, |engine| engine.as_mut().map(work)).await {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }

    /// Closes all databases; see [`Engine::close`].
    ///
    /// # Errors
    /// Those of [`Engine::close`].
    pub async fn close(&self) -> Result<(), EngineError> {
        self.0.step("close", |engine| engine.take().map_or(Ok(()), Engine::close)).await
    }
}
