//! What came and went over all connections, counted for the metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::per_thread::PerThread;

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
    /// Every request adds to these.
    bytes: PerThread<Bytes>,
}

#[derive(Debug, Default)]
struct Bytes {
    received: Count,
    sent: Count,
}

impl Traffic {
    /// That many bytes more came.
    pub(super) fn add_received(&self, bytes: usize) {
        self.bytes.mine().received.add(bytes as u64);
    }

    /// That many bytes more were sent.
    pub(super) fn add_sent(&self, bytes: usize) {
        self.bytes.mine().sent.add(bytes as u64);
    }

    /// Bytes that came.
    pub(crate) fn received(&self) -> u64 {
        self.bytes.all().map(|bytes| bytes.received.get()).sum()
    }

    /// Bytes that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.bytes.all().map(|bytes| bytes.sent.get()).sum()
    }
}
