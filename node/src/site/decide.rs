//! What people ask and decide of shared databases at a running site. The deciding is the engine's;
//! here its changes are told to the others.

use super::Site;
use crate::engine::{Choose, ConflictView, ConflictsView, Engine, EngineError, Kept};
use crate::engine::{PolicyView, RuleSet};
use crate::failure::Failure;
use protocol::Name;
use protocol::session::LocalBranch;

impl Site {
    /// The rules of a shared database.
    ///
    /// # Errors
    /// There is no such database, or the store fails.
    pub async fn policy(&self, name: Name) -> Result<PolicyView, Failure> {
        Ok(self.step("policy", move |engine| engine.policy(&name)).await?)
    }

    /// Sets a rule.
    ///
    /// # Errors
    /// It can't be set, or the store fails.
    pub async fn choose_rule(
        &self,
        name: Name,
        subject: String,
        rule: String,
    ) -> Result<RuleSet, Failure> {
        self.decide("policy.set", move |engine| engine.choose_rule(&name, &subject, &rule)).await
    }

    /// All undecided conflicts.
    ///
    /// # Errors
    /// The store fails.
    pub async fn conflicts(&self) -> Result<ConflictsView, Failure> {
        Ok(self.step("conflicts", |engine| engine.conflicts()).await?)
    }

    /// One conflict.
    ///
    /// # Errors
    /// There is none of that number, or the store fails.
    pub async fn conflict(&self, id: i64) -> Result<ConflictView, Failure> {
        Ok(self.step("conflict", move |engine| engine.conflict(id)).await?)
    }

    /// Decides a conflict.
    ///
    /// # Errors
    /// It can't be decided so, or the store fails.
    pub async fn keep(&self, id: i64, choose: Choose) -> Result<Kept, Failure> {
        self.decide("conflict.keep", move |engine| engine.keep(id, choose)).await
    }

    /// A step that may number a change of this site's own.
    async fn decide<R: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut Engine) -> Result<(R, Option<LocalBranch>), EngineError> + Send + 'static,
    ) -> Result<R, Failure> {
        // Nothing may be numbered between what a harvest read and its batch.
        let _resting = self.0.harvesting.lock().await;
        let (result, branch) = self.step(name, work).await?;
        if let Some(branch) = branch {
            self.0.hub.tell_branch(&branch);
            // It has to be written to the application's file as well.
            self.0.hub.arrived(&branch);
        }
        Ok(result)
    }
}
