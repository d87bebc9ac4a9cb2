//! One boot of one computer: it owns the tasks of its node, and its end ends them all. What
//! belongs to a boot that is over does nothing any more.

use crate::disk::Process;
use crate::disk::here::Here;
use crate::random::Random;
use crate::world::computer::Computer;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::{AbortHandle, JoinHandle};

/// How often, of ten thousand, a step of the node is held up for some milliseconds.
const HELD_UP: u64 = 150;

/// See the module.
#[derive(Debug)]
pub struct Boot {
    computer: Arc<Computer>,
    /// The node.
    pub process: Arc<Process>,
    alive: AtomicBool,
    struck: AtomicBool,
    panics: AtomicU64,
    tasks: Mutex<Tasks>,
    random: Mutex<Random>,
    scheduling: Mutex<Random>,
    strike: Mutex<Option<Strike>>,
    within: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Tasks {
    handles: Vec<JoinHandle<()>>,
    /// At how many the finished ones are thrown out.
    tidy_at: usize,
}

/// Where the power goes: before the step of that name, or any, after so many others like it.
#[derive(Debug)]
struct Strike {
    step: Option<&'static str>,
    before: u64,
}

/// What is planned for the inside and the end of steps, and where the node is.
#[derive(Debug, Default)]
struct Inside {
    /// The step that runs.
    now: Option<&'static str>,
    /// The power goes in that step, at that mutating operation of it.
    fuse: Option<(&'static str, u64)>,
    /// The power goes when that step has written something, before anybody is told.
    after: Option<&'static str>,
    /// Mutating operations of the disk when the step began.
    operations: u64,
}

impl Boot {
    /// The boot of that label: `downtown.3`, for instance.
    pub fn new(computer: &Arc<Computer>, seed: u64, label: &str) -> Self {
        Self {
            computer: Arc::clone(computer),
            process: computer.disk.process(),
            alive: AtomicBool::new(true),
            struck: AtomicBool::new(false),
            panics: AtomicU64::new(0),
            tasks: Mutex::default(),
            random: Mutex::new(Random::new(seed, &format!("{label} node"))),
            scheduling: Mutex::new(Random::new(seed, &format!("{label} scheduling"))),
            strike: Mutex::new(None),
            within: Mutex::default(),
        }
    }

    /// Whether the power is on.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Fails once the power is off.
    pub fn alive(&self) -> io::Result<()> {
        if self.is_alive() { Ok(()) } else { Err(io::Error::other("the power is off")) }
    }

    /// Takes the power: no step runs, no file is touched any more. The tasks end with
    /// [`Boot::end_tasks`].
    pub fn kill(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    /// The node's randomness.
    pub fn fill_random(&self, bytes: &mut [u8]) {
        self.random.lock().unwrap().fill(bytes);
    }

    /// While it lives, SQLite on this thread works for the node.
    pub fn here(&self) -> Here {
        self.computer.here_for_sqlite(&self.process)
    }

    /// What is done by the node, for all that SQLite knows.
    pub fn within<F: Future>(&self, future: F) -> Within<F> {
        let (computer, process) = (Arc::clone(&self.computer), Arc::clone(&self.process));
        Within { computer, process, future: Some(Box::pin(future)) }
    }

    /// Runs a task until it ends, is aborted, or the boot is over.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        if !self.is_alive() {
            return None;
        }
        let mut tasks = self.tasks.lock().unwrap();
        if tasks.handles.len() >= tasks.tidy_at {
            let panics = &self.panics;
            let mut kept = Vec::new();
            for handle in tasks.handles.drain(..) {
                match handle.is_finished() {
                    true => count_panic(panics, handle),
                    false => kept.push(handle),
                }
            }
            tasks.tidy_at = (kept.len() * 2).max(64);
            tasks.handles = kept;
        }
        let handle = tokio::spawn(self.within(task));
        let abort = handle.abort_handle();
        tasks.handles.push(handle);
        Some(abort)
    }

    /// Aborts all tasks and waits until none is left.
    pub async fn end_tasks(&self) {
        loop {
            let handles = std::mem::take(&mut self.tasks.lock().unwrap().handles);
            if handles.is_empty() {
                return;
            }
            for handle in &handles {
                handle.abort();
            }
            for handle in handles {
                if handle.await.is_err_and(|error| error.is_panic()) {
                    self.note_panic();
                }
            }
        }
    }

