//! The appends to the log of one incarnation.
//!
//! Several servers may append to one log: after a lost race they take [`super::turns`]. A batch may be submitted behind
//! one that is under way: it is sent behind that one on the same connection, see [`super::line`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt as _};

use super::error::Failure;
use super::places::Site;
use super::pool::retrying;
use super::storage::{PostgresStorage, at_node};
use super::{append, seal};
use crate::error;
use crate::model::{Batch, Entry};
use crate::storage::groups::GroupTag;
use crate::storage::{Abilities, AppendError, Appender, Outcome, Settled, Submitted};

/// Appends to the log of one incarnation.
pub(super) struct PostgresAppender(Arc<Sender>);

/// Everything that a batch under way needs.
#[derive(Debug)]
struct Sender {
    storage: Arc<PostgresStorage>,
    /// Messages written since counts were folded.
    unfolded: AtomicUsize,
}

impl PostgresAppender {
    pub(super) fn new(storage: Arc<PostgresStorage>) -> Self {
        // How much earlier servers left unfolded is found out with the first write.
        let unfolded = AtomicUsize::new(storage.shared.settings.fold_messages);
        Self(Arc::new(Sender { storage, unfolded }))
    }
}

#[async_trait]
impl Appender for PostgresAppender {
    fn abilities(&self) -> Abilities {
        // In contention a batch behind one that loses its race would be sent in vain.
        Abilities { finds_versions: true, takes_batch_behind: !self.0.storage.turns.is_to_wait() }
    }

    fn lead(&mut self) -> Option<BoxFuture<'_, ()>> {
        let PostgresStorage { turns, place, .. } = &*self.0.storage;
        let wait = async {
            let site = place.site();
            let pools = site.node.pools().await;
            turns.wait(&pools.sequencers, &pools.turns).await;
        };
        turns.is_to_wait().then(|| wait.boxed())
    }

    fn submit(&mut self, batch: Arc<Batch>) -> Submitted {
        let sender = Arc::clone(&self.0);
        async move { sender.append(&batch).await }.boxed()
    }

    async fn settle(&mut self, batch: &Batch) -> error::Result<Settled> {
        let storage = &*self.0.storage;
        let PostgresStorage { log, shared, .. } = storage;
        // It may be repeated: what an earlier one put there is found and is not the batch.
        let settled = at_node!(storage, sequencers, connection => append::fence(connection, *log, batch));
        let settled = settled.map_err(Failure::of_read)?;
        if let (Settled::Committed(_), Some(last)) = (&settled, batch.messages.last()) {
            shared.notifier.written(*log, last.global_position);
        }
        Ok(settled)
    }
}

impl Sender {
    async fn append(&self, batch: &Batch) -> Outcome {
        let PostgresStorage { log, shared, is_sealed, .. } = &*self.storage;
        if is_sealed.load(Ordering::Relaxed) {
            match self.storage.look_at_seal().await.map_err(Failure::before_append)? {
                seal::Verdict::Open => {}
                seal::Verdict::Held => return Err(AppendError::Replacing),
                seal::Verdict::Gone => return Err(AppendError::Closed),
            }
        }
        let appended = loop {
            let site = self.storage.place.site();
            let appended = self.append_at(&site, batch).await;
            let Err(failure) = appended else { break appended };
            // Where the schema is missing, nothing was written.
            if let Err(failure) = self.storage.follow(&site, failure).await {
                break Err(failure);
            }
        };
        let Some(entries) = appended.map_err(Failure::of_append)? else { return Err(AppendError::Behind) };
        if let Some(last) = batch.messages.last() {
            shared.notifier.written(*log, last.global_position);
        }
        for change in &batch.groups {
            shared.notifier.group(*log, GroupTag::of(&change.group));
        }
        self.count_written(entries.len());
        Ok(entries)
    }

    async fn append_at(&self, site: &Site, batch: &Batch) -> Result<Option<Vec<Arc<Entry>>>, Failure> {
        let PostgresStorage { log, shared, turns, .. } = &*self.storage;
        // First of all: a batch that is submitted behind this one is sent behind it.
        let ticket = site.line.enter().await;
        let pools = site.node.pools().await;
        let under_way = turns.begin(batch.after.batch);
        let mut appended = append::append(ticket, &pools.sequencers, *log, batch, under_way.turn).await;
        if shared.places.are_several() {
            appended = appended.map_err(Failure::of_forwarded);
        }
        let is_written = !matches!(appended, Ok(None));
        under_way.end(is_written.then(|| batch.head().batch));
        match &appended {
            Ok(Some(_)) if site.node.is_home() => shared.found_read_only(false),
            Err(failure) if failure.is_read_only() && site.node.is_home() => shared.found_read_only(true),
            _ => {}
        }
        appended
    }

    fn count_written(&self, messages: usize) {
        let PostgresStorage { log, shared, place, .. } = &*self.storage;
        if self.unfolded.fetch_add(messages, Ordering::Relaxed) + messages >= shared.settings.fold_messages {
            self.unfolded.store(0, Ordering::Relaxed);
            shared.fold(*log, Arc::clone(&place.site().node));
        }
    }
}
