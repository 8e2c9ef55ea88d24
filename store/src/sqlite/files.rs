//! The open files of an incarnation, and all work that changes them: appends, indexing, checkpoints.

use std::fs::{self, File};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use eventodb_protocol::Timestamp;
use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, ffi};
use tokio::sync::Notify;

use super::access::{ALONE_FOR, Access};
use super::append::NotAppended;
use super::checksum::Seed;
use super::directory::Found;
use super::evidence::{self, Identity};
use super::failure::{
    append_failed, fail, is_damage, is_for_now, is_not_opened, is_of_the_disk, is_read_only, open_failed,
};
use super::marks::Mark;
use super::memtable::{IndexEntry, Memtable};
use super::paths::{beside, index, index_path, log, log_path, open_index, open_reader, remove_database, set_up};
use super::read::Known;
use super::registry::Noted;
use super::trickle::trickle;
use super::{Location, Shared, append, backfill, connection, index_file, indexer, lookup};
use crate::degraded::Degraded;
use crate::error::{Cause, Error, Result};
use crate::fault::Fault;
use crate::model::Entry;
use crate::model::{Batch, Head, Incarnation};
use crate::storage::AppendError;

/// About the bytes that a commit adds to the write-ahead log besides its messages, because pages are written whole.
const COMMIT_BYTES: u64 = 2 * 4096;

/// Number of entries that leave the memtable under one lock: few, so that no append waits long for it.
const FORGET_AT_ONCE: usize = 128;

/// Batches of at least this many messages are synced in steps while they are being written.
const TRICKLED: usize = 4 * 1024;

/// The pause between two steps. A checkpoint copies faster than many disks write, and has no pause.
const TRICKLE_PAUSE: Duration = Duration::from_millis(2);

/// Messages that are indexed between two checkpoints of the index.
const INDEX_CHECKPOINT_MESSAGES: usize = 64 * 1024;

/// Bytes of the log's write-ahead log after which it is written into the log's file. They are few, because appends wait
/// behind the sync that ends it. Hardly a page is written twice for that, because the log grows at its end.
const CHECKPOINT_BYTES: u64 = 4 * 1024 * 1024;

/// Marks the file as a log. It is written again to see whether the file takes a write.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"EvLg");

/// Files that are open for reading only are opened again after this time, in case they can be written to by now.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Number of reading connections that stay open while the log is not read. While it is, all that work at once stay
/// open.
const IDLE_READERS: usize = 2;

/// The open files of an incarnation.
pub(super) struct Files {
    pub(super) memtable: RwLock<Memtable>,
    /// A store in memory has only this connection, for everything.
    pub(super) writer: Mutex<Writer>,
    pub(super) indexer: Option<Mutex<Connection>>,
    readers: Mutex<Vec<Connection>>,
    /// Told whenever entries have left the memtable.
    pub(super) room: Notify,
    pub(super) indexing: AtomicBool,
    pub(super) checkpointing: AtomicBool,
    /// Whether a task waits for the appends to pause, to index the rest.
    pub(super) awaits_quiet: AtomicBool,
    /// Whether everything in the index is in its file: see [`index_file::checkpoint`].
    begins_anew: AtomicBool,
    /// Whether the index has to be thrown away.
    pub(super) damaged: AtomicBool,
    /// Whether a write was refused because a file is open for reading only: see [`Self::wants_reopening`].
    pub(super) read_only: AtomicBool,
    opened: Instant,
    /// How the log's file is opened.
    access: Access,
    /// Number of entries in all memtables, those of this one included.
    waiting: Arc<AtomicUsize>,
    /// Whether the registry knows that its count of messages is out of date.
    noted: AtomicBool,
    /// Why nothing may be written any more, if that is so.
    pub(super) stopped: Mutex<Option<Cause>>,
    pub(super) last_append: Mutex<Instant>,
    pub(super) last_use: Mutex<Instant>,
    /// About the bytes that were appended since the last checkpoint.
    unchecked: AtomicU64,
    /// Messages indexed since the index's last checkpoint.
    unchecked_index: AtomicUsize,
    /// Belongs to the storage, which keeps it while these files are closed.
    append_fault: Arc<Fault>,
    pub(super) index_fault: Fault,
    index_checkpoint_fault: Fault,
    pub(super) log_checkpoint_fault: Fault,
    /// Set when a checkpoint in the background has done most of the work.
    finish_checkpoint: AtomicBool,
    /// The log's files, as they were opened.
    log_files: Found,
    /// The index's file, for [`trickle`]. It is closed after all connections to it, because closing it gives up their
    /// locks.
    index_file: Option<File>,
    /// The head that is marked in the registry.
    mark: Arc<Mark>,
    /// If the log ends below a head that it is known to have had: that head.
    pub(super) lost_end: Option<i64>,
    /// The beginning of the log's checksums.
    pub(super) seed: Seed,
    /// Damaged messages whose stream is not known, in order.
    unplaced: Vec<i64>,
    /// Whether messages lack checksums that are to be computed.
    pub(super) lacks_checksums: AtomicBool,
    pub(super) backfill_fault: Fault,
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) head: Head,
}

