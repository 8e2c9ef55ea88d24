//! What tests and loads are run with: a PostgreSQL of their own, an HTTP client that shows every byte, and a crowd of hostile
//! clients.
//!
//! It is apart from the crate `testing`, because the load generator is published and needs it.

pub mod crowd;
pub mod http;
pub mod ports;
pub mod postgres;
