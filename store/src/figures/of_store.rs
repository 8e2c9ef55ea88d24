//! What the logs of a store count, all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{Counter, Histogram, LATENCIES, RecentMax, SIZES};

/// All that the logs of a store count.
#[derive(Debug, Default)]
pub struct Figures {
    /// Of appends, by the sequencers.
    pub appends: Appends,
    /// Of reads, from memory and from the storage.
    pub reads: Reads,
    /// Of subscriptions.
    pub subscriptions: Subscriptions,
    /// Of consumer groups.
    pub groups: Groups,
    /// Hints of what other servers did.
    pub hints: Counter,
}

/// How long something takes: over all time, and the longest of the last minute.
#[derive(Debug)]
pub struct Latency {
    /// In nanoseconds.
    pub all: Histogram,
    /// Of the last minute.
    pub recent: RecentMax,
}

impl Default for Latency {
    fn default() -> Self {
        Self { all: Histogram::new(LATENCIES), recent: RecentMax::default() }
    }
}

impl Latency {
    /// Counts a duration that ended at `now`.
    pub fn observe(&self, duration: Duration, now: Instant) {
        self.all.observe_duration(duration);
        self.recent.observe(duration, now);
    }
}

/// What the logs of a store are like at some moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The head of each open log, by the name of its namespace.
    pub heads: Vec<(Arc<str>, u64)>,
    /// Appends that wait for a sequencer.
    pub queued: u64,
    /// Bytes that the tails hold, and how many they may hold.
    pub tail_bytes: (u64, u64),
    /// How many messages the slowest subscription that has something to read is behind its head.
    pub lag: u64,
}

/// A number of things that are there now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Present<'a>(&'a Gauge);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Gauge {
    /// One more is there, until the result is dropped.
    pub(crate) fn present(&self) -> Present<'_> {
        self.enter();
        Present(self)
    }

    /// One more is there.
    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One is gone.
    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// How many are there.
    pub fn get(&self) -> u64 {
        u64::try_from(self.0.load(Relaxed)).unwrap_or_default()
    }
}

/// Appends, as the sequencers decide and commit them.
#[derive(Debug)]
pub struct Appends {
    /// Appends that were accepted and written.
    pub written: Counter,
    /// Messages that this server wrote.
    pub messages: Counter,
    /// Bytes of text of these messages.
    pub bytes: Counter,
    /// Appends that repeated an earlier one, and got its result.
    pub repeats: Counter,
    /// Appends that were refused because a stream was at another version.
    pub version_conflicts: Counter,
    /// Appends that were refused because a message was there that a condition excludes.
    pub condition_conflicts: Counter,
    /// Appends that were refused because an id was written before with other content.
    pub id_conflicts: Counter,
    /// Appends that were refused because they acted on a group by a right that has ended.
    pub fenced: Counter,
    /// Appends that had conditions.
    pub conditional: Counter,
    /// Times that an append was looked up and decided once more.
    pub rounds: Counter,
    /// Appends that were refused because earlier ones wait for too long.
    pub refused_for_age: Counter,
    /// Appends that were refused because no room came free in the queue.
    pub refused_for_room: Counter,
    /// From the arrival of an append to its batch.
    pub wait: Latency,
    /// From the submission of a batch to its outcome, of batches that were committed.
    pub commit: Latency,
    /// Messages of a batch that was committed.
    pub batch: Histogram,
    /// Times that this server waited for its turn to append.
    pub turns: Counter,
    /// Batches that lost their race with another server's.
    pub lost_races: Counter,
    /// Batches whose outcome had to be found out.
    pub unknown: Counter,
    /// Versions of streams that were remembered.
    pub version_hits: Counter,
    /// Versions of streams that were not.
    pub version_misses: Counter,
}

impl Default for Appends {
    fn default() -> Self {
        Self {
            written: Counter::default(),
            messages: Counter::default(),
            bytes: Counter::default(),
            repeats: Counter::default(),
            version_conflicts: Counter::default(),
            condition_conflicts: Counter::default(),
            id_conflicts: Counter::default(),
            fenced: Counter::default(),
            conditional: Counter::default(),
            rounds: Counter::default(),
            refused_for_age: Counter::default(),
            refused_for_room: Counter::default(),
            wait: Latency::default(),
            commit: Latency::default(),
            batch: Histogram::new(SIZES),
            turns: Counter::default(),
            lost_races: Counter::default(),
            unknown: Counter::default(),
            version_hits: Counter::default(),
            version_misses: Counter::default(),
        }
    }
}

/// Slices of messages that were read, by where they came from.
#[derive(Debug, Default)]
pub struct Reads {
    /// From the tail.
    pub tail: Source,
    /// From the storage.
    pub storage: Source,
}

/// What came from one place.
#[derive(Debug, Default)]
pub struct Source {
    /// Slices.
    pub slices: Counter,
    /// Messages in them.
    pub messages: Counter,
}

impl Source {
    /// Counts a slice.
    pub(crate) fn count(&self, messages: usize) {
        self.slices.increment();
        self.messages.add(messages as u64);
    }
}

/// Subscriptions, and the pokes that they handed out.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// Open ones of one stream.
    pub of_stream: Gauge,
    /// Open ones of categories.
    pub of_categories: Gauge,
    /// Open ones of all messages.
    pub of_all: Gauge,
    /// Pokes that were handed out.
    pub pokes: Counter,
    /// From when a message could be seen to when its poke was handed out, of subscriptions that were at the head.
    pub delay: Latency,
}

/// Consumer groups, as this server decides their calls.
#[derive(Debug, Default)]
pub struct Groups {
    /// Calls that were refused because the member's right has ended.
    pub fenced: Counter,
    /// Members that were ended because they did not call in time.
    pub expired: Counter,
    /// Times that partitions got another owner.
    pub rebalances: Counter,
    /// From when a partition's messages were read to its checkpoint.
    pub handling: Latency,
}

/// The store's tests of itself.
#[derive(Debug)]
pub struct SelfTests {
    /// Tests that succeeded in time.
    pub passed: Counter,
    /// Tests that failed, or took too long.
    pub failed: Counter,
    /// From an append to its poke, of the tests that succeeded.
    pub duration: Histogram,
}

impl Default for SelfTests {
    fn default() -> Self {
        Self { passed: Counter::default(), failed: Counter::default(), duration: Histogram::new(LATENCIES) }
    }
}
