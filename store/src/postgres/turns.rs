//! Turns between servers that write to one log.
//!
//! The compare-and-set alone is correct. But of two servers that write at once, one loses each race and has to plan its
//! batch again, and the server that is farther from the database would lose them all. After a lost race a server
//! therefore takes a lock of the database, follows the others, writes undisturbed the appends that wait, and gives the
//! lock back. The others notice the lock with their next append, which then counts as a lost race, and wait for their
//! turn. The lock is advisory: a server that cannot take it within 250 ms appends without it, and loses races at worst.
//! Any role of the database can hold it; a server that waited in vain logs which sessions do.

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
use crate::error::Chain;
use crate::model::Incarnation;

/// A server waits for its turns for this long after it met another server.
const CONTENDED: Duration = Duration::from_secs(2);
/// How long a turn lasts at most.
const LONGEST: Duration = Duration::from_millis(8);
/// A turn with nothing more to append ends after this time, and not earlier, because taking one costs as much as a few
/// batches.
const SHORTEST: Duration = Duration::from_millis(4);
/// Before that, an idle turn is kept for this long, because clients that were just answered may have more to append.
const IDLE: Duration = Duration::from_millis(1);
/// How long a server waits for its turn.
const WAIT: Duration = Duration::from_millis(250);
/// How often the holders of a lock are logged, if they hold it for longer than a turn.
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
    own: Arc<Own>,
}

/// This server's part in the turns of a log.
#[derive(Debug, Default)]
struct Own {
    state: Mutex<State>,
    /// Told when an append begins or ends, and when nothing more waits.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    contended_until: Option<Instant>,
    phase: Phase,
    /// The server waited in vain, and appends without a turn until then.
    impatient_until: Option<Instant>,
    /// Number of appends that are under way.
    appends: usize,
    /// Whether nothing more waits to be appended.
    is_resting: bool,
    /// Number of the batch that this server wrote last.
    written: Option<i64>,
    /// When the holders of the lock were logged last.
    said: Option<Instant>,
}

/// The phase of this server's turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The server has no turn.
    #[default]
    Without,
    /// The server has its turn, and has written nothing yet.
    Begun,
    /// The server has its turn.
    Within,
    /// The server gives its turn back once the appends that are under way have ended.
    Ending,
}

impl State {
    fn is_impatient(&self, now: Instant) -> bool {
        self.impatient_until.is_some_and(|until| now < until)
    }
}

/// An append that is under way. If it is dropped, it has ended too, and it is not known how: a run that panicked let go of
/// it.
#[derive(Debug)]
#[must_use = "a turn waits for the appends that are under way"]
pub(super) struct UnderWay<'a> {
    own: &'a Own,
    /// Whether it may disregard other servers' turns.
    pub(super) turn: Turn,
}

/// Whether an append may disregard other servers' turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It may, because the server has its turn or has waited for it long enough.
    Own,
    /// It may not; but no other server was met of late.
    Free,
}

impl Turns {
    pub(super) fn new(log: Incarnation) -> Self {
        Self { log, own: Arc::default() }
    }

