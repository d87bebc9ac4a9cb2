//! The demo: three sites on this machine with a sample shop each, told as it happens, and the
//! judge that compares the copies with their originals. It looks at the nodes from outside, as
//! their commands, files and sockets show them.

pub mod compare;
mod meter;
mod process;
pub mod relay;
mod screen;
pub mod shop;
mod stage;
mod story;
mod till;

pub use screen::Screen;
pub use stage::{Demo, Options};
pub use story::Told;
