//! Which rows of a shared database the application beside this node sees: [`conflict::visible`]
//! with the answers of a real SQLite.
//!
//! [`Desk`] knows the constraints of the local schema. What sites say of rows, and what of it
//! was written, is not kept here yet: shared mode is being built.

mod desk;
mod table;

pub use desk::{Desk, DeskError, Referred};
