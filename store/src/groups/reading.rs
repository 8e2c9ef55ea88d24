//! `group.read`: what a member gets of its partitions.
//!
//! A read is decided in steps, because what it gives lies in the log:
//! 1. [`Group::begin_read`] does what a heartbeat does.
//! 2. [`Group::look`] tells where the read of each partition begins. A read that waits begins again here.
//! 3. [`Group::retry_spans`] asks what is left of parked streams, and [`Group::hand_out`] decides what comes as a retry.
//! 4. [`Group::page`] is offered the messages of the log, and takes those that are wanted.
//! 5. [`Group::read_reply`] puts the reply together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eventodb_protocol::group::reply::{Drained, GroupRead};
use eventodb_protocol::request::group::ReadGroup;

use super::group::{Group, Moment};
use super::page::Page;
use super::parked::Parked;
use super::refusal::Refusal;
use super::span::Span;

/// Where a read begins, by partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    member: Arc<str>,
    batch: usize,
    /// By owned partition, the position above which it begins.
    start: BTreeMap<u32, i64>,
    /// The owned partitions of which messages may be handed out.
    open: BTreeSet<u32>,
    /// The partitions that the call named with another epoch than the current one.
    fenced: BTreeSet<u32>,
}

/// A message of a parked stream that is handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryRow {
    /// Its global position.
    pub position: i64,
    /// Its partition.
    pub partition: u32,
    /// Which try it is.
    pub attempt: i64,
    /// The number of its stream.
    pub rev: i64,
}

/// What a read hands out of parked streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandedOut {
    /// Messages to be tried again.
    pub retries: Vec<RetryRow>,
    /// Streams of which nothing is left.
    pub drained: Vec<Drained>,
}

impl HandedOut {
    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.retries.is_empty() && self.drained.is_empty()
    }
}

impl Reading {
    /// How many messages are wanted besides the retries that are handed out.
    pub fn room(&self, handed_out: &HandedOut) -> usize {
        self.batch.saturating_sub(handed_out.retries.len())
    }

    /// How many messages were asked for.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// By open partition, the position above which it is read.
    pub fn starts(&self) -> impl Iterator<Item = (u32, i64)> {
        self.start
            .iter()
            .filter(|(partition, _)| self.open.contains(partition))
            .map(|(number, start)| (*number, *start))
    }

    /// At most half of the page is for retries, and at least one message.
    fn room_for_retries(&self) -> usize {
        if self.batch == 0 { 0 } else { (self.batch / 2).max(1) }
    }
}

impl Group {
    /// Does what a heartbeat does. Returns the partitions that were named with another epoch than the current one.
    ///
    /// # Errors
    /// `Fenced` if the membership has ended; `Invalid` if a position is above the head.
    pub fn begin_read(&mut self, member: &str, call: &ReadGroup, at: &mut Moment) -> Result<BTreeSet<u32>, Refusal> {
        self.arrive(member, at)?;
        self.check_positions("after", &call.after, at)?;
        self.store(member, &call.heartbeat.checkpoints, &call.heartbeat.released, at)
    }

    /// Where the read begins. `fenced` is what [`Self::begin_read`] returned.
    ///
    /// # Errors
    /// `Fenced` if the membership has ended, which may happen while a read waits.
    pub fn look(
        &self,
        member: &str,
        call: &ReadGroup,
        fenced: &BTreeSet<u32>,
        at: &Moment,
    ) -> Result<Reading, Refusal> {
        self.leases.living(member, at.now)?;
        let epochs = call.after.iter().map(|(partition, presented)| (*partition, presented.epoch));
        let mut fenced = fenced.clone();
        fenced.extend(self.stale(epochs));
        let (mut start, mut open) = (BTreeMap::new(), BTreeSet::new());
        for (number, partition) in self.partitions.iter().filter(|(_, partition)| partition.is_of(member)) {
            let after = call.after.get(&number).filter(|_| !fenced.contains(&number));
            start.insert(number, partition.checkpoint.max(after.map_or(0, |after| after.position)));
            let is_asked_for = call.partitions.as_ref().is_none_or(|asked| asked.binary_search(&number).is_ok());
            if is_asked_for && !self.settings.is_paused && partition.give_back_by().is_none() {
                open.insert(number);
            }
        }
        Ok(Reading { member: member.into(), batch: call.batch, start, open, fenced })
    }

