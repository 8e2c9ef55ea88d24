//! What the tests of several crates share. Only tests depend on it.

mod forgery;
pub mod nodes;
pub mod pooler;
pub mod proxy;

pub use eventodb_rig::{crowd, http, ports, postgres};
