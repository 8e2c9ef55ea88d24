//! The log of one incarnation, as it is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use eventodb_protocol::Timestamp;
use eventodb_protocol::message::Message;
use eventodb_protocol::reply::{CategoryListed, StreamListed};
use eventodb_protocol::request::ListPage;
use futures_util::future::BoxFuture;
use tokio_postgres::Row;
use uuid::Uuid;

use super::error::Failure;
use super::pool::retrying;
use super::read;
use super::seal;
use super::shared::Shared;
use super::statement::{BYTES, CATEGORIES, COUNTS, FIND, HEAD, HEAD_BELOW, LOCATE_TIME, STREAMS, VERSIONS};
use super::time::Time;
use super::turns::Turns;
use crate::error::{Error, Result};
use crate::model::{Counts, Head, Incarnation, Lineage, Select, Slice};
use crate::storage::Storage;

/// The log of one incarnation, in the schema of its number.
#[derive(Debug)]
pub(super) struct PostgresStorage {
    pub(super) log: Incarnation,
    pub(super) shared: Arc<Shared>,
    pub(super) turns: Arc<Turns>,
    /// Whether the last batch was a seal when it was last looked at.
    pub(super) is_sealed: AtomicBool,
}

impl PostgresStorage {
    pub(super) fn new(log: Incarnation, shared: Arc<Shared>) -> Self {
        let turns = Arc::new(Turns::new(log, Arc::clone(&shared.turns)));
        Self { log, shared, turns, is_sealed: AtomicBool::new(false) }
    }

    /// The last batch below the seal of a log.
    async fn head_below_seal(&self, known: &Head) -> Result<Row> {
        self.is_sealed.store(true, Ordering::Relaxed);
        // Another incarnation may have taken its place by now.
        let lives = retrying!(self.shared.sequencers, connection => seal::lives(connection, self.log));
        if !lives.map_err(Failure::of_read)? {
            return Err(Error::Closed);
        }
        let statement = HEAD_BELOW.on(self.log);
        let row = retrying!(self.shared.sequencers, connection => connection.query_one(statement, &[&known.batch]));
        row.map_err(Failure::of_read)?.ok_or_else(|| Error::failed("the log has no batch"))
    }

    /// Whether the log is sealed and the seal holds. A seal that does not hold is taken away.
    pub(super) async fn look_at_seal(&self) -> Result<seal::Verdict, Failure> {
        let verdict = retrying!(self.shared.sequencers, connection => seal::look(connection, self.log))?;
        self.is_sealed.store(verdict != seal::Verdict::Open, Ordering::Relaxed);
        Ok(verdict)
    }
}

#[async_trait]
impl Storage for PostgresStorage {
    async fn head_since(&self, known: &Head) -> Result<(Head, Lineage)> {
        let statement = HEAD.on(self.log);
        let row = retrying!(self.shared.sequencers, connection => connection.query_one(statement, &[&known.batch]));
        let mut row = row.map_err(Failure::of_read)?.ok_or_else(|| Error::failed("the log has no batch"))?;
        if seal::is_seal(row.get(3)) {
            row = self.head_below_seal(known).await?;
        }
        // The last batch of a deleted namespace has no position.
        let position: Option<i64> = row.get(1);
        let position = position.ok_or(Error::Closed)?;
        let head = Head { position, batch: row.get(0), id: row.get(3), time: row.get::<_, Time>(2).0 };
        let lineage = match row.get::<_, Option<Uuid>>(4) {
            Some(id) if id == known.id => Lineage::Follows,
            // Only the oldest batches are pruned.
            None if known.batch < head.batch => Lineage::Forgotten,
            _ => Lineage::Diverged,
        };
        Ok((head, lineage))
    }

    async fn is_being_replaced(&self) -> Result<bool> {
        match self.look_at_seal().await.map_err(Failure::of_read)? {
            seal::Verdict::Gone => Err(Error::Closed),
            verdict => Ok(verdict == seal::Verdict::Held),
        }
    }

