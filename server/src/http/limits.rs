//! Limits of the HTTP layer: how long clients may take, and how much of each thing there may be at once.

use std::sync::Arc;
use std::time::Duration;

use super::addresses::Network;

/// Time limits and bounds of all connections together.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Open connections.
    pub(crate) connections: usize,
    /// Open connections of one address, where that is no trusted proxy's.
    pub(crate) connections_per_address: usize,
    /// Proxies that clients share.
    pub(crate) proxies: Arc<[Network]>,
    /// Requests at the same time on one HTTP/2 connection.
    pub(crate) http2_streams: u32,
    /// Bytes of what waits for clients.
    pub(crate) memory: usize,
    /// From the first byte of a request (or the connection) to the end of its head.
    pub(crate) head: Duration,
    /// Between two requests of a connection.
    pub(crate) idle: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub(crate) stall: Duration,
    /// How long requests are still answered, after the server is told to stop, before the socket closes.
    pub(crate) grace: Duration,
    /// How long requests in progress have to end once the server is told to stop.
    pub(crate) drain: Duration,
}

#[cfg(test)]
impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10,
            connections_per_address: 10,
            proxies: Arc::default(),
            http2_streams: 10,
            memory: 1024 * 1024,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            stall: Duration::from_secs(30),
            grace: Duration::ZERO,
            drain: Duration::from_secs(10),
        }
    }
}
