//! The real world: being written.