pub(super) enum Opened {
    Ready(Box<Files>),
    /// The index lags behind the log by more than the memtable holds. With a connection to both, and the number of the
    /// log's messages.
    Behind(Connection, u64),
}

/// Opens the index; one that is unusable is thrown away and begun anew. `known` is raised to the head that it alone
/// knew.
fn open_or_renew_index(
    shared: &Shared,
    incarnation: Incarnation,
    least: Access,
    identity: &[u8],
    known: &mut i64,
) -> Result<(Connection, Access)> {
    let file = index_path(shared, incarnation);
    let has_index = file.exists();
    let opened = match open_index(shared, incarnation, least) {
        // SQLite also calls a page damaged that could not be read for a moment.
        Err(connection::Error::Sqlite(error)) if is_damage(&error) => open_index(shared, incarnation, least),
        opened => opened,
    };
    let error = match opened {
        Ok(opened) => return Ok(opened),
        // The system lacks something at the moment, which says nothing about the index.
        Err(connection::Error::Sqlite(error)) if has_index && is_for_now(&error) => return Err(fail(error)),
        Err(connection::Error::Create(error)) => return Err(Error::unavailable(error)),
        Err(error) => error,
    };
    // The head that only the index knows is kept before the index goes.
    let seen = evidence::seen_by_index(&file, identity).unwrap_or(0);
    if seen > *known {
        shared.registry.mark_heads(&[(incarnation, seen)]).map_err(fail)?;
        *known = seen;
    }
    tracing::warn!(incarnation = incarnation.0, %error, "the index is unusable and will be built anew");
    remove_database(&file).map_err(Error::failed)?;
    open_index(shared, incarnation, least).map_err(|error| open_failed(&file, error))
}

