//! Whether a client takes what is sent to it. Changes are counted without reading the clock; [`super::Watch`] compares
//! the counts from time to time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// Whether something is waiting for a client to take bytes, and whether the client takes any.
#[derive(Default)]
pub(super) struct Gauge {
    blocked: AtomicBool,
    taken: AtomicU32,
}

impl Gauge {
    /// The client does not take any more for now.
    pub(super) fn block(&self) {
        if !self.blocked.load(Relaxed) {
            self.blocked.store(true, Relaxed);
        }
    }

    /// The client took something.
    pub(super) fn advance(&self) {
        if self.blocked.load(Relaxed) {
            self.blocked.store(false, Relaxed);
            self.taken.fetch_add(1, Relaxed);
        }
    }

    /// While something waits: a number that differs after each advance.
    pub(super) fn blocked_at(&self) -> Option<u32> {
        self.blocked.load(Relaxed).then(|| self.taken.load(Relaxed))
    }
}

/// Pieces of one reply that wait for a client to take them, and whether it takes any.
#[derive(Default)]
pub(super) struct Pending {
    pieces: AtomicU32,
    taken: AtomicU32,
}

impl Pending {
    /// One more waits.
    pub(super) fn add(&self) {
        self.pieces.fetch_add(1, Relaxed);
    }

    /// The client took some of a piece.
    pub(super) fn advance(&self) {
        self.taken.fetch_add(1, Relaxed);
    }

    /// One of them waits no more.
    pub(super) fn remove(&self) {
        self.pieces.fetch_sub(1, Relaxed);
    }

    /// While something waits: a number that differs after each advance.
    pub(super) fn blocked_at(&self) -> Option<u32> {
        (self.pieces.load(Relaxed) > 0).then(|| self.taken.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_tells_standing_still_from_moving() {
        let gauge = Gauge::default();
        assert_eq!(gauge.blocked_at(), None);
        gauge.block();
        let before = gauge.blocked_at();
        gauge.block();
        assert_eq!(gauge.blocked_at(), before);
        gauge.advance();
        gauge.block();
        assert_ne!(gauge.blocked_at(), before);
    }
}
