//! The open files of an incarnation, and the work that changes them.
//!
//! | file | what it owns |
//! |---|---|
//! | `open` | nothing: it opens files, or finds that the index has to be built first |
//! | `connections` | the connections, and whether they can write |
//! | `backlog` | the entries that wait for the indexer |
//! | `indexing` | how far the index is written |
//! | `write_back` | how much of the log is in its write-ahead log alone |
//! | `obstacles` | why the log takes no writes until a person has looked at it |
//!
//! [`Files`] puts them together: an append goes through all of them.

mod backlog;
mod connections;
mod indexing;
mod obstacles;
mod open;
mod write_back;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use eventodb_protocol::Timestamp;
use parking_lot::Mutex;
use rusqlite::Connection;

use self::backlog::Backlog;
use self::connections::{Connections, Writer};
use self::indexing::Indexing;
use self::obstacles::Obstacles;
use self::write_back::WriteBack;
use super::append::NotAppended;
use super::checksum::Seed;
use super::failure::{append_failed, change_failed, fail, is_of_the_disk};
use super::marks::Mark;
use super::memtable::IndexEntry;
use super::read::Known;
use super::{Shared, append, backfill, lookup};
use crate::degraded::Degraded;
use crate::error::Result;
use crate::fault::Fault;
use crate::model::{Batch, Entry, Incarnation};
use crate::storage::{AppendError, Settled};

pub(super) use self::open::{Opened, last_position, open};

/// Marks the file as a log. It is written again to see whether the file takes a write.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"EvLg");

/// Bytes that a change beside the log takes in the write-ahead log, about.
const CHANGED_BYTES: u64 = 16 * 1024;

/// The open files of an incarnation.
pub(super) struct Files {
    pub(super) connections: Connections,
    pub(super) backlog: Backlog,
    pub(super) write_back: WriteBack,
    pub(super) obstacles: Obstacles,
    /// The beginning of the log's checksums.
    seed: Seed,
    /// Whether the registry knows that its count of messages is out of date.
    noted: AtomicBool,
    /// The head that is marked in the registry.
    mark: Arc<Mark>,
    pub(super) last_append: Mutex<Instant>,
    pub(super) last_use: Mutex<Instant>,
    /// Belongs to the storage, which keeps it while these files are closed.
    append_fault: Arc<Fault>,
    /// Whether messages lack checksums that are to be computed.
    pub(super) lacks_checksums: AtomicBool,
    pub(super) backfill_fault: Fault,
    /// Dropped after the connections, because it has the index's file open, and closing that gives up their locks.
    pub(super) indexing: Indexing,
}

