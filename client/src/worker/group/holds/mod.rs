//! What a member holds, without I/O: which partitions, up to where they were read, which messages are in hand.
//!
//! The rules are those of the protocol for members. Replies overtake each other, so a reply of a lower generation than
//! one that was read before changes nothing. What a reply brings of a partition counts only if the partition is held
//! under the epoch that the reply has for it.

mod hold;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::time::Duration;

use eventodb_protocol::group::Epoch;
use eventodb_protocol::group::reply::{Assigned, Drained, Flowing, Revoking};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::hold::Hold;
use crate::group::{GroupPage, Presented};
use crate::message::Message;

/// Everything that a member holds.
#[derive(Debug)]
pub(super) struct Holds {
    generation: i64,
    /// When the last call began that succeeded and told what is asked back.
    last_ok: Instant,
    /// How long a lease lasts after that call.
    session: Duration,
    lease_end: Instant,
    by_partition: BTreeMap<u32, Hold>,
    /// Epochs that were given back, or whose time is over: they are over for the member, whatever a reply says.
    over: BTreeSet<Epoch>,
    /// The streams of which a handler runs, each with the epoch that it acts under. A handler that cannot be interrupted runs
    /// on when its epoch is over: until it ends, nothing of its stream is begun.
    handlers: HashMap<String, Epoch>,
    /// The partition that a handler got a message of last.
    turn: u32,
}

/// What is under way about a stream.
#[derive(Debug)]
pub(super) enum Busy {
    /// A handler. It ends when this is dropped.
    Handler(#[expect(dead_code, reason = "it is there to be dropped")] Abort),
    /// A call.
    Call,
}

/// Aborts a task when it is dropped.
#[derive(Debug)]
pub(super) struct Abort(pub(super) AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A message for a handler.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) partition: u32,
    pub(super) epoch: Epoch,
    pub(super) message: Message,
    /// Of a message of a parked stream: which try it is, and the stream's number.
    pub(super) retry: Option<(i64, i64)>,
    /// How far the partition was read.
    pub(super) read_to: i64,
    /// How long a lease lasts.
    pub(super) session: Duration,
    /// Until when its handler may act.
    pub(super) until: watch::Receiver<Instant>,
}

/// A call that is under way: a read or a heartbeat.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) started: Instant,
    pub(super) checkpoints: BTreeMap<u32, Presented>,
    pub(super) released: BTreeMap<u32, Epoch>,
    /// Where a read begins.
    pub(super) after: BTreeMap<u32, Presented>,
    /// Streams that were parked since a read was sent: what is above this position comes as a retry.
    pub(super) parked: Vec<(Epoch, String, i64)>,
}

/// The lists of a reply.
pub(super) struct Lists<'a> {
    pub(super) generation: i64,
    pub(super) session_ms: i64,
    pub(super) assigned: &'a [Assigned],
    pub(super) revoking: &'a [Revoking],
}

impl Task {
    pub(super) fn position(&self) -> i64 {
        self.message.global_position()
    }

    pub(super) fn stream(&self) -> &str {
        self.message.stream()
    }
}

