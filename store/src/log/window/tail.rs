//! The tail: a log's newest messages in memory, bounded, with an index by stream and category.
//!
//! **Invariant:** every message after `start` up to `head` is here. A read checks under one lock that its slice lies
//! there, and copies it.

use std::collections::{VecDeque, vec_deque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use eventodb_protocol::{Direction, Scope, Timestamp};
use foldhash::HashMap;

use crate::model::Entry;
use crate::model::{Axis, Select};

/// Messages that a log keeps, even if the tails of other logs use up the budget.
const KEEP: usize = 16;

/// The bytes that the tails of all logs may hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { bytes, used: AtomicUsize::new(0) }
    }

    /// How many bytes the tails hold, and how many they may hold.
    pub(crate) fn used(&self) -> (usize, usize) {
        (self.used.load(Relaxed), self.bytes)
    }

    fn is_exceeded(&self) -> bool {
        self.used.load(Relaxed) > self.bytes
    }
}

/// The newest messages of one log.
#[derive(Debug)]
pub(crate) struct Tail {
    entries: VecDeque<Arc<Entry>>,
    /// Number of the first of `entries`, counted from the first that ever was here.
    first: u64,
    start: i64,
    head: i64,
    /// Numbers of the entries of each stream and category, ascending.
    streams: HashMap<Arc<str>, VecDeque<u64>>,
    categories: HashMap<Arc<str>, VecDeque<u64>>,
    most: usize,
    budget: Arc<Budget>,
}

/// A slice that lies in the tail.
pub(crate) struct Found {
    pub(crate) entries: Vec<Arc<Entry>>,
    /// As in [`crate::model::Slice`].
    pub(crate) covered: i64,
}

