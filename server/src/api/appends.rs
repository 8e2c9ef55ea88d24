//! How many appends came in, by which an import sees that others write.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts the appends to all namespaces since the start. Imports are none.
#[derive(Debug, Default)]
pub(crate) struct Appends(AtomicU64);

impl Appends {
    /// One more came in.
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// How many came in so far.
    pub(crate) fn so_far(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
