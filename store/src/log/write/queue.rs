//! The bounded queue in front of the sequencer.
//!
//! Overload is found by the age of the oldest append that waits ([`Overload`]). The bounds on the number of appends and
//! their bytes are for memory: an append that finds no room waits for it, and is refused if none comes free.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use eventodb_protocol::reply::Appended;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::overload::Overload;
use super::work::Work;
use crate::error::{Error, Result};
use crate::figures::{Counter, Figures};
use crate::settings::Settings;

/// How long an import waits for room. It holds one batch at a time, and would end half done.
const IMPORT_PATIENCE: Duration = Duration::from_secs(30);

/// An append that waits for the sequencer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) work: Work,
    arrived: Instant,
    reply: oneshot::Sender<Result<Done>>,
    /// Its room in the queue, free again once it is answered.
    _room: [OwnedSemaphorePermit; 2],
}

/// What the sequencer answers: a result, or the work itself if it has to be looked up again.
#[derive(Debug)]
pub(super) enum Done {
    /// One result per entry of the append.
    Appended(Vec<Appended>),
    /// The last global position of the import.
    Imported(i64),
    /// Nothing is decided: the conditions, or what it does to a group, are to be looked up once more.
    Outrun(Work),
}

impl Pending {
    /// Its batch was committed at this moment, and is shown to readers.
    pub(super) fn published(&self, committed: std::time::Instant) {
        if let Some(stages) = self.work.stages() {
            stages.published(committed);
        }
    }

    /// Answers the caller.
    pub(super) fn answer(self, result: Result<Done>) {
        // It fails if the caller went away.
        let _ = self.reply.send(result);
    }

    /// Gives the work back to the caller, who looks its conditions up once more.
    pub(super) fn give_back(self) {
        let _ = self.reply.send(Ok(Done::Outrun(self.work)));
    }
}

#[derive(Debug)]
struct Waiting {
    pending: VecDeque<Pending>,
    overload: Overload,
    /// When a run last began, or looked for appends.
    looked: Instant,
    /// How many have to wait until `Queue::enough` is told.
    awaited: Option<usize>,
}

impl Waiting {
    fn look(&mut self, now: Instant) {
        let oldest = self.pending.front().map(|pending| pending.arrived);
        self.overload.look(oldest, now);
    }
}

/// Appends in the order of their arrival, with room for a number of appends and a number of bytes.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Whether appends were refused for the age of earlier ones when that was looked at last.
    refused: AtomicBool,
    /// As many wait as [`Queue::holds`] was asked for.
    enough: Notify,
    appends: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    all_bytes: usize,
    patience: Duration,
    /// Whether the outcome of an earlier append is being found out, which holds up all others.
    is_settling: Arc<AtomicBool>,
    figures: Arc<Figures>,
}

impl Queue {
    /// An empty one. Whoever finds out the outcome of an earlier append says so by `is_settling`.
    pub(super) fn new(settings: &Settings, figures: Arc<Figures>, is_settling: Arc<AtomicBool>) -> Self {
        let all_bytes = settings.queue_bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let overload = Overload::new(settings.queue_target, settings.queue_interval);
        Self {
            waiting: Mutex::new(Waiting { pending: VecDeque::new(), overload, looked: Instant::now(), awaited: None }),
            refused: AtomicBool::new(false),
            enough: Notify::new(),
            appends: Arc::new(Semaphore::new(settings.queue_appends)),
            bytes: Arc::new(Semaphore::new(all_bytes)),
            all_bytes,
            patience: settings.queue_interval,
            is_settling,
            figures,
        }
    }

    /// Puts work into the queue; waits for room if there is none.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if earlier appends wait for too long, or if no room came free in time. If the reason is
    /// that the outcome of an earlier append is being found out: [`Error::Unavailable`].
    pub(super) async fn put(&self, work: Work) -> Result<oneshot::Receiver<Result<Done>>> {
        let bytes = work.size().clamp(1, self.all_bytes) as u32;
        let is_import = matches!(work, Work::Import(_));
        let room = match self.room_now(bytes) {
            Some(room) => room,
            None => {
                let patience = if is_import { self.patience.max(IMPORT_PATIENCE) } else { self.patience };
                // Boxed, because it is rare: all appends would carry the room for it.
                let room = Box::pin(tokio::time::timeout(patience, self.room(bytes)));
                room.await.map_err(|_| self.refuse(&self.figures.appends.refused_for_room))?
            }
        };
        let (reply, answer) = oneshot::channel();
        let arrived = Instant::now();
        let mut waiting = self.waiting.lock();
        // Each import has one batch here at most, and would end half done.
        if self.looks_overloaded(&mut waiting, arrived) && !is_import {
            drop(waiting);
            return Err(self.refuse(&self.figures.appends.refused_for_age));
        }
        if let Some(stages) = work.stages() {
            stages.queued(arrived.into_std());
        }
        waiting.pending.push_back(Pending { work, arrived, reply, _room: room });
        let is_enough = waiting.awaited.is_some_and(|awaited| waiting.pending.len() >= awaited);
        if is_enough {
            waiting.awaited = None;
        }
        drop(waiting);
        if is_enough {
            self.enough.notify_one();
        }
        Ok(answer)
    }

