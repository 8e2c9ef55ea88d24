//! Asking a shared database for the head. One query serves every read that arrived before it was sent; Raft calls this
//! ReadIndex.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use tokio::sync::Mutex;

use crate::error::Result;
use crate::model::{Head, Lineage};
use crate::storage::Storage;

/// The queries for one log's head; one at a time is under way.
#[derive(Debug, Default)]
pub(super) struct HeadQuery {
    /// How many queries were sent.
    sent: AtomicU64,
    /// The last one that came back.
    answered: Mutex<Option<Answer>>,
}

#[derive(Debug)]
struct Answer {
    /// The number of its query.
    number: u64,
    told: Result<(Head, Lineage)>,
}

impl HeadQuery {
    /// The head by a query that was sent after this call, and how it stands to what was `known` when it was sent.
    ///
    /// # Errors
    /// As [`Storage::confirm_head`].
    pub(super) async fn ask(&self, storage: &dyn Storage, known: impl FnOnce() -> Head) -> Result<(Head, Lineage)> {
        let wanted = self.sent.load(SeqCst) + 1;
        let mut answered = self.answered.lock().await;
        if let Some(answer) = &*answered
            && answer.number >= wanted
        {
            return answer.told.clone();
        }
        let number = self.sent.fetch_add(1, SeqCst) + 1;
        let told = storage.confirm_head(&known()).await;
        *answered = Some(Answer { number, told: told.clone() });
        told
    }
}