impl Tail {
    /// An empty tail of a log that ends at `head`.
    pub(crate) fn new(head: i64, most: usize, budget: Arc<Budget>) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            start: head,
            head,
            streams: HashMap::default(),
            categories: HashMap::default(),
            most,
            budget,
        }
    }

    /// Appends committed messages and drops the oldest beyond the bounds.
    pub(crate) fn push(&mut self, entries: &[Arc<Entry>]) {
        for entry in entries {
            let message = entry.message();
            debug_assert!(message.global_position > self.head, "a log's positions ascend");
            let number = self.first + self.entries.len() as u64;
            self.streams.entry(message.stream.clone()).or_default().push_back(number);
            match self.categories.get_mut(message.category()) {
                Some(numbers) => numbers.push_back(number),
                None => {
                    self.categories.insert(message.category().into(), VecDeque::from([number]));
                }
            }
            self.budget.used.fetch_add(entry.size(), Relaxed);
            self.head = message.global_position;
            self.entries.push_back(entry.clone());
        }
        while self.entries.len() > self.most || self.entries.len() > KEEP && self.budget.is_exceeded() {
            self.pop();
        }
    }

    /// Forgets everything; the log now ends at `head`.
    pub(crate) fn restart(&mut self, head: i64) {
        while !self.entries.is_empty() {
            self.pop();
        }
        (self.start, self.head) = (head, head);
    }

    fn pop(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        let message = entry.message();
        self.first += 1;
        self.start = message.global_position;
        self.budget.used.fetch_sub(entry.size(), Relaxed);
        forget_first(&mut self.streams, &message.stream);
        forget_first(&mut self.categories, message.category());
    }

    /// Position of the last message of a stream, if it is here.
    pub(crate) fn version(&self, stream: &str) -> Option<i64> {
        let number = self.streams.get(stream)?.back()?;
        Some(self.get(*number).message().position)
    }

    /// The global position of the first message at or after a time, or one above the head if there is none. `None` if
    /// messages before those that are here may be at or after it, too.
    pub(crate) fn position_at(&self, time: Timestamp) -> Option<i64> {
        let at = self.entries.partition_point(|entry| entry.message().time < time);
        if at == 0 && self.start > 0 {
            return None;
        }
        Some(self.entries.get(at).map_or(self.head.saturating_add(1), |entry| entry.message().global_position))
    }

    /// The messages that are here of those above a global position, and the position above which they are all.
    pub(crate) fn after(&self, position: i64) -> (i64, Vec<Arc<Entry>>) {
        let since = position.max(self.start);
        let first = self.entries.partition_point(|entry| entry.message().global_position <= since);
        (since, self.entries.range(first..).cloned().collect())
    }

    /// Whether every message above this global position is here.
    pub(crate) fn reaches_back_to(&self, position: i64) -> bool {
        position >= self.start
    }

    /// The slice, if all of it lies here; `select.to` is at most the head.
    pub(crate) fn read(&self, select: &Select) -> Option<Found> {
        if !self.holds(select) {
            return None;
        }
        let found = match &select.filter.scope {
            Scope::Stream(stream) => self.pick_numbered(select, self.streams.get(stream)),
            Scope::Categories(names) if names.len() == 1 => self.pick_numbered(select, self.categories.get(&names[0])),
            Scope::All | Scope::Categories(_) => {
                self.pick(select, within(&self.entries, select, |entry| self.at(select, entry)))
            }
        };
        Some(found)
    }

    fn holds(&self, select: &Select) -> bool {
        let low = match select.direction {
            Direction::Forward => select.from,
            Direction::Backward => select.to,
        };
        match select.axis {
            Axis::Global => low > self.start || self.start == 0 || self.holds_backward(select),
            // Positions of a stream ascend without end, so its first message here bounds those before.
            Axis::Stream => {
                let Scope::Stream(stream) = &select.filter.scope else { return false };
                let first = self.streams.get(stream).and_then(|numbers| numbers.front());
                let first = first.map(|number| self.get(*number).message());
                self.start == 0 || first.is_some_and(|first| first.position <= low) || self.holds_backward(select)
            }
        }
    }

    /// A backward page is here when enough matches are, wherever the walk would end.
    fn holds_backward(&self, select: &Select) -> bool {
        if select.direction == Direction::Forward {
            return false;
        }
        let Scope::Stream(stream) = &select.filter.scope else { return false };
        let Some(numbers) = self.streams.get(stream) else { return false };
        let within = within(numbers, select, |number| self.at(select, self.get(*number)));
        select.filter.is_open() && within.len() >= select.rows
    }

    fn pick_numbered(&self, select: &Select, numbers: Option<&VecDeque<u64>>) -> Found {
        static NONE: VecDeque<u64> = VecDeque::new();
        let numbers = within(numbers.unwrap_or(&NONE), select, |number| self.at(select, self.get(*number)));
        self.pick(select, numbers.map(|number| self.get(*number)))
    }

    /// The messages of a slice among these, which ascend.
    fn pick<'a>(&self, select: &Select, entries: impl DoubleEndedIterator<Item = &'a Arc<Entry>>) -> Found {
        match select.direction {
            Direction::Forward => self.gather(select, entries),
            Direction::Backward => self.gather(select, entries.rev()),
        }
    }

    fn gather<'a>(&self, select: &Select, entries: impl Iterator<Item = &'a Arc<Entry>>) -> Found {
        let mut found = Found { entries: Vec::new(), covered: select.to };
        let mut bytes = 0;
        for entry in entries {
            if entry.message().global_position > select.head || !select.filter.matches(entry.traits()) {
                continue;
            }
            bytes += entry.message().size();
            found.entries.push(entry.clone());
            if found.entries.len() >= select.rows || bytes >= select.bytes {
                found.covered = self.at(select, entry);
                break;
            }
        }
        found
    }

    fn at(&self, select: &Select, entry: &Entry) -> i64 {
        match select.axis {
            Axis::Global => entry.message().global_position,
            Axis::Stream => entry.message().position,
        }
    }

    fn get(&self, number: u64) -> &Arc<Entry> {
        &self.entries[(number - self.first) as usize]
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let bytes = self.entries.iter().map(|entry| entry.size()).sum();
        self.budget.used.fetch_sub(bytes, Relaxed);
    }
}

/// The items of a slice; `at` tells where one stands on the slice's axis, and they ascend by it.
fn within<'a, T>(items: &'a VecDeque<T>, select: &Select, at: impl Fn(&T) -> i64) -> vec_deque::Iter<'a, T> {
    let (low, high) = match select.direction {
        Direction::Forward => (select.from, select.to),
        Direction::Backward => (select.to, select.from),
    };
    let start = items.partition_point(|item| at(item) < low);
    let end = items.partition_point(|item| at(item) <= high);
    items.range(start..end.max(start))
}

fn forget_first(index: &mut HashMap<Arc<str>, VecDeque<u64>>, key: &str) {
    if let Some(numbers) = index.get_mut(key) {
        numbers.pop_front();
        if numbers.is_empty() {
            index.remove(key);
        }
    }
}
