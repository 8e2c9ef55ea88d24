//! What the tests of this and other crates share.

pub mod postgres;
mod report;

pub use report::{seed, tell};
