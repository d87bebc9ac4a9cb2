//! Computers and nodes that start and end: switched on, shut down, stopped, killed, and cut off
//! from their power.

use super::computer::Work;
use super::{Running, World, directory, end};
use node::config::Config;
use node::environment::Environment;
use node::failure::Failure;
use node::site::Site;
use std::fmt;
use std::sync::Arc;

/// Why a node does not run after its computer was switched on.
#[derive(Debug)]
pub enum BootError {
    /// The power went. [`World::power_off`] is to follow.
    Fallen,
    /// The node ended by itself; the computer is on.
    Failed(Failure),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fallen => f.write_str("the power went"),
            Self::Failed(failure) => write!(f, "the node did not start: {failure:?}"),
        }
    }
}

impl std::error::Error for BootError {}

impl World {
    /// Switches a computer on, unless it is, and starts its node.
    ///
    /// # Errors
    /// The power goes meanwhile, or the node can't start: a full or broken disk.
    pub async fn boot(&mut self, name: &str) -> Result<(), BootError> {
        assert!(self.place(name).running.is_none(), "{name} runs already");
        let computer = Arc::clone(&self.place(name).computer);
        computer.pick_up();
        if !computer.disk.is_on() {
            computer.wall.power_on();
        }
        computer.disk.power_on();
        let environment = self.new_boot(name);
        let directory = directory(&environment.computer);
        let world: Arc<dyn Environment> = environment.clone();
        let start = environment.boot.within(async move {
            let config = Config::read(&*world, &directory)?;
            Site::start(world, directory, config).await
        });
        let started = tokio::select! {
            biased;
            () = self.fallen_at(name) => Err(BootError::Fallen),
            started = start => started.map_err(BootError::Failed),
        };
        match started {
            // It may have gone in the last moment.
            Ok(site) if environment.boot.is_alive() => {
                self.place_mut(name).running = Some(Running { environment, site });
                Ok(())
            }
            started => {
                let error = started.err().unwrap_or(BootError::Fallen);
                let error = if computer.is_fallen() { BootError::Fallen } else { error };
                self.panics += end(&environment).await;
                Err(error)
            }
        }
    }

    /// Takes a computer's power: nothing is closed, nothing is said to anybody, and of what was
    /// not synced some is lost. Its applications end as well.
    pub async fn power_off(&mut self, name: &str) {
        let place = self.place(name);
        let computer = Arc::clone(&place.computer);
        if let Some(running) = &place.running {
            running.environment.boot.kill();
        }
        computer.unplug();
        computer.disk.power_off();
        // Whatever the end of tasks and connections would do to the files no longer happens.
        self.end_boot(name).await;
        computer.end_programs();
        computer.pick_up();
    }

    /// Shuts a computer down as people do in the evening: applications are closed, the node is
    /// ended as by `SIGTERM`, and everything is written to the disk. Whether the node stopped
    /// well: it need not, with a broken disk.
    pub async fn shut_down(&mut self, name: &str) -> bool {
        let computer = Arc::clone(&self.place(name).computer);
        computer.end_programs();
        let stopped = match &self.place(name).running {
            Some(_) => self.try_stop(name).await,
            None => true,
        };
        if computer.is_on() {
            computer.disk.sync_all();
        }
        self.power_off(name).await;
        stopped
    }

    /// Ends a node as `kill -9` does; its computer and the applications on it go on, and what the
    /// node wrote stays, synced or not.
    pub async fn kill(&mut self, name: &str) {
        let environment = &self.running(name).environment;
        environment.computer.disk.kill(&environment.boot.process);
        self.end_boot(name).await;
    }

    /// Takes the power right before the `nth` step of that name of a running node, or of any name,
    /// from now on. [`World::power_off`] is to follow once [`World::is_fallen`].
    pub fn strike(&self, name: &str, step: Option<&'static str>, nth: u64) {
        self.running(name).environment.boot.strike_at(step, nth);
    }

    /// Takes the power at the `nth` operation from now that changes a file of a site's computer,
    /// maybe in the middle of it, whoever's it is. It stays set over a [`World::boot`].
    /// [`World::power_off`] is to follow once [`World::is_fallen`].
    pub fn set_fuse(&self, name: &str, nth: u64) {
        self.disk(name).set_fuse(nth);
    }

    /// Takes the power within the next step of that name of a running node, at that mutating
    /// operation of it, if it has so many.
    pub fn set_fuse_in(&self, name: &str, step: &'static str, operation: u64) {
        self.running(name).environment.boot.set_fuse_in(step, operation);
    }

    /// Takes the power after the next step of that name that writes something, before anybody
    /// learns of it.
    pub fn strike_after(&self, name: &str, step: &'static str) {
        self.running(name).environment.boot.strike_after(step);
    }

    /// Nothing of this kind is planned any more.
    pub fn disarm(&self, name: &str) {
        self.disk(name).clear_fuse();
        if let Some(running) = &self.place(name).running {
            running.environment.boot.disarm();
        }
    }

    /// In which step of its node a computer has lost its power, if in one.
    pub fn fell_in(&self, name: &str) -> Option<&'static str> {
        self.place(name).running.as_ref()?.environment.boot.step_now()
    }

    /// Whether the power has gone where [`World::strike`] or [`World::set_fuse`] said, and nobody
    /// has seen to it.
    pub fn is_fallen(&self, name: &str) -> bool {
        self.place(name).computer.is_fallen()
    }

    /// The same.
    pub fn is_struck(&self, name: &str) -> bool {
        self.is_fallen(name)
    }

    /// Waits until some computer has lost its power by itself, and names its site.
    pub async fn fallen(&self) -> String {
        loop {
            let told = self.falls.notified();
            let fallen = self.sites.iter().find(|(_, place)| place.computer.is_fallen());
            if let Some((name, _)) = fallen {
                return name.clone();
            }
            told.await;
        }
    }

    pub(super) async fn fallen_at(&self, name: &str) {
        while !self.is_fallen(name) {
            self.falls.notified().await;
        }
    }

    /// What is to be done now and then right before a step of a site's node, such as an
    /// application's transaction; the step is named. One at a time; none ends it.
    pub fn set_between_steps(&self, name: &str, work: Option<Work>) {
        self.place(name).computer.set_between(work);
    }

    /// Ends a node as `SIGTERM` does; its computer and the applications on it go on.
    ///
    /// # Panics
    /// It does not end well.
    pub async fn stop(&mut self, name: &str) {
        assert!(self.try_stop(name).await, "{name} does not stop");
    }

    /// The same; whether it ended well.
    pub async fn try_stop(&mut self, name: &str) -> bool {
        let site = &self.running(name).site;
        let stopped = tokio::select! {
            biased;
            () = self.fallen_at(name) => false,
            stopped = site.stop() => stopped.is_ok(),
        };
        self.end_boot(name).await;
        stopped
    }

    /// Ends the boot of a site, if there is one, with all that belongs to it.
    pub(super) async fn end_boot(&mut self, name: &str) {
        if let Some(Running { environment, site }) = self.place_mut(name).running.take() {
            {
                let _here = environment.boot.here();
                drop(site);
            }
            self.panics += end(&environment).await;
        }
    }
}
