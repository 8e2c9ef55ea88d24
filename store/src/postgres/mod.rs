//! PostgreSQL: one schema per incarnation, an append-only table as compare-and-set, one commit per batch.
//!
//! | file | what it is for |
//! |---|---|
//! | `settings` | the address of a database, and every bound |
//! | `start` | the look at a database when it is opened |
//! | `citus` | what a Citus cluster is to this server |
//! | `examine` | the look at a database for `eventodb doctor` |
//! | `migrate` | migrations, one after the other under a lock |
//! | `survey` | what a migration would do, without doing it |
//! | `owner` | who owns what is called |
//! | `shared` | what all logs share: connections, notifications, background work |
//! | `node` | one database server that has logs, and the connections to it |
//! | `places` | which node each log is on, and following a log that moves |
//! | `placement` | where that is written |
//! | `guard` | whether the server of a session is the node that is meant |
//! | `pool` | pools of connections |
//! | `connection` | one session: prepared statements, time limits |
//! | `line` | the connection of a log's appends |
//! | `statement` | the SQL, one file for each statement in `sql/`, and the types of its parameters |
//! | `error` | the meaning of errors, by SQLSTATE |
//! | `time` | points in time as PostgreSQL sends them |
//! | `registry` | the namespaces |
//! | `change` | one change of the registry |
//! | `tokens` | the tokens in the registry |
//! | `lookups` | looking up tokens, many by one query |
//! | `staging` | incarnations that are being filled to take the place of another |
//! | `seal` | keeping every server from appending to a log that is being replaced |
//! | `purge` | dropping the schemas of deleted incarnations |
//! | `storage` | the log of one incarnation: the methods of `Storage` |
//! | `appender` | its appends: the methods of `Appender` |
//! | `append` | one commit |
//! | `turns` | turns between servers that write to one log |
//! | `read` | slices of messages |
//! | `groups` | its groups: the methods of `GroupStorage` |
//! | `counts` | counting the messages of all logs |
//! | `upkeep` | background work on one log: folding counts, deleting old batches |
//! | `keys` | primary keys that a migration did not make |
//! | `hints` | notifications between servers |

mod append;
mod appender;
mod change;
mod citus;
mod connection;
mod counts;
mod error;
mod examine;
mod groups;
mod guard;
mod hints;
mod keys;
mod line;
mod lookups;
mod migrate;
mod node;
mod owner;
mod placement;
mod places;
mod pool;
mod purge;
mod read;
mod registry;
mod seal;
mod settings;
mod shared;
mod staging;
mod start;
mod statement;
mod storage;
mod survey;
#[cfg(test)]
mod tests;
mod time;
mod tokens;
mod turns;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use eventodb_protocol::Timestamp;
use eventodb_protocol::token::TokenHash;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

pub use error::OpenError;
pub use eventodb_pg::{APPLICATION, Url, UrlError};
pub use examine::Examined;
pub use settings::Settings;
pub use survey::{STATEMENT_TIME, SchemaState, Survey};

use crate::degraded::Degraded;
use crate::error::{Error, Result};
use crate::figures::BackendFigures;
use crate::model::{
    Incarnation, Meant, Namespace, NamespaceUpdate, NewNamespace, Size, TokenChange, TokenId, TokenRecord,
};
use crate::storage::{Backend, Hint, Opened, Readers, Storage};
use appender::PostgresAppender;
use connection::Connection;
use error::{Failure, TimedOut};
use hints::Hints;
use migrate::MigrateError;
use placement::Placement;
use pool::retrying;
use registry::Created;
use shared::Shared;
use start::Prepared;
use statement::{PING, SELF_TEST, SESSIONS, USABLE};
use storage::{PostgresStorage, at_node};

/// Pause after an attempt to drop a schema that was in use, because each attempt holds up its users.
const PURGE_PAUSE: Duration = Duration::from_secs(10);
/// How often it is looked for tokens that servers of earlier versions noted: that reads all namespaces.
const ADOPT_EVERY: Duration = Duration::from_secs(2);
/// How long [`Backend::ping`] waits.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A PostgreSQL database that holds the registry and the logs; other servers may use it as well.
#[derive(Debug)]
pub struct Postgres {
    shared: Arc<Shared>,
    hints: Mutex<Option<mpsc::Receiver<Hint>>>,
    /// When to try again to drop schemas that were in use.
    purge_after: Mutex<Option<Instant>>,
    /// When it was last looked for tokens that servers of earlier versions noted.
    adopted_at: Mutex<Option<Instant>>,
    /// Whether a commit was on the disk whatever became of its machine, when the database was opened.
    is_durable: bool,
}

