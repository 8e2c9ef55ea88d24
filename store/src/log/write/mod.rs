//! Writing a log: appends wait in a bounded queue, and runs of the sequencer commit them.
//!
//! **Invariants**
//! - At most one run is scheduled or at work. An append that waits always has one: whoever puts an append into the
//!   queue schedules a run if there is none, and a run that ends looks once more.
//! - Only a run moves the known head, shows messages, and plans on versions that are remembered.
//! - What was accepted is answered, also if its caller is gone or the gate was shut meanwhile.
//!
//! An append with conditions, or one that acts on a group, is looked up before it waits, and may have to go round once
//! more: see `conditions` and `deeds`.
//!
//! No timer gathers appends: while one batch commits, the next gathers.
//!
//! **Lock order:** the sequencer, then any of the queue's, the known head's and the window's. Nobody holds two of the
//! latter, and nobody but a run waits for anything while it holds one.

mod commit;
mod conditions;
mod deeds;
mod follow;
mod gate;
mod overload;
mod plan;
mod queue;
mod quota;
mod searches;
mod stages;
mod standing;
#[cfg(test)]
mod tests;
mod versions;
mod work;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use eventodb_protocol::message::Message;
use eventodb_protocol::reply::Appended;
use eventodb_protocol::request::Append;
use futures_util::future::FutureExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::commit::Sequencer;
use self::deeds::{Deed, Rounds};
use self::follow::Follower;
use self::gate::Gate;
use self::queue::{Done, Queue};
pub use self::stages::{Stages, Times};
use self::work::{NewMessages, Work};
use super::base::Base;
use crate::error::{Error, Result};
use crate::groups::Allowed;
use crate::model::Head;
use crate::storage::Appender;

/// How long an append waits until this server has followed to what it speaks of.
const FOLLOW_WITHIN: Duration = Duration::from_secs(10);
/// The pause after a run that panicked.
const AFTER_A_PANIC: Duration = Duration::from_millis(100);

/// Takes a log's appends, and follows what other servers append.
pub(crate) struct Writer {
    base: Arc<Base>,
    gate: Gate,
    queue: Queue,
    follower: Arc<Follower>,
    sequencer: tokio::sync::Mutex<Sequencer>,
    /// Whether a run is scheduled or at work.
    is_running: AtomicBool,
    /// Told whenever a run ends and leaves nothing to do.
    idle: Notify,
}

impl Writer {
    /// The writer of a log that ends at `head`.
    pub(super) fn new(base: Arc<Base>, appender: Box<dyn Appender>, head: Head) -> Self {
        let follower = Arc::new(Follower::new(Arc::clone(&base), head));
        let is_settling = Arc::default();
        let sequencer = Sequencer::new(Arc::clone(&base), appender, Arc::clone(&follower), Arc::clone(&is_settling));
        Self {
            gate: Gate::default(),
            queue: Queue::new(&base.settings, Arc::clone(&base.figures), is_settling),
            follower,
            sequencer: tokio::sync::Mutex::new(sequencer),
            is_running: AtomicBool::new(false),
            idle: Notify::new(),
            base,
        }
    }

    /// Appends atomically; one result per entry. It acts on its group only if it is one of the `allowed` ones.
    ///
    /// # Errors
    /// As [`super::Log::append`].
    pub(super) async fn append(self: &Arc<Self>, append: Append, allowed: &Allowed) -> Result<Vec<Appended>> {
        self.append_traced(append, allowed, None).await
    }

    /// As [`Self::append`]. The stages are told when it passes them.
    ///
    /// # Errors
    /// As [`super::Log::append`].
    pub(super) async fn append_traced(
        self: &Arc<Self>,
        append: Append,
        allowed: &Allowed,
        stages: Option<Arc<Stages>>,
    ) -> Result<Vec<Appended>> {
        let new = NewMessages { stages, ..NewMessages::from(append) };
        if new.sight.is_some() {
            self.base.figures.appends.conditional.increment();
        }
        let mut work = Work::Append(new);
        let mut rounds = Rounds::default();
        loop {
            if let Work::Append(new) = &mut work {
                if let Some(sight) = &mut new.sight {
                    sight.look(&self.base).await?;
                }
                if let Some(form) = &new.append.group {
                    new.deed = Some(Box::new(Deed::look(form, allowed, self).await?));
                }
            }
            match self.write(work).await? {
                Done::Appended(results) => return Ok(results),
                Done::Outrun(again) => {
                    self.base.figures.appends.rounds.increment();
                    if let Some(form) = again.form() {
                        rounds.next(&self.base, &form.group).await?;
                    }
                    work = again;
                }
                Done::Imported(_) => unreachable!("an append is answered as an append"),
            }
        }
    }

    /// Refuses an append that is not made yet, if it would be refused because earlier ones wait for too long.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::Unavailable`].
    pub(super) fn check_age(&self) -> Result<()> {
        self.queue.check_age()
    }

