//! Turns between servers that write to one log.
//!
//! The compare-and-set alone is right, but of two servers that write at once one loses each race and has
//! to decide its batch again; the one that is farther from the database would lose them all. After a
//! lost race a server therefore takes a lock of the database, follows the others, writes undisturbed what
//! waits, and gives the lock back.
//! The others notice that lock with their next append, which then counts as a lost race, and wait for theirs.
//! The lock is advisory: a server that cannot take it within 250 ms appends without it, and loses races at worst.
//! Any role of the database can hold it; a server that waited in vain says who does.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::connection::{Connection, GRACE};
use super::error::Failure;
use super::pool::Pool;
use super::statement::{TAKE_TURN, TURN_HOLDERS};
use crate::model::Incarnation;

/// For how long after it met another one a server waits for its turn before it writes.
const CONTENDED: Duration = Duration::from_secs(2);
/// How long a turn lasts at most.
const LONGEST: Duration = Duration::from_millis(8);
/// After so long it ends where nothing more waits. Not before: to take one costs as much as a few batches.
const SHORTEST: Duration = Duration::from_millis(4);
/// How long before that it is kept for those who were just answered and may have more to append.
const IDLE: Duration = Duration::from_millis(1);
/// How long a server waits for its turn.
const WAIT: Duration = Duration::from_millis(250);
/// How often it is said who holds a lock for longer than a turn.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// A session that holds the lock of a log's turns.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: i32,
    pub(super) user: String,
    pub(super) application: String,
}

/// The turns of one log.
#[derive(Debug)]
pub(super) struct Turns {
    log: Incarnation,
    /// Bounds the connections that all logs' turns take from the appends'.
    permits: Arc<Semaphore>,
    own: Arc<Own>,
}

/// What this server has to do with the turns of a log.
#[derive(Debug, Default)]
struct Own {
    state: Mutex<State>,
    /// An append begins or has ended, or nothing more waits.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    contended_until: Option<Instant>,
    phase: Phase,
    /// It waited in vain, and goes on without.
    impatient_until: Option<Instant>,
    /// Appends that are under way.
    appends: usize,
    /// Nothing more waits to be appended.
    is_resting: bool,
    /// Number of the batch that this server wrote last.
    written: Option<i64>,
    /// When it was said who holds the lock.
    said: Option<Instant>,
}

/// How this server stands to its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// It has none.
    #[default]
    Without,
    /// It has it, and has written nothing yet.
    Begun,
    /// It has it.
    Within,
    /// It gives it back once the appends that are under way have ended.
    Ending,
}

impl State {
    fn is_impatient(&self, now: Instant) -> bool {
        self.impatient_until.is_some_and(|until| now < until)
    }
}

/// Whether an append may disregard other servers' turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It may: it has its own, or has waited for it long enough.
    Own,
    /// Another's would come first; nobody has met here of late.
    Free,
}

impl Turns {
    pub(super) fn new(log: Incarnation, permits: Arc<Semaphore>) -> Self {
        Self { log, permits, own: Arc::default() }
    }

    /// An append begins, of the batch after the one of this number.
    pub(super) fn begin(&self, after: i64) -> Turn {
        let (now, mut state) = (Instant::now(), self.own.state.lock());
        state.appends += 1;
        state.is_resting = false;
        if state.phase == Phase::Begun {
            state.phase = Phase::Within;
            // Nobody else wrote between this server's last turn and this one: there is nobody to take turns with.
            if state.written == Some(after) {
                state.contended_until = None;
            }
        }
        // Until the lock is given back, this server's own would pass for another's.
        let is_own = state.phase != Phase::Without || state.is_impatient(now);
        drop(state);
        self.own.changed.notify_one();
        if is_own { Turn::Own } else { Turn::Free }
    }

    /// An append has ended, and has written the batch of this number, as far as it is known; without one, another
    /// server wrote first, or has its turn.
    pub(super) fn end(&self, written: Option<i64>) {
        let mut state = self.own.state.lock();
        state.appends -= 1;
        match written {
            Some(_) => state.written = written,
            None => state.contended_until = Some(Instant::now() + CONTENDED),
        }
        drop(state);
        self.own.changed.notify_one();
    }

    /// Nothing more is to be appended for now.
    pub(super) fn rest(&self) {
        self.own.state.lock().is_resting = true;
        self.own.changed.notify_one();
    }

    /// Whether another server was met of late, and this one's turn has to come first.
    pub(super) fn is_to_wait(&self) -> bool {
        let (now, state) = (Instant::now(), self.own.state.lock());
        let is_contended = state.contended_until.is_some_and(|until| now < until);
        is_contended && !matches!(state.phase, Phase::Begun | Phase::Within) && !state.is_impatient(now)
    }