impl Postgres {
    /// Connects, checks that the database can be used, and brings the registry up to date.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub async fn open(settings: Settings) -> Result<Arc<Self>, OpenError> {
        let settings = Arc::new(settings);
        let Prepared { mut connection, is_read_only, is_durable } = start::prepare(&settings).await?;
        migrate::registry(&mut connection, settings.auto_migrate).await.map_err(OpenError::from)?;
        let placement = Placement::look(&mut connection, &settings).await.map_err(OpenError::other)?;
        drop(connection);
        let shared = Arc::new(Shared::new(Arc::clone(&settings), placement).await);
        shared.found_read_only(is_read_only);
        shared.readers.fill().await.map_err(OpenError::other)?;
        let (sender, receiver) = Hints::new();
        let (notifier, stop) = (Arc::clone(&shared.notifier), shared.stop.clone());
        shared.tasks.spawn(Arc::clone(&notifier).run(settings.of_notifier(), stop.clone()));
        shared.tasks.spawn(hints::listen(notifier, sender, settings, stop));
        shared.tasks.spawn(Arc::clone(&shared).shrink());
        shared.tasks.spawn(Arc::clone(&shared.places).follow());
        shared.tasks.spawn(keys::keep_making(Arc::clone(&shared)));
        Ok(Arc::new(Self {
            shared,
            hints: Mutex::new(Some(receiver)),
            purge_after: Mutex::default(),
            adopted_at: Mutex::default(),
            is_durable,
        }))
    }

    /// Brings the registry and the logs of all namespaces up to date, and does nothing else.
    ///
    /// # Errors
    /// As [`Postgres::open`].
    pub async fn migrate(settings: &Settings) -> Result<(), OpenError> {
        let Prepared { mut connection, .. } = start::prepare(settings).await?;
        let placement = Placement::look(&mut connection, settings).await.map_err(OpenError::other)?;
        Ok(migrate::all(&mut connection, placement).await?)
    }

    /// What [`Postgres::migrate`] would do. Nothing is changed.
    ///
    /// # Errors
    /// As [`Postgres::open`].
    pub async fn survey(settings: &Settings) -> Result<Survey, OpenError> {
        let Prepared { mut connection, .. } = start::prepare(settings).await?;
        Ok(survey::survey(&mut connection).await.map_err(MigrateError::from)?)
    }

    /// Looks at the database for faults, and at tokens that end between these times. Nothing is changed.
    ///
    /// # Errors
    /// [`OpenError`] if there is no session with it. What a server would refuse is no error here, but told.
    pub async fn examine(settings: &Settings, from: Timestamp, to: Timestamp) -> Result<Examined, OpenError> {
        examine::examine(settings, from, to).await
    }

    async fn is_living(&self, incarnation: Incarnation) -> Result<bool> {
        retrying!(self.shared.readers, connection => seal::lives(connection, incarnation)).map_err(Failure::of_read)
    }

    /// The log of an incarnation where it is, whether its schema was made or not.
    async fn storage(&self, incarnation: Incarnation) -> Result<PostgresStorage> {
        PostgresStorage::new(incarnation, Arc::clone(&self.shared)).await.map_err(Failure::of_read)
    }

    /// Makes the schema of a log, or brings it up to date. Schemas are made and changed at home, because Citus spreads
    /// such changes from there.
    async fn bring_up_to_date(&self, storage: &PostgresStorage) -> Result<()> {
        let (log, places) = (storage.log, &self.shared.places);
        loop {
            let site = storage.place.site();
            // Home would have to ask that node as well, and hold a connection meanwhile.
            if !site.node.is_home() && self.is_usable(log).await? {
                if let Some(stranger) = storage.find_stranger().await.map_err(Failure::of_read)? {
                    return Err(Error::failed(stranger));
                }
                let is_current = at_node!(storage, readers, connection => migrate::is_current(connection, log));
                if is_current.map_err(Failure::of_read)? {
                    return Ok(());
                }
            }
            let outcome = self.migrate_at_home(log).await;
            if let Err(error) = &outcome
                && !(places.are_several() && error.may_be_elsewhere())
            {
                return outcome.map_err(Error::from);
            }
            // What was just made may have been placed at another node.
            let has_moved = places.has_moved(&storage.place, &site).await.map_err(Failure::of_read)?;
            match outcome {
                Ok(()) => return Ok(()),
                Err(_) if has_moved => {}
                Err(_) if !self.is_usable(log).await? => return Err(Error::Closed),
                Err(error) => return Err(Error::unavailable(error)),
            }
        }
    }

    async fn migrate_at_home(&self, log: Incarnation) -> Result<(), MigrateError> {
        let Shared { settings, places, readers, schemas, .. } = &*self.shared;
        let mut attempts = readers.attempts();
        loop {
            let mut connection = attempts.connection().await?;
            match migrate::is_up_to_date(&mut connection, log, settings.auto_migrate).await {
                Err(MigrateError::Failure(failure)) if attempts.go_on_after(&failure) => {}
                Ok(false) => break,
                outcome => return outcome.map(|_| ()),
            }
        }
        let mut attempts = schemas.attempts();
        loop {
            let mut connection = attempts.connection().await?;
            match migrate::log(&mut connection, log, places.placement()).await {
                // The migration is one transaction: it happened or not, and the next attempt looks.
                Err(MigrateError::Failure(failure)) if attempts.go_on_after(&failure) => {}
                outcome => return outcome,
            }
        }
    }

    /// Whether an incarnation lives or is staged.
    async fn is_usable(&self, incarnation: Incarnation) -> Result<bool> {
        let statement = USABLE.on_registry();
        let row = retrying!(self.shared.readers, connection => connection.query_one(statement, &[&incarnation.0]));
        Ok(row.map_err(Failure::of_read)?.is_some())
    }

    /// Ends the logs of deleted incarnations.
    async fn end(&self, deleted: &[Incarnation]) -> Result<(), Failure> {
        for &incarnation in deleted {
            PostgresStorage::end(incarnation, &self.shared).await?;
        }
        Ok(())
    }

    /// A connection for a change of the registry.
    async fn connection(&self) -> Result<pool::Pooled> {
        self.shared.readers.get().await.map_err(Failure::of_change)
    }
}

