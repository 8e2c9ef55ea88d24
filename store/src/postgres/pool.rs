//! Pools of connections. Reads and appends have different ones, so that neither can use up the other's.
//!
//! If PostgreSQL has no slot for one more session, callers share the sessions that exist. The pool withholds one seat
//! for each attempt that failed, so that the next caller waits for a session, and gives the seats back later. A pool that has
//! no session at all borrows one of another pool meanwhile.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, PoolError, QueueMode, RecycleError, RecycleResult, TimeoutType};
use futures_util::future::poll_immediate;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use super::error::{Failure, OpenError, TimedOut};
use super::guard::Guard;
use super::settings::Settings;
use crate::figures::{Gauge, Histogram, LATENCIES, PoolFigures};

/// A connection that goes back into its pool, or is closed if it is not clean.
#[derive(Debug)]
pub(super) struct Pooled {
    // Dropped first, so that the caller who gets the seat finds the connection in the pool.
    connection: managed::Object<Manager>,
    _seat: OwnedSemaphorePermit,
    /// The seat in the pool that has borrowed it.
    _borrower: Option<OwnedSemaphorePermit>,
}

impl Pooled {
    /// Whether it was opened for this caller.
    fn is_fresh(&self) -> bool {
        managed::Object::metrics(&self.connection).recycled.is_none()
    }
}

impl Deref for Pooled {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// Connections to one database.
#[derive(Debug)]
pub(super) struct Pool {
    pool: managed::Pool<Manager>,
    /// One permit for each connection that the pool may have, less the withheld seats.
    seats: Arc<Semaphore>,
    withheld: AtomicUsize,
    patience: Duration,
    keep: usize,
    idle_timeout: Duration,
    /// Lends sessions while this pool has none.
    lender: Option<Arc<Pool>>,
    /// Whether PostgreSQL had no slot for the first session of this pool when it was asked last.
    borrows: AtomicBool,
    /// Callers that wait.
    waiting: Gauge,
    /// How long callers waited for a connection that they got.
    acquire: Histogram,
}

/// Opens connections and looks whether a used one may be used again.
#[derive(Debug)]
pub(super) struct Manager {
    settings: Arc<Settings>,
    /// What each new connection has to pass.
    guard: Option<Arc<Guard>>,
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = OpenError;

    async fn create(&self) -> Result<Connection, OpenError> {
        let mut connection = Connection::open(&self.settings).await?;
        if let Some(guard) = &self.guard {
            guard.check(&mut connection).await?;
        }
        Ok(connection)
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<OpenError> {
        connection.settle().await;
        if connection.is_clean() { Ok(()) } else { Err(RecycleError::message("not clean")) }
    }
}

/// Attempts at a call that changes nothing, until one is made on a connection that was opened for it. After a restart
/// of PostgreSQL all connections in the pool are dead.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    pool: &'a Pool,
    is_fresh: bool,
}

impl Attempts<'_> {
    /// A connection for the next attempt.
    pub(super) async fn connection(&mut self) -> Result<Pooled, Failure> {
        // If none can be had, it is no use to try again.
        self.is_fresh = true;
        let connection = self.pool.get().await?;
        self.is_fresh = connection.is_fresh();
        Ok(connection)
    }

    /// Whether to try again after this, if it changes nothing.
    pub(super) fn go_on_after(&self, failure: &Failure) -> bool {
        let (Failure::NotSent(cause) | Failure::Open(cause)) = failure else { return false };
        !self.is_fresh && !cause.is::<TimedOut>()
    }

    /// Whether to try again after this, also a call that changes something, because nothing was sent.
    pub(super) fn go_on_unsent(&self, failure: &Failure) -> bool {
        matches!(failure, Failure::NotSent(_)) && self.go_on_after(failure)
    }
}

