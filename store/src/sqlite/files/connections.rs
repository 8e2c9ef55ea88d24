//! The connections to the files of an incarnation: one writes the log, one the index, the others read.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, ffi};

use super::super::Shared;
use super::super::access::{ALONE_FOR, Access};
use super::super::failure::{is_not_opened, is_read_only};
use super::super::paths::open_reader;
use crate::model::{Head, Incarnation};

/// Files that are open for reading only are opened again after this time, in case they can be written to by now.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Number of reading connections that stay open while the log is not read. While it is, all that work at once stay
/// open.
const IDLE_READERS: usize = 2;

/// The connections to the files of an incarnation.
pub(in crate::sqlite) struct Connections {
    /// A store in memory has only this connection, for everything.
    writer: Mutex<Writer>,
    indexer: Option<Mutex<Connection>>,
    readers: Mutex<Vec<Connection>>,
    /// How the files are opened.
    access: Access,
    opened: Instant,
    /// Whether a write was refused because a file is open for reading only: see [`Self::want_reopening`].
    were_read_only: AtomicBool,
}

/// The connection that writes the log, and the log's head.
pub(in crate::sqlite) struct Writer {
    pub(in crate::sqlite) connection: Connection,
    pub(in crate::sqlite) head: Head,
}

impl Connections {
    pub(super) fn new(writer: Writer, indexer: Option<Connection>, access: Access) -> Self {
        Self {
            writer: Mutex::new(writer),
            indexer: indexer.map(Mutex::new),
            readers: Mutex::default(),
            access,
            opened: Instant::now(),
            were_read_only: AtomicBool::new(false),
        }
    }

    /// The connection that writes the log.
    pub(in crate::sqlite) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock()
    }

    /// Whether there are files, and not only memory.
    pub(in crate::sqlite) fn have_files(&self) -> bool {
        self.indexer.is_some()
    }

    /// Works with the connection that writes the index.
    pub(super) fn with_indexer<T, E>(&self, work: impl FnOnce(&mut Connection) -> Result<T, E>) -> Result<T, E> {
        match &self.indexer {
            Some(connection) => work(&mut connection.lock()),
            None => work(&mut self.writer().connection),
        }
    }

    /// Works with a connection that reads.
    pub(in crate::sqlite) fn with_reader<T, E: From<rusqlite::Error>>(
        &self,
        shared: &Shared,
        incarnation: Incarnation,
        work: impl FnOnce(&mut Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        if !self.have_files() {
            return work(&mut self.writer().connection);
        }
        let idle = self.readers.lock().pop();
        let mut connection =
            match idle.map_or_else(|| open_reader(shared, incarnation, self.access.max(Access::Alone)), Ok) {
                Ok(connection) => connection,
                // Without a descriptor to spare, the read waits for the indexer.
                Err(error) if is_not_opened(&error) => return self.with_indexer(work),
                Err(error) => return Err(error.into()),
            };
        let outcome = work(&mut connection);
        let mut readers = self.readers.lock();
        if readers.len() < shared.settings.readers {
            readers.push(connection);
        }
        outcome
    }

    /// Closes the readers that are only worth their place while many read, and gives back the pages that the others
    /// keep.
    pub(in crate::sqlite) fn close_spare_readers(&self) {
        let mut readers = self.readers.lock();
        let keep = readers.len().min(IDLE_READERS);
        let spare = readers.split_off(keep);
        for reader in &*readers {
            // It fails only if the connection is in use, and nobody else has it.
            let _ = reader.release_memory();
        }
        drop(readers);
        drop(spare);
    }

    /// Closes all readers that are not in use.
    pub(super) fn close_readers(&self) {
        self.readers.lock().clear();
    }

    /// Whether the files are open for reading only.
    pub(super) fn are_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    /// Refuses a write to files that are open for reading only. If they can be written to by now, they have to be
    /// opened anew first.
    pub(super) fn may_write(&self) -> rusqlite::Result<()> {
        if !self.are_read_only() {
            return Ok(());
        }
        self.were_read_only.store(true, SeqCst);
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), None))
    }

    /// A write failed, perhaps because a file is open for reading only.
    pub(in crate::sqlite) fn failed(&self, error: &rusqlite::Error) {
        self.were_read_only.fetch_or(is_read_only(error), SeqCst);
    }

    /// Whether to close the files and open them anew, because they may be written to by now. If SQLite cannot open a
    /// write-ahead log or shared memory for writing, it opens it for reading, and each connection keeps it so until the
    /// last one is closed. Files that are open for this process alone are opened so that a backup can share them as
    /// soon as there is room.
    pub(in crate::sqlite) fn want_reopening(&self) -> bool {
        let age = self.opened.elapsed();
        self.were_read_only.load(SeqCst) && age >= REOPEN_AFTER || self.access == Access::Alone && age >= ALONE_FOR
    }
}