#[async_trait]
impl Backend for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn figures(&self) -> BackendFigures {
        let Shared { doors, probes, schemas, places, notifier, .. } = &*self.shared;
        let home = places.home().direct();
        let pools = [
            ("reads", &home.readers),
            ("heads", &home.heads),
            ("appends", &home.sequencers),
            ("groups", &home.groups),
            ("tokens", doors),
            ("probes", probes),
            ("schemas", schemas),
        ];
        let pools = pools.map(|(name, pool)| pool.figures(name)).into();
        BackendFigures { pools, notifications: notifier.sent(), ..BackendFigures::default() }
    }

    fn is_durable(&self) -> bool {
        self.is_durable
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn namespace(&self, name: &str) -> Result<Option<Namespace>> {
        retrying!(self.shared.readers, connection => registry::namespace(connection, name)).map_err(Failure::of_read)
    }

    async fn token(&self, namespace: &str, hash: &TokenHash) -> Result<Option<TokenRecord>> {
        self.shared.lookups.token(namespace, hash).await
    }

    async fn token_by_id(&self, id: TokenId) -> Result<Option<TokenRecord>> {
        retrying!(self.shared.readers, connection => tokens::by_id(connection, id)).map_err(Failure::of_read)
    }

    async fn tokens(&self, namespace: &str) -> Result<Vec<TokenRecord>> {
        retrying!(self.shared.readers, connection => tokens::all(connection, namespace)).map_err(Failure::of_read)
    }

    async fn change_tokens(&self, change: TokenChange) -> Result<TokenRecord> {
        let outcome = tokens::change(&mut *self.connection().await?, change).await;
        self.shared.notifier.registry();
        Ok(outcome?)
    }

    async fn is_beside_older(&self) -> Result<bool> {
        let sessions = retrying!(self.shared.readers, connection => connection.query(SESSIONS.on_registry(), &[]));
        let sessions = sessions.map_err(Failure::of_read)?;
        Ok(sessions.iter().any(|session| session.get::<_, &str>(0) == APPLICATION))
    }

    async fn living_tokens(&self, ids: &[TokenId]) -> Result<Vec<(TokenId, Option<Timestamp>)>> {
        retrying!(self.shared.doors, connection => tokens::living(connection, ids)).map_err(Failure::of_read)
    }

    async fn note_used(&self, ids: &[TokenId], hour: Timestamp) -> Result<()> {
        retrying!(self.shared.readers, connection => tokens::note_used(connection, ids, hour)).map_err(Failure::of_read)
    }

    async fn update(&self, meant: Meant<'_>, update: &NamespaceUpdate) -> Result<Namespace> {
        let updated =
            registry::update(&mut *self.connection().await?, meant, update).await.map_err(Failure::of_change)?;
        self.shared.notifier.registry();
        updated.ok_or(Error::NamespaceNotFound)
    }

    async fn namespaces(&self) -> Result<Vec<Namespace>> {
        retrying!(self.shared.readers, connection => registry::namespaces(connection)).map_err(Failure::of_read)
    }

    async fn create(&self, new: &NewNamespace) -> Result<Namespace> {
        let mut ended = Vec::new();
        loop {
            let created = registry::create(&mut *self.connection().await?, new, &ended).await;
            self.shared.notifier.registry();
            match created.map_err(Failure::of_change)? {
                Created::New(namespace) => return Ok(namespace),
                Created::Exists => return Err(Error::NamespaceExists),
                Created::Behind(earlier) => {
                    self.end(&earlier).await.map_err(Failure::of_read)?;
                    ended.extend(earlier);
                }
            }
        }
    }

    async fn delete(&self, incarnation: Incarnation) -> Result<Option<Timestamp>> {
        let deleted = registry::delete(&mut *self.connection().await?, incarnation).await;
        // The answer comes after the last append, whoever deleted the namespace. If that cannot be told, the deletion
        // stands, and purge ends the log.
        let is_living = match &deleted {
            Ok(Some(_)) => Ok(false),
            _ => self.is_living(incarnation).await,
        };
        let ended = if matches!(is_living, Ok(false)) { self.end(&[incarnation]).await } else { Ok(()) };
        self.shared.notifier.registry();
        let deleted = deleted.map_err(Failure::of_change)?;
        ended.map_err(Error::unknown)?;
        if is_living? { Err(Error::Protected) } else { Ok(deleted) }
    }

    async fn end_deleted(&self, name: &str) -> Result<()> {
        let deleted = retrying!(self.shared.readers, connection => registry::deleted_of_name(connection, name));
        let ended = self.end(&deleted.map_err(Failure::of_read)?).await;
        self.shared.notifier.registry();
        ended.map_err(Error::unknown)
    }

    async fn stage(&self, living: Incarnation) -> Result<Namespace> {
        // The log will be sealed, and therefore must be there.
        self.open(living).await.map_err(|error| match error {
            Error::Closed => Error::NamespaceNotFound,
            error => error,
        })?;
        let mut connection = self.connection().await?;
        let Some(staged) = staging::stage(&mut connection, living).await.map_err(Failure::of_change)? else {
            return Err(registry::why_not_staged(&mut connection, living).await.map_err(Failure::of_read)?);
        };
        drop(connection);
        let storage = self.storage(living).await?;
        let sealed = at_node!(storage, readers, connection => seal::put(connection, living));
        if let Err(failure) = sealed {
            // Nobody fills it. If this fails too, it is given up once it was not kept for a while.
            let _ = self.discard(staged.incarnation).await;
            return Err(failure.of_read());
        }
        Ok(staged)
    }

    async fn keep(&self, staged: Incarnation) -> Result<()> {
        let kept = retrying!(self.shared.readers, connection => staging::keep(connection, staged));
        if kept.map_err(Failure::of_read)? { Ok(()) } else { Err(Error::Overtaken) }
    }

    async fn promote(&self, staged: Incarnation, size: Size) -> Result<()> {
        let promoted = staging::promote(&mut *self.connection().await?, staged, size).await;
        let promoted = promoted.map_err(Failure::of_change)?;
        self.shared.notifier.registry();
        promoted
    }

    async fn discard(&self, staged: Incarnation) -> Result<()> {
        let discarded = retrying!(self.shared.readers, connection => staging::discard(connection, staged));
        if let Some(replaced) = discarded.map_err(Failure::of_read)? {
            self.storage(replaced).await?.look_at_seal().await.map_err(Failure::of_read)?;
        }
        Ok(())
    }

    async fn tidy(&self) -> Result<()> {
        // None of the readers: while the registry is locked, this waits.
        let mut connection = self.shared.schemas.get().await.map_err(Failure::of_read)?;
        staging::discard_expired(&mut connection).await.map_err(Failure::of_read)?;
        if self.adopted_at.lock().is_none_or(|at| at.elapsed() >= ADOPT_EVERY) {
            tokens::adopt(&mut connection).await.map_err(Failure::of_read)?;
            *self.adopted_at.lock() = Some(Instant::now());
        }
        Ok(())
    }

    async fn purge(&self) -> Result<()> {
        if self.purge_after.lock().is_some_and(|after| Instant::now() < after) {
            return Ok(());
        }
        let all = purge::run(&self.shared).await.map_err(Failure::of_read)?;
        *self.purge_after.lock() = (!all).then(|| Instant::now() + PURGE_PAUSE);
        Ok(())
    }

    async fn message_counts(&self) -> Result<Vec<(Incarnation, u64)>> {
        counts::message_counts(&self.shared).await.map_err(Failure::of_read)
    }

    async fn open(&self, incarnation: Incarnation) -> Result<Opened> {
        let storage = Arc::new(self.storage(incarnation).await?);
        self.bring_up_to_date(&storage).await?;
        let appender = Box::new(PostgresAppender::new(Arc::clone(&storage)));
        Ok(Opened { appender, groups: storage.clone(), storage })
    }

    fn hints(&self) -> Option<mpsc::Receiver<Hint>> {
        self.hints.lock().take()
    }

    fn readers(&self) -> Readers {
        let settings = &self.shared.settings;
        Readers { at_once: settings.pool_max, patience: settings.acquire_timeout }
    }

    async fn ping(&self) -> Result<()> {
        let ping = async { retrying!(self.shared.probes, connection => look(connection)) };
        let answer = timeout(PING_TIMEOUT, ping).await.map_err(|_| Error::unavailable(TimedOut("answer")))?;
        self.shared.found_read_only(answer.map_err(Failure::of_read)?);
        Ok(())
    }

    async fn self_test(&self) -> Result<()> {
        // As an append does: on a connection for appends, with a write that waits for everything that commits wait for.
        let work = async {
            let mut connection = self.shared.places.home().pools().await.sequencers.get().await?;
            change::one(&mut connection, SELF_TEST.on_registry(), &[]).await
        };
        match work.await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_read_only() => {
                // That is logged and reported by itself, and each probe looks whether it still is so.
                self.shared.found_read_only(true);
                Ok(())
            }
            Err(failure) => Err(failure.of_read()),
        }
    }

    async fn last_time(&self, incarnation: Incarnation) -> Result<Timestamp> {
        let storage = self.storage(incarnation).await?;
        if !storage.is_used().await.map_err(Failure::of_read)? {
            return Ok(Timestamp::default());
        }
        Ok(storage.head().await?.time)
    }

    fn degraded(&self) -> Vec<Degraded> {
        let is_read_only = self.shared.read_only.load(Ordering::Relaxed);
        let degraded =
            is_read_only.then(|| Degraded::new("READ_ONLY", "the database is read-only: writes are refused"));
        degraded.into_iter().collect()
    }

    async fn close(&self) {
        self.shared.close().await;
    }
}

