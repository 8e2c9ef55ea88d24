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
use super::owner::{self, Stranger};
use super::places::{Place, Site};
use super::pool::retrying;
use super::read;
use super::seal;
use super::shared::Shared;
use super::statement::{
    CATEGORIES, COUNTS, EXISTS, FIND, HEAD, HEAD_BELOW, LOCATE_TIME, STREAMS, Statement, USABLE, VERSIONS, schema,
};
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
    /// The node that has the schema.
    pub(super) place: Arc<Place>,
    pub(super) turns: Arc<Turns>,
    /// Whether the last batch was a seal when it was last looked at.
    pub(super) is_sealed: AtomicBool,
}

/// The schema of a log that lives is at no node that the database names.
#[derive(Debug, thiserror::Error)]
#[error("the schema of log {0} is not at the node that the database names for it")]
struct Misplaced(i64);

/// Whose connections are used for what both reads and appends ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Read,
    Append,
}

/// Runs `$work`, which may be repeated, on a connection to the node of a log, and again where the log has moved to.
macro_rules! at_node {
    ($storage:expr, $pool:ident, $connection:ident => $work:expr) => {
        loop {
            let site = $storage.place.site();
            let pools = site.node.pools().await;
            let outcome = retrying!(pools.$pool, $connection => $work);
            let Err(failure) = outcome else { break outcome };
            if let Err(failure) = $storage.follow(&site, failure).await {
                break Err(failure);
            }
        }
    };
}
pub(super) use at_node;

impl PostgresStorage {
    pub(super) async fn new(log: Incarnation, shared: Arc<Shared>) -> Result<Self, Failure> {
        let place = shared.places.of(log).await?;
        Ok(Self { log, place, shared, turns: Arc::new(Turns::new(log)), is_sealed: AtomicBool::new(false) })
    }

    /// After a failure at a site: if the schema is not there, looks where the log is. Returns if it is at another place
    /// by now. A statement whose schema, table or function is missing has changed nothing.
    ///
    /// # Errors
    /// The failure, if the log has not moved.
    pub(super) async fn follow(&self, site: &Arc<Site>, failure: Failure) -> Result<(), Failure> {
        let places = &self.shared.places;
        if !places.are_several() || !failure.is_missing() {
            return Err(failure);
        }
        if places.has_moved(&self.place, site).await.map_err(Failure::before_commit)? {
            return Ok(());
        }
        let readers = &self.shared.readers;
        let usable = retrying!(readers, connection => connection.query_one(USABLE.on_registry(), &[&self.log.0]));
        match usable.map_err(Failure::before_commit)? {
            Some(_) => Err(Failure::NotSent(Arc::new(Misplaced(self.log.0)))),
            // The incarnation was deleted, and its schema was dropped.
            None => Err(failure),
        }
    }

    /// Ends the log of a deleted incarnation, if anybody has used it. May be repeated.
    pub(super) async fn end(log: Incarnation, shared: &Arc<Shared>) -> Result<(), Failure> {
        let storage = Self::new(log, Arc::clone(shared)).await?;
        if let Some(stranger) = storage.find_stranger().await? {
            return Err(Failure::NotSent(Arc::new(stranger)));
        }
        match at_node!(storage, readers, connection => seal::end(connection, log)) {
            // It is at no other node: that was asked after the failure. Without a schema nothing can be appended, and
            // after the deletion none is made. A schema that is there may be too old for the call.
            Err(failure) if failure.is_missing() && !storage.is_used().await? => Ok(()),
            ended => ended,
        }
    }

    /// Something in the schema that another role owns. Then nothing in it is to be called.
    pub(super) async fn find_stranger(&self) -> Result<Option<Stranger>, Failure> {
        let schema = schema(self.log);
        at_node!(self, readers, connection => owner::find_stranger(connection, &schema))
    }

    /// Whether the schema of the log was made.
    pub(super) async fn is_used(&self) -> Result<bool, Failure> {
        let (schema, table) = (schema(self.log), "batches");
        let statement = EXISTS.on_registry();
        let found = at_node!(self, readers, connection => connection.query_one(statement, &[&schema, &table]))?;
        Ok(found.is_some_and(|row| row.get(0)))
    }

