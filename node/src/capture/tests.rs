//! Tests of capture over real files: an application, the node's own database, and a model that is
//! fed with the changes alone and must come to hold what the application's database holds.

mod application;
mod hop;
mod rows;
mod schema;
mod world;
