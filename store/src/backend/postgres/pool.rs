//! The connections: one pool for reads, one for appends, so that neither takes the other's.

use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, PoolError, QueueMode, RecycleError, RecycleResult, TimeoutType};

use super::connection::Connection;
use super::error::{Failure, OpenError, TimedOut};
use super::settings::Settings;

/// A connection that goes back into its pool, or is closed where it is not clean.
pub(super) type Pooled = managed::Object<Manager>;

/// Connections to one database.
#[derive(Debug)]
pub(super) struct Pool {
    pool: managed::Pool<Manager>,
    keep: usize,
    idle_timeout: Duration,
}

/// Opens connections and looks whether a used one may be used again.
#[derive(Debug)]
pub(super) struct Manager(Arc<Settings>);

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = OpenError;

    async fn create(&self) -> Result<Connection, OpenError> {
        Connection::open(&self.0).await
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<OpenError> {
        if connection.is_clean() { Ok(()) } else { Err(RecycleError::message("not clean")) }
    }
}

/// Attempts at something that changes nothing, until one is made on a connection that was opened for
/// it: after a restart of PostgreSQL all that wait in the pool are dead.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    pool: &'a Pool,
    is_fresh: bool,
}

impl Attempts<'_> {
    /// A connection for the next attempt.
    pub(super) async fn connection(&mut self) -> Result<Pooled, Failure> {
        // Without a connection there is nothing to try again.
        self.is_fresh = true;
        let connection = self.pool.get().await?;
        self.is_fresh = Pooled::metrics(&connection).recycled.is_none();
        Ok(connection)
    }

    /// Whether to try again after this, if it changes nothing.
    pub(super) fn go_on_after(&self, failure: &Failure) -> bool {
        let (Failure::NotSent(cause) | Failure::Open(cause)) = failure else { return false };
        !self.is_fresh && !cause.is::<TimedOut>()
    }

    /// Whether to try again after this, whatever it changes: nothing was sent.
    pub(super) fn go_on_unsent(&self, failure: &Failure) -> bool {
        matches!(failure, Failure::NotSent(_)) && self.go_on_after(failure)
    }
}

/// Runs `$work`, which changes nothing, on a connection of the pool, and again where that was dead.
macro_rules! retrying {
    ($pool:expr, $connection:ident => $work:expr) => {{
        let mut attempts = $pool.attempts();
        loop {
            let outcome = match attempts.connection().await {
                Ok(mut pooled) => {
                    let $connection = &mut *pooled;
                    $work.await
                }
                Err(failure) => Err(failure),
            };
            match outcome {
                Err(failure) if attempts.go_on_after(&failure) => {}
                outcome => break outcome,
            }
        }
    }};
}
pub(super) use retrying;

impl Pool {
    /// See [`Attempts`].
    pub(super) fn attempts(&self) -> Attempts<'_> {
        Attempts { pool: self, is_fresh: true }
    }

    /// A pool of at most `most` connections, of which `keep` stay open when nobody needs them.
    pub(super) fn new(settings: &Arc<Settings>, keep: usize, most: usize) -> Self {
        let hosts = u32::try_from(settings.url.hosts().len()).unwrap_or(u32::MAX);
        let pool = managed::Pool::builder(Manager(Arc::clone(settings)))
            .max_size(most.max(1))
            // The warmest first: it has prepared what is needed, and the others grow idle.
            .queue_mode(QueueMode::Lifo)
            .wait_timeout(Some(settings.acquire_timeout))
            .create_timeout(Some(settings.connect_timeout.saturating_mul(2).saturating_mul(hosts)))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a runtime for the time limits is given");
        Self { pool, keep, idle_timeout: settings.idle_timeout }
    }

    /// A connection, at once or within the time limits.
    pub(super) async fn get(&self) -> Result<Pooled, Failure> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => Failure::NotSent(Arc::new(error)),
            PoolError::Timeout(TimeoutType::Wait) => Failure::NotSent(Arc::new(TimedOut("free a connection"))),
            PoolError::Timeout(_) => Failure::NotSent(Arc::new(TimedOut("open a session"))),
            error => Failure::NotSent(Arc::new(error)),
        })
    }

    /// A connection, if one is open or can be opened without waiting for others to end.
    pub(super) async fn try_get(&self) -> Option<Pooled> {
        let now = managed::Timeouts { wait: Some(Duration::ZERO), ..self.pool.timeouts() };
        self.pool.timeout_get(&now).await.ok()
    }

    /// Opens the connections that are always kept open.
    pub(super) async fn fill(&self) -> Result<(), Failure> {
        let mut open = Vec::new();
        for _ in 0..self.keep {
            open.push(self.get().await?);
        }
        Ok(())
    }

    /// Closes what has been idle for too long.
    pub(super) fn shrink(&self) {
        let mut spare = self.pool.status().size.saturating_sub(self.keep);
        self.pool.retain(|connection, metrics| {
            let stays = connection.is_clean() && (metrics.last_used() < self.idle_timeout || spare == 0);
            spare = spare.saturating_sub(usize::from(!stays));
            stays
        });
    }

    /// Closes all that is not in use, and the rest when it comes back.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}
