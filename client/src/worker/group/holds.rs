//! What a member holds, without I/O: which partitions, up to where they were read, which messages are in hand.
//!
//! The rules are those of the protocol for members. Replies overtake each other, so a reply of a lower generation than
//! one that was read before changes nothing. What a reply brings of a partition counts only if the partition is held
//! under the epoch that the reply has for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use eventodb_protocol::group::Epoch;
use eventodb_protocol::group::reply::{Assigned, Drained, Flowing, Revoking};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::group::{GroupPage, Presented, RetryMessage};
use crate::message::Message;

/// Everything that a member holds.
#[derive(Debug)]
pub(super) struct Holds {
    generation: i64,
    session: Duration,
    /// When the last call began that succeeded and told what is asked back.
    last_ok: Instant,
    by_partition: BTreeMap<u32, Hold>,
    /// Epochs that were given back, or whose time is over: they are over for the member, whatever a reply says.
    over: BTreeSet<Epoch>,
    /// The partition that a handler got a message of last.
    turn: u32,
}

/// A partition under one epoch.
#[derive(Debug)]
struct Hold {
    epoch: Epoch,
    /// The checkpoint that the server has.
    stored: i64,
    /// Everything up to here was read.
    read_to: i64,
    /// The highest position that a handler has begun.
    begun_to: i64,
    /// Until when the member may act, if the partition is asked back.
    stop: Option<Instant>,
    released: bool,
    /// Messages that no handler has begun, by global position.
    waiting: BTreeMap<i64, Message>,
    /// Global positions of messages that are begun and not done.
    running: BTreeSet<i64>,
    /// Streams of which something is under way.
    busy: HashMap<String, Busy>,
    retries: HashMap<String, VecDeque<RetryMessage>>,
    /// Parked streams of which nothing is left.
    drained: Vec<Drained>,
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
}

