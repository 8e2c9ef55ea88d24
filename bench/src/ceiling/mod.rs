//! The ceilings: the most that this machine allows. Figures mean something only as shares of them.

pub(crate) mod fsync;
pub mod noop;
pub(crate) mod postgres;
pub(crate) mod rows;
pub(crate) mod sqlite;