    /// Waits for this server's turn, or long enough.
    pub(super) async fn wait(&self, pool: &Arc<Pool>) {
        let patience = match Arc::clone(&self.permits).try_acquire_owned() {
            // Other logs' turns have the connections.
            Err(_) => LONGEST,
            Ok(permit) => {
                let (taken, is_taken) = oneshot::channel();
                // A task of its own, as the lock outlives the append that took it.
                tokio::spawn(Arc::clone(&self.own).hold(self.log, Arc::clone(pool), permit, taken));
                match timeout(WAIT, is_taken).await {
                    Ok(Ok(())) => return,
                    // Somebody holds the lock who is stuck: not to be waited for with each append.
                    _ => CONTENDED,
                }
            }
        };
        self.own.state.lock().impatient_until = Some(Instant::now() + patience);
    }
}

/// Begins a transaction that has the lock of a log's turns.
async fn take(connection: &mut Connection, log: Incarnation) -> Result<(), Failure> {
    connection.begin().await?;
    let limit = WAIT.as_millis().to_string();
    connection.query(TAKE_TURN.on_registry(), &[&log.0, &limit]).await?;
    Ok(())
}

/// Who has held the lock of a log's turns for longer than a turn lasts.
pub(super) async fn holders(connection: &mut Connection, log: Incarnation) -> Result<Vec<Holder>, Failure> {
    let longest = WAIT.as_secs_f64() * 1_000.0 / 2.0;
    let rows = connection.query(TURN_HOLDERS.on_registry(), &[&log.0, &longest]).await?;
    let holder = |row: &Row| Holder {
        pid: row.get(0),
        user: row.get::<_, Option<String>>(1).unwrap_or_default(),
        application: row.get::<_, Option<String>>(2).unwrap_or_default(),
    };
    Ok(rows.iter().map(holder).collect())
}

impl Own {
    /// Takes the lock, says so, and gives it back after a turn; at once where nobody waits for it any more.
    async fn hold(
        self: Arc<Self>,
        log: Incarnation,
        pool: Arc<Pool>,
        permit: OwnedSemaphorePermit,
        taken: oneshot::Sender<()>,
    ) {
        let Some(mut connection) = pool.try_get().await else { return };
        match timeout(WAIT + GRACE, take(&mut connection, log)).await {
            Ok(Ok(())) => self.use_turn(&mut connection, log, taken).await,
            Ok(Err(failure)) if failure.state().is_some_and(|state| *state == SqlState::LOCK_NOT_AVAILABLE) => {
                self.say_who_holds(&mut connection, log).await;
            }
            // The connection is not clean, is closed, and the lock goes with it.
            _ => {}
        }
        drop(connection);
        drop(permit);
    }

    /// Keeps the lock for a turn if somebody waits for it, and gives it back.
    async fn use_turn(&self, connection: &mut Connection, log: Incarnation, taken: oneshot::Sender<()>) {
        {
            let mut state = self.state.lock();
            (state.phase, state.is_resting) = (Phase::Begun, false);
        }
        if taken.send(()).is_ok() {
            self.last().await;
        }
        self.state.lock().phase = Phase::Ending;
        if let Err(error) = connection.commit().await {
            tracing::debug!(%error, log = log.0, "cannot end a turn");
        }
        let mut state = self.state.lock();
        // The next turn may have begun meanwhile.
        if state.phase == Phase::Ending {
            state.phase = Phase::Without;
        }
    }

    /// Says who has the lock, if that is not another server within its turn.
    async fn say_who_holds(&self, connection: &mut Connection, log: Incarnation) {
        let found = async {
            connection.rollback().await?;
            holders(connection, log).await
        };
        let Ok(found) = found.await else { return };
        let mut state = self.state.lock();
        if found.is_empty() || state.said.is_some_and(|said| said.elapsed() < SAY_EVERY) {
            return;
        }
        state.said = Some(Instant::now());
        for Holder { pid, user, application } in found {
            tracing::warn!(
                log = log.0,
                pid,
                user,
                application,
                "a session holds the lock by which servers take turns to write: writes go on without it"
            );
        }
    }

    /// Waits until a turn is over, and nothing is under way any more that would make the next server lose a race.
    async fn last(&self) {
        let _ = timeout(LONGEST, self.is_over()).await;
        self.state.lock().phase = Phase::Ending;
        let _ = timeout(LONGEST, self.until(|state| state.appends == 0)).await;
    }

    /// Waits until it is not worth while to go on with a turn.
    async fn is_over(&self) {
        let begun = Instant::now();
        loop {
            self.until(|state| state.is_resting).await;
            if begun.elapsed() >= SHORTEST || timeout(IDLE, self.until(|state| !state.is_resting)).await.is_err() {
                return;
            }
        }
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        while !holds(&self.state.lock()) {
            self.changed.notified().await;
        }
    }
}
