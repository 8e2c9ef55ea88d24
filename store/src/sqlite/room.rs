//! Watching the room on the disk: writes are refused before it is full.
//!
//! A full disk fails in the middle of things. What is left below the reserve is for the work that goes on while no writes
//! are taken: indexing, writing back, and deleting.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::degraded::Degraded;
use crate::error::Cause;

/// The disk counts as nearly full if fewer bytes than this are left. On a small disk the limit is a [`SHARE`]th of it.
const NEARLY: u64 = 64 * 1024 * 1024;
const SHARE: u64 = 50;

/// Writes come back once the reserve and this part of it are free, so that they do not come and go with every message.
const MARGIN: u64 = 8;

/// No disk has as many bytes.
const UNKNOWN: u64 = u64::MAX;

/// The state of the disk when it was last looked at.
#[derive(Debug)]
pub(super) struct Room {
    /// Writes are refused if fewer bytes than this are left; never if it is 0.
    reserve: u64,
    /// The bytes that were left; [`UNKNOWN`] before the first look.
    left: AtomicU64,
    is_low: AtomicBool,
    is_scarce: AtomicBool,
}

impl Room {
    /// Of a disk that was not looked at yet.
    pub(super) fn new(reserve: u64) -> Self {
        Self { reserve, left: AtomicU64::new(UNKNOWN), is_low: AtomicBool::default(), is_scarce: AtomicBool::default() }
    }

    /// Looks at the disk of a directory, and logs a change.
    pub(super) fn look(&self, directory: &Path) {
        let Ok(disk) = rustix::fs::statvfs(directory) else { return };
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        self.found(bytes(disk.f_bavail), bytes(disk.f_blocks));
    }

    /// This number of bytes is left of all of the disk.
    fn found(&self, left: u64, all: u64) {
        self.left.store(left, Relaxed);
        let limit =
            if self.is_low.load(Relaxed) { self.reserve.saturating_add(self.reserve / MARGIN) } else { self.reserve };
        let is_low = left < limit;
        match (self.is_low.swap(is_low, Relaxed), is_low) {
            (false, true) => tracing::error!(
                left,
                min_free = self.reserve,
                "the disk of the data directory has less room than --min-free: writes are refused"
            ),
            (true, false) => tracing::info!(left, "the disk of the data directory has room again: writes are taken"),
            _ => {}
        }
        let is_scarce = left < NEARLY.min(all / SHARE);
        match (self.is_scarce.swap(is_scarce, Relaxed), is_scarce) {
            (false, true) => tracing::warn!(left, "the disk of the data directory is nearly full"),
            (true, false) => tracing::info!(left, "the disk of the data directory is not nearly full any more"),
            _ => {}
        }
    }

    /// The bytes that were left at the last look, if there was one.
    pub(super) fn left(&self) -> Option<u64> {
        Some(self.left.load(Relaxed)).filter(|left| *left != UNKNOWN)
    }

    /// Refuses what needs room.
    ///
    /// # Errors
    /// The reason, for the log.
    pub(super) fn let_write(&self) -> Result<(), Cause> {
        if !self.is_low.load(Relaxed) {
            return Ok(());
        }
        let reason = format!("the disk has less room than the reserve of {} bytes (--min-free)", self.reserve);
        Err(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(reason)))
    }

    pub(super) fn degraded(&self) -> Option<Degraded> {
        if self.is_low.load(Relaxed) {
            return Some(Degraded::new("DISK_LOW", "the disk has less room than its reserve: writes are refused"));
        }
        let message = "the disk is nearly full: writes will be refused";
        self.is_scarce.load(Relaxed).then(|| Degraded::new("DISK_NEARLY_FULL", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 1 << 40;

    #[test]
    fn writes_are_refused_below_the_reserve_and_come_back_somewhat_above_it() {
        let room = Room::new(8_000_000_000);
        assert_eq!(room.left(), None);
        for (left, is_refused) in [
            (8_000_000_000, false),
            (7_999_999_999, true),
            (8_000_000_000, true),
            (8_999_999_999, true),
            (9_000_000_000, false),
            (8_000_000_000, false),
        ] {
            room.found(left, ALL);
            assert_eq!(room.left(), Some(left));
            assert_eq!(room.let_write().is_err(), is_refused, "{left}");
            assert_eq!(room.degraded().map(|degraded| degraded.code), is_refused.then_some("DISK_LOW"), "{left}");
        }
    }

    #[test]
    fn without_a_reserve_a_full_disk_is_only_told() {
        let room = Room::new(0);
        room.found(0, ALL);
        assert!(room.let_write().is_ok());
        assert_eq!(room.degraded().map(|degraded| degraded.code), Some("DISK_NEARLY_FULL"));
    }
}