    async fn versions(&self, streams: &[Arc<str>]) -> Result<Vec<i64>> {
        let names: Vec<&str> = streams.iter().map(|name| &**name).collect();
        let rows = retrying!(self.shared.sequencers, connection => connection.query(VERSIONS.on(self.log), &[&names]));
        Ok(rows.map_err(Failure::of_read)?.iter().map(|row| row.get(0)).collect())
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Message>> {
        let rows = retrying!(self.shared.sequencers, connection => connection.query(FIND.on(self.log), &[&ids]));
        Ok(rows.map_err(Failure::of_read)?.iter().map(|row| read::to_message(row).to_message()).collect())
    }

    async fn message(&self, id: Uuid) -> Result<Option<Message>> {
        let ids: &[Uuid] = &[id];
        let row = retrying!(self.shared.readers, connection => connection.query_one(FIND.on(self.log), &[&ids]));
        Ok(row.map_err(Failure::of_read)?.map(|row| read::to_message(&row).to_message()))
    }

    async fn position_at(&self, time: Timestamp, head: i64) -> Result<i64> {
        let statement = LOCATE_TIME.on(self.log);
        let row = retrying!(
            self.shared.readers,
            connection => connection.query_one(statement, &[&Time(time), &head])
        );
        row.map_err(Failure::of_read)?.map(|row| row.get(0)).ok_or_else(|| Error::failed("a search has no end"))
    }

    async fn read(&self, select: &Select) -> Result<Slice> {
        let examined_rows = self.shared.settings.examined_rows;
        retrying!(self.shared.readers, connection => read::read(connection, self.log, select, examined_rows))
            .map_err(Failure::of_read)
    }

    async fn streams(&self, page: &ListPage) -> Result<Vec<StreamListed>> {
        let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
        let after = page.after.as_deref().unwrap_or_default();
        let statement = STREAMS.on(self.log);
        let rows = retrying!(
            self.shared.readers,
            connection => connection.query(statement, &[&page.prefix, &after, &limit])
        );
        let stream = |row: &Row| {
            let last_activity = row.get::<_, Time>(2).0;
            StreamListed { stream: row.get(0), version: row.get(1), last_activity }
        };
        Ok(rows.map_err(Failure::of_read)?.iter().map(stream).collect())
    }

    async fn categories(&self, page: &ListPage) -> Result<Vec<CategoryListed>> {
        let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
        let after = page.after.as_deref();
        let statement = CATEGORIES.on(self.log);
        let rows = retrying!(
            self.shared.readers,
            connection => connection.query(statement, &[&page.prefix, &after, &limit])
        );
        let category = |row: &Row| CategoryListed {
            category: row.get(0),
            stream_count: count(row.get(1)),
            message_count: count(row.get(2)),
        };
        Ok(rows.map_err(Failure::of_read)?.iter().map(category).collect())
    }

    async fn counts(&self) -> Result<Counts> {
        let row = retrying!(self.shared.readers, connection => connection.query_one(COUNTS.on(self.log), &[]));
        let row = row.map_err(Failure::of_read)?.ok_or_else(|| Error::failed("the log has no batch"))?;
        let last_activity = row.get::<_, Option<Time>>(2).map(|time| time.0);
        Ok(Counts { messages: count(row.get(0)), streams: count(row.get(1)), last_activity })
    }

    async fn bytes(&self) -> Result<u64> {
        let row = retrying!(self.shared.readers, connection => connection.query_one(BYTES.on(self.log), &[]));
        Ok(row.map_err(Failure::of_read)?.map_or(0, |row| count(row.get(0))))
    }

    fn spawn(&self, run: BoxFuture<'static, ()>) {
        let turns = Arc::clone(&self.turns);
        tokio::spawn(async move {
            run.await;
            turns.rest();
        });
    }

    async fn close(&self) {
        // Connections belong to all logs.
    }
}

/// A count as PostgreSQL has it, never below 0.
pub(super) fn count(of: i64) -> u64 {
    u64::try_from(of).unwrap_or_default()
}