    /// A task or a step panicked: a bug, which the world tells at the end.
    pub fn note_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// How many tasks and steps panicked.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Takes the power right before the `nth` step of that name, or of any, from now on; 1 is the
    /// next.
    pub fn strike_at(&self, step: Option<&'static str>, nth: u64) {
        *self.strike.lock().unwrap() = Some(Strike { step, before: nth.max(1) - 1 });
    }

    /// Takes the power within the next step of that name, at that mutating operation of it, if it
    /// has so many.
    pub fn set_fuse_in(&self, step: &'static str, operation: u64) {
        self.within.lock().unwrap().fuse = Some((step, operation));
    }

    /// Takes the power after the next step of that name that writes something, before anybody
    /// learns of it.
    pub fn strike_after(&self, step: &'static str) {
        self.within.lock().unwrap().after = Some(step);
    }

    /// Nothing is planned any more.
    pub fn disarm(&self) {
        let now = self.step_now();
        *self.within.lock().unwrap() = Inside { now, ..Inside::default() };
        *self.strike.lock().unwrap() = None;
    }

    /// The step that runs, or ran when the power went.
    pub fn step_now(&self) -> Option<&'static str> {
        self.within.lock().unwrap().now
    }

    /// A step begins.
    pub fn begin_step(&self, step: &'static str) {
        let mut within = self.within.lock().unwrap();
        within.now = Some(step);
        within.operations = self.computer.disk.operations();
        if let Some((planned, operation)) = within.fuse
            && planned == step
        {
            self.computer.disk.set_fuse(operation);
        }
    }

    /// It has ended; whether the power goes now.
    pub fn end_step(&self, step: &'static str) -> bool {
        if !self.is_alive() {
            return false;
        }
        let mut within = self.within.lock().unwrap();
        if let Some((planned, _)) = within.fuse
            && planned == step
        {
            // It had fewer operations: whatever comes next is not meant.
            within.fuse = None;
            self.computer.disk.clear_fuse();
        }
        if within.after == Some(step) && self.computer.disk.operations() > within.operations {
            within.after = None;
            return true;
        }
        within.now = None;
        false
    }

    /// Whether it was struck.
    pub fn is_struck(&self) -> bool {
        self.struck.load(Ordering::Relaxed)
    }

    /// Before each step of the node: others go first, or the computer is slow, or the power goes.
    /// This is where the simulator gets between two steps; whether the step may run is returned.
    pub async fn before_step(&self, step: &'static str) -> bool {
        let (yields, pause) = {
            let mut scheduling = self.scheduling.lock().unwrap();
            let pause = scheduling.happens(HELD_UP).then(|| 1 + scheduling.below(20));
            (scheduling.below(3), pause)
        };
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        if let Some(ms) = pause {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        let mut strike = self.strike.lock().unwrap();
        let meant = |planned: &Strike| planned.step.is_none_or(|name| name == step);
        match &mut *strike {
            Some(planned) if meant(planned) && planned.before == 0 => {
                *strike = None;
                self.struck.store(true, Ordering::Relaxed);
                self.kill();
            }
            Some(planned) if meant(planned) => planned.before -= 1,
            _ => {}
        }
        self.is_alive()
    }
}

/// A future of the node: polled and dropped on its behalf.
#[derive(Debug)]
pub struct Within<F> {
    computer: Arc<Computer>,
    process: Arc<Process>,
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _here = this.computer.here_for_sqlite(&this.process);
        match &mut this.future {
            Some(future) => future.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Within<F> {
    fn drop(&mut self) {
        let _here = self.computer.here_for_sqlite(&self.process);
        self.future = None;
    }
}

fn count_panic(panics: &AtomicU64, handle: JoinHandle<()>) {
    use std::task::Waker;
    let handle = std::pin::pin!(handle);
    if let Poll::Ready(Err(error)) = handle.poll(&mut Context::from_waker(Waker::noop()))
        && error.is_panic()
    {
        panics.fetch_add(1, Ordering::Relaxed);
    }
}