    /// What [`Self::hand_out`] has to know: what is left of each parked stream that may be handed out.
    pub fn retry_spans(&self, reading: &Reading, at: &Moment) -> Vec<Span> {
        let span = |(stream, parked, partition): (&Arc<str>, &Parked, u32)| {
            let upto = self.known(stream).max(reading.start[&partition]);
            let limit = reading.room_for_retries().max(1);
            Span { stream: stream.clone(), above: parked.handled, upto, limit }
        };
        self.to_be_told(reading, at).into_iter().map(span).collect()
    }

    /// Decides what the member gets of parked streams. `left` are the answers to [`Self::retry_spans`], in that order.
    /// Each stream is told again a session later, because the reply may be lost.
    pub fn hand_out(&mut self, reading: &Reading, left: &[Vec<i64>], at: &Moment) -> HandedOut {
        let told = self.to_be_told(reading, at).into_iter();
        let told: Vec<_> =
            told.map(|(stream, parked, partition)| (stream.clone(), parked.clone(), partition)).collect();
        let mut out = HandedOut::default();
        for ((stream, parked, partition), left) in told.into_iter().zip(left) {
            let known = self.known(&stream);
            let retries: Vec<i64> = left.iter().copied().filter(|position| *position <= known).collect();
            let room = reading.room_for_retries() - out.retries.len();
            let is_drained = left.is_empty() && parked.attempts == 0 && parked.handled <= known;
            if is_drained {
                out.drained.push(Drained {
                    partition,
                    stream: (*stream).to_owned(),
                    position: parked.handled,
                    rev: parked.rev,
                });
            } else if !retries.is_empty() && parked.is_due(at.now) && room > 0 {
                let attempts = std::iter::once(parked.attempts + 1).chain(std::iter::repeat(1));
                let rows = retries.into_iter().zip(attempts).take(room);
                let row = |(position, attempt)| RetryRow { position, partition, attempt, rev: parked.rev };
                out.retries.extend(rows.map(row));
            } else {
                continue;
            }
            if let Some(parked) = self.park.change(&stream) {
                (parked.due, parked.is_out) = (Some(at.now + self.settings.session_ms), true);
            }
        }
        out
    }

    /// The page that takes what is wanted of the log. It is offered every message above [`Page::wanted_above`] in order.
    pub fn page<'a, M>(&'a self, reading: &Reading, handed_out: &HandedOut) -> Page<'a, M> {
        Page::new(self, reading.starts(), reading.room(handed_out))
    }

    /// The reply. `messages` and `up_to` come from the page, as [`Page::finish`] returned them, with the retries as the
    /// log has them.
    pub fn read_reply<M>(
        &self,
        reading: &Reading,
        messages: Vec<M>,
        retries: Vec<M>,
        drained: Vec<Drained>,
        up_to: &BTreeMap<u32, i64>,
        at: &Moment,
    ) -> GroupRead<M> {
        let membership = self.membership(&reading.member, at);
        let mut complete = reading.start.clone();
        if reading.batch > 0 {
            complete.extend(up_to);
        }
        GroupRead {
            generation: membership.generation,
            session_ms: membership.session_ms,
            messages,
            retries,
            drained,
            up_to: complete,
            assigned: membership.assigned,
            revoking: membership.revoking,
            fenced: reading.fenced.iter().copied().collect(),
        }
    }

    /// The parked streams of which a read may have something to tell, with their partitions: the longest due first.
    fn to_be_told(&self, reading: &Reading, at: &Moment) -> Vec<(&Arc<str>, &Parked, u32)> {
        let parked = self.park.iter();
        let mut told: Vec<_> = parked.map(|(stream, parked)| (stream, parked, self.partition_of(stream))).collect();
        told.retain(|(_, parked, partition)| {
            let is_ready = parked.attempts == 0 || parked.is_due(at.now);
            is_ready && reading.open.contains(partition) && !parked.is_with_its_owner(at.now)
        });
        told.sort_by_key(|(_, parked, _)| parked.due.unwrap_or(i64::MAX));
        told
    }
}
