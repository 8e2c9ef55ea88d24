//! Heartbeats that only renew leases, of many groups together: one question and one commit for all of them.
//!
//! A group of which a heartbeat comes to more than that is decided by itself, without waiting for the others: it has
//! changed, it is being decided about, a membership has ended, or epochs are to be given.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::decider::{Decider, stored};
use super::slot::{Decided, Job, Slot};
use crate::error::Result;
use crate::groups::{Change, Group, Moment};
use crate::log::known;
use crate::storage::groups::Version;

/// How often heartbeats are decided together: the first one after a pause at once, those that follow it after this time.
const EVERY: Duration = Duration::from_millis(100);
/// A group is decided at once if one of its leases ends within this time, in milliseconds.
const URGENT_MS: i64 = 1_000;
/// Groups that are decided together, at most.
const GROUPS: usize = 64;
/// How long the question about them may take: one connection may be dead, another one is not.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// How long it may take to store them. Without an answer each group is decided from what is stored. Of two changes of one
/// state the later one is refused, so that it does not matter whether this one was made.
const STORED_WITHIN: Duration = Duration::from_secs(2);

type Slots = Vec<Arc<Slot>>;

/// The groups with heartbeats that wait for those of others.
#[derive(Default)]
pub(super) struct Renewals(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Each once.
    slots: Slots,
    /// Whether a task decides them.
    is_running: bool,
    /// When they are decided next.
    next: Option<Instant>,
    /// Those before them, if the database took longer.
    slow: Option<JoinHandle<()>>,
}

/// The calls of one group that are being decided. Those that have no answer when it is dropped are decided by themselves.
struct Run {
    decider: Arc<Decider>,
    slot: Arc<Slot>,
    jobs: Vec<Box<dyn Job>>,
}

/// A group as it is known, while nobody else decides about it.
struct Held {
    turn: OwnedMutexGuard<()>,
    version: Version,
    group: Arc<Group>,
    run: Run,
}

/// A decision that only renews leases.
struct Renewed {
    turn: OwnedMutexGuard<()>,
    version: Version,
    group: Group,
    at: Arc<Moment>,
    run: Run,
}

impl Decider {
    /// Decides what waits for a group soon, together with other groups, unless it has to be decided at once.
    pub(super) fn renew_soon(self: &Arc<Self>, slot: &Arc<Slot>) {
        if self.is_urgent(slot) || !self.base.groups.storage.renews_together() {
            return slot.hurry(self);
        }
        let mut waiting = self.renewals.0.lock();
        if waiting.is_held_up() {
            drop(waiting);
            return slot.hurry(self);
        }
        if !slot.list() {
            return;
        }
        waiting.slots.push(Arc::clone(slot));
        if !waiting.is_running {
            waiting.is_running = true;
            tokio::spawn(decide_soon(Arc::clone(self)));
        }
    }

    /// Whether a lease of the group ends soon, as far as is known.
    fn is_urgent(&self, slot: &Slot) -> bool {
        let end = slot.known.last_seen().and_then(|group| group.next_end());
        end.is_none_or(|end| end <= self.base.groups.about_now().saturating_add(URGENT_MS))
    }

    /// Decides what waits for these groups, together as far as it only renews leases.
    async fn decide_together(self: Arc<Self>, slots: Slots) {
        let mut held: Vec<Held> = slots.into_iter().filter_map(|slot| self.hold(slot)).collect();
        if held.is_empty() || self.writer.may_change().is_err() {
            return;
        }
        // In the order in which they are stored.
        held.sort_unstable_by(|one, other| one.run.name().cmp(other.run.name()));
        let known: Vec<_> = held.iter().map(|held| (Arc::clone(held.run.name()), held.version)).collect();
        // Where it has no good answer, each group has one of its own.
        let compared = timeout(ANSWERED_WITHIN, self.base.groups.compare(&known)).await;
        let Ok(Ok(Some((changed, at)))) = compared else { return };
        let same = held.into_iter().filter(|held| !changed.contains(held.run.name()));
        let renewed: Vec<Renewed> = same.filter_map(|held| held.decide(at.clone())).collect();
        if renewed.is_empty() {
            return;
        }
        self.base.pauses.at("before a decision is stored").await;
        let changes = renewed.iter().map(Renewed::change).collect();
        // Without an answer, or with an error of which one group may be the reason, each is decided by itself.
        let stored = timeout(STORED_WITHIN, self.base.groups.storage.renew(changes)).await;
        if let Ok(Ok(versions)) = stored {
            renewed.into_iter().zip(versions).for_each(|(renewed, version)| renewed.end(version));
        }
    }

