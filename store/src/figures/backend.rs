//! What a backend tells of itself when it is asked. It asks its database nothing for it.

use super::Distribution;

/// The figures of a backend at some moment. What a backend does not have is empty or zero.
#[derive(Clone, Debug, Default)]
pub struct BackendFigures {
    /// The pools of connections.
    pub pools: Vec<PoolFigures>,
    /// Notifications that were sent to other servers.
    pub notifications: u64,
    /// Messages of all logs that no index on the disk has yet.
    pub not_indexed: u64,
    /// Bytes that are free on the disk of the data directory, as it was last looked at; `None` without such a directory.
    pub disk_free: Option<u64>,
}

/// A pool of connections to the database.
#[derive(Clone, Debug)]
pub struct PoolFigures {
    /// What its connections are for.
    pub name: &'static str,
    /// Connections that may be open.
    pub most: usize,
    /// Connections that are open.
    pub open: usize,
    /// Open connections that nobody uses.
    pub idle: usize,
    /// Callers that wait for one.
    pub waiting: u64,
    /// How long callers waited, in nanoseconds.
    pub acquire: Distribution,
}
