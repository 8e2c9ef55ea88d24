//! Parked streams: one message of each could not be handled, and what follows it waits.

use std::collections::BTreeSet;
use std::sync::Arc;

use eventodb_protocol::group::partition_of;

use super::rows::{Changed, Rows};

/// A parked stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Its messages up to here are handled; those above are withheld from pages.
    pub handled: i64,
    /// How often the message that failed was tried; 0 once it is handled or skipped.
    pub attempts: i64,
    /// What the member said about the failure.
    pub reason: Arc<str>,
    /// When it was parked, in milliseconds since 1970.
    pub since: i64,
    /// When it is due; none if an operator has to say so.
    pub due: Option<i64>,
    /// Its number, new with each `group.handled` that is taken. A late copy of a call has an older one.
    pub rev: i64,
    /// Whether it was handed out and not answered yet.
    pub is_out: bool,
}

impl Parked {
    /// It is due at once.
    pub(super) fn make_due(&mut self, now: i64) {
        (self.due, self.is_out) = (Some(now), false);
    }

    /// Whether it was handed out less than a session ago.
    pub(super) fn is_with_its_owner(&self, now: i64) -> bool {
        self.is_out && self.due.is_some_and(|due| due > now)
    }

    pub(super) fn is_due(&self, now: i64) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}

/// The parked streams of a group, by name.
#[derive(Clone, Debug)]
pub(super) struct Park {
    rows: Rows<Arc<str>, Parked>,
}

impl Park {
    pub(super) fn stored(rows: impl IntoIterator<Item = (Arc<str>, Parked)>) -> Self {
        Self { rows: Rows::stored(rows) }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, stream: &str) -> Option<&Parked> {
        self.rows.get(stream)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Parked)> {
        self.rows.iter()
    }

    /// Those behind this one by byte order.
    pub(super) fn behind<'a>(&'a self, stream: &'a str) -> impl Iterator<Item = (&'a Arc<str>, &'a Parked)> {
        self.rows.above(stream)
    }

    pub(super) fn add(&mut self, stream: Arc<str>, parked: Parked) {
        self.rows.insert(stream, parked);
    }

    pub(super) fn change(&mut self, stream: &str) -> Option<&mut Parked> {
        self.rows.change(stream)
    }

    pub(super) fn remove(&mut self, stream: &str) {
        self.rows.remove(stream);
    }

    /// Makes due what was handed out of partitions and not answered: their owners are others, or begin anew.
    pub(super) fn take_back(&mut self, partitions: &[u32], count: u32, now: i64) {
        let partitions: BTreeSet<u32> = partitions.iter().copied().collect();
        let is_meant = |stream: &str| partitions.contains(&partition_of(stream, count));
        let out = self.rows.iter().filter(|(stream, parked)| parked.is_out && is_meant(stream));
        let out: Vec<Arc<str>> = out.map(|(stream, _)| stream.clone()).collect();
        for stream in out {
            self.rows.change(&*stream).expect("it is there").make_due(now);
        }
    }

    pub(super) fn settle(&mut self) {
        self.rows.settle();
    }

    pub(super) fn changes(&self) -> Changed<Arc<str>, Parked> {
        self.rows.changes()
    }
}