/// Runs `$work`, which changes nothing, on a connection of the pool, and again if that one was dead.
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

    /// A pool of at most `most` connections, of which `keep` stay open while they are idle.
    pub(super) fn new(settings: &Arc<Settings>, keep: usize, most: usize) -> Self {
        Self::guarded(settings, None, keep, most)
    }

    /// The same, of connections that a guard lets pass.
    pub(super) fn guarded(settings: &Arc<Settings>, guard: Option<Arc<Guard>>, keep: usize, most: usize) -> Self {
        let hosts = u32::try_from(settings.url.hosts().len()).unwrap_or(u32::MAX);
        let pool = managed::Pool::builder(Manager { settings: Arc::clone(settings), guard })
            .max_size(most.max(1))
            // The one that was used last comes first: it has prepared its statements, and the others become idle.
            .queue_mode(QueueMode::Lifo)
            .wait_timeout(Some(settings.acquire_timeout))
            .create_timeout(Some(settings.connect_timeout.saturating_mul(2).saturating_mul(hosts)))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a runtime for the time limits is given");
        Self {
            pool,
            seats: Arc::new(Semaphore::new(most.max(1))),
            withheld: AtomicUsize::new(0),
            patience: settings.acquire_timeout,
            keep,
            idle_timeout: settings.idle_timeout,
            lender: None,
            borrows: AtomicBool::new(false),
            waiting: Gauge::default(),
            acquire: Histogram::new(LATENCIES),
        }
    }

    /// The same pool. As long as it has no session, and PostgreSQL no slot for one, it uses those of `lender`, which borrows
    /// none itself; no more of them at once than it may have of its own.
    pub(super) fn borrowing(self, lender: &Arc<Self>) -> Self {
        Self { lender: Some(Arc::clone(lender)), ..self }
    }

    /// A connection, at once or within the time limits.
    pub(super) async fn get(&self) -> Result<Pooled, Failure> {
        let _waiting = self.waiting.present();
        let asked = Instant::now();
        let deadline = asked + self.patience;
        let connection = match &self.lender {
            Some(lender) if self.borrows.load(Ordering::Relaxed) => self.borrow(lender, deadline).await?,
            lender => match (self.own(deadline).await, lender) {
                (Err(failure), Some(lender)) if is_no_slot(&failure) => {
                    self.borrows.store(true, Ordering::Relaxed);
                    self.borrow(lender, deadline).await?
                }
                (connection, _) => connection?,
            },
        };
        self.acquire.observe_duration(asked.elapsed());
        Ok(connection)
    }

    /// A connection of this pool's own.
    async fn own(&self, deadline: Instant) -> Result<Pooled, Failure> {
        loop {
            let seat = self.seat(deadline).await?;
            let pool = self.pool.clone();
            match to_its_end(async move { (pool.get().await, seat) }).await? {
                (Ok(connection), seat) => return Ok(Pooled { connection, _seat: seat, _borrower: None }),
                (Err(PoolError::Backend(OpenError::NoSlot { .. })), seat) if self.withhold() => seat.forget(),
                (Err(error), _) => return Err(not_sent(error)),
            }
        }
    }

    async fn borrow(&self, lender: &Self, deadline: Instant) -> Result<Pooled, Failure> {
        let seat = self.seat(deadline).await?;
        let lent = lender.own(deadline).await?;
        Ok(Pooled { _borrower: Some(seat), ..lent })
    }

    async fn seat(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        let seat = timeout_at(deadline, Arc::clone(&self.seats).acquire_owned()).await;
        seat.map_err(|_| Failure::NotSent(Arc::new(TimedOut("free a connection"))))?
            .map_err(|closed| Failure::NotSent(Arc::new(closed)))
    }

    /// What there is to tell of the pool under this name.
    pub(super) fn figures(&self, name: &'static str) -> PoolFigures {
        let status = self.pool.status();
        PoolFigures {
            name,
            most: status.max_size,
            open: status.size,
            idle: status.available,
            waiting: self.waiting.get(),
            acquire: self.acquire.distribution(),
        }
    }

    /// A connection, if one is open or can be opened without waiting for others to end.
    pub(super) async fn try_get(&self) -> Option<Pooled> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        let now = managed::Timeouts { wait: Some(Duration::ZERO), ..self.pool.timeouts() };
        let connection = self.pool.timeout_get(&now).await.ok()?;
        Some(Pooled { connection, _seat: seat, _borrower: None })
    }

    /// Withholds a seat, but leaves one for each session that exists.
    fn withhold(&self) -> bool {
        let status = self.pool.status();
        let most = status.max_size.saturating_sub(status.size.max(1));
        let more = |withheld| (status.size > 0 && withheld < most).then_some(withheld + 1);
        self.withheld.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Gives the withheld seats back: PostgreSQL may have slots again.
    fn give_back(&self) {
        self.borrows.store(false, Ordering::Relaxed);
        self.seats.add_permits(self.withheld.swap(0, Ordering::SeqCst));
    }

    /// Opens the connections that are always kept open.
    pub(super) async fn fill(&self) -> Result<(), Failure> {
        let mut open = Vec::new();
        for _ in 0..self.keep {
            open.push(self.get().await?);
        }
        Ok(())
    }

    /// Closes connections that have been idle for too long, and gives the withheld seats back.
    pub(super) fn shrink(&self) {
        self.give_back();
        let mut spare = self.pool.status().size.saturating_sub(self.keep);
        self.pool.retain(|connection, metrics| {
            let stays = connection.is_clean() && (metrics.last_used() < self.idle_timeout || spare == 0);
            spare = spare.saturating_sub(usize::from(!stays));
            stays
        });
    }

    /// Closes all idle connections, and the others when they come back.
    pub(super) fn close(&self) {
        self.pool.close();
        self.seats.close();
    }
}

/// Polls a future to its end, also if the caller leaves. The session that was being opened for it then serves the next
/// caller. Otherwise callers who come and go would make PostgreSQL open one session after the other, and use none.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Failure> {
    let mut work = Box::pin(work);
    match poll_immediate(&mut work).await {
        // A session was open.
        Some(outcome) => Ok(outcome),
        None => tokio::spawn(work).await.map_err(|error| Failure::NotSent(Arc::new(error))),
    }
}

/// Whether no session could be had because PostgreSQL has no slot for one.
fn is_no_slot(failure: &Failure) -> bool {
    matches!(failure, Failure::NotSent(cause) if matches!(cause.downcast_ref(), Some(OpenError::NoSlot { .. })))
}

fn not_sent(error: PoolError<OpenError>) -> Failure {
    match error {
        PoolError::Backend(error) => Failure::NotSent(Arc::new(error)),
        PoolError::Timeout(TimeoutType::Wait) => Failure::NotSent(Arc::new(TimedOut("free a connection"))),
        PoolError::Timeout(_) => Failure::NotSent(Arc::new(TimedOut("open a session"))),
        error => Failure::NotSent(Arc::new(error)),
    }
}
