//! Reads and heartbeats.
//!
//! At most one read is under way. While messages of parked streams are in hand, a read does not wait: the next call
//! about such a stream waits for its reply. If the read were given up, what it hands out would come again after a
//! session only.
//!
//! A heartbeat is sent a third of a session after the last call that succeeded. Heartbeats have connections of their
//! own, and one that hangs does not hold up the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use eventodb_protocol::group::Epoch;
use eventodb_protocol::group::reply::{GroupStatus, Heartbeat};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::{End, Event, Membership, ending, ending_of_read, lists_of, until_answered};
use crate::error::{Error, Result};
use crate::group::{GroupPage, MemberCall, Presented, ReadGroup};
use crate::retry::{Backoff, RetryPolicy};
use crate::worker::WorkerError;
use crate::worker::group::context::Mode;
use crate::worker::group::holds::{Asked, Lists};

/// How long a read waits that is to end the worker if nothing comes, while something is in hand; and one that leaves out
/// partitions.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long a read of a worker without partitions waits that ends once the group has caught up.
const STAND_BY: Duration = Duration::from_secs(1);
/// Most heartbeats under way. A further one waits for the end of the first, which has a time limit.
const BEATS: usize = 3;

/// A read that is under way.
pub(super) struct Reading {
    number: u64,
    asked: Asked,
    /// Partitions that it leaves out.
    left_out: BTreeSet<u32>,
    /// It does not wait.
    is_brief: bool,
    task: AbortHandle,
}

/// A heartbeat that is under way.
pub(super) struct Beat {
    number: u64,
    asked: Asked,
}

/// Failures of one kind of call, which do not hold up the other kind.
pub(super) struct Way {
    /// No such call begins before, after one has failed.
    pub(super) not_before: Instant,
    backoff: Backoff,
}

impl Way {
    pub(super) fn new(now: Instant) -> Self {
        let policy = RetryPolicy { first: Duration::from_millis(50), ..RetryPolicy::forever() };
        Self { not_before: now, backoff: policy.start() }
    }

    /// Returns whether calls had failed before.
    fn succeeded(&mut self) -> bool {
        let had_failed = self.backoff.failures() > 0;
        if had_failed {
            self.backoff.reset();
        }
        had_failed
    }

    fn failed(&mut self, error: &Error, longest: Duration) {
        let wait = self.backoff.next_wait(error.retry_after()).unwrap_or_default();
        self.not_before = Instant::now() + wait.min(longest);
    }
}

