//! One partition that a member holds, under one epoch.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use eventodb_protocol::group::Epoch;
use eventodb_protocol::group::reply::Drained;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Busy, Task};
use crate::group::{Presented, RetryMessage};
use crate::message::Message;

#[derive(Debug)]
pub(super) struct Hold {
    pub(super) epoch: Epoch,
    /// The checkpoint that the server has.
    pub(super) stored: i64,
    /// Everything up to here was read.
    pub(super) read_to: i64,
    /// The highest position that a handler has begun.
    pub(super) begun_to: i64,
    /// Until when the member may act, if the partition is asked back.
    pub(super) stop: Option<Instant>,
    /// Until when handlers may act: the end of the lease, or an earlier deadline.
    until: watch::Sender<Instant>,
    /// It is given up: nothing of it is begun any more.
    pub(super) released: bool,
    /// A call is under way, or has succeeded, that tells the server so.
    pub(super) told: bool,
    /// Messages that no handler has begun, by global position.
    pub(super) waiting: BTreeMap<i64, Message>,
    /// Global positions of messages that are begun and not done.
    pub(super) running: BTreeSet<i64>,
    /// Streams of which something is under way.
    pub(super) busy: HashMap<String, Busy>,
    pub(super) retries: HashMap<String, VecDeque<RetryMessage>>,
    /// Parked streams of which nothing is left.
    pub(super) drained: Vec<Drained>,
}

impl Hold {
    pub(super) fn new(epoch: Epoch, checkpoint: i64, until: Instant) -> Self {
        Self {
            epoch,
            stored: checkpoint,
            read_to: checkpoint,
            begun_to: checkpoint,
            stop: None,
            until: watch::Sender::new(until),
            released: false,
            told: false,
            waiting: BTreeMap::new(),
            running: BTreeSet::new(),
            busy: HashMap::new(),
            retries: HashMap::new(),
            drained: Vec::new(),
        }
    }

    /// The lease ends then, as far as is known now.
    pub(super) fn lease_ends(&self, at: Instant) {
        let until = self.stop.map_or(at, |stop| stop.min(at));
        self.until.send_if_modified(|known| std::mem::replace(known, until) != until);
    }

    /// Whether it is asked back and nothing of it is in hand.
    pub(super) fn is_to_be_released(&self) -> bool {
        self.stop.is_some() && self.waiting.is_empty() && self.busy.is_empty()
    }

    /// How many messages it has, with those of parked streams.
    pub(super) fn in_hand(&self) -> usize {
        self.waiting.len() + self.running.len() + self.retries.values().map(VecDeque::len).sum::<usize>()
    }

    /// The next checkpoint: everything before the first message in hand, else everything that was read.
    pub(super) fn done(&self) -> i64 {
        let first = [self.waiting.keys().next(), self.running.iter().next()].into_iter().flatten().min();
        first.map_or(self.read_to, |first| first - 1)
    }

    /// Gives up what comes behind the last message that was begun. What was handled stays below the checkpoint, so that
    /// nobody handles it again. Retries come again to whoever has the partition next.
    pub(super) fn cut(&mut self) {
        let dropped = self.waiting.split_off(&(self.begun_to + 1));
        if let Some(first) = dropped.keys().next() {
            self.read_to = first - 1;
        }
        self.retries.retain(|stream, rows| {
            rows.truncate(1);
            self.busy.contains_key(stream)
        });
        self.drained.clear();
    }

    /// Notes that a page is complete up to a position. Returns above which one its messages are news; `None` if a page
    /// between is missing, or the page brings none.
    pub(super) fn opens(&mut self, after: Option<&Presented>, up_to: i64) -> Option<i64> {
        let began = after.filter(|after| after.epoch == self.epoch).map_or(self.stored, |after| after.position);
        if up_to <= self.read_to || began > self.read_to {
            return None;
        }
        Some(std::mem::replace(&mut self.read_to, up_to))
    }

    pub(super) fn add(&mut self, message: Message, above: i64, parked: &[(Epoch, String, i64)]) {
        let position = message.global_position();
        let is_parked = parked
            .iter()
            .any(|(epoch, stream, at)| *epoch == self.epoch && stream == message.stream() && position > *at);
        if position > above && !is_parked {
            self.waiting.insert(position, message);
        }
    }

    /// The next message whose stream is neither busy here nor with one of the `handlers`. With `one_at_a_time` a checkpoint
    /// is stored with each message, and says that all before it is done: so it is the first that waits, or none.
    pub(super) fn next(
        &self,
        partition: u32,
        session: Duration,
        one_at_a_time: bool,
        handlers: &HashMap<String, Epoch>,
    ) -> Option<Task> {
        if self.released || one_at_a_time && !self.busy.is_empty() {
            return None;
        }
        let task = |message: &Message, retry| {
            let (message, read_to, until) = (message.clone(), self.read_to, self.until.subscribe());
            Some(Task { partition, epoch: self.epoch, message, retry, read_to, session, until })
        };
        let is_free = |stream: &str| !self.busy.contains_key(stream) && !handlers.contains_key(stream);
        let retries = self.retries.iter().filter(|(stream, _)| is_free(stream));
        if let Some(row) = retries.filter_map(|(_, rows)| rows.front()).min_by_key(|r| r.message.global_position()) {
            return task(&row.message, Some((row.attempt, row.rev)));
        }
        let most = if one_at_a_time { 1 } else { usize::MAX };
        let next = self.waiting.values().take(most).find(|message| is_free(message.stream()));
        next.and_then(|message| task(message, None))
    }

    pub(super) fn drop_retries(&mut self, stream: &str, up_to: i64) {
        if let Some(rows) = self.retries.get_mut(stream) {
            rows.retain(|row| row.message.global_position() > up_to);
            if rows.is_empty() {
                self.retries.remove(stream);
            }
        }
    }
}