    /// Appends records that keep their positions and times. Returns the global position of the last one.
    ///
    /// # Errors
    /// As [`super::Log::import`].
    pub(super) async fn import(self: &Arc<Self>, records: Vec<Message>) -> Result<i64> {
        match self.write(Work::Import(records)).await? {
            Done::Imported(head) => Ok(head),
            Done::Appended(_) | Done::Outrun(_) => unreachable!("an import is answered as an import"),
        }
    }

    async fn write(self: &Arc<Self>, work: Work) -> Result<Done> {
        self.base.window.open_or_closed()?;
        self.gate.pass()?;
        let answer = self.queue.put(work).await?;
        self.schedule();
        answer.await.map_err(|_| Error::unknown("the sequencer stopped"))?
    }

    /// Whether changes are taken.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Replacing`].
    pub(super) fn may_change(&self) -> Result<()> {
        self.base.window.open_or_closed()?;
        self.gate.pass()
    }

    /// Refuses new appends from now on; those that were accepted go on.
    pub(crate) fn refuse(&self) {
        self.gate.shut();
    }

    /// Whether new appends are refused because another incarnation is to take this one's place.
    pub(crate) fn set_replacing(&self, is_replacing: bool) {
        self.gate.set_replacing(is_replacing);
    }

    /// Whether appends are refused because what the namespace holds is being replaced, be it through another server.
    ///
    /// # Errors
    /// As [`crate::storage::Storage::is_being_replaced`].
    pub(super) async fn is_being_replaced(&self) -> Result<bool> {
        self.base.window.open_or_closed()?;
        Ok(self.gate.is_replacing() || self.base.storage.is_being_replaced().await?)
    }

    /// Whether this server shows everything up to a position, which it follows to if another server has written it.
    async fn shows(self: &Arc<Self>, position: i64) -> Result<bool> {
        if position <= self.base.window.head() || !self.base.is_shared {
            return Ok(position <= self.base.window.head());
        }
        let head = self.base.storage.head().await?.position;
        if position > head {
            return Ok(false);
        }
        self.hint(head);
        let shown = tokio::time::timeout(FOLLOW_WITHIN, self.base.window.shows(position)).await;
        shown.unwrap_or_else(|_| Err(Error::unavailable("this server could not follow the log")))?;
        Ok(true)
    }

    /// Waits until everything that was accepted is answered.
    pub(crate) async fn drain(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            // Before looking, so that a run that ends in between is not missed.
            idle.as_mut().enable();
            if self.queue.is_empty() && !self.is_running.load(SeqCst) {
                return;
            }
            idle.await;
        }
    }

    /// How many appends wait for the sequencer.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// The age of the oldest append that waits, or for how long a run has begun no batch: the longer of both.
    pub(crate) fn waits_for(&self) -> Duration {
        let has_run = self.is_running.load(SeqCst);
        self.queue.waits_for(has_run, Instant::now())
    }

    /// Where this server knows the log to end.
    pub(crate) fn known(&self) -> Head {
        self.follower.head()
    }

    /// Lets no run go on until the result is dropped.
    #[cfg(test)]
    pub(crate) async fn hold(&self) -> impl Drop {
        self.sequencer.lock().await
    }

    /// Whether a run has yet to ask the database for more.
    #[cfg(test)]
    pub(crate) fn is_behind(&self) -> bool {
        self.follower.is_behind()
    }

    /// Whether appends wait that no batch has taken up.
    #[cfg(test)]
    pub(crate) fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Other servers have written up to `position`, it is said: a run follows, if that is news.
    pub(crate) fn hint(self: &Arc<Self>, position: i64) {
        if self.follower.hint(position) {
            self.schedule();
        }
    }

    /// The known head may be wrong: a run asks the database.
    pub(super) fn suspect(self: &Arc<Self>) {
        self.follower.suspect();
        self.schedule();
    }

    /// Has a run start, if none is scheduled or at work.
    fn schedule(self: &Arc<Self>) {
        if !self.is_running.swap(true, SeqCst) {
            self.queue.note_look();
            self.base.storage.spawn(Box::pin(Arc::clone(self).run()));
        }
    }

    /// One run. If it panics, which is a fault of this program, its callers get no answer, and the log goes on.
    async fn run(self: Arc<Self>) {
        let running = async { self.sequencer.lock().await.run(&self.queue).await };
        if AssertUnwindSafe(running).catch_unwind().await.is_err() {
            tracing::error!(namespace = %self.base.namespace, "a run of the sequencer panicked: what it did is looked up");
            self.sequencer.lock().await.forget();
            self.follower.suspect();
            tokio::time::sleep(AFTER_A_PANIC).await;
        }
        self.is_running.store(false, SeqCst);
        if !self.queue.is_empty() || self.follower.is_behind() {
            self.schedule();
        } else {
            self.idle.notify_waiters();
        }
    }
}
