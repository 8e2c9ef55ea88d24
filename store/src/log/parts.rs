//! Parts of a log for tests and microbenchmarks. From outside a log, their cost cannot be told from the storage's.

use std::sync::Arc;

use eventodb_protocol::Scope;

use super::Log;
use super::window::{Budget, Tail, Topics, Waiter};
use crate::model::Entry;
use crate::model::Select;

/// A tail that holds these messages.
#[derive(Debug)]
pub struct TailPart(Tail);

/// Topics with waiters.
#[derive(Debug)]
pub struct TopicsPart {
    topics: Topics,
    _waiters: Vec<Waiter>,
}

impl TailPart {
    /// Entries from the log's first on; all of them stay.
    pub fn new(entries: &[Arc<Entry>]) -> Self {
        let mut tail = Tail::new(0, entries.len(), Arc::new(Budget::new(usize::MAX)));
        tail.push(entries);
        Self(tail)
    }

    /// Position of a stream's last message.
    pub fn version(&self, stream: &str) -> Option<i64> {
        self.0.version(stream)
    }

    /// How many messages a slice has, if all of it lies here.
    pub fn read(&self, select: &Select) -> Option<usize> {
        self.0.read(select).map(|found| found.entries.len())
    }
}

impl TopicsPart {
    /// One waiter for each scope.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let topics = Topics::new(0);
        let waiters = scopes.into_iter().map(|scope| topics.register(&scope, || 0)).collect();
        Self { topics, _waiters: waiters }
    }

    /// Wakes everybody who waits for one of these.
    pub fn publish(&self, entries: &[Arc<Entry>]) {
        self.topics.publish(entries, || {});
    }
}

/// Shows entries to readers and subscribers, as if they were committed.
pub fn publish(log: &Log, entries: &[Arc<Entry>]) {
    log.base.window.show(entries);
}

/// Whether somebody waits for messages of a log.
pub(crate) fn is_watched(log: &Log) -> bool {
    log.base.window.is_watched()
}
