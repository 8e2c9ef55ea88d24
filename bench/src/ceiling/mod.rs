//! What nothing could beat on this machine: figures count only beside these.

pub(crate) mod fsync;
pub mod noop;
pub(crate) mod postgres;
mod rows;
pub(crate) mod sqlite;
