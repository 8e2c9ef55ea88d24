//! Whether new appends are taken.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::error::{Error, Result};

/// Refuses new appends for good, or while the log is being replaced. Those that were accepted go on.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_shut: AtomicBool,
    /// Whether this server fills another incarnation that is to take this one's place.
    is_replacing: AtomicBool,
}

impl Gate {
    /// # Errors
    /// [`Error::Closed`], [`Error::Replacing`].
    pub(super) fn pass(&self) -> Result<()> {
        if self.is_shut.load(SeqCst) {
            return Err(Error::Closed);
        }
        if self.is_replacing() {
            return Err(Error::Replacing);
        }
        Ok(())
    }

    /// Lets nothing in any more.
    pub(super) fn shut(&self) {
        self.is_shut.store(true, SeqCst);
    }

    pub(super) fn set_replacing(&self, is_replacing: bool) {
        self.is_replacing.store(is_replacing, SeqCst);
    }

    pub(super) fn is_replacing(&self) -> bool {
        self.is_replacing.load(SeqCst)
    }
}
