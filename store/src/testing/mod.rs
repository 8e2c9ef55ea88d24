//! What the tests of this and other crates share.

mod disk;
#[cfg(feature = "testing")]
pub mod logs;
pub mod postgres;
mod report;

pub use disk::Disk;
pub use report::{seed, tell};