/// A call that is under way: a read or a heartbeat.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) started: Instant,
    pub(super) checkpoints: BTreeMap<u32, Presented>,
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
            session: Duration::ZERO,
            last_ok: started,
            by_partition: BTreeMap::new(),
            over: BTreeSet::new(),
            turn: 0,
        }
    }

    /// When the lease ends, by this process's clock, unless another call succeeds.
    pub(super) fn lease_end(&self) -> Instant {
        self.last_ok + self.session
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

    /// Messages in hand.
    pub(super) fn in_hand(&self) -> usize {
        self.by_partition.values().map(|hold| hold.waiting.len() + hold.running.len()).sum()
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

    /// The highest position that was read.
    pub(super) fn read_to(&self) -> i64 {
        self.by_partition.values().map(|hold| hold.read_to).max().unwrap_or(0)
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
        for (number, hold) in &mut self.by_partition {
            if hold.stop.is_some() && hold.waiting.is_empty() && hold.busy.is_empty() {
                hold.released = true;
                self.over.insert(hold.epoch);
                released.insert(*number, hold.epoch);
            }
        }
        released
    }

    /// Whether a partition could be given back that was not yet.
    pub(super) fn can_release(&self) -> bool {
        let can =
            |hold: &Hold| hold.stop.is_some() && !hold.released && hold.waiting.is_empty() && hold.busy.is_empty();
        self.by_partition.values().any(can)
    }

    /// Gives up what no handler has begun: the member is about to leave.
    pub(super) fn cut(&mut self) {
        self.by_partition.values_mut().for_each(Hold::cut);
    }

    /// Takes the lists of a reply to a call that began at `started`. Returns whether the reply counts.
    pub(super) fn take_lists(&mut self, started: Instant, lists: &Lists<'_>) -> bool {
        self.session = milliseconds(lists.session_ms);
        self.last_ok = self.last_ok.max(started);
        if lists.generation < self.generation {
            return false;
        }
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
        true
    }

    /// The hold of a partition under this epoch: the one that there is, or a new one. Another epoch's is dropped.
    fn hold(&mut self, partition: u32, epoch: Epoch, checkpoint: i64) -> Option<&mut Hold> {
        if self.over.contains(&epoch) && self.by_partition.get(&partition).is_none_or(|hold| hold.epoch != epoch) {
            return None;
        }
        let hold = self.by_partition.entry(partition).or_insert_with(|| Hold::new(epoch, checkpoint));
        if hold.epoch != epoch {
            *hold = Hold::new(epoch, checkpoint);
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
        let task = numbers.filter_map(|(number, hold)| hold.next(*number, one_at_a_time)).next()?;
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
        hold.busy.insert(task.stream().to_owned(), busy);
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

    /// Parked streams of which nothing is left, each with its partition's epoch and how far that was read. They are under
    /// way from here on.
    pub(super) fn take_drained(&mut self) -> Vec<(Epoch, i64, Drained)> {
        let mut drained = Vec::new();
        for hold in self.by_partition.values_mut().filter(|hold| !hold.released) {
            for each in std::mem::take(&mut hold.drained) {
                if !hold.busy.contains_key(&each.stream) {
                    hold.busy.insert(each.stream.clone(), Busy::Call);
                    drained.push((hold.epoch, hold.read_to, each));
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

impl Hold {
    fn new(epoch: Epoch, checkpoint: i64) -> Self {
        Self {
            epoch,
            stored: checkpoint,
            read_to: checkpoint,
            begun_to: checkpoint,
            stop: None,
            released: false,
            waiting: BTreeMap::new(),
            running: BTreeSet::new(),
            busy: HashMap::new(),
            retries: HashMap::new(),
            drained: Vec::new(),
        }
    }

    /// The next checkpoint: everything before the first message in hand, else everything that was read.
    fn done(&self) -> i64 {
        let first = [self.waiting.keys().next(), self.running.iter().next()].into_iter().flatten().min();
        first.map_or(self.read_to, |first| first - 1)
    }

    /// Gives up what comes behind the last message that was begun. What was handled stays below the checkpoint, so that
    /// nobody handles it again. Retries come again to whoever has the partition next.
    fn cut(&mut self) {
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
    fn opens(&mut self, after: Option<&Presented>, up_to: i64) -> Option<i64> {
        let began = after.filter(|after| after.epoch == self.epoch).map_or(self.stored, |after| after.position);
        if up_to <= self.read_to || began > self.read_to {
            return None;
        }
        Some(std::mem::replace(&mut self.read_to, up_to))
    }

    fn add(&mut self, message: Message, above: i64, parked: &[(Epoch, String, i64)]) {
        let position = message.global_position();
        let is_parked = parked
            .iter()
            .any(|(epoch, stream, at)| *epoch == self.epoch && stream == message.stream() && position > *at);
        if position > above && !is_parked {
            self.waiting.insert(position, message);
        }
    }

    fn next(&self, partition: u32, one_at_a_time: bool) -> Option<Task> {
        if self.released || one_at_a_time && !self.busy.is_empty() {
            return None;
        }
        let task = |message: &Message, retry| {
            Some(Task { partition, epoch: self.epoch, message: message.clone(), retry, read_to: self.read_to })
        };
        let retries = self.retries.iter().filter(|(stream, _)| !self.busy.contains_key(*stream));
        if let Some(row) = retries.filter_map(|(_, rows)| rows.front()).min_by_key(|r| r.message.global_position()) {
            return task(&row.message, Some((row.attempt, row.rev)));
        }
        let free = |message: &&Message| !self.busy.contains_key(message.stream());
        self.waiting.values().find(free).and_then(|message| task(message, None))
    }

    fn drop_retries(&mut self, stream: &str, up_to: i64) {
        if let Some(rows) = self.retries.get_mut(stream) {
            rows.retain(|row| row.message.global_position() > up_to);
            if rows.is_empty() {
                self.retries.remove(stream);
            }
        }
    }
}

fn milliseconds(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GroupMessage;
    use crate::message::tests::message;

    const SESSION_MS: i64 = 1000;

    fn epoch(number: i64) -> Epoch {
        Epoch::from_number(number)
    }

    fn assigned(epochs: &[(u32, i64)]) -> Vec<Assigned> {
        let of = |&(partition, number): &(u32, i64)| Assigned { partition, epoch: epoch(number), checkpoint: 0 };
        epochs.iter().map(of).collect()
    }

    fn lists<'a>(generation: i64, assigned: &'a [Assigned], revoking: &'a [Revoking]) -> Lists<'a> {
        Lists { generation, session_ms: SESSION_MS, assigned, revoking }
    }

    /// Partition 0 under epoch 1.
    fn holds() -> Holds {
        let mut holds = Holds::new(Instant::now());
        assert!(holds.take_lists(Instant::now(), &lists(1, &assigned(&[(0, 1)]), &[])));
        holds
    }

    fn asked(holds: &Holds) -> Asked {
        let (checkpoints, after) = (holds.checkpoints(), holds.after());
        Asked { started: Instant::now(), checkpoints, after, parked: Vec::new() }
    }

    fn page(messages: &[(i64, &str)], retries: &[(i64, &str, i64)], up_to: i64) -> GroupPage {
        let row = |position: i64, stream: &str| message(stream, position, position, "null");
        GroupPage {
            generation: 1,
            session_ms: SESSION_MS,
            messages: messages.iter().map(|(at, s)| GroupMessage { message: row(*at, s), partition: 0 }).collect(),
            retries: retries
                .iter()
                .map(|(at, s, rev)| RetryMessage { message: row(*at, s), partition: 0, attempt: 2, rev: *rev })
                .collect(),
            drained: Vec::new(),
            up_to: BTreeMap::from([(0, up_to)]),
            assigned: assigned(&[(0, 1)]),
            revoking: Vec::new(),
            fenced: Vec::new(),
        }
    }

    fn read(holds: &mut Holds, page: GroupPage) {
        let asked = asked(holds);
        holds.take_page(&asked, page);
    }

    fn begin(holds: &mut Holds) -> Task {
        let task = holds.next(false).expect("a message");
        holds.begin(&task, Busy::Call);
        task
    }

    fn checkpoint(holds: &Holds) -> Option<i64> {
        holds.checkpoints().get(&0).map(|presented| presented.position)
    }

    #[test]
    fn a_checkpoint_ends_before_the_first_message_in_hand() {
        let mut holds = holds();
        read(&mut holds, page(&[(2, "a"), (3, "b"), (4, "a")], &[], 9));
        assert_eq!(checkpoint(&holds), Some(1));
        let (first, second) = (begin(&mut holds), begin(&mut holds));
        assert_eq!((first.position(), second.position()), (2, 3), "of different streams");
        assert!(holds.next(false).is_none(), "the stream a is busy");
        holds.finished(&second);
        assert_eq!(checkpoint(&holds), Some(1));
        holds.finished(&first);
        assert_eq!(checkpoint(&holds), Some(3));
        let last = begin(&mut holds);
        holds.finished(&last);
        assert_eq!((checkpoint(&holds), holds.is_idle()), (Some(9), true));
        let asked = asked(&holds);
        holds.stored(&asked, &[0]);
        assert_eq!(checkpoint(&holds), Some(9), "the server refused it");
        holds.stored(&asked, &[]);
        assert_eq!(checkpoint(&holds), None);
    }

    #[test]
    fn one_at_a_time_is_in_the_order_of_the_partition() {
        let mut holds = holds();
        read(&mut holds, page(&[(2, "a"), (3, "b")], &[], 3));
        let task = begin(&mut holds);
        assert!(holds.next(true).is_none());
        holds.committed(&task);
        assert_eq!(checkpoint(&holds), None, "the commit has stored it");
        assert_eq!(holds.next(true).map(|task| task.position()), Some(3));
    }

    #[test]
    fn a_reply_that_was_overtaken_changes_nothing() {
        let mut holds = holds();
        assert!(holds.take_lists(Instant::now(), &lists(3, &assigned(&[(0, 1), (1, 2)]), &[])));
        assert!(!holds.take_lists(Instant::now(), &lists(2, &assigned(&[(0, 1)]), &[])));
        assert_eq!(holds.after().len(), 2);
        let late = asked(&holds);
        read(&mut holds, page(&[(2, "a")], &[], 2));
        holds.take_page(&late, page(&[(2, "a"), (3, "a")], &[], 3));
        assert_eq!(holds.in_hand(), 2, "what was read before is not taken twice");
    }

    #[test]
    fn a_new_epoch_is_a_new_assignment() {
        let mut holds = holds();
        read(&mut holds, page(&[(2, "a")], &[], 5));
        let task = begin(&mut holds);
        assert!(holds.take_lists(Instant::now(), &lists(2, &assigned(&[(0, 7)]), &[])));
        assert_eq!((holds.in_hand(), holds.after()[&0].position), (0, 0), "it begins at the checkpoint");
        holds.finished(&task);
        assert_eq!(checkpoint(&holds), None, "the former assignment moves nothing");
        holds.fence(0, epoch(7));
        assert!(holds.take_lists(Instant::now(), &lists(2, &assigned(&[(0, 7)]), &[])));
        assert!(!holds.has_partitions(), "an epoch that is over stays so");
    }

    #[test]
    fn what_is_asked_back_ends_behind_the_last_message_that_was_begun() {
        let mut holds = holds();
        read(&mut holds, page(&[(2, "a"), (3, "a"), (4, "b"), (5, "c"), (6, "a")], &[], 9));
        let (first, second) = (begin(&mut holds), begin(&mut holds));
        assert_eq!((first.position(), second.position()), (2, 4));
        let revoking = [Revoking { partition: 0, epoch: epoch(1), deadline_ms: 500 }];
        assert!(holds.take_lists(Instant::now(), &lists(2, &[], &revoking)));
        assert!(holds.release().is_empty() && !holds.can_release());
        holds.finished(&second);
        holds.finished(&first);
        let between = begin(&mut holds);
        assert_eq!(between.position(), 3, "it lies below one that was handled");
        assert!(holds.next(false).is_none());
        holds.finished(&between);
        assert_eq!((checkpoint(&holds), holds.can_release()), (Some(4), true));
        assert_eq!(holds.release(), BTreeMap::from([(0, epoch(1))]));
        assert!(!holds.can_release(), "it was said");
        assert!(holds.take_lists(Instant::now(), &lists(3, &[], &[])));
        assert!(holds.checkpoints().is_empty());
    }

    #[test]
    fn a_deadline_ends_what_is_in_hand() {
        let mut holds = holds();
        read(&mut holds, page(&[(2, "a")], &[], 9));
        begin(&mut holds);
        let revoking = [Revoking { partition: 0, epoch: epoch(1), deadline_ms: 500 }];
        let started = Instant::now();
        assert!(holds.take_lists(started, &lists(2, &[], &revoking)));
        assert_eq!(holds.next_deadline(), Some(started + Duration::from_millis(500)));
        holds.expire(started + Duration::from_millis(499));
        assert_eq!(holds.in_hand(), 1);
        holds.expire(started + Duration::from_millis(500));
        assert!(holds.take_lists(started, &lists(2, &[], &revoking)));
        assert_eq!((holds.in_hand(), holds.next_deadline()), (0, None));
    }

    #[test]
    fn a_parked_stream_is_dropped_also_from_a_read_that_was_sent_before() {
        let mut holds = holds();
        read(&mut holds, page(&[(2, "a"), (3, "a"), (4, "b")], &[], 4));
        let task = begin(&mut holds);
        let mut under_way = asked(&holds);
        under_way.parked.push((epoch(1), "a".to_owned(), 2));
        holds.parked(&task);
        assert_eq!((holds.in_hand(), checkpoint(&holds)), (1, Some(3)));
        holds.take_page(&under_way, page(&[(5, "a"), (6, "b")], &[], 6));
        let left: Vec<i64> = std::iter::from_fn(|| {
            let task = holds.next(false)?;
            holds.begin(&task, Busy::Call);
            holds.finished(&task);
            Some(task.position())
        })
        .collect();
        assert_eq!((left, checkpoint(&holds)), (vec![4, 6], Some(6)));
    }

    #[test]
    fn retries_are_tried_in_order_and_taken_once() {
        let mut holds = holds();
        read(&mut holds, page(&[], &[(2, "a", 5), (3, "a", 5)], 9));
        let task = begin(&mut holds);
        assert_eq!((task.position(), task.retry), (2, Some((2, 5))));
        read(&mut holds, page(&[], &[(2, "a", 6)], 9));
        assert!(holds.next(false).is_none(), "the stream is in hand");
        holds.settled(0, epoch(1), "a", 2, Flowing { flowing: false, rev: Some(7) });
        let next = begin(&mut holds);
        assert_eq!((next.position(), next.retry), (3, Some((2, 7))));
        holds.settled(0, epoch(1), "a", 2, Flowing { flowing: true, rev: Some(8) });
        assert!(holds.is_idle(), "what is left was skipped");
        assert_eq!(checkpoint(&holds), Some(9), "retries do not hold it up");
    }

    #[test]
    fn a_message_that_is_put_off_is_tried_again() {
        let mut holds = holds();
        read(&mut holds, page(&[(2, "a")], &[], 9));
        let task = begin(&mut holds);
        holds.postponed(&task);
        assert_eq!(checkpoint(&holds), Some(1));
        assert_eq!(begin(&mut holds).position(), 2);
        holds.dropped(&task);
        assert_eq!(checkpoint(&holds), Some(9));
    }
}
