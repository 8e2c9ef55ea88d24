//! What the tests of this and other crates share.

#[cfg(feature = "testing")]
pub mod logs;
pub mod postgres;
mod report;

pub use report::{seed, tell};
