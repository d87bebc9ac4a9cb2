//! What the end-to-end tests share. The tests themselves run real processes, files and sockets.

pub mod application;
pub mod binary;
pub mod sales;
pub mod shop;
pub mod site;
pub mod wait;

pub use node::demo::relay;
