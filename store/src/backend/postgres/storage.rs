//! The log of one incarnation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use eventodb_schema::message::Message;
use eventodb_schema::reply::{CategoryListed, StreamListed};
use eventodb_schema::request::StreamsPage;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::append;
use super::error::Failure;
use super::pool::Pooled;
use super::read;
use super::shared::Shared;
use super::statement::{CATEGORIES, COUNTS, FIND, HEAD, STREAMS, VERSIONS};
use super::time::Time;
use super::turns::Turns;
use crate::backend::{AppendError, Batch, Counts, Fenced, Head, Incarnation, Select, Slice, Storage};
use crate::error::{Error, Result};
use crate::log::Entry;

/// The log of one incarnation, in the schema of its number.
#[derive(Debug)]
pub(super) struct PostgresStorage {
    log: Incarnation,
    shared: Arc<Shared>,
    turns: Turns,
    /// Messages written since counts were folded.
    unfolded: AtomicUsize,
}

impl PostgresStorage {
    pub(super) fn new(log: Incarnation, shared: Arc<Shared>) -> Self {
        let turns = Turns::new(log, Arc::clone(&shared.turns));
        // What earlier servers left unfolded is found out with the first write.
        let unfolded = AtomicUsize::new(shared.settings.fold_messages);
        Self { log, shared, turns, unfolded }
    }

    /// A connection for what a sequencer waits for: short statements only.
    async fn sequencer(&self) -> Result<Pooled> {
        self.shared.sequencers.get().await.map_err(Failure::of_read)
    }

    /// A connection for what a reader waits for.
    async fn reader(&self) -> Result<Pooled> {
        self.shared.readers.get().await.map_err(Failure::of_read)
    }

    fn count_written(&self, messages: usize) {
        if self.unfolded.fetch_add(messages, Ordering::Relaxed) + messages >= self.shared.settings.fold_messages {
            self.unfolded.store(0, Ordering::Relaxed);
            Shared::fold(&self.shared, self.log);
        }
    }
}

#[async_trait]
impl Storage for PostgresStorage {
    async fn head(&self) -> Result<Head> {
        let row = self.sequencer().await?.query_one(HEAD.on(self.log), &[]).await.map_err(Failure::of_read)?;
        let row = row.ok_or_else(|| Error::failed("the log has no batch"))?;
        // The last batch of a deleted namespace has no position.
        let position: Option<i64> = row.get(1);
        let position = position.ok_or(Error::Closed)?;
        Ok(Head { position, batch: row.get(0), time: row.get::<_, Time>(2).0 })
    }

    async fn append(&self, batch: &Batch) -> Result<Vec<Arc<Entry>>, AppendError> {
        self.turns.wait(&self.shared.sequencers).await;
        let mut connection = self.shared.sequencers.get().await.map_err(Failure::of_append)?;
        let appended = append::append(&mut connection, self.log, batch).await.map_err(Failure::of_append)?;
        drop(connection);
        let Some(entries) = appended else {
            self.turns.lost();
            return Err(AppendError::Behind);
        };
        if let Some(last) = batch.messages.last() {
            self.shared.notifier.written(self.log, last.global_position);
        }
        self.count_written(entries.len());
        Ok(entries)
    }

    async fn fence(&self, batch: &Batch) -> Result<Fenced> {
        let fenced = append::fence(&mut *self.sequencer().await?, self.log, batch).await.map_err(Failure::of_read)?;
        if let (Fenced::Committed(_), Some(last)) = (&fenced, batch.messages.last()) {
            self.shared.notifier.written(self.log, last.global_position);
        }
        Ok(fenced)
    }

    async fn versions(&self, streams: &[Arc<str>]) -> Result<Vec<i64>> {
        let names: Vec<&str> = streams.iter().map(|name| &**name).collect();
        let mut versions = Vec::with_capacity(names.len());
        let mut connection = self.sequencer().await?;
        let each = |row: tokio_postgres::Row| versions.push(row.get(0));
        connection.for_each(VERSIONS.on(self.log), &[&names], each).await.map_err(Failure::of_read)?;
        Ok(versions)
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Message>> {
        let mut found = Vec::new();
        let mut connection = self.sequencer().await?;
        let each = |row: tokio_postgres::Row| found.push(read::to_message(&row).to_message());
        connection.for_each(FIND.on(self.log), &[&ids], each).await.map_err(Failure::of_read)?;
        Ok(found)
    }

    async fn read(&self, select: &Select) -> Result<Slice> {
        let examined_rows = self.shared.settings.examined_rows;
        let first = read::read(&mut *self.reader().await?, self.log, select, examined_rows).await;
        let outcome = match first {
            // A connection that has died in the pool, as all have after a restart, is found out here;
            // reading again does no harm.
            Err(Failure::Open(_)) => read::read(&mut *self.reader().await?, self.log, select, examined_rows).await,
            other => other,
        };
        outcome.map_err(Failure::of_read)
    }

    async fn streams(&self, page: &StreamsPage) -> Result<Vec<StreamListed>> {
        let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
        let after = page.after.as_deref().unwrap_or_default();
        let mut streams = Vec::new();
        let each = |row: tokio_postgres::Row| {
            let last_activity = row.get::<_, Time>(2).0;
            streams.push(StreamListed { stream: row.get(0), version: row.get(1), last_activity });
        };
        let mut connection = self.reader().await?;
        connection
            .for_each(STREAMS.on(self.log), &[&page.prefix, &after, &limit], each)
            .await
            .map_err(Failure::of_read)?;
        Ok(streams)
    }

    async fn categories(&self) -> Result<Vec<CategoryListed>> {
        let mut categories = Vec::new();
        let each = |row: tokio_postgres::Row| {
            categories.push(CategoryListed {
                category: row.get(0),
                stream_count: count(row.get(1)),
                message_count: count(row.get(2)),
            });
        };
        let mut connection = self.reader().await?;
        connection.for_each(CATEGORIES.on(self.log), &[], each).await.map_err(Failure::of_read)?;
        Ok(categories)
    }

    async fn counts(&self) -> Result<Counts> {
        let row = self.reader().await?.query_one(COUNTS.on(self.log), &[]).await.map_err(Failure::of_read)?;
        let row = row.ok_or_else(|| Error::failed("the log has no batch"))?;
        let last_activity = row.get::<_, Option<Time>>(2).map(|time| time.0);
        Ok(Counts { messages: count(row.get(0)), streams: count(row.get(1)), last_activity })
    }

    fn spawn(&self, turn: BoxFuture<'static, ()>) {
        tokio::spawn(turn);
    }

    async fn close(&self) {
        // Connections belong to all logs.
    }
}

/// A count as PostgreSQL has it, never below 0.
pub(super) fn count(of: i64) -> u64 {
    u64::try_from(of).unwrap_or_default()
}
