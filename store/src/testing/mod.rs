//! Shared by the tests of this and other crates.

mod disk;
#[cfg(feature = "testing")]
pub mod logs;
mod report;

pub use disk::Disk;
pub use report::{seed, tell};
