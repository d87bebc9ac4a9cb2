//! What the end-to-end tests share. The tests themselves run real processes, files and sockets.

pub use node::demo::relay;
