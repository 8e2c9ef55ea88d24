//! Turns between servers that write to one log.
//!
//! The compare-and-set alone is right, but of two servers that write at once one loses each race and has
//! to decide its batch again; the one that is farther from the database would lose them all. After a
//! lost race a server therefore takes a lock of the database, follows the others, writes undisturbed what
//! waits, and gives the lock back.
//! The others notice that lock with their next append, which then counts as a lost race, and wait for theirs.
//! The lock is only manners: whoever does not get it in time goes on without.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout};

use super::pool::Pool;
use super::statement::TAKE_TURN;
use crate::backend::Incarnation;

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
        let locked = async {
            connection.begin().await?;
            connection.query(TAKE_TURN.on_registry(), &[&log.0]).await
        };
        if timeout(WAIT, locked).await.is_ok_and(|outcome| outcome.is_ok()) {
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
        // Otherwise the connection is not clean, is closed, and the lock goes with it.
        drop(connection);
        drop(permit);
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
