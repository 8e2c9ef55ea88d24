//! What came and went over all connections, counted for the metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// That many more.
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many there were.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Connections that came, and bytes on their sockets.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) accepted: Count,
    /// Closed at once, because their address has as many as it may.
    pub(crate) refused_for_address: Count,
    /// Closed at once, because too many wait for a place.
    pub(crate) refused_for_line: Count,
    pub(crate) received: Count,
    pub(crate) sent: Count,
}
