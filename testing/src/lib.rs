//! What the tests of several crates share.
//!
//! Only tests depend on it, and the load generator, which starts a PostgreSQL with it.

pub mod http;
pub mod postgres;
pub mod proxy;