    /// The committed head, and how it stands to a known one.
    async fn ask_head(&self, known: &Head, lane: Lane) -> Result<(Head, Lineage)> {
        let mut row = self.head_row(HEAD.on(self.log), known, lane).await?;
        if seal::is_seal(row.get(3)) {
            row = self.head_below_seal(known, lane).await?;
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

    async fn head_row(&self, statement: Statement, known: &Head, lane: Lane) -> Result<Row> {
        let row = match lane {
            Lane::Read => at_node!(self, heads, connection => connection.query_one(statement, &[&known.batch])),
            Lane::Append => at_node!(self, sequencers, connection => connection.query_one(statement, &[&known.batch])),
        };
        row.map_err(Failure::of_read)?.ok_or_else(|| Error::failed("the log has no batch"))
    }

    /// The last batch below the seal of a log.
    async fn head_below_seal(&self, known: &Head, lane: Lane) -> Result<Row> {
        self.is_sealed.store(true, Ordering::Relaxed);
        // Another incarnation may have taken its place by now.
        let lives = retrying!(self.shared.readers, connection => seal::lives(connection, self.log));
        if !lives.map_err(Failure::of_read)? {
            return Err(Error::Closed);
        }
        self.head_row(HEAD_BELOW.on(self.log), known, lane).await
    }

    /// Whether the log is sealed and the seal holds. A seal that does not hold is taken away.
    pub(super) async fn look_at_seal(&self) -> Result<seal::Verdict, Failure> {
        let found = at_node!(self, sequencers, connection => seal::find(connection, self.log))?;
        let verdict = match found {
            None => seal::Verdict::Open,
            Some(_) => retrying!(self.shared.readers, connection => seal::judge(connection, self.log))?,
        };
        if let (Some(seal), seal::Verdict::Open) = (found, verdict) {
            at_node!(self, sequencers, connection => seal::take_away(connection, self.log, seal))?;
        }
        self.is_sealed.store(verdict != seal::Verdict::Open, Ordering::Relaxed);
        Ok(verdict)
    }
}

#[async_trait]
impl Storage for PostgresStorage {
    fn node(&self) -> Option<Arc<str>> {
        self.place.site().node.name()
    }

    async fn head_since(&self, known: &Head) -> Result<(Head, Lineage)> {
        self.ask_head(known, Lane::Append).await
    }

    async fn confirm_head(&self, known: &Head) -> Result<(Head, Lineage)> {
        self.ask_head(known, Lane::Read).await
    }

    async fn is_being_replaced(&self) -> Result<bool> {
        match self.look_at_seal().await.map_err(Failure::of_read)? {
            seal::Verdict::Gone => Err(Error::Closed),
            verdict => Ok(verdict == seal::Verdict::Held),
        }
    }

    async fn versions(&self, streams: &[Arc<str>]) -> Result<Vec<i64>> {
        let names: Vec<&str> = streams.iter().map(|name| &**name).collect();
        let rows = at_node!(self, sequencers, connection => connection.query(VERSIONS.on(self.log), &[&names]));
        Ok(rows.map_err(Failure::of_read)?.iter().map(|row| row.get(0)).collect())
    }

    async fn version(&self, stream: Arc<str>) -> Result<i64> {
        let names: &[&str] = &[&stream];
        let row = at_node!(self, readers, connection => connection.query_one(VERSIONS.on(self.log), &[&names]));
        Ok(row.map_err(Failure::of_read)?.map_or(-1, |row| row.get(0)))
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Message>> {
        let rows = at_node!(self, sequencers, connection => connection.query(FIND.on(self.log), &[&ids]));
        Ok(rows.map_err(Failure::of_read)?.iter().map(|row| read::to_message(row).to_message()).collect())
    }

    async fn message(&self, id: Uuid) -> Result<Option<Message>> {
        let ids: &[Uuid] = &[id];
        let row = at_node!(self, readers, connection => connection.query_one(FIND.on(self.log), &[&ids]));
        Ok(row.map_err(Failure::of_read)?.map(|row| read::to_message(&row).to_message()))
    }

    async fn position_at(&self, time: Timestamp, head: i64) -> Result<i64> {
        let statement = LOCATE_TIME.on(self.log);
        let row = at_node!(self, readers, connection => connection.query_one(statement, &[&Time(time), &head])
        );
        row.map_err(Failure::of_read)?.map(|row| row.get(0)).ok_or_else(|| Error::failed("a search has no end"))
    }

    async fn read(&self, select: &Select) -> Result<Slice> {
        let examined_rows = self.shared.settings.examined_rows;
        at_node!(self, readers, connection => read::read(connection, self.log, select, examined_rows))
            .map_err(Failure::of_read)
    }

    async fn streams(&self, page: &ListPage) -> Result<Vec<StreamListed>> {
        let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
        let after = page.after.as_deref().unwrap_or_default();
        let statement = STREAMS.on(self.log);
        let rows = at_node!(self, readers, connection => connection.query(statement, &[&page.prefix, &after, &limit])
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
        let rows = at_node!(self, readers, connection => connection.query(statement, &[&page.prefix, &after, &limit])
        );
        let category = |row: &Row| CategoryListed {
            category: row.get(0),
            stream_count: count(row.get(1)),
            message_count: count(row.get(2)),
        };
        Ok(rows.map_err(Failure::of_read)?.iter().map(category).collect())
    }

    async fn counts(&self) -> Result<Counts> {
        let row = at_node!(self, readers, connection => connection.query_one(COUNTS.on(self.log), &[]));
        let row = row.map_err(Failure::of_read)?.ok_or_else(|| Error::failed("the log has no batch"))?;
        let last_activity = row.get::<_, Option<Time>>(2).map(|time| time.0);
        Ok(Counts { messages: count(row.get(0)), streams: count(row.get(1)), last_activity })
    }

    async fn bytes(&self) -> Result<u64> {
        let statement = self.shared.places.placement().bytes().on(self.log);
        let row = at_node!(self, readers, connection => connection.query_one(statement, &[]));
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
