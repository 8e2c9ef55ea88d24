//! Heartbeats that only renew leases, of many groups together: one question and one commit for all of them.
//!
//! A group whose heartbeat is more than that is decided by itself, at once: because it has changed, a decision about it
//! is under way, a membership has ended, or epochs are to be given.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep_until};

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
const TOGETHER: usize = 64;

/// The groups with heartbeats that wait.
#[derive(Default)]
pub(super) struct Renewals(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    slots: Vec<Arc<Slot>>,
    /// Whether a task decides them.
    is_running: bool,
    /// When they are decided next.
    next: Option<Instant>,
}

/// A group whose calls are decided with those of others.
struct Renewal {
    slot: Arc<Slot>,
    jobs: Vec<Box<dyn Job>>,
}

/// A group as it is known, while nobody else decides about it.
struct Held<'a> {
    renewal: &'a mut Renewal,
    version: Version,
    group: Arc<Group>,
    turn: OwnedMutexGuard<()>,
}

/// A decision that only renews leases.
struct Renewed<'a> {
    renewal: &'a mut Renewal,
    version: Version,
    group: Group,
    at: Arc<Moment>,
    _turn: OwnedMutexGuard<()>,
}

impl Decider {
    /// Decides what waits for a group soon, together with other groups, unless it has to be decided at once.
    pub(super) fn renew_soon(self: &Arc<Self>, slot: &Arc<Slot>) {
        let groups = &self.base.groups;
        let end = slot.known.last_seen().and_then(|group| group.next_end());
        let may_wait = end.is_some_and(|end| end > groups.about_now().saturating_add(URGENT_MS));
        // Where memory has the leases, there is nothing to be stored together.
        if !may_wait || groups.storage.lease_clock().is_some() {
            return slot.hurry(self);
        }
        let mut waiting = self.renewals.0.lock();
        waiting.slots.push(Arc::clone(slot));
        if !waiting.is_running {
            waiting.is_running = true;
            tokio::spawn(renew_all(Arc::clone(self)));
        }
    }

    /// Decides what waits for these groups.
    async fn renew(self: &Arc<Self>, mut slots: Vec<Arc<Slot>>) {
        // Each once, in the order in which they are stored.
        slots.sort_unstable_by(|one, other| one.known.name.cmp(&other.known.name));
        slots.dedup_by(|one, other| one.known.name == other.known.name);
        let begun = slots.into_iter().filter(|slot| slot.begin());
        let mut renewals: Vec<Renewal> = begun.map(|slot| Renewal { jobs: slot.take(), slot }).collect();
        if AssertUnwindSafe(self.renew_together(&mut renewals)).catch_unwind().await.is_err() {
            tracing::error!(namespace = %self.base.namespace, "a decision about groups panicked");
            for Renewal { slot, jobs } in &mut renewals {
                jobs.clear();
                slot.known.forget();
            }
        }
        for Renewal { slot, jobs } in renewals {
            slot.go_on(self, jobs);
        }
    }

    /// Decides, stores and answers the calls that only renew leases, and leaves all others as they are.
    async fn renew_together(&self, renewals: &mut [Renewal]) {
        let held: Vec<Held<'_>> = renewals.iter_mut().filter_map(Renewal::hold).collect();
        if held.is_empty() || self.writer.may_change().is_err() {
            return;
        }
        let known: Vec<_> = held.iter().map(|held| (Arc::clone(&held.renewal.slot.known.name), held.version)).collect();
        // Whoever decides about a single group meets an error, too, and answers with it.
        let Ok(Some((changed, at))) = self.base.groups.compare(&known).await else { return };
        let same = held.into_iter().filter(|held| !changed.contains(&held.renewal.slot.known.name));
        let renewed: Vec<Renewed<'_>> = same.filter_map(|held| self.renew_one(held, at.clone())).collect();
        if renewed.is_empty() {
            return;
        }
        self.base.pauses.at("before a decision is stored").await;
        let outcome = self.base.groups.storage.renew(renewed.iter().map(Renewed::change).collect()).await;
        for (place, renewed) in renewed.into_iter().enumerate() {
            let version = outcome.as_ref().map(|versions| versions.get(place).copied().flatten());
            self.end(renewed, version.map_err(Clone::clone));
        }
    }

    /// Decides the calls of one group; those that change nothing are answered. `None` if there is nothing to be stored, or
    /// more than leases.
    fn renew_one<'a>(&self, held: Held<'a>, mut at: Moment) -> Option<Renewed<'a>> {
        let Held { renewal, version, group, turn } = held;
        let (mut group, before) = (Group::clone(&group), at.last_epoch);
        group.fit(&mut at);
        group.expire(&mut at);
        for job in &mut renewal.jobs {
            job.decide(&mut group, &mut at);
        }
        let changes = group.changes();
        if at.last_epoch != before || !changes.only_renew() {
            return None;
        }
        let at = Arc::new(at);
        if changes.is_empty() {
            let decided = Decided { group: Arc::new(group), at };
            self.answer(&renewal.slot, std::mem::take(&mut renewal.jobs), &Ok(decided));
            return None;
        }
        // Until its outcome is known.
        renewal.slot.known.doubt();
        Some(Renewed { renewal, version, group, at, _turn: turn })
    }

    /// Answers the calls of a group whose decision was stored with this version, or could not be. If somebody else has
    /// changed it, they are decided again.
    fn end(&self, renewed: Renewed<'_>, version: Result<Option<Version>>) {
        let Renewed { renewal: Renewal { slot, jobs }, group, at, _turn, .. } = renewed;
        let Some(version) = version.transpose() else { return };
        let outcome = version.map(|version| stored(slot, version, group, at, false));
        self.answer(slot, std::mem::take(jobs), &outcome);
    }
}

impl Renewal {
    /// The group as it is known, if that is certain and nobody decides about it.
    fn hold(&mut self) -> Option<Held<'_>> {
        let turn = Arc::clone(&self.slot.known.turn).try_lock_owned().ok()?;
        let named: Vec<Arc<str>> = self.jobs.iter().flat_map(|job| job.gone().iter().cloned()).collect();
        let (version, group) = self.slot.known.certain(&named)?;
        (!self.jobs.is_empty()).then_some(Held { renewal: self, version, group, turn })
    }
}

impl Renewed<'_> {
    fn change(&self) -> Change {
        let name = &self.renewal.slot.known.name;
        Change::new(name, Some(self.version), known::stamp(), &self.group, self.at.last_epoch, &self.at)
    }
}

/// Decides what waits, as long as something does.
async fn renew_all(decider: Arc<Decider>) {
    let every = if decider.base.groups.has_test_clock() { Duration::ZERO } else { EVERY };
    loop {
        let next = decider.renewals.0.lock().next.unwrap_or_else(Instant::now);
        sleep_until(next).await;
        let slots = {
            let mut waiting = decider.renewals.0.lock();
            let count = waiting.slots.len().min(TOGETHER);
            if count == 0 {
                waiting.is_running = false;
                return;
            }
            let slots: Vec<_> = waiting.slots.drain(..count).collect();
            waiting.next = Some(Instant::now() + if waiting.slots.is_empty() { every } else { Duration::ZERO });
            slots
        };
        decider.renew(slots).await;
    }
}
