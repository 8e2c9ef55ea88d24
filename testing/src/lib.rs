//! What the tests of several crates share.
//!
//! Only tests depend on it, and the load generator, which starts a PostgreSQL and a crowd of hostile clients with it.

pub mod crowd;
mod forgery;
pub mod http;
pub mod nodes;
pub mod pooler;
pub mod ports;
pub mod postgres;
pub mod proxy;
