//! Turns between servers that write to one log.
//!
//! The compare-and-set alone is right, but of two servers that write at once one loses each race and has
//! to decide its batch again; the one that is farther from the database would lose them all. After a
//! lost race a server therefore takes a lock of the database for a short while and writes undisturbed.
//! The others notice that lock with their next append, which then counts as a lost race, and wait for theirs.
//! The lock is only manners: whoever does not get it in time goes on without.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::pool::Pool;
use super::statement::TAKE_TURN;
use crate::backend::Incarnation;

/// For how long after a lost race a server waits for its turn before it writes.
const CONTENDED: Duration = Duration::from_secs(2);
/// How long a turn lasts at most.
const TURN: Duration = Duration::from_millis(25);
/// A turn in which nothing is written for so long is over.
const IDLE: Duration = Duration::from_millis(2);
/// How long a server waits for its turn.
const WAIT: Duration = Duration::from_millis(250);

/// The turns of one log.
#[derive(Debug)]
pub(super) struct Turns {
    log: Incarnation,
    /// Bounds the connections that all logs' turns take from the appends'.
    permits: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    contended_until: Option<Instant>,
    /// Whether this server has its turn.
    has_turn: bool,
    /// It waited in vain, and goes on without.
    impatient_until: Option<Instant>,
    /// Whether an append is under way, or about to be tried again, and when the last one was done.
    appending: bool,
    done: Option<Instant>,
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
        Self { log, permits, state: Arc::default() }
    }

    /// Another server wrote first, or has its turn.
    pub(super) fn lost(&self) {
        self.state.lock().contended_until = Some(Instant::now() + CONTENDED);
    }

    /// The append is done that [`Turns::wait`] was called for.
    pub(super) fn done(&self) {
        let mut state = self.state.lock();
        state.appending = false;
        state.done = Some(Instant::now());
    }

    /// Waits for this server's turn, where there was a lost race of late.
    pub(super) async fn wait(&self, pool: &Arc<Pool>) -> Turn {
        let now = Instant::now();
        {
            let mut state = self.state.lock();
            state.appending = true;
            if state.has_turn || state.impatient_until.is_some_and(|until| now < until) {
                return Turn::Own;
            }
            if state.contended_until.is_none_or(|until| now >= until) {
                return Turn::Free;
            }
        }
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else { return Turn::Own };
        let (taken, is_taken) = oneshot::channel();
        // A task of its own, as the lock outlives the append that took it.
        tokio::spawn(hold(self.log, Arc::clone(pool), permit, taken, Arc::clone(&self.state)));
        if !matches!(timeout(WAIT, is_taken).await, Ok(Ok(()))) {
            // Somebody holds the lock who is stuck: not to be waited for with each append.
            self.state.lock().impatient_until = Some(Instant::now() + CONTENDED);
        }
        Turn::Own
    }
}

/// Takes the lock, says so, and gives it back after a turn; at once where nobody waits for it any more.
async fn hold(
    log: Incarnation,
    pool: Arc<Pool>,
    permit: OwnedSemaphorePermit,
    taken: oneshot::Sender<()>,
    state: Arc<Mutex<State>>,
) {
    let Some(mut connection) = pool.try_get().await else { return };
    let locked = async {
        connection.begin().await?;
        connection.query(TAKE_TURN.on_registry(), &[&log.0]).await
    };
    if timeout(WAIT, locked).await.is_ok_and(|outcome| outcome.is_ok()) {
        state.lock().has_turn = true;
        if taken.send(()).is_ok() {
            until_over(&state).await;
            if let Err(error) = connection.commit().await {
                tracing::debug!(%error, log = log.0, "cannot end a turn");
            }
        }
        // Not before: an append of its own would take the lock for another's.
        state.lock().has_turn = false;
    }
    // Otherwise the connection is not clean, is closed, and the lock goes with it.
    drop(connection);
    drop(permit);
}

/// Waits until a turn has lasted long enough, or is not needed any more.
async fn until_over(state: &Mutex<State>) {
    let end = Instant::now() + TURN;
    loop {
        sleep(IDLE).await;
        let now = Instant::now();
        let state = state.lock();
        let is_idle = !state.appending && state.done.is_none_or(|done| now >= done + IDLE);
        if is_idle || now >= end {
            return;
        }
    }
}
