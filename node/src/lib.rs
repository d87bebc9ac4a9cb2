//! The Holdfast node: beside an unchanged SQLite application it captures every committed change,
//! keeps it in sequence, and exchanges it with the other sites. `ARCHITECTURE.md` is the map.

pub mod apply;
pub mod capture;
pub mod demo;
pub mod environment;
pub mod failure;
pub mod store;
pub mod transport;
