//! Asking a shared database for the head: one query serves every read that arrived before it was
//! sent. Raft calls this ReadIndex.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tokio::sync::Mutex;

use crate::backend::{Head, Lineage, Storage};
use crate::error::{Error, Result};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct HeadQuery {
    /// How many queries were sent.
    sent: AtomicU64,
    /// The number and the answer of the last one that came back.
    answered: Mutex<Option<(u64, Result<(Head, Lineage), Error>)>>,
}

impl HeadQuery {
    /// The head by a query that was sent after this call, and how it stands to what was `known` when it was sent.
    ///
    /// # Errors
    /// As [`Storage::head_since`].
    pub(super) async fn ask(&self, storage: &dyn Storage, known: impl FnOnce() -> Head) -> Result<(Head, Lineage)> {
        let wanted = self.sent.load(SeqCst) + 1;
        let mut answered = self.answered.lock().await;
        if let Some((number, answer)) = &*answered
            && *number >= wanted
        {
            return answer.clone();
        }
        let number = self.sent.fetch_add(1, SeqCst) + 1;
        let answer = storage.head_since(&known()).await;
        *answered = Some((number, answer.clone()));
        answer
    }
}