    /// An append begins, of the batch after the one of this number.
    pub(super) fn begin(&self, after: i64) -> UnderWay<'_> {
        let (now, mut state) = (Instant::now(), self.own.state.lock());
        state.appends += 1;
        state.is_resting = false;
        if state.phase == Phase::Begun {
            state.phase = Phase::Within;
            // Nobody else wrote between this server's last turn and this one, so that there is no need for turns.
            if state.written == Some(after) {
                state.contended_until = None;
            }
        }
        // Until this server gives its own lock back, an append would take it for another server's.
        let is_own = state.phase != Phase::Without || state.is_impatient(now);
        drop(state);
        self.own.changed.notify_one();
        UnderWay { own: &self.own, turn: if is_own { Turn::Own } else { Turn::Free } }
    }

    /// A run of the sequencer has ended, so that nothing more is to be appended for now. The next run may have begun
    /// an append already.
    pub(super) fn rest(&self) {
        let mut state = self.own.state.lock();
        state.is_resting = state.appends == 0;
        drop(state);
        self.own.changed.notify_one();
    }

    /// Whether this server has to wait for its turn, because it met another one of late.
    pub(super) fn is_to_wait(&self) -> bool {
        let (now, state) = (Instant::now(), self.own.state.lock());
        let is_contended = state.contended_until.is_some_and(|until| now < until);
        is_contended && !matches!(state.phase, Phase::Begun | Phase::Within) && !state.is_impatient(now)
    }

    /// Waits for this server's turn, or until it may append without. The lock is at the node that the pool connects to,
    /// where the appends look for it; `permits` bounds the connections that the turns of all logs there take from the
    /// appends'.
    pub(super) async fn wait(&self, pool: &Arc<Pool>, permits: &Arc<Semaphore>) {
        let patience = match Arc::clone(permits).try_acquire_owned() {
            // The turns of other logs have all connections.
            Err(_) => LONGEST,
            Ok(permit) => {
                let (taken, is_taken) = oneshot::channel();
                // A task of its own, because the lock outlives the append that took it.
                tokio::spawn(Arc::clone(&self.own).hold(self.log, Arc::clone(pool), permit, taken));
                match timeout(WAIT, is_taken).await {
                    Ok(Ok(())) => return,
                    // The holder of the lock is stuck: not each append shall wait for it.
                    _ => CONTENDED,
                }
            }
        };
        self.own.state.lock().impatient_until = Some(Instant::now() + patience);
    }
}

impl UnderWay<'_> {
    /// The append has ended. `written` is the number of its batch, if that may be written; `None` if another server wrote
    /// first, or has its turn.
    pub(super) fn end(self, written: Option<i64>) {
        let mut state = self.own.state.lock();
        match written {
            Some(_) => state.written = written,
            None => state.contended_until = Some(Instant::now() + CONTENDED),
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.own.state.lock().appends -= 1;
        self.own.changed.notify_one();
    }
}

/// Begins a transaction that has the lock of a log's turns.
async fn take(connection: &mut Connection, log: Incarnation) -> Result<(), Failure> {
    connection.begin().await?;
    let limit = WAIT.as_millis().to_string();
    connection.query(TAKE_TURN.on_registry(), &[&log.0, &limit]).await?;
    Ok(())
}

/// The sessions that have held the lock of a log's turns for longer than a turn lasts.
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
    /// Takes the lock, says so, and gives it back after a turn, or at once if nobody waits for it any more.
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
            // The connection is not clean and will be closed, which gives the lock back.
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
            tracing::debug!(error = %Chain(&error), log = log.0, "cannot end a turn");
        }
        let mut state = self.state.lock();
        // The next turn may have begun meanwhile.
        if state.phase == Phase::Ending {
            state.phase = Phase::Without;
        }
    }

    /// Logs which sessions have the lock, but for another server within its turn.
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

    /// Waits until the turn is over, and no append is under way that would make the next server lose a race.
    async fn last(&self) {
        let _ = timeout(LONGEST, self.is_over()).await;
        self.state.lock().phase = Phase::Ending;
        let _ = timeout(LONGEST, self.until(|state| state.appends == 0)).await;
    }

    /// Waits until it is no use to keep the turn any longer.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_whose_run_panics_has_ended() {
        let turns = Turns::new(Incarnation(1));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let first = turns.begin(1);
            let _second = turns.begin(2);
            first.end(Some(2));
            panic!("a test");
        }));
        assert!(panicked.is_err());
        let state = turns.own.state.lock();
        assert_eq!(state.appends, 0, "a turn waits for no append that is gone");
        assert_eq!(state.written, Some(2));
        assert!(state.contended_until.is_none(), "nobody else was met");
    }

    #[test]
    fn an_append_ends_once() {
        let turns = Turns::new(Incarnation(1));
        let (first, second) = (turns.begin(1), turns.begin(2));
        assert_eq!((first.turn, second.turn), (Turn::Free, Turn::Free));
        first.end(Some(2));
        assert_eq!(turns.own.state.lock().appends, 1);
        second.end(None);
        assert_eq!(turns.own.state.lock().appends, 0);
        assert!(turns.is_to_wait(), "another server wrote first");
    }
}