impl Files {
    /// The parts that a read needs.
    pub(super) fn known(&self) -> Known<'_> {
        Known { memtable: self.backlog.memtable(), seed: self.seed, unplaced: self.obstacles.unplaced() }
    }

    /// Commits a batch to the log.
    ///
    /// # Errors
    /// As [`crate::storage::Appender::submit`].
    pub(super) fn append(
        &self,
        shared: &Shared,
        incarnation: Incarnation,
        batch: &Batch,
    ) -> Result<Vec<Arc<Entry>>, AppendError> {
        self.obstacles.let_append(shared)?;
        let not_written = |error| self.not_appended(incarnation, NotAppended::Before(error));
        self.connections.may_write().map_err(not_written)?;
        let mut writer = self.connections.writer();
        let Writer { connection, head } = &mut *writer;
        self.write_back.finish(connection, incarnation);
        if head.position != batch.after.position {
            return Err(AppendError::Behind);
        }
        if !self.noted.load(SeqCst) {
            shared.registry.note_messages(incarnation, None).map_err(not_written)?;
            self.noted.store(true, SeqCst);
        }
        let time = Timestamp::now().max(head.time);
        let entries = batch.entries(time);
        let is_appended = append::append(connection, self.seed, batch, &entries).map_err(|error| {
            let (NotAppended::Before(cause) | NotAppended::Committing(cause)) = &error;
            self.connections.failed(cause);
            self.not_appended(incarnation, error)
        })?;
        if !is_appended {
            return Err(AppendError::Behind);
        }
        self.append_fault.mended(incarnation.0);
        if let Some(last) = entries.last() {
            head.position = last.message().global_position;
            head.batch = head.position;
            if !batch.keep_times {
                head.time = time;
            }
            self.mark.reached(head.position);
        }
        drop(writer);
        self.remember(&entries);
        Ok(entries)
    }

    /// Changes what is stored beside the log. It is on the disk when this returns.
    pub(super) fn change<T>(
        &self,
        shared: &Shared,
        incarnation: Incarnation,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        self.obstacles.let_change(shared)?;
        self.connections.may_write().map_err(fail)?;
        let mut writer = self.connections.writer();
        let connection = &mut writer.connection;
        self.write_back.finish(connection, incarnation);
        let outcome = work(connection).map_err(|error| {
            self.connections.failed(&error);
            change_failed(error)
        });
        drop(writer);
        self.write_back.committed(CHANGED_BYTES);
        outcome
    }

    /// Looks into the log whether a batch is there. A commit that reported an error may have happened all the same.
    pub(super) fn settle(&self, batch: &Batch) -> Result<Settled> {
        let mut writer = self.connections.writer();
        let head = append::head(&writer.connection, self.seed).map_err(fail)?;
        writer.head = head;
        drop(writer);
        let Some(last) = batch.messages.last() else { return Ok(Settled::NotCommitted) };
        if head.position < last.global_position {
            return Ok(Settled::NotCommitted);
        }
        let entries = batch.entries(head.time);
        self.mark.reached(head.position);
        self.remember(&entries);
        Ok(Settled::Committed(entries))
    }

    /// Notes that a batch could not be written, if the disk is the reason.
    fn not_appended(&self, incarnation: Incarnation, error: NotAppended) -> AppendError {
        let (NotAppended::Before(cause) | NotAppended::Committing(cause)) = &error;
        if is_of_the_disk(cause) {
            self.append_fault.failed(incarnation.0, cause);
        }
        append_failed(error)
    }

    /// Has entries wait for the indexer that are in the log now.
    fn remember(&self, entries: &[Arc<Entry>]) {
        let index_entries: Vec<IndexEntry> = entries
            .iter()
            .map(|entry| IndexEntry::of(entry.message(), entry.correlation(), entry.starts_stream()))
            .collect();
        let bytes: usize = entries.iter().map(|entry| entry.message().size() + 64).sum();
        self.write_back.committed(bytes as u64);
        self.backlog.push(index_entries);
        *self.last_append.lock() = Instant::now();
    }

    /// Moves one batch from the backlog into the index.
    pub(super) fn index_batch(&self, shared: &Shared, incarnation: Incarnation) -> rusqlite::Result<()> {
        self.connections.may_write()?;
        let unplaced = self.obstacles.unplaced();
        self.indexing.index_batch(&self.connections, &self.backlog, unplaced, shared, incarnation)
    }

    /// Computes checksums that are missing: see [`backfill::batch`].
    pub(super) fn backfill(&self, certain: Option<i64>) -> rusqlite::Result<backfill::Done> {
        self.connections.may_write()?;
        let done = backfill::batch(&mut self.connections.writer().connection, self.seed, certain)?;
        self.write_back.committed(done.bytes);
        Ok(done)
    }

    /// Makes a write that is on the disk when this returns, and leaves nothing behind.
    pub(super) fn write_test(&self, shared: &Shared, incarnation: Incarnation) -> Result<()> {
        self.obstacles.still_there(shared)?;
        self.connections.may_write().map_err(fail)?;
        let written = self.connections.writer().connection.pragma_update(Some("log"), "application_id", APPLICATION_ID);
        written.map_err(|error| {
            self.connections.failed(&error);
            fail(error)
        })?;
        self.append_fault.mended(incarnation.0);
        Ok(())
    }

    /// Why writes are refused at the moment, or soon will be.
    pub(super) fn degraded(&self) -> Vec<Degraded> {
        let mut degraded = self.obstacles.degraded();
        degraded.extend(self.indexing.degraded());
        degraded.extend(self.write_back.degraded());
        degraded
    }

    /// Before closing: indexes as much as possible, and notes the count of messages in the registry.
    pub(super) fn finish(
        &mut self,
        shared: &Shared,
        incarnation: Incarnation,
        thoroughly: bool,
    ) -> rusqlite::Result<()> {
        while thoroughly && !self.obstacles.has_stopped() && self.backlog.len() > 0 {
            self.index_batch(shared, incarnation)?;
        }
        if self.noted.load(SeqCst) {
            // The indexer's connection, because it is open for sure.
            let counts = self.connections.with_indexer(|connection| lookup::counts(connection, self.known()))?;
            shared.registry.note_messages(incarnation, Some(counts.messages))?;
        }
        if let Some(head) = self.mark.due() {
            shared.registry.mark_heads(&[(incarnation, head)])?;
        }
        if thoroughly && !self.connections.are_read_only() {
            self.connections.close_readers();
            self.connections.with_indexer(|connection| {
                connection.query_row("PRAGMA idx.wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
                connection.query_row("PRAGMA log.wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            })?;
        }
        Ok(())
    }
}
