//! The index entries of messages that the index does not hold yet. They are counted for all namespaces together, and
//! appends wait for room here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::super::Settings;
use super::super::memtable::{Chunk, IndexEntry, Memtable};

/// Number of entries that leave the memtable under one lock: few, so that no append waits long for it.
const FORGET_AT_ONCE: usize = 128;

/// The memtable of one incarnation, and its part in the bound for all.
pub(in crate::sqlite) struct Backlog {
    memtable: RwLock<Memtable>,
    /// Number of entries in all memtables, those of this one included.
    of_all: Arc<AtomicUsize>,
    room: Notify,
}

impl Backlog {
    /// `of_all` counts the entries in all memtables.
    pub(super) fn new(memtable: Memtable, of_all: Arc<AtomicUsize>) -> Self {
        of_all.fetch_add(memtable.len(), SeqCst);
        Self { memtable: RwLock::new(memtable), of_all, room: Notify::new() }
    }

    /// The entries, to be read.
    pub(in crate::sqlite) fn memtable(&self) -> &RwLock<Memtable> {
        &self.memtable
    }

    /// Number of entries.
    pub(in crate::sqlite) fn len(&self) -> usize {
        self.memtable.read().len()
    }

    /// Whether appends have to wait.
    pub(in crate::sqlite) fn is_full(&self, settings: &Settings) -> bool {
        let entries = self.len();
        entries >= settings.memtable_messages
            || entries >= settings.index_batch && self.of_all.load(SeqCst) >= settings.memtables_messages
    }

    /// Told whenever entries have left, and when the indexer has failed.
    pub(in crate::sqlite) fn room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// Has everybody who waits for room look again.
    pub(in crate::sqlite) fn wake(&self) {
        self.room.notify_waiters();
    }

    /// Puts entries behind those that are there.
    pub(super) fn push(&self, entries: Vec<IndexEntry>) {
        self.of_all.fetch_add(entries.len(), SeqCst);
        let mut memtable = self.memtable.write();
        entries.into_iter().for_each(|entry| memtable.push(entry));
    }

    /// The first entries, in chunks, and how many of the first chunk have left already.
    pub(super) fn first(&self, count: usize) -> (Vec<Chunk>, usize) {
        self.memtable.read().first(count)
    }

    /// The last global position that has left.
    pub(super) fn completion(&self) -> i64 {
        self.memtable.read().completion()
    }

    /// Drops entries that the index holds now.
    pub(super) fn forget_up_to(&self, completion: i64) {
        let mut left = true;
        while left {
            let mut memtable = self.memtable.write();
            let held = memtable.len();
            left = memtable.forget(completion, FORGET_AT_ONCE);
            self.of_all.fetch_sub(held - memtable.len(), SeqCst);
        }
        self.wake();
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.memtable.get_mut().len(), SeqCst);
    }
}
