//! A read model in PostgreSQL with its checkpoint in the same transactions: each message takes effect exactly once.
//!
//! As with SQLite, a transaction begins with the first message after a save, and the next save commits it. An advisory
//! lock of the session keeps a second worker of the same name out.
//!
//! The session is the worker's own, also if it comes from a pool. It has the lock, and often an open transaction, which
//! another user of the pool must not find. The worker therefore takes it out of the pool and never gives it back; its
//! end releases the lock and rolls back what was not committed.

use std::error::Error as StdError;
use std::ops::Deref;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{ClientWrapper, Object, Pool};
use eventodb_pg::Url;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::CheckpointError;
use crate::message::Message;
use crate::worker::{Consumer, Failure, Handled, HandlerError};

/// Changes tables for one message.
#[async_trait]
pub trait PostgresHandler: Send {
    /// Handles `message` on `connection`, within the worker's transaction. It must neither commit nor roll back that
    /// transaction.
    ///
    /// # Errors
    /// Any error. The changes of this message are then rolled back.
    async fn handle(&mut self, connection: &Client, message: &Message) -> Result<(), HandlerError>;

    /// The message types to handle; none means all.
    fn types(&self) -> Option<Vec<String>> {
        None
    }
}

/// Handles messages by changing tables of a PostgreSQL database, each exactly once.
pub struct PostgresReadModel<H> {
    database: Database,
    consumer: String,
    handler: H,
    open: Option<Open>,
}

/// How long a start waits for the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How long the worker waits for the lock after it lost its own connection.
const LOCK_PATIENCE_AFTER_LOSS: Duration = Duration::from_secs(60);
/// Time between two tries to get the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The origin of sessions.
enum Database {
    Url(Url),
    Pool(Pool),
}

/// A session that nobody else uses.
enum Session {
    FromUrl(Client),
    /// Taken out of its pool.
    FromPool(ClientWrapper),
}

struct Open {
    connection: Session,
    saved: Option<i64>,
    in_transaction: bool,
}

impl<H: PostgresHandler> PostgresReadModel<H> {
    /// The read model in the database that `url` names, over TLS as its `sslmode` says. The position is kept in its
    /// table `eventodb_checkpoint` under the name `consumer`. Each member of a group needs a name of its own.
    pub fn new(url: Url, consumer: impl Into<String>, handler: H) -> Self {
        Self::on(Database::Url(url), consumer, handler)
    }

    /// As [`Self::new`], in the database of a service's own pool. Connecting, TLS and time limits are then the pool's.
    ///
    /// The worker needs a session of its own: it takes one out of the pool when it starts, and closes it when it stops.
    /// The pool may open another one in its place, so that it needs no more room for the worker. PostgreSQL needs room
    /// for one more session per worker.
    pub fn with_pool(pool: Pool, consumer: impl Into<String>, handler: H) -> Self {
        Self::on(Database::Pool(pool), consumer, handler)
    }

    fn on(database: Database, consumer: impl Into<String>, handler: H) -> Self {
        Self { database, consumer: consumer.into(), handler, open: None }
    }
}

impl Database {
    async fn connect(&self) -> Result<Session, CheckpointError> {
        match self {
            Self::Url(url) => {
                let (client, driver) = url.connect().await.map_err(failed("cannot connect"))?;
                tokio::spawn(async move {
                    if let Err(error) = driver.await {
                        tracing::warn!(%error, "the read model's connection ended");
                    }
                });
                Ok(Session::FromUrl(client))
            }
            Self::Pool(pool) => {
                let pooled = pool.get().await.map_err(failed("cannot get a session from the pool"))?;
                Ok(Session::FromPool(Object::take(pooled)))
            }
        }
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        match self {
            Self::FromUrl(client) => client,
            Self::FromPool(client) => client,
        }
    }
}

impl Open {
    /// Opens a session, and waits until `given_up` for the lock.
    async fn new(database: &Database, consumer: &str, given_up: Instant) -> Result<Self, CheckpointError> {
        let connection = database.connect().await?;
        while !try_lock(&connection, consumer).await? {
            if Instant::now() >= given_up {
                return Err(CheckpointError::Taken(format!("the lock of {consumer} is held")));
            }
            sleep(LOCK_PAUSE).await;
        }
        connection
            .batch_execute(include_str!("postgres/create_checkpoint.sql"))
            .await
            .map_err(failed("cannot create the table"))?;
        let saved = position(&connection, consumer).await?;
        Ok(Self { connection, saved, in_transaction: false })
    }