/// Whether the database is read-only. A session keeps the settings of role and database from its beginning. One that
/// may not write is therefore closed, because it cannot notice when writes are allowed again.
async fn look(connection: &mut Connection) -> Result<bool, Failure> {
    let row = connection.query_one(PING.on_registry(), &[]).await?;
    let is_read_only = row.is_some_and(|row| row.get(0));
    if is_read_only {
        connection.retire();
    }
    Ok(is_read_only)
}

impl From<MigrateError> for OpenError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Newer { schema, needs } => Self::NewerSchema { schema, needs },
            MigrateError::Needed(schema) => Self::MigrationNeeded(schema),
            MigrateError::Failure(failure) => match failure.state().map(|state| state.code()) {
                Some("42501") => Self::Privilege(failure.to_string()),
                _ => Self::other(failure),
            },
            MigrateError::Stranger(stranger) => Self::Stranger(stranger.to_string()),
            MigrateError::Deleted | MigrateError::Elsewhere(_) => Self::other(error),
        }
    }
}

impl From<MigrateError> for Error {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Failure(failure) => failure.of_read(),
            MigrateError::Deleted => Self::Closed,
            MigrateError::Newer { .. }
            | MigrateError::Needed(_)
            | MigrateError::Stranger(_)
            | MigrateError::Elsewhere(_) => Self::failed(error),
        }
    }
}
