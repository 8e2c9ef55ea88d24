//! The location of a store, and its bounds.

use std::path::PathBuf;

/// The location of a store's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In this directory, which is created if it is missing.
    Directory(PathBuf),
    /// In memory: all is gone when the process ends.
    Memory,
}

/// Bounds of the SQLite backend.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespaces whose files are open at once.
    pub open_namespaces: usize,
    /// Messages of one namespace that may wait for the indexer; appends wait beyond it.
    pub memtable_messages: usize,
    /// Messages of all namespaces that may wait for the indexer before it works without pauses.
    pub memtables_messages: usize,
    /// Number of messages that the indexer moves in one transaction, at most.
    pub index_batch: usize,
    /// Threads that commit, for all namespaces.
    pub writer_threads: usize,
    /// Reads that run at once, for all namespaces.
    pub readers: usize,
    /// Rows that one slice looks at in search of matches.
    pub examined_rows: usize,
    /// A read of everything that filters by type or correlation uses the index if a namespace has at most this number
    /// of categories, and the log if it has more.
    pub merged_categories: usize,
    /// Bytes that stay free on the disk of the directory: writes are refused if fewer are left. 0: they never are.
    pub min_free: u64,
}

impl Settings {
    /// Number of waiting messages for which the indexer begins while appends go on: a batch, or all that a smaller
    /// memtable holds.
    pub(super) fn whole_batch(&self) -> usize {
        self.index_batch.min(self.memtable_messages).max(1)
    }
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            open_namespaces: 256,
            memtable_messages: 65_536,
            memtables_messages: 400_000,
            index_batch: 32_768,
            writer_threads: 2 * cores,
            readers: 2 * cores,
            examined_rows: 20_000,
            merged_categories: 256,
            min_free: 256 * 1024 * 1024,
        }
    }
}