    /// Refuses an append that is not made yet, if [`Self::put`] would refuse it for the age of earlier ones. Where none is
    /// refused, this costs next to nothing.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(super) fn check_age(&self) -> Result<()> {
        if !self.refused.load(Relaxed) {
            return Ok(());
        }
        // If the lock is taken, its holder looks.
        let is_over =
            self.waiting.try_lock().is_some_and(|mut waiting| !self.looks_overloaded(&mut waiting, Instant::now()));
        if is_over { Ok(()) } else { Err(self.refuse(&self.figures.appends.refused_for_age)) }
    }

    fn looks_overloaded(&self, waiting: &mut Waiting, now: Instant) -> bool {
        waiting.look(now);
        let refuses = waiting.overload.refuses();
        if self.refused.load(Relaxed) != refuses {
            self.refused.store(refuses, Relaxed);
        }
        refuses
    }

    fn refuse(&self, reason: &Counter) -> Error {
        reason.increment();
        if self.is_settling.load(Relaxed) {
            return Error::unavailable("the outcome of an earlier write is being found out");
        }
        Error::Overloaded
    }

    fn room_now(&self, bytes: u32) -> Option<[OwnedSemaphorePermit; 2]> {
        let append = self.appends.clone().try_acquire_owned().ok()?;
        Some([append, self.bytes.clone().try_acquire_many_owned(bytes).ok()?])
    }

    async fn room(&self, bytes: u32) -> [OwnedSemaphorePermit; 2] {
        const OPEN: &str = "the semaphores are never closed";
        let append = self.appends.clone().acquire_owned().await.expect(OPEN);
        [append, self.bytes.clone().acquire_many_owned(bytes).await.expect(OPEN)]
    }

    /// Takes appends in order, up to these bounds in all. One that exceeds the bounds by itself is taken alone, and so
    /// is an import always.
    pub(super) fn take(&self, messages: usize, bytes: usize) -> Vec<Pending> {
        let mut waiting = self.waiting.lock();
        let (mut taken, mut taken_messages, mut taken_bytes) = (Vec::new(), 0, 0);
        let now = Instant::now();
        waiting.looked = now;
        if waiting.pending.is_empty() {
            return taken;
        }
        waiting.look(now);
        while let Some(next) = waiting.pending.front() {
            taken_messages += next.work.len();
            taken_bytes += next.work.size();
            let alone = matches!(next.work, Work::Import(_));
            if !taken.is_empty() && (alone || taken_messages > messages || taken_bytes > bytes) {
                break;
            }
            taken.extend(waiting.pending.pop_front());
            if alone {
                break;
            }
        }
        let left = waiting.pending.front().map(|pending| pending.arrived);
        waiting.overload.taken(left, now);
        drop(waiting);
        for pending in &taken {
            let waited = now.saturating_duration_since(pending.arrived);
            self.figures.appends.wait.observe(waited, now.into_std());
            if let Some(stages) = pending.work.stages() {
                stages.taken(now.into_std());
            }
        }
        taken
    }

    /// Waits until this number of appends wait. For one caller at a time.
    pub(super) async fn holds(&self, appends: usize) {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if waiting.pending.len() >= appends {
                    return;
                }
                waiting.awaited = Some(appends);
            }
            self.enough.notified().await;
        }
    }

    /// A run begins.
    pub(super) fn note_look(&self) {
        self.waiting.lock().looked = Instant::now();
    }

    /// The age of the oldest append that waits, or for how long a run has not looked for appends, if one is at work (`has_run`):
    /// the longer of both.
    pub(super) fn waits_for(&self, has_run: bool, now: Instant) -> Duration {
        let waiting = self.waiting.lock();
        let oldest = waiting.pending.front().map(|pending| pending.arrived);
        let looked = has_run.then_some(waiting.looked);
        let since = oldest.into_iter().chain(looked).min();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// How many appends wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().pending.len()
    }

    /// Whether no append waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().pending.is_empty()
    }
}
