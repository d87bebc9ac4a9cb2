//! Computers and nodes that start and end: switched on, stopped, and cut off from their power.

use super::{LOOK, Running, World, directory, end};
use node::config::Config;
use node::environment::Environment;
use node::site::Site;
use std::sync::Arc;
use tokio::time::sleep;

impl World {
    /// Switches a computer on, and starts its node.
    pub async fn boot(&mut self, name: &str) {
        assert!(self.place(name).running.is_none(), "{name} runs already");
        let environment = self.new_boot(name);
        environment.computer.set_on(true);
        let directory = directory(&environment.computer);
        let config = Config::read(&*environment, &directory).unwrap();
        let world: Arc<dyn Environment> = environment.clone();
        let site = Site::start(world, directory, config).await.unwrap();
        self.place_mut(name).running = Some(Running { environment, site });
    }

    /// Takes a computer's power: nothing is closed, nothing is said to anybody, and the files are
    /// what they were at that moment. Its applications end as well.
    pub async fn power_off(&mut self, name: &str) {
        let place = self.place(name);
        let computer = Arc::clone(&place.computer);
        if let Some(running) = &place.running {
            running.environment.boot.kill();
        }
        computer.unplug();
        computer.set_on(false);
        // Whatever the end of tasks and connections does to the files did not happen.
        let image = self.disk.image(&computer.folder).unwrap();
        self.end_boot(name).await;
        computer.end_programs();
        self.disk.restore(&computer.folder, &image).unwrap();
    }

    /// Takes the power right before the `nth` step of that name of a running node, or of any name,
    /// from now on. [`World::power_off`] is to follow once [`World::is_struck`].
    pub fn strike(&self, name: &str, step: Option<&'static str>, nth: u64) {
        self.running(name).environment.boot.strike_at(step, nth);
    }

    /// Whether the power has gone where [`World::strike`] said.
    pub fn is_struck(&self, name: &str) -> bool {
        !self.running(name).environment.boot.is_alive()
    }

    /// Ends a node as `SIGTERM` does; its computer and the applications on it go on.
    pub async fn stop(&mut self, name: &str) {
        self.running(name).site.stop().await.unwrap();
        self.end_boot(name).await;
    }

    pub(super) async fn struck(&self, name: &str) {
        while !self.is_struck(name) {
            sleep(LOOK).await;
        }
    }

    /// Ends the boot of a site, if there is one, with all that belongs to it.
    pub(super) async fn end_boot(&mut self, name: &str) {
        if let Some(Running { environment, site }) = self.place_mut(name).running.take() {
            drop(site);
            self.panics += end(&environment).await;
        }
    }
}
