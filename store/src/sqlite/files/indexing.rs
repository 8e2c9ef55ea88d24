//! Moving entries from the backlog into the index, and the index's write-ahead log into its file.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::super::memtable::IndexEntry;
use super::super::paths::{beside, index_path};
use super::super::trickle::trickle;
use super::super::{Shared, index_file, indexer};
use super::backlog::Backlog;
use super::connections::Connections;
use crate::degraded::Degraded;
use crate::fault::Fault;
use crate::model::Incarnation;

/// Batches of at least this many messages are synced in steps while they are being written.
const TRICKLED: usize = 4 * 1024;

/// The pause between two steps. A checkpoint copies faster than many disks write, and has no pause.
const TRICKLE_PAUSE: Duration = Duration::from_millis(2);

/// Messages that are indexed between two checkpoints of the index.
const CHECKPOINT_MESSAGES: usize = 64 * 1024;

/// How far the index of an incarnation is written, and whether that fails.
pub(in crate::sqlite) struct Indexing {
    /// Whether somebody moves entries.
    pub(in crate::sqlite) is_at_work: AtomicBool,
    /// Whether a task waits for the appends to pause, to index the rest.
    pub(in crate::sqlite) awaits_quiet: AtomicBool,
    /// Whether everything in the index is in its file: see [`index_file::checkpoint`].
    begins_anew: AtomicBool,
    /// Messages indexed since the last checkpoint.
    unchecked: AtomicUsize,
    /// Whether the index has to be thrown away.
    is_damaged: AtomicBool,
    fault: Fault,
    checkpoint_fault: Fault,
    /// The index's file, for [`trickle`].
    file: Option<File>,
}

impl Indexing {
    /// `begins_anew` says whether everything in the index is in its `file`.
    pub(super) fn new(file: Option<File>, begins_anew: bool) -> Self {
        Self {
            is_at_work: AtomicBool::new(false),
            awaits_quiet: AtomicBool::new(false),
            begins_anew: AtomicBool::new(begins_anew),
            unchecked: AtomicUsize::new(0),
            is_damaged: AtomicBool::new(false),
            fault: Fault::of("writing the index"),
            checkpoint_fault: Fault::of("a checkpoint of the index"),
            file,
        }
    }

    /// Whether the index has to be thrown away.
    pub(in crate::sqlite) fn is_damaged(&self) -> bool {
        self.is_damaged.load(SeqCst)
    }

    /// Has the index thrown away once nobody works with it.
    pub(in crate::sqlite) fn damaged(&self) {
        self.is_damaged.store(true, SeqCst);
    }

    /// A batch could not be indexed; it is tried again.
    pub(in crate::sqlite) fn failed(&self, incarnation: Incarnation, error: &rusqlite::Error) {
        self.fault.failed(incarnation.0, error);
    }

    /// Moves one batch from the backlog into the index. `unplaced` are the damaged messages whose stream is not known.
    pub(super) fn index_batch(
        &self,
        connections: &Connections,
        backlog: &Backlog,
        unplaced: &[i64],
        shared: &Shared,
        incarnation: Incarnation,
    ) -> rusqlite::Result<()> {
        self.forget_indexed(connections, backlog)?;
        let (chunks, gone) = backlog.first(shared.settings.index_batch);
        let entries: Vec<&IndexEntry> = chunks.iter().flat_map(|chunk| &chunk[..]).skip(gone).collect();
        let Some(last) = entries.last().map(|entry| entry.global_position) else { return Ok(()) };
        let count = entries.len();
        let is_large = connections.have_files() && count >= TRICKLED;
        connections.with_indexer(|connection| indexer::note_unplaced(connection, unplaced))?;
        let write_ahead_log = is_large.then(|| File::open(beside(&index_path(shared, incarnation), "-wal")).ok());
        connections.with_indexer(|connection| {
            let begins_anew = self.begins_anew.load(SeqCst);
            trickle(write_ahead_log.flatten().as_ref(), TRICKLE_PAUSE, || {
                indexer::index(connection, entries, begins_anew)
            })
        })?;
        drop(chunks);
        self.forget_up_to(backlog, last);
        self.fault.mended(incarnation.0);
        self.unchecked.fetch_add(count, SeqCst);
        self.checkpoint(connections, incarnation);
        Ok(())
    }

    /// Drops entries from the backlog that the index holds already, because a commit that reported an error may have
    /// happened all the same.
    fn forget_indexed(&self, connections: &Connections, backlog: &Backlog) -> rusqlite::Result<()> {
        let indexed = connections.with_indexer(|connection| indexer::progress(connection))?.completion;
        let known = backlog.completion();
        if indexed < known {
            // The index lost entries that it held: it is damaged.
            return Err(rusqlite::Error::QueryReturnedNoRows);
        }
        if indexed > known {
            self.forget_up_to(backlog, indexed);
        }
        Ok(())
    }

    fn forget_up_to(&self, backlog: &Backlog, completion: i64) {
        // The first commit after a checkpoint has begun the write-ahead log anew.
        self.begins_anew.store(false, SeqCst);
        backlog.forget_up_to(completion);
    }

    /// Writes the index's write-ahead log into its file if that is due. It is not due after each batch, so that a page
    /// which several batches change is written back once. If it fails, the batches are in the index all the same, and
    /// the next batch tries it again.
    fn checkpoint(&self, connections: &Connections, incarnation: Incarnation) {
        if self.unchecked.load(SeqCst) < CHECKPOINT_MESSAGES {
            return;
        }
        let outcome = connections.with_indexer(|connection| {
            trickle(self.file.as_ref(), Duration::ZERO, || index_file::checkpoint(connection))
        });
        match outcome {
            Ok(is_all) => {
                self.unchecked.store(0, SeqCst);
                self.begins_anew.store(is_all, SeqCst);
                self.checkpoint_fault.mended(incarnation.0);
            }
            Err(error) => self.checkpoint_fault.failed(incarnation.0, &error),
        }
    }

    /// The reason that probes report.
    pub(super) fn degraded(&self) -> Option<Degraded> {
        let message = "an index cannot be written: writes are refused once too much waits for it";
        let fails = self.fault.is_there() || self.checkpoint_fault.is_there();
        fails.then(|| Degraded::new("INDEX_NOT_WRITTEN", message))
    }
}
