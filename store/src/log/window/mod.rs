//! The window: everything that readers may see of a log without asking the storage. It holds where the log ends for
//! them, its newest messages, and who waits for more.
//!
//! **Invariants**
//! - The head never passes a message that a reader could miss: when it moves, the messages up to it are in the tail,
//!   or the tail begins anew behind them and they are read from the storage.
//! - The tail holds every message after its start up to the head. [`Window::read`] checks that under the lock under
//!   which it copies.
//! - A waiter is woken about each message of its scope above the head that it saw when it registered, because the head
//!   moves under the lock under which waiters register.
//! - A closed window shows nothing more, and does not open again.
//!
//! **Lock order:** topics, waiters of one topic, tail, head. Whoever holds one of them takes only later ones.

mod tail;
mod topics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_protocol::{Scope, Timestamp};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use tail::Budget;
pub(super) use tail::{Found, Tail};
pub(super) use topics::{Topics, Waiter};

use crate::error::{Error, Result};
use crate::model::{Entry, Select};

/// What readers may see of one log. See the module for its invariants.
#[derive(Debug)]
pub(super) struct Window {
    tail: RwLock<Tail>,
    topics: Topics,
    /// Global position up to which readers may see.
    head: watch::Sender<i64>,
    closed: CancellationToken,
}

impl Window {
    /// The window of a log that ends at `head`: it holds none of its messages yet, and at most `most` later.
    pub(super) fn new(head: i64, most: usize, budget: Arc<Budget>) -> Self {
        Self {
            tail: RwLock::new(Tail::new(head, most, budget)),
            topics: Topics::new(head),
            head: watch::Sender::new(head),
            closed: CancellationToken::new(),
        }
    }

    /// Shows committed messages to readers, and wakes everybody who waits for one of them.
    pub(super) fn show(&self, entries: &[Arc<Entry>]) {
        let Some(last) = entries.last() else { return };
        let now = Instant::now();
        entries.iter().for_each(|entry| entry.set_shown_at(now));
        self.topics.publish(entries, || {
            self.tail.write().push(entries);
            self.head.send_replace(last.message().global_position);
        });
    }

    /// Moves the head over messages that were not read, or back to an earlier one, and wakes everybody.
    pub(super) fn skip_to(&self, head: i64) {
        self.topics.publish_unseen(head, || {
            self.tail.write().restart(head);
            self.head.send_replace(head);
        });
    }

    /// Global position of the last message that readers can see; 0 where there is none.
    pub(super) fn head(&self) -> i64 {
        *self.head.borrow()
    }

    /// Waits until everything up to `position` is shown.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(super) async fn shows(&self, position: i64) -> Result<()> {
        let mut head = self.head.subscribe();
        tokio::select! {
            shown = head.wait_for(|head| *head >= position) => shown.map(|_| ()).map_err(|_| Error::Closed),
            () = self.closed() => Err(Error::Closed),
        }
    }

    /// The slice, if all of it is in memory; `select.to` is at most the head.
    pub(super) fn read(&self, select: &Select) -> Option<Found> {
        self.tail.read().read(select)
    }

    /// Position of the last message of a stream, if that message is in memory.
    pub(super) fn version(&self, stream: &str) -> Option<i64> {
        self.tail.read().version(stream)
    }

    /// The messages in memory of those above a global position, and the position above which they are all.
    pub(super) fn after(&self, position: i64) -> (i64, Vec<Arc<Entry>>) {
        self.tail.read().after(position)
    }

    /// Whether every message above this global position is in memory.
    pub(super) fn reaches_back_to(&self, position: i64) -> bool {
        self.tail.read().reaches_back_to(position)
    }

    /// The global position at which a read from a time on begins, if it is known from memory.
    pub(super) fn position_at(&self, time: Timestamp) -> Option<i64> {
        self.tail.read().position_at(time)
    }

    /// Registers a waiter for the messages of a scope above the head as it is now.
    pub(super) fn register(&self, scope: &Scope) -> Waiter {
        self.topics.register(scope, || self.head())
    }

    /// How many messages the slowest subscription that has something to read is behind the head.
    pub(super) fn lag(&self) -> i64 {
        self.topics.slowest().map_or(0, |cursor| self.head() - cursor).max(0)
    }

    /// As [`super::Log::stuck_subscriptions`].
    pub(super) fn stuck_subscriptions(&self, least: Duration, now: Instant) -> usize {
        self.topics.stuck(least, now)
    }

    /// Whether somebody waits for messages.
    pub(super) fn is_watched(&self) -> bool {
        !self.topics.is_empty()
    }

    /// Shows nothing more: reads fail and subscriptions end.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits until it is closed.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// # Errors
    /// [`Error::Closed`] if it is closed.
    pub(super) fn open_or_closed(&self) -> Result<()> {
        if self.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }
}
