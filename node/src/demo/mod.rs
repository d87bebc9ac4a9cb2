//! The sample shop, and the judge that compares two files. The demo's story is told elsewhere.

pub mod compare;
pub mod shop;
