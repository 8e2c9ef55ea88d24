//! What keeps a log from taking writes until a person has looked at it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::super::Shared;
use super::super::directory::Found;
use super::super::evidence;
use crate::degraded::Degraded;
use crate::error::{Cause, Error, Result};
use crate::model::Incarnation;
use crate::storage::AppendError;

/// Why a log takes no writes, if that is so. The default is for a store in memory, which has no files.
#[derive(Default)]
pub(in crate::sqlite) struct Obstacles {
    /// The log's files, as they were opened.
    files: Found,
    /// If the log ends below a head that it is known to have had: that head.
    lost_end: Option<i64>,
    /// Damaged messages whose stream is not known, in order.
    unplaced: Vec<i64>,
    /// Why nothing may be written any more, if the indexer has found an id or a position twice.
    stopped: Mutex<Option<Cause>>,
}

impl Obstacles {
    /// The obstacles of a log with these files, which are logged.
    pub(super) fn new(
        incarnation: Incarnation,
        files: Found,
        lost_end: Option<(i64, i64)>,
        unplaced: Vec<i64>,
    ) -> Self {
        if let Some((head, known)) = lost_end {
            evidence::tell_of_lost_end(incarnation, head, known);
        }
        if !unplaced.is_empty() {
            tracing::error!(
                incarnation = incarnation.0,
                unplaced = unplaced.len(),
                "damaged messages belong to streams that nobody knows: the log takes no writes until they are restored \
                 or given up"
            );
        }
        Self { files, lost_end: lost_end.map(|(_, known)| known), unplaced, stopped: Mutex::default() }
    }

    /// The damaged messages whose stream is not known, in order.
    pub(super) fn unplaced(&self) -> &[i64] {
        &self.unplaced
    }

    /// Whether the log ends below a head that it is known to have had. The positions of the lost messages must not be
    /// given out again.
    pub(in crate::sqlite) fn has_lost_end(&self) -> bool {
        self.lost_end.is_some()
    }

    /// Refuses every write from now on.
    pub(in crate::sqlite) fn stop(&self, cause: Cause) {
        *self.stopped.lock() = Some(cause);
    }

    /// Whether every write is refused.
    pub(in crate::sqlite) fn has_stopped(&self) -> bool {
        self.stopped.lock().is_some()
    }

    /// Looks whether the log's files are still those that were opened.
    ///
    /// # Errors
    /// As [`Shared::still_holds`].
    pub(super) fn still_there(&self, shared: &Shared) -> Result<()> {
        shared.still_holds(&self.files)
    }

    /// Refuses an append if anything is in its way.
    pub(super) fn let_append(&self, shared: &Shared) -> Result<(), AppendError> {
        if let Some(cause) = &*self.stopped.lock() {
            return Err(AppendError::Rejected(cause.clone()));
        }
        shared.room.let_write().map_err(AppendError::Unavailable)?;
        self.still_there(shared).map_err(|error| AppendError::Unavailable(Arc::new(error)))?;
        match self.refusal() {
            Some(cause) => {
                Err(AppendError::Unavailable(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(cause))))
            }
            None => Ok(()),
        }
    }

    /// Refuses a change beside the log if an append would be refused.
    pub(super) fn let_change(&self, shared: &Shared) -> Result<()> {
        self.let_append(shared).map_err(Error::unavailable)
    }

    fn refusal(&self) -> Option<String> {
        if let Some(known) = self.lost_end {
            return Some(format!("the log ends below global position {known}, which was acknowledged"));
        }
        let unplaced = self.unplaced.first()?;
        Some(format!("the message at global position {unplaced} is damaged, and nobody knows its stream"))
    }

    /// The reasons that probes report; the storage reports a lost end, also while the files are closed.
    pub(super) fn degraded(&self) -> Vec<Degraded> {
        let reasons = [
            (
                self.files.is_lost(),
                "DIRECTORY_LOST",
                "the data directory was removed or replaced while it was in use: nothing is written",
            ),
            (self.has_stopped(), "WRITES_STOPPED", "a namespace takes no more writes: the server's log says why"),
            (
                !self.unplaced.is_empty() && !self.has_lost_end(),
                "DAMAGED_LOG",
                "a namespace takes no writes until its damaged messages are restored or given up: the server's log says which",
            ),
        ];
        let there = reasons.into_iter().filter(|(is_there, ..)| *is_there);
        there.map(|(_, code, message)| Degraded::new(code, message)).collect()
    }
}
