//! Mirrors on real files, held against the plain SQLite database on which the same was done by
//! SQL. The judge is `demo::compare`, which shares no code with apply.

mod base;
mod reading;
mod rows;
mod schema;
mod world;
