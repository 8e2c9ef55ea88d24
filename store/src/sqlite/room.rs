//! Watching the room on the disk: writes will be refused soon if it is nearly full.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::degraded::Degraded;

/// The disk counts as nearly full if fewer bytes than this are left. On a small disk the limit is a [`SHARE`]th of it.
const RESERVE: u64 = 64 * 1024 * 1024;
const SHARE: u64 = 50;

/// The state of the disk when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Room {
    is_scarce: AtomicBool,
}

impl Room {
    /// Looks at the disk of a directory, and logs a change.
    pub(super) fn look(&self, directory: &Path) {
        let Ok(disk) = rustix::fs::statvfs(directory) else { return };
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let (left, all) = (bytes(disk.f_bavail), bytes(disk.f_blocks));
        let is_scarce = left < RESERVE.min(all / SHARE);
        match (self.is_scarce.swap(is_scarce, Relaxed), is_scarce) {
            (false, true) => tracing::warn!(left, "the disk of the data directory is nearly full"),
            (true, false) => tracing::info!(left, "the disk of the data directory has room again"),
            _ => {}
        }
    }

    pub(super) fn degraded(&self) -> Option<Degraded> {
        let message = "the disk is nearly full: writes will be refused";
        self.is_scarce.load(Relaxed).then(|| Degraded::new("DISK_NEARLY_FULL", message))
    }
}