impl Files {
    /// Opens the files of an incarnation; `noted` is what the registry knows of it. Files that cannot be written to now
    /// are opened for reading.
    pub(super) fn open(
        shared: &Shared,
        incarnation: Incarnation,
        noted: &Noted,
        append_fault: &Arc<Fault>,
    ) -> Result<Opened> {
        let file = log_path(shared, incarnation);
        if shared.location == Location::Memory {
            return Self::open_in_memory(shared, incarnation, append_fault);
        }
        // SQLite would make an empty file, and the loss would go unnoticed.
        if noted.messages != Some(0) && fs::metadata(&file).map_or(0, |metadata| metadata.len()) == 0 {
            return Err(Error::failed(format!("{} is missing or empty: restore it from a backup", file.display())));
        }
        let opened = connection::open_somehow(&[log(shared, incarnation, Access::ReadOnly)]);
        let (writer, access) = opened.map_err(|error| open_failed(&file, error))?;
        set_up(&writer).map_err(fail)?;
        let identity = identify(shared, incarnation, noted, &writer)?;
        let mut known = noted.marked_head;
        // The two connections must open files alike: if only one could write, the other would not see what it writes.
        let least = access.max(Access::Alone);
        let (indexing, index_access) = open_or_renew_index(shared, incarnation, least, &identity, &mut known)?;
        // If it fails, a later one does the work.
        let begins_anew = index_file::checkpoint(&indexing).unwrap_or(false);
        let indexer::Progress { completion, messages: indexed, .. } = indexer::progress(&indexing).map_err(fail)?;
        let most = 2 * shared.settings.memtable_messages;
        let seed = Seed::of(&identity);
        let suffix = indexer::certain_suffix(&indexing, completion, most + 1).map_err(fail)?;
        let indexer::Suffix { entries, damaged, .. } = suffix;
        if entries.len() > most {
            let of = append::head(&indexing, seed).map_err(fail)?.position.unsigned_abs();
            return Ok(Opened::Behind(indexing, of));
        }
        let mut memtable = Memtable::new(completion);
        entries.into_iter().for_each(|entry| memtable.push(entry));
        let messages = indexed + memtable.len() as u64;
        let unplaced = indexer::unplaced(&indexing).map_err(fail)?;
        let lacks_checksums = backfill::unchecked(&writer).map_err(fail)?.is_some();
        let mut files = Self::new(shared, incarnation, writer, Some(indexing), memtable, seed, append_fault)?;
        files.access = access.max(index_access);
        files.lacks_checksums.store(lacks_checksums, SeqCst);
        files.keep_unplaced(shared, incarnation, unplaced, damaged);
        files.log_files = Found::database(&file).map_err(Error::failed)?;
        files.expect_head(shared, incarnation, known);
        files.index_file = File::open(index_path(shared, incarnation)).ok();
        files.begins_anew.store(begins_anew, SeqCst);
        let unchecked = fs::metadata(beside(&file, "-wal")).map_or(0, |metadata| metadata.len());
        files.unchecked.store(unchecked, SeqCst);
        if noted.messages.is_some_and(|noted| noted != messages) {
            files.correct_count(shared, incarnation)?;
        }
        Ok(Opened::Ready(Box::new(files)))
    }

    fn open_in_memory(shared: &Shared, incarnation: Incarnation, append_fault: &Arc<Fault>) -> Result<Opened> {
        let databases = [log(shared, incarnation, Access::Shared), index(shared, incarnation, Access::Shared)];
        let connection =
            connection::open(&databases).map_err(|error| open_failed(&log_path(shared, incarnation), error))?;
        indexer::belongs(&connection).map_err(fail)?;
        let seed = Seed::of(&evidence::identity(&connection).map_err(fail)?);
        let files = Self::new(shared, incarnation, connection, None, Memtable::new(0), seed, append_fault)?;
        Ok(Opened::Ready(Box::new(files)))
    }

    /// Has the registry count the messages again, because the log was replaced, perhaps by one from a backup.
    fn correct_count(&self, shared: &Shared, incarnation: Incarnation) -> Result<()> {
        match shared.registry.note_messages(incarnation, None) {
            Ok(()) => self.noted.store(true, SeqCst),
            Err(error) if is_of_the_disk(&error) => {
                tracing::warn!(incarnation = incarnation.0, %error, "the registry's count of messages stays wrong");
            }
            Err(error) => return Err(fail(error)),
        }
        Ok(())
    }

    /// Keeps the damaged messages whose streams are not known. Nothing may be written until they are given up, because
    /// their positions in their streams would be given out again.
    fn keep_unplaced(&mut self, shared: &Shared, incarnation: Incarnation, noted: Vec<i64>, found: Vec<i64>) {
        self.unplaced = [noted, found].concat();
        self.unplaced.sort_unstable();
        self.unplaced.dedup();
        for at in &self.unplaced {
            shared.damage.met(&shared.registry, incarnation, *at);
        }
        if !self.unplaced.is_empty() {
            tracing::error!(
                incarnation = incarnation.0,
                unplaced = self.unplaced.len(),
                "damaged messages belong to streams that nobody knows: the log takes no writes until they are restored \
                 or given up"
            );
        }
    }