impl Holds {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            generation: -1,
            last_ok: started,
            session: Duration::ZERO,
            lease_end: started,
            by_partition: BTreeMap::new(),
            over: BTreeSet::new(),
            handlers: HashMap::new(),
            turn: 0,
        }
    }

    /// When the lease ends, by this process's clock, unless another call succeeds.
    pub(super) fn lease_end(&self) -> Instant {
        self.lease_end
    }

    pub(super) fn session(&self) -> Duration {
        self.session
    }

    /// When a partition that is asked back must be given up, at the earliest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_partition.values().filter_map(|hold| hold.stop).min()
    }

    /// Gives up partitions whose deadline is over.
    pub(super) fn expire(&mut self, now: Instant) {
        let over = &mut self.over;
        self.by_partition.retain(|_, hold| {
            let is_over = hold.stop.is_some_and(|stop| stop <= now);
            if is_over {
                over.insert(hold.epoch);
            }
            !is_over
        });
    }

    /// Messages in hand, and those of parked streams.
    pub(super) fn in_hand(&self) -> usize {
        self.by_partition.values().map(Hold::in_hand).sum()
    }

    /// Whether no message in hand holds up a checkpoint. Retries hold up none.
    pub(super) fn is_all_done(&self) -> bool {
        self.by_partition.values().all(|hold| hold.waiting.is_empty() && hold.running.is_empty())
    }

    /// Whether nothing is in hand and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        let is_idle = |hold: &Hold| hold.waiting.is_empty() && hold.busy.is_empty() && hold.retries.is_empty();
        self.by_partition.values().all(is_idle)
    }

    /// Whether the member owns a partition that it need not give back.
    pub(super) fn has_partitions(&self) -> bool {
        self.by_partition.values().any(|hold| hold.stop.is_none())
    }

    /// Whether all partitions that the member need not give back were read to this position. It has some.
    pub(super) fn is_read_to(&self, position: i64) -> bool {
        self.has_partitions() && self.after().values().all(|read_to| read_to.position >= position)
    }

    /// The highest position that was read.
    pub(super) fn read_to(&self) -> i64 {
        self.by_partition.values().map(|hold| hold.read_to).max().unwrap_or(0)
    }

    /// Partitions of which messages of parked streams are in hand.
    pub(super) fn with_retries(&self) -> BTreeSet<u32> {
        let with = self.by_partition.iter().filter(|(_, hold)| !hold.retries.is_empty());
        with.map(|(number, _)| *number).collect()
    }

    /// What was handled and is not stored yet.
    pub(super) fn checkpoints(&self) -> BTreeMap<u32, Presented> {
        let unsaved = self.by_partition.iter().filter(|(_, hold)| hold.done() > hold.stored);
        unsaved.map(|(number, hold)| (*number, Presented { epoch: hold.epoch, position: hold.done() })).collect()
    }

    /// Where a read goes on.
    pub(super) fn after(&self) -> BTreeMap<u32, Presented> {
        let open = self.by_partition.iter().filter(|(_, hold)| hold.stop.is_none());
        open.map(|(number, hold)| (*number, Presented { epoch: hold.epoch, position: hold.read_to })).collect()
    }

    /// Partitions that are asked back and of which nothing is in hand any more. From here on they are given up.
    pub(super) fn release(&mut self) -> BTreeMap<u32, Epoch> {
        let mut released = BTreeMap::new();
        if self.has_lingering() {
            return released;
        }
        for (number, hold) in self.by_partition.iter_mut().filter(|(_, hold)| hold.is_to_be_released()) {
            (hold.released, hold.told) = (true, true);
            self.over.insert(hold.epoch);
            released.insert(*number, hold.epoch);
        }
        released
    }

    /// Whether a partition could be given back of which the server was not told.
    pub(super) fn can_release(&self) -> bool {
        self.by_partition.values().any(|hold| hold.is_to_be_released() && !hold.told) && !self.has_lingering()
    }

    /// A call failed that told the server what is given back.
    pub(super) fn not_told(&mut self, asked: &Asked) {
        for (number, epoch) in &asked.released {
            if let Some(hold) = self.of(*number, *epoch) {
                hold.told = false;
            }
        }
    }

    /// Whether a handler still runs whose epoch is over. After a resize its stream may be in any partition, so that none is
    /// given back meanwhile.
    fn has_lingering(&self) -> bool {
        let is_held = |epoch: &Epoch| self.by_partition.values().any(|hold| hold.epoch == *epoch);
        !self.handlers.values().all(is_held)
    }

    /// Gives up what no handler has begun: the member is about to leave.
    pub(super) fn cut(&mut self) {
        self.by_partition.values_mut().for_each(Hold::cut);
    }

    /// Gives up everything at once. Handlers end at their next `await`.
    pub(super) fn drop_all(&mut self) {
        self.by_partition.clear();
    }

    /// Takes the lists of a reply to a call that began at `started`. Returns whether the reply counts.
    pub(super) fn take_lists(&mut self, started: Instant, lists: &Lists<'_>) -> bool {
        let session = milliseconds(lists.session_ms);
        if started >= self.last_ok {
            (self.last_ok, self.session) = (started, session);
        }
        // A shorter session ends no lease earlier that a call has renewed already.
        self.lease_end = self.lease_end.max(started + session);
        let counts = lists.generation >= self.generation;
        if counts {
            self.take_assignment(started, lists);
        }
        self.extend();
        counts
    }

    fn take_assignment(&mut self, started: Instant, lists: &Lists<'_>) {
        self.generation = lists.generation;
        let mut named = BTreeMap::new();
        for each in lists.assigned {
            named.insert(each.partition, each.epoch);
            self.hold(each.partition, each.epoch, each.checkpoint);
        }
        for each in lists.revoking {
            named.insert(each.partition, each.epoch);
            // A partition that was never told as assigned is given back as it is.
            let stop = started + milliseconds(each.deadline_ms);
            if let Some(hold) = self.hold(each.partition, each.epoch, 0) {
                hold.stop = Some(hold.stop.map_or(stop, |known| known.max(stop)));
                hold.cut();
            }
        }
        self.by_partition.retain(|number, hold| named.get(number) == Some(&hold.epoch));
    }

    fn extend(&self) {
        let end = self.lease_end();
        self.by_partition.values().for_each(|hold| hold.lease_ends(end));
    }

    /// The hold of a partition under this epoch: the one that there is, or a new one. Another epoch's is dropped.
    fn hold(&mut self, partition: u32, epoch: Epoch, checkpoint: i64) -> Option<&mut Hold> {
        if self.over.contains(&epoch) && self.by_partition.get(&partition).is_none_or(|hold| hold.epoch != epoch) {
            return None;
        }
        let until = self.lease_end();
        let hold = self.by_partition.entry(partition).or_insert_with(|| Hold::new(epoch, checkpoint, until));
        if hold.epoch != epoch {
            *hold = Hold::new(epoch, checkpoint, until);
        }
        Some(hold)
    }

    /// What the server has stored of what a call presented.
    pub(super) fn stored(&mut self, asked: &Asked, fenced: &[u32]) {
        for (number, presented) in asked.checkpoints.iter().filter(|(number, _)| !fenced.contains(number)) {
            if let Some(hold) = self.of(*number, presented.epoch) {
                hold.stored = hold.stored.max(presented.position);
            }
        }
    }

    /// Takes what a read brings. Its lists were taken already.
    pub(super) fn take_page(&mut self, asked: &Asked, page: GroupPage) {
        let epochs: BTreeMap<u32, Epoch> = page.assigned.iter().map(|each| (each.partition, each.epoch)).collect();
        let mut open = BTreeMap::new();
        for (number, up_to) in &page.up_to {
            let Some(hold) = epochs.get(number).and_then(|epoch| self.of(*number, *epoch)) else { continue };
            if hold.stop.is_none() {
                open.insert(*number, hold.opens(asked.after.get(number), *up_to));
            }
        }
        for row in page.messages {
            if let Some(Some(above)) = open.get(&row.partition)
                && let Some(hold) = self.by_partition.get_mut(&row.partition)
            {
                hold.add(row.message, *above, &asked.parked);
            }
        }
        let known: HashSet<(u32, String)> = self.streams_in_hand();
        let is_new = |partition: u32, stream: &str| {
            open.contains_key(&partition) && !known.contains(&(partition, stream.to_owned()))
        };
        for row in page.retries.into_iter().filter(|row| is_new(row.partition, row.message.stream())) {
            if let Some(hold) = self.by_partition.get_mut(&row.partition) {
                hold.retries.entry(row.message.stream().to_owned()).or_default().push_back(row);
            }
        }
        for each in page.drained.into_iter().filter(|each| is_new(each.partition, &each.stream)) {
            if let Some(hold) = self.by_partition.get_mut(&each.partition) {
                hold.drained.retain(|known| known.stream != each.stream);
                hold.drained.push(each);
            }
        }
    }

    /// Parked streams of which retries are in hand, or something is under way.
    fn streams_in_hand(&self) -> HashSet<(u32, String)> {
        let of_hold = |(number, hold): (&u32, &Hold)| {
            let streams = hold.retries.keys().chain(hold.busy.keys());
            streams.map(|stream| (*number, stream.clone())).collect::<Vec<_>>()
        };
        self.by_partition.iter().flat_map(of_hold).collect()
    }

    /// The next message for a handler. Handlers of one stream run one after the other; with `one_at_a_time` those of one
    /// partition do.
    pub(super) fn next(&mut self, one_at_a_time: bool) -> Option<Task> {
        let behind = (Bound::Excluded(self.turn), Bound::Unbounded);
        let numbers = self.by_partition.range(behind).chain(self.by_partition.range(..=self.turn));
        let next = |(number, hold): (&u32, &Hold)| hold.next(*number, self.session, one_at_a_time, &self.handlers);
        let task = numbers.filter_map(next).next()?;
        self.turn = task.partition;
        Some(task)
    }

    /// Something about the stream of a task is under way.
    pub(super) fn begin(&mut self, task: &Task, busy: Busy) {
        let Some(hold) = self.of(task.partition, task.epoch) else { return };
        if task.retry.is_none() {
            hold.waiting.remove(&task.position());
            hold.running.insert(task.position());
            hold.begun_to = hold.begun_to.max(task.position());
        }
        let is_handler = matches!(busy, Busy::Handler(_));
        hold.busy.insert(task.stream().to_owned(), busy);
        if is_handler {
            self.handlers.insert(task.stream().to_owned(), task.epoch);
        }
    }

    /// The handler of a task has ended, or was ended.
    pub(super) fn handler_ended(&mut self, task: &Task) {
        self.handlers.remove(task.stream());
    }

    /// Whether a task that was begun is still to be done.
    pub(super) fn has(&self, task: &Task) -> bool {
        let hold = self.by_partition.get(&task.partition).filter(|hold| hold.epoch == task.epoch);
        hold.is_some_and(|hold| hold.busy.contains_key(task.stream()))
    }

    /// A message of a stream that flows is done.
    pub(super) fn finished(&mut self, task: &Task) {
        self.end(task, |hold| {
            hold.running.remove(&task.position());
        });
    }

    /// A message and all before it in its partition are done, and the server knows.
    pub(super) fn committed(&mut self, task: &Task) {
        self.end(task, |hold| {
            hold.running.remove(&task.position());
            if task.retry.is_none() {
                hold.stored = hold.stored.max(task.position());
            } else {
                hold.drop_retries(task.stream(), task.position());
            }
        });
    }

    /// The stream of a message is parked from there on.
    pub(super) fn parked(&mut self, task: &Task) {
        self.end(task, |hold| {
            hold.running.remove(&task.position());
            hold.waiting.retain(|_, message| message.stream() != task.stream());
            hold.retries.remove(task.stream());
        });
    }

    /// A message is to be tried again by a handler.
    pub(super) fn postponed(&mut self, task: &Task) {
        self.end(task, |hold| {
            if hold.running.remove(&task.position()) {
                hold.waiting.insert(task.position(), task.message.clone());
            }
        });
    }

    /// A message counts as handled already.
    pub(super) fn dropped(&mut self, task: &Task) {
        self.end(task, |hold| {
            hold.running.remove(&task.position());
            hold.drop_retries(task.stream(), task.position());
        });
    }

    /// The server knows that messages of a parked stream are handled.
    pub(super) fn settled(&mut self, partition: u32, epoch: Epoch, stream: &str, position: i64, reply: Flowing) {
        let Some(hold) = self.of(partition, epoch) else { return };
        hold.busy.remove(stream);
        hold.drop_retries(stream, position);
        if reply.flowing {
            hold.retries.remove(stream);
        }
        if let Some((rows, rev)) = hold.retries.get_mut(stream).zip(reply.rev) {
            rows.iter_mut().for_each(|row| row.rev = rev);
        }
    }

    /// Parked streams of which nothing is left, each with its partition's epoch. They are under way from here on.
    pub(super) fn take_drained(&mut self) -> Vec<(Epoch, Drained)> {
        let mut drained = Vec::new();
        for hold in self.by_partition.values_mut().filter(|hold| !hold.released) {
            for each in std::mem::take(&mut hold.drained) {
                if !hold.busy.contains_key(&each.stream) {
                    hold.busy.insert(each.stream.clone(), Busy::Call);
                    drained.push((hold.epoch, each));
                }
            }
        }
        drained
    }

    /// How far a partition was read under this epoch; `None` if it is not held.
    pub(super) fn read_to_of(&self, partition: u32, epoch: Epoch) -> Option<i64> {
        self.by_partition.get(&partition).filter(|hold| hold.epoch == epoch).map(|hold| hold.read_to)
    }

    /// Drops a partition whose epoch is not current any more.
    pub(super) fn fence(&mut self, partition: u32, epoch: Epoch) {
        if self.of(partition, epoch).is_some() {
            self.by_partition.remove(&partition);
            self.over.insert(epoch);
        }
    }

    fn end(&mut self, task: &Task, change: impl FnOnce(&mut Hold)) {
        if let Some(hold) = self.of(task.partition, task.epoch) {
            hold.busy.remove(task.stream());
            change(hold);
        }
    }

    fn of(&mut self, partition: u32, epoch: Epoch) -> Option<&mut Hold> {
        self.by_partition.get_mut(&partition).filter(|hold| hold.epoch == epoch)
    }
}

fn milliseconds(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests;