impl<M: Mode> Membership<'_, M> {
    pub(super) fn start_read(&mut self, now: Instant) {
        let room = self.settings.page.saturating_sub(self.holds.in_hand());
        let may = self.read.is_none() && !self.is_stopping;
        if !may || room == 0 || now < self.reads.not_before {
            return;
        }
        let mut after = self.holds.after();
        let retried = self.holds.with_retries();
        let mut left_out: BTreeSet<u32> = self.quiet.keys().copied().collect();
        if M::ONE_AT_A_TIME {
            // The next handler may commit that a parked stream flows.
            left_out.extend(&retried);
        }
        left_out.retain(|number| after.contains_key(number));
        after.retain(|number, _| !left_out.contains(number));
        if after.is_empty() && !left_out.is_empty() {
            return;
        }
        let wait = match self.settings.until_caught_up {
            _ if !retried.is_subset(&left_out) => Duration::ZERO,
            true if !self.holds.has_partitions() => STAND_BY.min(self.interval()),
            true if self.is_idle() => Duration::ZERO,
            false if left_out.is_empty() => self.interval(),
            _ => LOOK_AGAIN.min(self.interval()),
        };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(0);
        let read = ReadGroup {
            heartbeat: MemberCall { wait_ms, ..self.member_call(now) },
            batch_size: u32::try_from(room).ok(),
            partitions: (!left_out.is_empty()).then(|| after.keys().copied().collect()),
            after,
        };
        let asked = Asked { after: read.after.clone(), ..asked(now, &read.heartbeat) };
        let (group, member, number) = (self.groups.calls.clone(), self.member.clone(), self.next_number());
        let task = self.events.spawn(async move { Event::Read(number, group.read(&member, &read).await) });
        let is_brief = wait.is_zero();
        self.read = Some(Reading { number, asked, left_out, is_brief, task });
    }

    /// Gives up the read that is under way: its reply would not count.
    pub(super) fn drop_read(&mut self) {
        if let Some(reading) = self.read.take() {
            reading.task.abort();
            self.holds.not_told(&reading.asked);
        }
    }

    /// From here on no read of a partition begins.
    pub(super) fn hush(&mut self, partition: u32) {
        *self.quiet.entry(partition).or_default() += 1;
    }

    /// When the read that is under way began, if it is one of this partition.
    pub(super) fn read_of(&self, partition: u32) -> Option<Instant> {
        let reading = self.read.as_ref().filter(|reading| !reading.left_out.contains(&partition));
        reading.map(|reading| reading.asked.started)
    }

    pub(super) fn unhush(&mut self, partition: u32) {
        if let Some(count) = self.quiet.get_mut(&partition) {
            *count -= 1;
            if *count == 0 {
                self.quiet.remove(&partition);
            }
        }
    }

    /// A stream was parked while a read is under way.
    pub(super) fn read_overlaps_park(&mut self, parked: (Epoch, String, i64)) {
        if let Some(reading) = &mut self.read {
            reading.asked.parked.push(parked);
        }
    }

    /// When the next heartbeat is due, if one may begin.
    pub(super) fn beat_due(&self) -> Option<Instant> {
        (self.beats.len() < BEATS).then(|| self.next_beat.max(self.heartbeats.not_before))
    }

    /// A heartbeat is due if nothing has succeeded for a while, and if there is something to tell while a read waits.
    pub(super) fn start_heartbeat(&mut self, now: Instant) {
        if self.beats.len() >= BEATS || now < self.heartbeats.not_before {
            return;
        }
        let is_late = now >= self.saved + self.settings.checkpoint_every || self.holds.is_all_done();
        let is_news = self.holds.can_release() || is_late && self.has_unsaved();
        if now < self.next_beat && !(is_news && self.beats.is_empty()) {
            return;
        }
        self.next_beat = now + self.interval();
        let call = self.member_call(now);
        let number = self.next_number();
        self.beats.push(Beat { number, asked: asked(now, &call) });
        let (group, member, limit) = (self.groups.heartbeats.clone(), self.member.clone(), self.holds.session() / 2);
        self.events.spawn(async move {
            let reply = timeout(limit, group.heartbeat(&member, &call)).await;
            let late = |_| Err(Error::unavailable("a heartbeat was not answered in time", true));
            Event::Heartbeat(number, reply.unwrap_or_else(late))
        });
    }

    pub(super) fn take_heartbeat(&mut self, number: u64, result: Result<Heartbeat>) -> Option<End> {
        let at = self.beats.iter().position(|beat| beat.number == number)?;
        let Beat { asked, .. } = self.beats.swap_remove(at);
        match result {
            Ok(beat) => {
                let had_failed = self.heartbeats.succeeded();
                self.answered(&asked, &lists_of(&beat.membership), &beat.fenced, had_failed);
                None
            }
            Err(error) if error.may_pass() => {
                self.heartbeats.failed(&error, self.interval() / 4);
                self.next_beat = self.next_beat.min(self.heartbeats.not_before);
                self.failed_for_now(&asked, &error);
                None
            }
            Err(error) => Some(ending_of_read(error, self.has_read)),
        }
    }

    pub(super) fn take_read(&mut self, number: u64, result: Result<GroupPage>) -> Option<End> {
        // The reply to a read that was given up changes nothing.
        let reading = self.read.take_if(|reading| reading.number == number)?;
        let Reading { asked, left_out, is_brief, .. } = reading;
        let page = match result {
            Ok(page) => page,
            Err(error) if error.may_pass() => {
                self.reads.failed(&error, self.interval());
                self.failed_for_now(&asked, &error);
                return None;
            }
            Err(error) => return Some(ending_of_read(error, self.has_read)),
        };
        self.has_read = true;
        self.next_beat = self.next_beat.max(asked.started + self.interval());
        let lists = Lists {
            generation: page.generation,
            session_ms: page.session_ms,
            assigned: &page.assigned,
            revoking: &page.revoking,
        };
        let had_failed = self.reads.succeeded();
        if self.answered(&asked, &lists, &page.fenced, had_failed) {
            let is_empty = page.messages.is_empty() && page.retries.is_empty() && page.drained.is_empty();
            let before = self.holds.after();
            self.holds.take_page(&asked, page);
            if is_empty && is_brief {
                self.reads.not_before = Instant::now() + LOOK_AGAIN;
            }
            let is_all = is_empty && left_out.is_empty();
            if is_all && self.settings.until_caught_up && self.is_idle() {
                self.end_if_caught_up(before != self.holds.after());
            }
        }
        None
    }

    /// Takes the membership in the reply to a call. Returns whether the reply counts.
    fn answered(&mut self, asked: &Asked, lists: &Lists<'_>, fenced: &[u32], had_failed: bool) -> bool {
        if had_failed {
            self.settings.observer.reconnected();
        }
        let counts = self.holds.take_lists(asked.started, lists);
        self.holds.stored(asked, fenced);
        for presented in asked.checkpoints.values() {
            self.settings.observer.saved(presented.position);
        }
        counts
    }

    fn failed_for_now(&mut self, asked: &Asked, error: &Error) {
        self.holds.not_told(asked);
        self.settings.observer.disconnected(error);
    }

    /// Whether there is something to store that is not under way.
    pub(super) fn has_unsaved(&self) -> bool {
        let sent = |number: &u32, presented: &Presented| {
            let beats = self.beats.iter().map(|beat| &beat.asked);
            let asked = self.read.iter().map(|reading| &reading.asked).chain(beats);
            asked.filter_map(|asked| asked.checkpoints.get(number)).any(|sent| sent.position >= presented.position)
        };
        self.holds.checkpoints().iter().any(|(number, presented)| !sent(number, presented))
    }

    fn member_call(&mut self, now: Instant) -> MemberCall {
        self.saved = now;
        MemberCall { checkpoints: self.holds.checkpoints(), released: self.holds.release(), wait_ms: 0 }
    }

    fn next_number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && self.calls == 0 && self.holds.is_idle()
    }

    // ---- the end of what there is to handle

    /// An empty page alone is no end: a read looks at so many messages only, a paused group hands out nothing, and a member
    /// without partitions gets nothing. `went_on`: the page reaches further than the one before.
    fn end_if_caught_up(&mut self, went_on: bool) {
        if self.caught_up_at.is_some_and(|head| self.holds.is_read_to(head)) {
            return self.stop();
        }
        self.calls += 1;
        let group = self.groups.calls.clone();
        self.events.spawn(async move { Event::Status(until_answered(|| group.status()).await.0, went_on) });
    }

    pub(super) fn take_status(&mut self, result: Result<GroupStatus>, went_on: bool) -> Option<End> {
        self.calls -= 1;
        let is_caught_up = match result {
            Ok(status) if status.summary.paused => {
                return Some(End::Failed(WorkerError::Paused(status.summary.group)));
            }
            Ok(status) if status.summary.resizing => {
                // It hands out nothing until that is done.
                self.reads.not_before = Instant::now() + LOOK_AGAIN;
                false
            }
            Ok(status) => self.is_caught_up(&status),
            // A token without the right to read cannot know better.
            Err(Error::Forbidden { .. }) => !went_on && self.holds.has_partitions(),
            Err(error) => return Some(ending(error)),
        };
        if is_caught_up && self.is_idle() {
            self.stop();
        }
        None
    }

    /// Whether everything is done that was there when the status was asked for first: in the partitions of this member,
    /// or in all if it has none.
    fn is_caught_up(&mut self, status: &GroupStatus) -> bool {
        let now = status.summary.head;
        let head = self.caught_up_at.map_or(now, |head| head.min(now));
        self.caught_up_at = Some(head);
        match self.holds.has_partitions() {
            true => self.holds.is_read_to(head),
            false => status.partitions.iter().all(|partition| partition.lag.messages == 0),
        }
    }
}

fn asked(started: Instant, call: &MemberCall) -> Asked {
    let (checkpoints, released) = (call.checkpoints.clone(), call.released.clone());
    Asked { started, checkpoints, released, after: BTreeMap::new(), parked: Vec::new() }
}
