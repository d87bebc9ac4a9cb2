//! The deterministic simulator: real Holdfast nodes, many sites on one thread, in virtual time. A
//! seed decides everything, and the same seed gives the same run.
//!
//! What runs is the code that ships. Replaced is only what `node::environment::Environment` names:
//! clock, randomness, sockets, tasks, files, file notices. Two things tell whether two runs were
//! the same: the trace of packets (time, source, destination, size) and the content of all
//! databases ([`World::trace_hash`], [`World::content_hash`]).
//!
//! One world at a time runs in a process, since SQLite's own generator belongs to the process:
//! [`run`] waits for its turn. Seeds in parallel are processes in parallel.
//!
//! Files lie on disks in memory, which lose, tear and reorder what was not synced when the power
//! goes ([`disk`]).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in the simulator whatever can't be is a failed run, and a failed run is a finding"
)]

pub mod catalogue;
mod checker;
pub mod chronicle;
mod clock;
mod content;
pub mod disk;
pub mod drive;
mod faults;
pub mod log;
mod network;
pub mod oracle;
pub mod outcome;
pub mod picture;
pub mod plan;
pub mod random;
pub mod regressions;
pub mod stories;
pub mod trace;
pub mod workload;
pub mod world;

pub use clock::start_of_year;
pub use network::{Access, Counts, Line};
pub use world::application::Application;
pub use world::power::BootError;
pub use world::{Figures, World, run};
