//! The appends to the log of one incarnation.
//!
//! Several servers may append to one log: after a lost race they take [`super::turns`]. A batch may be submitted behind
//! one that is under way: it is sent behind that one on the same connection, see [`super::line`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt as _};

use super::error::Failure;
use super::line::Line;
use super::pool::retrying;
use super::shared::Shared;
use super::storage::PostgresStorage;
use super::{append, seal};
use crate::error::Result;
use crate::model::Batch;
use crate::storage::{Abilities, AppendError, Appender, Outcome, Settled, Submitted};

/// Appends to the log of one incarnation.
pub(super) struct PostgresAppender(Arc<Sender>);

/// Everything that a batch under way needs.
#[derive(Debug)]
struct Sender {
    storage: Arc<PostgresStorage>,
    line: Line,
    /// Messages written since counts were folded.
    unfolded: AtomicUsize,
}

impl PostgresAppender {
    pub(super) fn new(storage: Arc<PostgresStorage>) -> Self {
        // How much earlier servers left unfolded is found out with the first write.
        let unfolded = AtomicUsize::new(storage.shared.settings.fold_messages);
        Self(Arc::new(Sender { storage, line: Line::default(), unfolded }))
    }
}

#[async_trait]
impl Appender for PostgresAppender {
    fn abilities(&self) -> Abilities {
        // In contention a batch behind one that loses its race would be sent in vain.
        Abilities { finds_versions: true, takes_batch_behind: !self.0.storage.turns.is_to_wait() }
    }

    fn lead(&mut self) -> Option<BoxFuture<'_, ()>> {
        let PostgresStorage { turns, shared, .. } = &*self.0.storage;
        turns.is_to_wait().then(|| turns.wait(&shared.sequencers).boxed())
    }

    fn submit(&mut self, batch: Arc<Batch>) -> Submitted {
        let sender = Arc::clone(&self.0);
        async move { sender.append(&batch).await }.boxed()
    }

    async fn settle(&mut self, batch: &Batch) -> Result<Settled> {
        let PostgresStorage { log, shared, .. } = &*self.0.storage;
        // It may be repeated: what an earlier one put there is found and is not the batch.
        let settled = retrying!(shared.sequencers, connection => append::fence(connection, *log, batch));
        let settled = settled.map_err(Failure::of_read)?;
        if let (Settled::Committed(_), Some(last)) = (&settled, batch.messages.last()) {
            shared.notifier.written(*log, last.global_position);
        }
        Ok(settled)
    }
}

impl Sender {
    async fn append(&self, batch: &Batch) -> Outcome {
        let PostgresStorage { log, shared, turns, is_sealed } = &*self.storage;
        if is_sealed.load(Ordering::Relaxed) {
            match self.storage.look_at_seal().await.map_err(Failure::before_append)? {
                seal::Verdict::Open => {}
                seal::Verdict::Held => return Err(AppendError::Replacing),
                seal::Verdict::Gone => return Err(AppendError::Closed),
            }
        }
        // First of all: a batch that is submitted behind this one is sent behind it.
        let ticket = self.line.enter().await;
        let turn = turns.begin(batch.after.batch);
        let appended = append::append(ticket, &shared.sequencers, *log, batch, turn).await;
        let is_written = !matches!(appended, Ok(None));
        turns.end(is_written.then(|| batch.head().batch));
        match &appended {
            Ok(Some(_)) => shared.found_read_only(false),
            Err(failure) if failure.is_read_only() => shared.found_read_only(true),
            _ => {}
        }
        let Some(entries) = appended.map_err(Failure::of_append)? else { return Err(AppendError::Behind) };
        if let Some(last) = batch.messages.last() {
            shared.notifier.written(*log, last.global_position);
        }
        self.count_written(entries.len());
        Ok(entries)
    }

    fn count_written(&self, messages: usize) {
        let PostgresStorage { log, shared, .. } = &*self.storage;
        if self.unfolded.fetch_add(messages, Ordering::Relaxed) + messages >= shared.settings.fold_messages {
            self.unfolded.store(0, Ordering::Relaxed);
            Shared::fold(shared, *log);
        }
    }
}
