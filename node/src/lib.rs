//! The Holdfast node: beside an unchanged SQLite application it captures every committed change,
//! keeps it in sequence, and exchanges it with the other sites. `ARCHITECTURE.md` is the map.

pub mod apply;
pub mod breakage;
pub mod capture;
pub mod config;
pub mod control;
pub mod demo;
pub mod directory;
pub mod engine;
pub mod environment;
pub mod failure;
pub mod json;
pub mod shared;
pub mod site;
pub mod snapshot;
pub mod sql;
pub mod status;
pub mod store;
pub mod transport;
pub mod units;
