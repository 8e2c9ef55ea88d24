//! Writing the log's write-ahead log back into the log's file, in two steps: a job in the background does most of it
//! while appends go on, and the writer does the small rest, because the write-ahead log begins anew only when nothing
//! of it is left.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use rusqlite::Connection;

use super::super::Shared;
use super::connections::Connections;
use crate::degraded::Degraded;
use crate::fault::Fault;
use crate::model::Incarnation;

/// About the bytes that a commit adds to the write-ahead log besides its messages, because pages are written whole.
const COMMIT_BYTES: u64 = 2 * 4096;

/// Bytes of the log's write-ahead log after which it is written into the log's file. They are few, because appends wait
/// behind the sync that ends it. Hardly a page is written twice for that, because the log grows at its end.
const CHECKPOINT_BYTES: u64 = 4 * 1024 * 1024;

/// How much of the log is in its write-ahead log alone.
pub(in crate::sqlite) struct WriteBack {
    /// About the bytes that were appended since the last checkpoint.
    bytes: AtomicU64,
    /// Whether the background has done most of the work.
    is_to_finish: AtomicBool,
    /// Whether the background is at it.
    pub(in crate::sqlite) is_at_work: AtomicBool,
    pub(in crate::sqlite) fault: Fault,
}

impl WriteBack {
    /// `bytes` are in the write-ahead log already.
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            bytes: AtomicU64::new(bytes),
            is_to_finish: AtomicBool::new(false),
            is_at_work: AtomicBool::new(false),
            fault: Fault::of("a checkpoint of the log"),
        }
    }

    /// A commit has written this number of bytes.
    pub(super) fn committed(&self, bytes: u64) {
        self.bytes.fetch_add(bytes + COMMIT_BYTES, SeqCst);
    }

    /// Whether the write-ahead log is long enough to be written back.
    pub(in crate::sqlite) fn is_due(&self, connections: &Connections) -> bool {
        connections.have_files() && !connections.are_read_only() && self.bytes.load(SeqCst) >= CHECKPOINT_BYTES
    }

    /// Does most of the work while appends go on.
    pub(in crate::sqlite) fn do_most(
        &self,
        connections: &Connections,
        shared: &Shared,
        incarnation: Incarnation,
    ) -> rusqlite::Result<()> {
        self.bytes.store(0, SeqCst);
        // A connection of its own, because the indexer's may be at work for long.
        connections.with_reader(shared, incarnation, checkpoint)?;
        self.is_to_finish.store(true, SeqCst);
        self.fault.mended(incarnation.0);
        Ok(())
    }

    /// Does the rest, if most of the work is done. Called by the writer, before a batch.
    pub(super) fn finish(&self, writer: &mut Connection, incarnation: Incarnation) {
        if self.is_to_finish.swap(false, SeqCst)
            && let Err(error) = checkpoint(writer)
        {
            // The batch does not depend on it. The next one in the background sets the flag again once it succeeds.
            self.fault.failed(incarnation.0, &error);
            self.bytes.fetch_max(CHECKPOINT_BYTES, SeqCst);
        }
    }

    /// The reason that probes report.
    pub(super) fn degraded(&self) -> Option<Degraded> {
        let message = "a write-ahead log cannot be written back and grows";
        self.fault.is_there().then(|| Degraded::new("LOG_NOT_CHECKPOINTED", message))
    }
}

/// Writes the log's write-ahead log into its file, as far as no reader needs it.
fn checkpoint(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA log.wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