    async fn begin(&mut self, consumer: &str) -> Result<(), CheckpointError> {
        if self.in_transaction {
            return Ok(());
        }
        self.connection.batch_execute("BEGIN").await.map_err(failed("cannot begin"))?;
        self.in_transaction = true;
        let found = position(&self.connection, consumer).await?;
        if found != self.saved {
            return Err(CheckpointError::Taken(format!("{consumer} was moved to {}", found.unwrap_or(-1))));
        }
        Ok(())
    }

    async fn commit(&mut self, consumer: &str, position: i64) -> Result<(), CheckpointError> {
        self.begin(consumer).await?;
        self.connection
            .execute(include_str!("postgres/save_checkpoint.sql"), &[&consumer, &position])
            .await
            .map_err(failed("cannot save"))?;
        self.connection.batch_execute("COMMIT").await.map_err(failed("cannot commit"))?;
        self.in_transaction = false;
        self.saved = Some(position);
        Ok(())
    }

    async fn apply<H: PostgresHandler>(
        &self,
        message: &Message,
        handler: &mut H,
    ) -> Result<Result<(), HandlerError>, CheckpointError> {
        self.connection.batch_execute("SAVEPOINT message").await.map_err(failed("cannot set a savepoint"))?;
        let result = handler.handle(&self.connection, message).await;
        let end = if result.is_ok() {
            "RELEASE SAVEPOINT message"
        } else {
            "ROLLBACK TO SAVEPOINT message; RELEASE SAVEPOINT message"
        };
        self.connection.batch_execute(end).await.map_err(failed("cannot end a savepoint"))?;
        Ok(result)
    }
}

#[async_trait]
impl<H: PostgresHandler> Consumer for PostgresReadModel<H> {
    async fn load(&mut self) -> Result<Option<i64>, CheckpointError> {
        // The end of the earlier connection rolls back what it had not committed. PostgreSQL may take a moment to
        // notice this end, or that of a killed worker, and to release its lock.
        let patience = if self.open.take().is_some() { LOCK_PATIENCE_AFTER_LOSS } else { LOCK_PATIENCE };
        let open = Open::new(&self.database, &self.consumer, Instant::now() + patience).await?;
        let saved = open.saved;
        self.open = Some(open);
        Ok(saved)
    }

    async fn handle(&mut self, messages: &[Message], stop: &CancellationToken) -> Handled {
        let mut handled = Handled::default();
        let Some(open) = &mut self.open else {
            handled.failure = Some(Failure::Session(not_loaded()));
            return handled;
        };
        if let Err(error) = open.begin(&self.consumer).await {
            handled.failure = Some(Failure::Session(error));
            return handled;
        }
        for message in messages {
            if stop.is_cancelled() {
                break;
            }
            match open.apply(message, &mut self.handler).await {
                Ok(Ok(())) => handled.count += 1,
                Ok(Err(error)) => handled.failure = Some(Failure::Message(error)),
                Err(error) => handled.failure = Some(Failure::Session(error)),
            }
            if handled.failure.is_some() {
                break;
            }
        }
        handled
    }

    async fn save(&mut self, position: i64) -> Result<(), CheckpointError> {
        let open = self.open.as_mut().ok_or_else(not_loaded)?;
        open.commit(&self.consumer, position).await
    }

    fn types(&self) -> Option<Vec<String>> {
        self.handler.types()
    }

    fn saves_when_idle(&self) -> bool {
        true
    }
}

impl<H> std::fmt::Debug for PostgresReadModel<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresReadModel").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

async fn try_lock(connection: &Client, consumer: &str) -> Result<bool, CheckpointError> {
    let row = connection
        .query_one(include_str!("postgres/lock_checkpoint.sql"), &[&consumer])
        .await
        .map_err(failed("cannot lock"))?;
    Ok(row.get(0))
}

async fn position(connection: &Client, consumer: &str) -> Result<Option<i64>, CheckpointError> {
    let row = connection
        .query_opt(include_str!("postgres/load_checkpoint.sql"), &[&consumer])
        .await
        .map_err(failed("cannot read the position"))?;
    Ok(row.map(|row| row.get(0)))
}

fn not_loaded() -> CheckpointError {
    CheckpointError::failed("read model", "used before it was loaded")
}

fn failed<E: StdError + Send + Sync + 'static>(what: &'static str) -> impl Fn(E) -> CheckpointError {
    move |error| CheckpointError::failed(what, error)
}