    /// The parts that a read needs.
    pub(super) fn known(&self) -> Known<'_> {
        Known { memtable: &self.memtable, seed: self.seed, unplaced: &self.unplaced }
    }

    /// Computes checksums that are missing: see [`backfill::batch`].
    pub(super) fn backfill(&self, certain: Option<i64>) -> rusqlite::Result<backfill::Done> {
        self.may_be_written()?;
        let done = backfill::batch(&mut self.writer.lock().connection, self.seed, certain)?;
        self.unchecked.fetch_add(done.bytes + COMMIT_BYTES, SeqCst);
        Ok(done)
    }

    /// Refuses writes if the log ends below the head that it is known to have had, because the positions of the lost
    /// messages must not be given out again.
    fn expect_head(&mut self, shared: &Shared, incarnation: Incarnation, known: i64) {
        let head = self.writer.get_mut().head.position;
        self.mark = shared.marks.open(incarnation, head, known);
        if head < known {
            self.lost_end = Some(known);
            tracing::error!(
                incarnation = incarnation.0,
                head,
                known,
                "the log has lost its end: it takes no writes until its files are restored or the loss is accepted with \
                 `eventodb repair --accept-loss`"
            );
        }
    }

    pub(super) fn new(
        shared: &Shared,
        incarnation: Incarnation,
        writer: Connection,
        indexer: Option<Connection>,
        memtable: Memtable,
        seed: Seed,
        append_fault: &Arc<Fault>,
    ) -> Result<Self> {
        let head = append::head(&writer, seed).map_err(fail)?;
        shared.waiting.fetch_add(memtable.len(), SeqCst);
        let mark = shared.marks.open(incarnation, head.position, head.position);
        Ok(Self {
            mark,
            lost_end: None,
            seed,
            unplaced: Vec::new(),
            lacks_checksums: AtomicBool::new(false),
            backfill_fault: Fault::of("computing checksums"),
            memtable: RwLock::new(memtable),
            writer: Mutex::new(Writer { connection: writer, head }),
            indexer: indexer.map(Mutex::new),
            readers: Mutex::default(),
            room: Notify::new(),
            indexing: AtomicBool::new(false),
            checkpointing: AtomicBool::new(false),
            awaits_quiet: AtomicBool::new(false),
            begins_anew: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            opened: Instant::now(),
            access: Access::Shared,
            waiting: shared.waiting.clone(),
            noted: AtomicBool::new(false),
            stopped: Mutex::default(),
            last_append: Mutex::new(Instant::now()),
            last_use: Mutex::new(Instant::now()),
            unchecked: AtomicU64::new(0),
            unchecked_index: AtomicUsize::new(0),
            append_fault: Arc::clone(append_fault),
            index_fault: Fault::of("writing the index"),
            index_checkpoint_fault: Fault::of("a checkpoint of the index"),
            log_checkpoint_fault: Fault::of("a checkpoint of the log"),
            finish_checkpoint: AtomicBool::new(false),
            log_files: Found::default(),
            index_file: None,
        })
    }

    pub(super) fn with_reader<T, E: From<rusqlite::Error>>(
        &self,
        shared: &Shared,
        incarnation: Incarnation,
        work: impl FnOnce(&mut Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.indexer.is_none() {
            return work(&mut self.writer.lock().connection);
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
    pub(super) fn close_spare_readers(&self) {
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

    pub(super) fn with_indexer<T, E>(&self, work: impl FnOnce(&mut Connection) -> Result<T, E>) -> Result<T, E> {
        match &self.indexer {
            Some(connection) => work(&mut connection.lock()),
            None => work(&mut self.writer.lock().connection),
        }
    }

    /// Moves one batch from the memtable into the index.
    pub(super) fn index_batch(&self, shared: &Shared, incarnation: Incarnation) -> rusqlite::Result<()> {
        self.may_be_written()?;
        self.forget_indexed()?;
        let (chunks, gone) = self.memtable.read().first(shared.settings.index_batch);
        let entries: Vec<&IndexEntry> = chunks.iter().flat_map(|chunk| &chunk[..]).skip(gone).collect();
        let Some(last) = entries.last().map(|entry| entry.global_position) else { return Ok(()) };
        let count = entries.len();
        let is_large = self.indexer.is_some() && count >= TRICKLED;
        self.with_indexer(|connection| indexer::note_unplaced(connection, &self.unplaced))?;
        let write_ahead_log = is_large.then(|| File::open(beside(&index_path(shared, incarnation), "-wal")).ok());
        self.with_indexer(|connection| {
            let begins_anew = self.begins_anew.load(SeqCst);
            trickle(write_ahead_log.flatten().as_ref(), TRICKLE_PAUSE, || {
                indexer::index(connection, entries, begins_anew)
            })
        })?;
        drop(chunks);
        self.forget_up_to(last);
        self.index_fault.mended(incarnation.0);
        self.unchecked_index.fetch_add(count, SeqCst);
        self.checkpoint_index(incarnation);
        Ok(())
    }

    /// Drops entries from the memtable that the index holds already, because a commit that reported an error may have
    /// happened all the same.
    fn forget_indexed(&self) -> rusqlite::Result<()> {
        let indexed = self.with_indexer(|connection| indexer::progress(connection))?.completion;
        let known = self.memtable.read().completion();
        if indexed < known {
            // The index lost entries that it held: it is damaged.
            return Err(rusqlite::Error::QueryReturnedNoRows);
        }
        if indexed > known {
            self.forget_up_to(indexed);
        }
        Ok(())
    }

    /// Drops entries from the memtable that the index holds now.
    fn forget_up_to(&self, completion: i64) {
        // The first commit after a checkpoint has begun the write-ahead log anew.
        self.begins_anew.store(false, SeqCst);
        let mut left = true;
        while left {
            let mut memtable = self.memtable.write();
            let held = memtable.len();
            left = memtable.forget(completion, FORGET_AT_ONCE);
            self.waiting.fetch_sub(held - memtable.len(), SeqCst);
        }
        self.room.notify_waiters();
    }

    /// Writes the index's write-ahead log into its file if that is due. It is not due after each batch, so that a page
    /// which several batches change is written back once. If it fails, the batches are in the index all the same, and
    /// the next batch tries it again.
    fn checkpoint_index(&self, incarnation: Incarnation) {
        if self.unchecked_index.load(SeqCst) < INDEX_CHECKPOINT_MESSAGES {
            return;
        }
        let outcome = self.with_indexer(|connection| {
            trickle(self.index_file.as_ref(), Duration::ZERO, || index_file::checkpoint(connection))
        });
        match outcome {
            Ok(is_all) => {
                self.unchecked_index.store(0, SeqCst);
                self.begins_anew.store(is_all, SeqCst);
                self.index_checkpoint_fault.mended(incarnation.0);
            }
            Err(error) => self.index_checkpoint_fault.failed(incarnation.0, &error),
        }
    }

    /// Writes most of the log's write-ahead log into its file while appends go on. The writer does the small rest,
    /// because the write-ahead log begins anew only when nothing of it is left.
    pub(super) fn checkpoint_in_background(&self, shared: &Shared, incarnation: Incarnation) -> rusqlite::Result<()> {
        self.unchecked.store(0, SeqCst);
        // A connection of its own, because the indexer's may be at work for long.
        self.with_reader(shared, incarnation, checkpoint_log)?;
        self.finish_checkpoint.store(true, SeqCst);
        self.log_checkpoint_fault.mended(incarnation.0);
        Ok(())
    }

    /// Whether the log's write-ahead log is long enough to be written back.
    pub(super) fn wants_checkpoint(&self) -> bool {
        self.indexer.is_some() && self.access != Access::ReadOnly && self.unchecked.load(SeqCst) >= CHECKPOINT_BYTES
    }

    /// Whether the memtable is full.
    pub(super) fn is_full(&self, shared: &Shared) -> bool {
        let entries = self.memtable.read().len();
        entries >= shared.settings.memtable_messages
            || entries >= shared.settings.index_batch
                && shared.waiting.load(SeqCst) >= shared.settings.memtables_messages
    }

    pub(super) fn append(
        &self,
        shared: &Shared,
        incarnation: Incarnation,
        batch: &Batch,
    ) -> Result<Vec<Arc<Entry>>, AppendError> {
        if let Some(cause) = &*self.stopped.lock() {
            return Err(AppendError::Rejected(cause.clone()));
        }
        shared.still_holds(&self.log_files).map_err(|error| AppendError::Unavailable(Arc::new(error)))?;
        if let Some(cause) = self.refusal() {
            return Err(AppendError::Unavailable(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(cause))));
        }
        if let Err(error) = self.may_be_written() {
            return Err(self.not_appended(incarnation, NotAppended::Before(error)));
        }
        let mut writer = self.writer.lock();
        let Writer { connection, head } = &mut *writer;
        if self.finish_checkpoint.swap(false, SeqCst)
            && let Err(error) = checkpoint_log(connection)
        {
            // The batch does not depend on it. The next one in the background sets the flag again once it succeeds.
            self.log_checkpoint_fault.failed(incarnation.0, &error);
            self.unchecked.fetch_max(CHECKPOINT_BYTES, SeqCst);
        }
        if head.position != batch.after.position {
            return Err(AppendError::Behind);
        }
        if !self.noted.load(SeqCst) {
            let noted = shared.registry.note_messages(incarnation, None);
            noted.map_err(|error| self.not_appended(incarnation, NotAppended::Before(error)))?;
            self.noted.store(true, SeqCst);
        }
        let time = Timestamp::now().max(head.time);
        let entries = batch.entries(time);
        append::append(connection, self.seed, batch, &entries).map_err(|error| {
            let (NotAppended::Before(cause) | NotAppended::Committing(cause)) = &error;
            self.read_only.fetch_or(is_read_only(cause), SeqCst);
            self.not_appended(incarnation, error)
        })?;
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

    /// Why the log takes no writes until a person has looked at it.
    fn refusal(&self) -> Option<String> {
        if let Some(known) = self.lost_end {
            return Some(format!("the log ends below global position {known}, which was acknowledged"));
        }
        let unplaced = self.unplaced.first()?;
        Some(format!("the message at global position {unplaced} is damaged, and nobody knows its stream"))
    }

    /// Refuses a write to files that are open for reading only. If they can be written to by now, they have to be
    /// opened anew first.
    fn may_be_written(&self) -> rusqlite::Result<()> {
        if self.access != Access::ReadOnly {
            return Ok(());
        }
        self.read_only.store(true, SeqCst);
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), None))
    }

    /// Notes that a batch could not be written, if the disk is the reason.
    fn not_appended(&self, incarnation: Incarnation, error: NotAppended) -> AppendError {
        let (NotAppended::Before(cause) | NotAppended::Committing(cause)) = &error;
        if is_of_the_disk(cause) {
            self.append_fault.failed(incarnation.0, cause);
        }
        append_failed(error)
    }

    /// Makes a write that is on the disk when this returns, and leaves nothing behind.
    pub(super) fn write_test(&self, shared: &Shared, incarnation: Incarnation) -> Result<()> {
        shared.still_holds(&self.log_files)?;
        self.may_be_written().map_err(fail)?;
        let written = self.writer.lock().connection.pragma_update(Some("log"), "application_id", APPLICATION_ID);
        written.map_err(|error| {
            self.read_only.fetch_or(is_read_only(&error), SeqCst);
            fail(error)
        })?;
        self.append_fault.mended(incarnation.0);
        Ok(())
    }

    /// Whether to close the files and open them anew, because they may be written to by now. If SQLite cannot open a
    /// write-ahead log or shared memory for writing, it opens it for reading, and each connection keeps it so until the
    /// last one is closed. Files that are open for this process alone are opened so that a backup can share them as
    /// soon as there is room.
    pub(super) fn wants_reopening(&self) -> bool {
        let age = self.opened.elapsed();
        self.read_only.load(SeqCst) && age >= REOPEN_AFTER || self.access == Access::Alone && age >= ALONE_FOR
    }

    /// Why writes are refused at the moment, or soon will be.
    pub(super) fn degraded(&self) -> Vec<Degraded> {
        let reasons = [
            (
                self.log_files.is_lost(),
                "DIRECTORY_LOST",
                "the data directory was removed or replaced while it was in use: nothing is written",
            ),
            (
                self.stopped.lock().is_some(),
                "WRITES_STOPPED",
                "a namespace takes no more writes: the server's log says why",
            ),
            (
                self.index_fault.is_there() || self.index_checkpoint_fault.is_there(),
                "INDEX_NOT_WRITTEN",
                "an index cannot be written: writes are refused once too much waits for it",
            ),
            (
                self.refusal().is_some() && self.lost_end.is_none(),
                "DAMAGED_LOG",
                "a namespace takes no writes until its damaged messages are restored or given up: the server's log says which",
            ),
            (
                self.log_checkpoint_fault.is_there(),
                "LOG_NOT_CHECKPOINTED",
                "a write-ahead log cannot be written back and grows",
            ),
        ];
        let there = reasons.into_iter().filter(|(is_there, ..)| *is_there);
        there.map(|(_, code, message)| Degraded::new(code, message)).collect()
    }

    pub(super) fn remember(&self, entries: &[Arc<Entry>]) {
        let index_entries: Vec<IndexEntry> = entries
            .iter()
            .map(|entry| IndexEntry::of(entry.message(), entry.correlation(), entry.starts_stream()))
            .collect();
        let bytes: usize = entries.iter().map(|entry| entry.message().size() + 64).sum();
        self.unchecked.fetch_add(bytes as u64 + COMMIT_BYTES, SeqCst);
        self.waiting.fetch_add(index_entries.len(), SeqCst);
        let mut memtable = self.memtable.write();
        index_entries.into_iter().for_each(|entry| memtable.push(entry));
        drop(memtable);
        *self.last_append.lock() = Instant::now();
    }

    /// Before closing: indexes as much as possible, and notes the count of messages in the registry.
    pub(super) fn finish(
        &mut self,
        shared: &Shared,
        incarnation: Incarnation,
        thoroughly: bool,
    ) -> rusqlite::Result<()> {
        while thoroughly && self.stopped.lock().is_none() && self.memtable.read().len() > 0 {
            self.index_batch(shared, incarnation)?;
        }
        if self.noted.load(SeqCst) {
            // The indexer's connection, because it is open for sure.
            let counts = self.with_indexer(|connection| lookup::counts(connection, self.known()))?;
            shared.registry.note_messages(incarnation, Some(counts.messages))?;
        }
        if let Some(head) = self.mark.due() {
            shared.registry.mark_heads(&[(incarnation, head)])?;
        }
        if thoroughly && self.access != Access::ReadOnly {
            self.readers.lock().clear();
            self.with_indexer(|connection| {
                connection.query_row("PRAGMA idx.wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
                connection.query_row("PRAGMA log.wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            })?;
        }
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.memtable.get_mut().len(), SeqCst);
    }
}

/// The identity of a log, which must be its namespace's.
fn identify(shared: &Shared, incarnation: Incarnation, noted: &Noted, log: &Connection) -> Result<Vec<u8>> {
    let head = last_position(log).map_err(fail)?;
    let found = evidence::identify(log, noted, head).map_err(fail)?;
    let identity = evidence::identity(log).map_err(fail)?;
    match found {
        Identity::Same => Ok(identity),
        Identity::Unknown => {
            match shared.registry.adopt_identity(incarnation, &identity) {
                // The next opening tries it again.
                Err(error) if !is_of_the_disk(&error) => Err(fail(error)),
                _ => Ok(identity),
            }
        }
        Identity::Foreign => {
            let file = log_path(shared, incarnation);
            Err(Error::failed(format!(
                "{} is the log of another namespace: put the right one in its entry, from a backup perhaps",
                file.display()
            )))
        }
    }
}

fn last_position(log: &Connection) -> rusqlite::Result<i64> {
    log.query_row("SELECT coalesce(max(global_position), 0) FROM log.messages", [], |row| row.get(0))
}

/// Writes the log's write-ahead log into its file, as far as no reader needs it.
fn checkpoint_log(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA log.wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
