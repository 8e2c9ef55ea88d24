//! A read model in PostgreSQL, over the pool of a service. Messages of different streams are handled at the same time.
//!
//! No session is kept, no lock outlives a transaction: it works behind PgBouncer.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Pool;
use eventodb_protocol::group::Epoch;
use tokio_postgres::Transaction;
use uuid::Uuid;

use super::{ReadModel, Rebuilt};
use crate::message::Message;
use crate::worker::HandlerError;

/// The default of [`PostgresTables::idle_limit`].
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// Changes tables for one message.
#[async_trait]
pub trait PostgresProjection: Send + Sync + 'static {
    /// Changes the tables by `transaction`, which commits the position of the message too.
    ///
    /// # Errors
    /// Any error. The transaction is then rolled back, and the message is tried again.
    async fn apply(&self, transaction: &Transaction<'_>, message: &Message) -> Result<(), HandlerError>;

    /// Empties the tables, so that they can be built anew.
    ///
    /// # Errors
    /// Any error. The transaction is then rolled back.
    async fn clear(&self, transaction: &Transaction<'_>) -> Result<(), HandlerError>;
}

/// A projection, and the positions of its group's streams in the tables `eventodb_group` and `eventodb_group_stream`.
pub struct PostgresTables<P> {
    pool: Pool,
    group: String,
    projection: P,
    idle_limit: Duration,
}

impl<P: PostgresProjection> PostgresTables<P> {
    /// Makes the tables for the positions if they are not there.
    ///
    /// # Errors
    /// The database cannot be reached, or refuses them.
    pub async fn open(pool: Pool, group: impl Into<String>, projection: P) -> Result<Self, HandlerError> {
        let group = group.into();
        let connection = pool.get().await?;
        connection.batch_execute(include_str!("postgres/create_tables.sql")).await?;
        connection.execute(include_str!("postgres/add_group.sql"), &[&group]).await?;
        Ok(Self { pool, group, projection, idle_limit: IDLE_LIMIT })
    }

    /// How long a transaction may be open without saying anything to PostgreSQL, which ends it then. Default 30 s.
    ///
    /// A host that stands still or is cut off in the middle of a transaction keeps the row of its stream locked: whoever
    /// handles the stream in its place waits for it, this long at most. A projection that does something else between two
    /// statements must not take longer.
    #[must_use]
    pub fn idle_limit(mut self, limit: Duration) -> Self {
        self.idle_limit = limit.max(Duration::from_millis(1));
        self
    }

    /// The limit as PostgreSQL's settings have it.
    fn idle_limit_ms(&self) -> String {
        i32::try_from(self.idle_limit.as_millis()).unwrap_or(i32::MAX).to_string()
    }
}

#[async_trait]
impl<P: PostgresProjection> ReadModel for PostgresTables<P> {
    async fn handle(&self, epoch: Epoch, message: &Message) -> Result<(), HandlerError> {
        let mut connection = self.pool.get().await?;
        let transaction = connection.transaction().await?;
        let limit = self.idle_limit_ms();
        let row = transaction.query_one(include_str!("postgres/least_epoch.sql"), &[&self.group, &limit]).await?;
        if epoch.number() < row.get(0) {
            return Err(Rebuilt.into());
        }
        let position = message.global_position();
        let moved = include_str!("postgres/move_stream.sql");
        if transaction.execute(moved, &[&self.group, &message.stream(), &position]).await? == 0 {
            return Ok(());
        }
        self.projection.apply(&transaction, message).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn begin_rebuild(&self, rebuild: Uuid) -> Result<(), HandlerError> {
        let connection = self.pool.get().await?;
        connection.execute(include_str!("postgres/begin_rebuild.sql"), &[&self.group, &rebuild]).await?;
        Ok(())
    }

    async fn clear(&self, rebuild: Uuid, least: Epoch) -> Result<bool, HandlerError> {
        let mut connection = self.pool.get().await?;
        let transaction = connection.transaction().await?;
        transaction.execute(include_str!("postgres/limit_idleness.sql"), &[&self.idle_limit_ms()]).await?;
        let ended = include_str!("postgres/end_rebuild.sql");
        if transaction.execute(ended, &[&self.group, &rebuild, &least.number()]).await? == 0 {
            return Ok(false);
        }
        transaction.execute(include_str!("postgres/forget_streams.sql"), &[&self.group]).await?;
        self.projection.clear(&transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

impl<P> std::fmt::Debug for PostgresTables<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresTables").field("group", &self.group).finish_non_exhaustive()
    }
}
