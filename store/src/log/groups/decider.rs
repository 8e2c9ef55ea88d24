//! Decides calls on groups: loads what has changed, decides in memory, stores what the decisions changed.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::group::Epoch;
use rand::RngExt as _;

use super::renewals::Renewals;
use super::slot::{Decided, Job, Slot};
use super::watch::Watch;
use crate::error::{Error, Result};
use crate::groups::{Change, Group, Moment};
use crate::log::base::Base;
use crate::log::known::{self, KnownGroup};
use crate::log::read::Reader;
use crate::log::write::Writer;
use crate::storage::groups::{Looked, Version};

/// How often a decision is made again because others were first.
const ATTEMPTS: u32 = 100;
/// Decisions that others were faster than, one after the other, before they are asked to give way: a server with a longer
/// way to the database would always be late.
const LOST: u32 = 8;
/// The longest pause before it is made again.
const PAUSE: Duration = Duration::from_millis(20);

/// What every decision about the groups of one log stands on.
pub(super) struct Decider {
    pub(super) base: Arc<Base>,
    pub(super) reader: Arc<Reader>,
    pub(super) writer: Arc<Writer>,
    pub(super) watch: Watch,
    pub(super) renewals: Renewals,
}

impl Decider {
    /// Decides calls together, and answers them. Returns whether they could be decided.
    pub(super) async fn decide(&self, slot: &Slot, mut jobs: Vec<Box<dyn Job>>) -> bool {
        let outcome = self.try_decide(slot, &mut jobs).await;
        self.answer(slot, jobs, &outcome);
        outcome.is_ok()
    }

    /// Answers calls that were decided together.
    pub(super) fn answer(&self, slot: &Slot, jobs: Vec<Box<dyn Job>>, outcome: &Result<Decided>) {
        if let Err(Error::GroupNotFound | Error::Unknown(_) | Error::Closed) = outcome {
            // The group is gone, or a change may be stored after all.
            slot.known.forget();
        }
        if outcome.is_ok() {
            let fenced = jobs.iter().filter(|job| job.is_fenced()).count();
            self.base.figures.groups.fenced.add(fenced as u64);
        }
        for job in jobs {
            job.finish(outcome.clone());
        }
    }

    async fn try_decide(&self, slot: &Slot, jobs: &mut [Box<dyn Job>]) -> Result<Decided> {
        let gone: Vec<Arc<str>> = jobs.iter().flat_map(|job| job.gone().iter().cloned()).collect();
        for attempt in 0..ATTEMPTS {
            let turn = slot.known.turn.lock().await;
            let groups = &self.base.groups;
            let remembered = groups.remember(&slot.known, &gone, self.base.window.head()).filter(|_| attempt == 0);
            let is_remembered = remembered.is_some();
            let (version, mut group, mut at) = match remembered {
                Some(remembered) => {
                    self.writer.may_change()?;
                    remembered
                }
                None => self.look(&slot.known, gone.clone()).await?,
            };
            let before = at.last_epoch;
            let generation = group.generation();
            group.fit(&mut at);
            let members = group.members();
            group.expire(&mut at);
            let expired = members.saturating_sub(group.members());
            for job in &mut *jobs {
                job.decide(&mut group, &mut at);
            }
            if is_remembered && at.last_epoch != before {
                // New epochs follow the last one of the namespace, which the database has.
                continue;
            }
            self.base.pauses.at("before a decision is stored").await;
            if let Some(decided) = self.store(slot, version, group, before, at, jobs).await? {
                let figures = &self.base.figures.groups;
                figures.expired.add(expired as u64);
                let rebalances = decided.group.generation().saturating_sub(generation);
                figures.rebalances.add(u64::try_from(rebalances).unwrap_or_default());
                return Ok(decided);
            }
            drop(turn);
            if (attempt + 1).is_multiple_of(LOST) {
                self.base.groups.storage.want(&slot.known.name);
            }
            self.pause(attempt).await;
        }
        Err(Error::unavailable("other servers change the group all the time"))
    }

    /// The group as it is now, with the version that it has.
    async fn look(&self, known: &KnownGroup, gone: Vec<Arc<str>>) -> Result<(Version, Group, Moment)> {
        self.writer.may_change()?;
        let looked = self.base.groups.look(known, gone, self.base.window.head()).await;
        looked.inspect_err(|error| self.close_after(error))
    }

    /// What the database says about a group, of which nothing is known.
    ///
    /// # Errors
    /// As [`crate::storage::groups::GroupStorage::look`].
    pub(super) async fn ask(&self, name: &Arc<str>) -> Result<Looked> {
        self.writer.may_change()?;
        let looked = self.base.groups.ask(name, None, Vec::new(), self.base.window.head()).await;
        looked.inspect_err(|error| self.close_after(error))
    }

    /// If the log was deleted through another server, the next call finds what is there instead.
    fn close_after(&self, error: &Error) {
        if matches!(error, Error::Closed) {
            self.base.window.close();
        }
    }

    /// Stores what was decided. `None` if another change was first.
    async fn store(
        &self,
        slot: &Slot,
        version: Version,
        group: Group,
        before: Epoch,
        at: Moment,
        jobs: &mut [Box<dyn Job>],
    ) -> Result<Option<Decided>> {
        let at = Arc::new(at);
        let changes = group.changes();
        if changes.is_empty() {
            return Ok(Some(Decided { group: Arc::new(group), at }));
        }
        let is_news = !changes.only_renew();
        let storage = &self.base.groups.storage;
        let version = if is_news || storage.lease_clock().is_none() {
            jobs.iter_mut().for_each(|job| job.foresee(&group, &at));
            let (name, stamp) = (&slot.known.name, known::stamp());
            let change = Change::new(name, Some(version), stamp, &group, before, &at);
            // Until its outcome is known.
            slot.known.doubt();
            match storage.change(change).await? {
                Some(version) => version,
                None => return Ok(None),
            }
        } else {
            version
        };
        Ok(Some(stored(slot, version, group, at, is_news)))
    }

    /// Waits a little before the next attempt, so that servers do not stay in step.
    pub(super) async fn pause(&self, attempt: u32) {
        let longest = PAUSE.min(Duration::from_millis(1) * 2u32.saturating_pow(attempt.min(6)));
        let part: f64 = rand::rng().random();
        tokio::time::sleep(longest.mul_f64(part)).await;
    }
}

/// A decision is stored: the group has this version from now on.
pub(super) fn stored(slot: &Slot, version: Version, mut group: Group, at: Arc<Moment>, is_news: bool) -> Decided {
    group.settle();
    let group = Arc::new(group);
    slot.keep_told(&group);
    slot.known.learn(version, Arc::clone(&group), is_news);
    Decided { group, at }
}
