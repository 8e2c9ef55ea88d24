//! The appends to the log of one incarnation. A batch is committed on the thread that polls its future.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::FutureExt as _;

use super::files::Files;
use super::storage::SqliteStorage;
use crate::error::{Error, Result};
use crate::model::Batch;
use crate::storage::{AppendError, Appender, Outcome, Settled, Submitted};

/// How long an append waits for room in the memtable.
const ROOM_WITHIN: Duration = Duration::from_secs(10);
/// How long it waits before it starts the indexer again, which may have failed.
const START_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Commits batches to the files of one incarnation.
pub(super) struct SqliteAppender(pub(super) Arc<SqliteStorage>);

#[async_trait]
impl Appender for SqliteAppender {
    fn submit(&mut self, batch: Arc<Batch>) -> Submitted {
        let storage = Arc::clone(&self.0);
        async move { append(&storage, &batch).await }.boxed()
    }

    async fn settle(&mut self, batch: &Batch) -> Result<Settled> {
        let (storage, batch) = (Arc::clone(&self.0), batch.clone());
        self.0.shared.threads.run(move || storage.files()?.settle(&batch)).await
    }
}

async fn append(storage: &Arc<SqliteStorage>, batch: &Batch) -> Outcome {
    let files = storage.files().map_err(|error| match error {
        Error::Closed => AppendError::Closed,
        error => AppendError::Unavailable(Arc::new(error)),
    })?;
    wait_for_room(storage, &files).await?;
    let append = || files.append(&storage.shared, storage.incarnation, batch);
    let entries = storage.while_living(AppendError::Closed, append)?;
    let whole = storage.shared.settings.whole_batch();
    if files.backlog.len() >= whole {
        storage.start_indexer(&files, whole);
    }
    storage.start_checkpoint(&files);
    storage.index_when_quiet(&files);
    Ok(entries)
}

/// Waits until the memtable has room for more; no thread is held meanwhile.
async fn wait_for_room(storage: &Arc<SqliteStorage>, files: &Arc<Files>) -> Result<(), AppendError> {
    let deadline = Instant::now() + ROOM_WITHIN;
    loop {
        let room = files.backlog.room();
        tokio::pin!(room);
        room.as_mut().enable();
        if !files.backlog.is_full(&storage.shared.settings) || files.obstacles.has_stopped() {
            return Ok(());
        }
        if files.indexing.is_damaged() || Instant::now() >= deadline {
            let cause: Box<dyn std::error::Error + Send + Sync> = "the index does not keep up with the log".into();
            return Err(AppendError::Unavailable(Arc::from(cause)));
        }
        storage.start_indexer(files, 1);
        let _ = tokio::time::timeout(START_AGAIN_AFTER, room).await;
    }
}