    /// A group with calls that wait, if it is certainly known and nobody decides about it.
    fn hold(self: &Arc<Self>, slot: Arc<Slot>) -> Option<Held> {
        let jobs = slot.begin_with()?;
        let run = Run { decider: Arc::clone(self), slot, jobs };
        let turn = Arc::clone(&run.slot.known.turn).try_lock_owned().ok()?;
        let named: Vec<Arc<str>> = run.jobs.iter().flat_map(|job| job.gone().iter().cloned()).collect();
        let (version, group) = run.slot.known.certain(&named)?;
        Some(Held { turn, version, group, run })
    }
}

impl Run {
    fn name(&self) -> &Arc<str> {
        &self.slot.known.name
    }

    fn answer(mut self, outcome: &Result<Decided>) {
        self.decider.answer(&self.slot, std::mem::take(&mut self.jobs), outcome);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Outside of the runtime nobody waits any more.
        if Handle::try_current().is_ok() {
            self.slot.go_on(&self.decider, std::mem::take(&mut self.jobs));
        }
    }
}

impl Held {
    /// Decides the calls; if they change nothing, they are answered. `None` if there is nothing to be stored, or more than
    /// leases.
    fn decide(self, mut at: Moment) -> Option<Renewed> {
        let Self { turn, version, group, mut run } = self;
        let (mut group, before) = (Group::clone(&group), at.last_epoch);
        group.fit(&mut at);
        group.expire(&mut at);
        for job in &mut run.jobs {
            job.decide(&mut group, &mut at);
        }
        let changes = group.changes();
        if at.last_epoch != before || !changes.only_renew() {
            drop(turn);
            return None;
        }
        let at = Arc::new(at);
        if changes.is_empty() {
            drop(turn);
            run.answer(&Ok(Decided { group: Arc::new(group), at }));
            return None;
        }
        // Until its outcome is known.
        run.slot.known.doubt();
        Some(Renewed { turn, version, group, at, run })
    }
}

impl Renewed {
    fn change(&self) -> Change {
        Change::new(self.run.name(), Some(self.version), known::stamp(), &self.group, self.at.last_epoch, &self.at)
    }

    /// Answers the calls once the decision is stored with this version. If there is none, somebody else was first, and they
    /// are decided again.
    fn end(self, version: Option<Version>) {
        let Self { turn, group, at, run, .. } = self;
        let decided = version.map(|version| stored(&run.slot, version, group, at, false));
        drop(turn);
        if let Some(decided) = decided {
            run.answer(&Ok(decided));
        }
    }
}

/// Decides what waits, as long as something does.
async fn decide_soon(decider: Arc<Decider>) {
    let every = if decider.base.groups.has_test_clock() { Duration::ZERO } else { EVERY };
    loop {
        let next = decider.renewals.0.lock().next.unwrap_or_else(Instant::now);
        sleep_until(next).await;
        let Some((together, alone)) = decider.renewals.take(every, |slot| decider.is_urgent(slot)) else { return };
        alone.iter().for_each(|slot| slot.hurry(&decider));
        let mut deciding = tokio::spawn(Arc::clone(&decider).decide_together(together));
        if timeout(EVERY, &mut deciding).await.is_err() {
            decider.renewals.0.lock().slow = Some(deciding);
        }
    }
}

impl Waiting {
    /// Whether the database, or a connection, is slow: what comes now does not wait for it.
    fn is_held_up(&self) -> bool {
        self.slow.as_ref().is_some_and(|slow| !slow.is_finished())
    }
}

impl Renewals {
    /// The groups that are decided next, and those that are not to wait any longer. `None` if there are neither: the task
    /// ends.
    fn take(&self, every: Duration, is_urgent: impl Fn(&Slot) -> bool) -> Option<(Slots, Slots)> {
        let mut waiting = self.0.lock();
        if waiting.slots.is_empty() {
            waiting.is_running = false;
            return None;
        }
        let is_held_up = waiting.is_held_up();
        let (alone, mut together): (Slots, Slots) =
            std::mem::take(&mut waiting.slots).into_iter().partition(|slot| is_held_up || is_urgent(slot));
        waiting.slots = together.split_off(together.len().min(GROUPS));
        alone.iter().chain(&together).for_each(|slot| slot.unlist());
        waiting.next = Some(Instant::now() + if waiting.slots.is_empty() { every } else { Duration::ZERO });
        Some((together, alone))
    }
}
