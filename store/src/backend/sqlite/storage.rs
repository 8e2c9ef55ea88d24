//! One incarnation: its files, opened when they are needed, and what is done with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eventodb_schema::Timestamp;
use eventodb_schema::message::Message;
use eventodb_schema::migrations;
use eventodb_schema::reply::{CategoryListed, StreamListed};
use eventodb_schema::request::StreamsPage;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::Notify;
use uuid::Uuid;

use super::connection::{self, Attach, Synchronous};
use super::memtable::{Memtable, Place};
use super::{Location, Shared, append, index_file, indexer, lookup, read};
use crate::backend::{AppendError, Batch, Counts, Fenced, Head, Incarnation, Lineage, Select, Slice, Storage};
use crate::error::{Cause, Error, Result};
use crate::log::Entry;

/// Places that leave the memtable under one lock; few, so that no append waits long for it.
const FORGET_AT_ONCE: usize = 128;

/// Messages that are indexed between two checkpoints of the index.
const INDEX_CHECKPOINT_MESSAGES: usize = 64 * 1024;

/// Bytes of the log's write-ahead log after which it is written into the log's file.
const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;

/// How long a place may wait for others before the indexer takes it anyway.
const INDEX_AFTER: Duration = Duration::from_secs(1);

/// How long an append waits for room in the memtable.
const ROOM_WITHIN: Duration = Duration::from_secs(10);

/// How long closing waits for those who still work with the files.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Readers that stay open for the next read.
const IDLE_READERS: usize = 2;

/// See the module.
pub(super) struct SqliteStorage {
    shared: Arc<Shared>,
    incarnation: Incarnation,
    state: Mutex<State>,
}

/// What is open. Whoever works with the files holds a clone of them, taken under the lock, so that
/// they are closed only while nobody does.
enum State {
    Closed,
    Open(Arc<Files>),
    /// The index is being built anew; so many of so many messages are in it.
    Rebuilding(Arc<Rebuild>),
    Deleted,
}

#[derive(Default)]
struct Rebuild {
    done: AtomicU64,
    of: AtomicU64,
    /// Whether it is to end before it is done.
    stop: AtomicBool,
}

/// The open files of an incarnation.
struct Files {
    memtable: RwLock<Memtable>,
    /// In memory this one connection serves for everything.
    writer: Mutex<Writer>,
    indexer: Option<Mutex<Connection>>,
    readers: Mutex<Vec<Connection>>,
    /// Told whenever places have left the memtable.
    room: Notify,
    indexing: AtomicBool,
    /// Whether everything in the index is in its file: see [`index_file::checkpoint`].
    begins_anew: AtomicBool,
    /// Whether the index is to be thrown away.
    damaged: AtomicBool,
    /// Places in all memtables; this one's count among them.
    waiting: Arc<AtomicUsize>,
    /// Whether the registry knows that its count of messages is out of date.
    noted: AtomicBool,
    /// Why nothing may be written any more, if so.
    stopped: Mutex<Option<Cause>>,
    last_append: Mutex<Instant>,
    last_use: Mutex<Instant>,
    /// Bytes appended since the last checkpoint, about.
    unchecked: AtomicU64,
    /// Messages indexed since the index's last checkpoint.
    unchecked_index: AtomicUsize,
    /// Set when a checkpoint in the background has done most of the work.
    finish_checkpoint: AtomicBool,
}

struct Writer {
    connection: Connection,
    head: Head,
}

impl SqliteStorage {
    pub(super) fn new(shared: Arc<Shared>, incarnation: Incarnation) -> Self {
        Self { shared, incarnation, state: Mutex::new(State::Closed) }
    }

    /// The open files, opened where they are not.
    fn files(self: &Arc<Self>) -> Result<Arc<Files>> {
        let mut state = self.state.lock();
        match &*state {
            State::Open(files) if !files.damaged.load(SeqCst) => {
                *files.last_use.lock() = Instant::now();
                return Ok(files.clone());
            }
            State::Rebuilding(progress) => return Err(rebuilding(progress)),
            State::Deleted => return Err(Error::Closed),
            State::Open(_) | State::Closed => {}
        }
        drop(state);
        self.shared.close_beyond(self.shared.settings.open_namespaces.saturating_sub(1));
        state = self.state.lock();
        self.open_files(&mut state)
    }

    /// As [`Self::files`], after room was made for one more open namespace.
    fn open_files(self: &Arc<Self>, state: &mut State) -> Result<Arc<Files>> {
        match state {
            State::Open(files) if !files.damaged.load(SeqCst) => return Ok(files.clone()),
            State::Open(files) => {
                if Arc::get_mut(files).is_none() {
                    return Err(Error::unavailable("the index is damaged and will be built anew"));
                }
                *state = State::Closed;
                remove_database(&index_path(&self.shared, self.incarnation)).map_err(Error::failed)?;
            }
            State::Rebuilding(progress) => return Err(rebuilding(progress)),
            State::Deleted => return Err(Error::Closed),
            State::Closed => {}
        }
        let Some(noted) = self.shared.registry.noted(self.incarnation).map_err(fail)? else {
            *state = State::Deleted;
            return Err(Error::Closed);
        };
        match Files::open(&self.shared, self.incarnation, noted)? {
            Opened::Ready(files) => {
                let files = Arc::new(*files);
                *state = State::Open(files.clone());
                self.shared.opened.lock().push(Arc::downgrade(self));
                Ok(files)
            }
            Opened::Behind(connection, of) => {
                let progress = Arc::new(Rebuild { of: AtomicU64::new(of), ..Rebuild::default() });
                *state = State::Rebuilding(progress.clone());
                let storage = self.clone();
                let work = progress.clone();
                self.shared.threads.index(move || storage.rebuild(connection, &work));
                Err(rebuilding(&progress))
            }
        }
    }

    /// Indexes the log until what is left fits into the memtable.
    fn rebuild(self: Arc<Self>, mut connection: Connection, progress: &Rebuild) {
        tracing::warn!(incarnation = self.incarnation.0, "the index does not fit the log: building it anew");
        let outcome = catch_up(&mut connection, &self.shared, progress);
        drop(connection);
        *self.state.lock() = State::Closed;
        match outcome {
            Ok(()) => tracing::info!(incarnation = self.incarnation.0, "the index is built"),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                tracing::error!(incarnation = self.incarnation.0, %error, "the log holds an id or a position twice: run `eventodb repair`");
            }
            Err(error) => tracing::error!(incarnation = self.incarnation.0, %error, "the index could not be built"),
        }
    }

    /// Closes the files if nobody works with them. Says whether they are closed now. With
    /// `thoroughly`, what is left to index is indexed, and an index that is being built is left as it is.
    pub(super) fn close_idle(&self, thoroughly: bool) -> bool {
        let mut state = self.state.lock();
        let files = match &mut *state {
            State::Open(files) => files,
            State::Rebuilding(progress) => {
                progress.stop.fetch_or(thoroughly, SeqCst);
                return false;
            }
            State::Closed | State::Deleted => return true,
        };
        if self.shared.location == Location::Memory {
            return false;
        }
        let Some(files) = Arc::get_mut(files) else { return false };
        if let Err(error) = files.finish(&self.shared, self.incarnation, thoroughly) {
            tracing::warn!(incarnation = self.incarnation.0, %error, "a log was not closed cleanly");
        }
        *state = State::Closed;
        true
    }

    /// When it was last used, if it is open.
    pub(super) fn last_use(&self) -> Option<Instant> {
        match &*self.state.lock() {
            State::Open(files) => Some(*files.last_use.lock()),
            _ => None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.last_use().is_some()
    }

    /// Lets no more calls in, and removes the files as soon as nobody works with them. Says whether
    /// they are gone.
    pub(super) fn remove(&self) -> bool {
        let mut state = self.state.lock();
        match &mut *state {
            State::Open(files) => {
                if Arc::get_mut(files).is_none() {
                    return false;
                }
            }
            State::Rebuilding(progress) => {
                progress.stop.store(true, SeqCst);
                return false;
            }
            State::Closed | State::Deleted => {}
        }
        *state = State::Deleted;
        if let Location::Directory(_) = self.shared.location {
            for file in [log_path(&self.shared, self.incarnation), index_path(&self.shared, self.incarnation)] {
                if let Err(error) = remove_database(&file) {
                    tracing::warn!(file = %file.display(), %error, "cannot remove a deleted namespace's file yet");
                    return false;
                }
            }
        }
        true
    }

    /// Indexes what has waited long enough; called every now and then.
    pub(super) fn index_waiting(self: &Arc<Self>) {
        let files = match &*self.state.lock() {
            State::Open(files) => files.clone(),
            _ => return,
        };
        if files.memtable.read().len() > 0 && files.last_append.lock().elapsed() >= INDEX_AFTER {
            self.start_indexer(&files);
        }
    }

    fn start_indexer(self: &Arc<Self>, files: &Arc<Files>) {
        if files.indexing.swap(true, SeqCst) {
            return;
        }
        let (storage, files) = (self.clone(), files.clone());
        let threads = self.shared.clone();
        threads.threads.index(move || {
            loop {
                match files.index_batch(&storage.shared) {
                    Ok(()) => {}
                    Err(error) => {
                        storage.index_failed(&files, error);
                        break;
                    }
                }
                if files.memtable.read().len() < storage.shared.settings.index_batch {
                    break;
                }
            }
            if let Err(error) = files.checkpoint_in_background() {
                tracing::warn!(incarnation = storage.incarnation.0, %error, "a checkpoint failed");
            }
            files.indexing.store(false, SeqCst);
        });
    }

    /// A duplicate stops the writes; damage has the index built anew; all else is tried again.
    fn index_failed(&self, files: &Files, error: rusqlite::Error) {
        let incarnation = self.incarnation.0;
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => {
                tracing::error!(incarnation, %error, "the log holds an id or a position twice: no more writes; run `eventodb repair`");
                *files.stopped.lock() = Some(Arc::new(error));
            }
            _ if is_damage(&error) && self.index_is_damaged() => {
                tracing::error!(incarnation, %error, "the index is damaged and will be built anew");
                files.damaged.store(true, SeqCst);
            }
            _ => tracing::error!(incarnation, %error, "the index could not be written"),
        }
        files.room.notify_waiters();
    }

    /// Runs a reading call where it may block.
    async fn reading<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&mut Connection, &RwLock<Memtable>, &Shared) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = self.shared.clone();
        let storage = self;
        shared
            .threads
            .run(move || {
                let files = storage.files()?;
                let outcome = files.with_reader(&storage.shared, storage.incarnation, |connection| {
                    work(connection, &files.memtable, &storage.shared)
                });
                outcome.map_err(|error| storage.read_failed(&files, error))
            })
            .await
    }

    /// An index that contradicts itself or the log is thrown away, by the next call that finds
    /// nobody working with it.
    fn read_failed(&self, files: &Files, error: rusqlite::Error) -> Error {
        let leads_nowhere = matches!(error, rusqlite::Error::QueryReturnedNoRows);
        if files.indexer.is_none() || !(leads_nowhere || is_damage(&error) && self.index_is_damaged()) {
            return fail(error);
        }
        tracing::error!(incarnation = self.incarnation.0, %error, "the index is damaged and will be built anew");
        files.damaged.store(true, SeqCst);
        Error::unavailable(error)
    }

    /// Whether it is the index that is damaged, and not the log.
    fn index_is_damaged(&self) -> bool {
        let connection = connection::open(&[index(&self.shared, self.incarnation)]);
        let checked = connection.map_err(|_| ()).and_then(|connection| {
            set_up(&connection).map_err(|_| ())?;
            let verdict = connection.query_row("PRAGMA idx.quick_check(1)", [], |row| row.get::<_, String>(0));
            verdict.map_err(|_| ())
        });
        checked.as_deref() != Ok("ok")
    }
}

/// Whether SQLite found something that it cannot have written.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => true,
        error => matches!(
            error.sqlite_error_code(),
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
        ),
    }
}

enum Opened {
    Ready(Box<Files>),
    /// The index lags behind the log by more than the memtable holds: a connection to both, and
    /// how many messages the log has.
    Behind(Connection, u64),
}

impl Files {
    /// Opens what is there; `noted` is how many messages there should be, where that is known.
    fn open(shared: &Shared, incarnation: Incarnation, noted: Option<u64>) -> Result<Opened> {
        let file = log_path(shared, incarnation);
        if shared.location == Location::Memory {
            let connection = connection::open(&[log(shared, incarnation), index(shared, incarnation)])
                .map_err(|error| open_failed(&file, error))?;
            indexer::belongs(&connection).map_err(fail)?;
            return Ok(Opened::Ready(Box::new(Self::new(shared, connection, None, Memtable::new(0))?)));
        }
        // SQLite would make an empty one, and nobody would notice what is lost.
        if noted != Some(0) && fs::metadata(&file).map_or(0, |metadata| metadata.len()) == 0 {
            return Err(Error::failed(format!("{} is missing or empty: restore it from a backup", file.display())));
        }
        let writer = connection::open(&[log(shared, incarnation)]).map_err(|error| open_failed(&file, error))?;
        set_up(&writer).map_err(fail)?;
        let indexing = match open_index(shared, incarnation) {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(incarnation = incarnation.0, %error, "the index is unusable and will be built anew");
                remove_database(&index_path(shared, incarnation)).map_err(Error::failed)?;
                open_index(shared, incarnation).map_err(|error| open_failed(&index_path(shared, incarnation), error))?
            }
        };
        let begins_anew = index_file::checkpoint(&indexing).map_err(fail)?;
        let indexer::Progress { completion, messages: indexed, .. } = indexer::progress(&indexing).map_err(fail)?;
        let most = 2 * shared.settings.memtable_messages;
        let places = indexer::suffix(&indexing, completion, most + 1).map_err(fail)?;
        if places.len() > most {
            let of = append::head(&indexing).map_err(fail)?.position.unsigned_abs();
            return Ok(Opened::Behind(indexing, of));
        }
        let mut memtable = Memtable::new(completion);
        places.into_iter().for_each(|place| memtable.push(place));
        let messages = indexed + memtable.len() as u64;
        let files = Self::new(shared, writer, Some(indexing), memtable)?;
        files.begins_anew.store(begins_anew, SeqCst);
        let unchecked = fs::metadata(beside(&file, "-wal")).map_or(0, |metadata| metadata.len());
        files.unchecked.store(unchecked, SeqCst);
        if noted.is_some_and(|noted| noted != messages) {
            // The log was replaced, by one from a backup perhaps.
            shared.registry.note_messages(incarnation, None).map_err(fail)?;
            files.noted.store(true, SeqCst);
        }
        Ok(Opened::Ready(Box::new(files)))
    }

    fn new(shared: &Shared, writer: Connection, indexer: Option<Connection>, memtable: Memtable) -> Result<Self> {
        let head = append::head(&writer).map_err(fail)?;
        shared.waiting.fetch_add(memtable.len(), SeqCst);
        Ok(Self {
            memtable: RwLock::new(memtable),
            writer: Mutex::new(Writer { connection: writer, head }),
            indexer: indexer.map(Mutex::new),
            readers: Mutex::default(),
            room: Notify::new(),
            indexing: AtomicBool::new(false),
            begins_anew: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            waiting: shared.waiting.clone(),
            noted: AtomicBool::new(false),
            stopped: Mutex::default(),
            last_append: Mutex::new(Instant::now()),
            last_use: Mutex::new(Instant::now()),
            unchecked: AtomicU64::new(0),
            unchecked_index: AtomicUsize::new(0),
            finish_checkpoint: AtomicBool::new(false),
        })
    }

    fn with_reader<T>(
        &self,
        shared: &Shared,
        incarnation: Incarnation,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if self.indexer.is_none() {
            return work(&mut self.writer.lock().connection);
        }
        let idle = self.readers.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => open_reader(shared, incarnation)?,
        };
        let outcome = work(&mut connection);
        let mut readers = self.readers.lock();
        if readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        outcome
    }

    fn with_indexer<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        match &self.indexer {
            Some(connection) => work(&mut connection.lock()),
            None => work(&mut self.writer.lock().connection),
        }
    }

    /// Moves one batch from the memtable into the index.
    fn index_batch(&self, shared: &Shared) -> rusqlite::Result<()> {
        let places = self.memtable.read().first(shared.settings.index_batch);
        let Some(last) = places.last() else { return Ok(()) };
        self.with_indexer(|connection| {
            indexer::index(connection, &places, self.begins_anew.swap(false, SeqCst))?;
            // Pages that several batches touch are written back once.
            if self.unchecked_index.fetch_add(places.len(), SeqCst) + places.len() >= INDEX_CHECKPOINT_MESSAGES {
                self.unchecked_index.store(0, SeqCst);
                self.begins_anew.store(index_file::checkpoint(connection)?, SeqCst);
            }
            Ok(())
        })?;
        let mut left = true;
        while left {
            left = self.memtable.write().forget(last.global_position, FORGET_AT_ONCE);
        }
        self.waiting.fetch_sub(places.len(), SeqCst);
        self.room.notify_waiters();
        Ok(())
    }

    /// Writes most of the log's write-ahead log into its file while appends go on. The writer does
    /// the small rest, because only when nothing is left does the write-ahead log begin anew.
    fn checkpoint_in_background(&self) -> rusqlite::Result<()> {
        if self.indexer.is_none() || self.unchecked.load(SeqCst) < CHECKPOINT_BYTES {
            return Ok(());
        }
        self.unchecked.store(0, SeqCst);
        self.with_indexer(|connection| connection.query_row("PRAGMA log.wal_checkpoint(PASSIVE)", [], |_| Ok(())))?;
        self.finish_checkpoint.store(true, SeqCst);
        Ok(())
    }

    /// Whether the memtable holds as much as it may.
    fn is_full(&self, shared: &Shared) -> bool {
        let places = self.memtable.read().len();
        places >= shared.settings.memtable_messages
            || places >= shared.settings.index_batch
                && shared.waiting.load(SeqCst) >= shared.settings.memtables_messages
    }

    fn append(&self, shared: &Shared, incarnation: Incarnation, batch: &Batch) -> Result<Vec<Arc<Entry>>, AppendError> {
        if let Some(cause) = &*self.stopped.lock() {
            return Err(AppendError::Rejected(cause.clone()));
        }
        let mut writer = self.writer.lock();
        let Writer { connection, head } = &mut *writer;
        if self.finish_checkpoint.swap(false, SeqCst) {
            connection.query_row("PRAGMA log.wal_checkpoint(PASSIVE)", [], |_| Ok(())).map_err(append_failed)?;
        }
        if head.position != batch.after.position {
            return Err(AppendError::Behind);
        }
        if !self.noted.swap(true, SeqCst) {
            shared.registry.note_messages(incarnation, None).map_err(append_failed)?;
        }
        let time = Timestamp::now().max(head.time);
        let entries = batch.entries(time);
        append::append(connection, batch, &entries).map_err(append_failed)?;
        if let Some(last) = entries.last() {
            head.position = last.message().global_position;
            head.batch = head.position;
            if !batch.keep_times {
                head.time = time;
            }
        }
        drop(writer);
        self.remember(&entries);
        Ok(entries)
    }

    fn remember(&self, entries: &[Arc<Entry>]) {
        let places: Vec<Place> = entries
            .iter()
            .map(|entry| Place::of(entry.message(), entry.correlation(), entry.starts_stream()))
            .collect();
        let bytes: usize = entries.iter().map(|entry| entry.message().size() + 64).sum();
        self.unchecked.fetch_add(bytes as u64 + 4096, SeqCst);
        self.waiting.fetch_add(places.len(), SeqCst);
        let mut memtable = self.memtable.write();
        places.into_iter().for_each(|place| memtable.push(place));
        drop(memtable);
        *self.last_append.lock() = Instant::now();
    }

    /// Before closing: what can be indexed is, and the registry learns the count of messages.
    fn finish(&mut self, shared: &Shared, incarnation: Incarnation, thoroughly: bool) -> rusqlite::Result<()> {
        while thoroughly && self.stopped.lock().is_none() && self.memtable.read().len() > 0 {
            self.index_batch(shared)?;
        }
        if self.noted.load(SeqCst) {
            let counts =
                self.with_reader(shared, incarnation, |connection| lookup::counts(connection, &self.memtable))?;
            shared.registry.note_messages(incarnation, Some(counts.messages))?;
        }
        if thoroughly {
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

#[async_trait]
impl Storage for Handle {
    async fn head_since(&self, known: &Head) -> Result<(Head, Lineage)> {
        let storage = self.0.clone();
        let head = self.0.shared.threads.run(move || Ok(storage.files()?.writer.lock().head)).await?;
        // Nobody else writes here, so that the log cannot have gone on elsewhere.
        let lineage = if head.position < known.position { Lineage::Diverged } else { Lineage::Follows };
        Ok((head, lineage))
    }

    async fn append(&self, batch: &Batch) -> Result<Vec<Arc<Entry>>, AppendError> {
        let storage = &self.0;
        let files = storage.files().map_err(|error| match error {
            Error::Closed => AppendError::Closed,
            error => AppendError::Unavailable(Arc::new(error)),
        })?;
        let deadline = Instant::now() + ROOM_WITHIN;
        loop {
            let room = files.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if !files.is_full(&storage.shared) || files.stopped.lock().is_some() {
                break;
            }
            if files.damaged.load(SeqCst) || Instant::now() >= deadline {
                let cause = "the index does not keep up with the log";
                return Err(AppendError::Unavailable(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(
                    cause,
                ))));
            }
            storage.start_indexer(&files);
            // No thread is held while this waits. The pause covers an indexer that failed.
            let _ = tokio::time::timeout(Duration::from_millis(250), room).await;
        }
        let entries = files.append(&storage.shared, storage.incarnation, batch)?;
        if files.memtable.read().len() >= storage.shared.settings.index_batch {
            storage.start_indexer(&files);
        }
        Ok(entries)
    }

    async fn fence(&self, batch: &Batch) -> Result<Fenced> {
        let (storage, batch) = (self.0.clone(), batch.clone());
        self.0
            .shared
            .threads
            .run(move || {
                let files = storage.files()?;
                let mut writer = files.writer.lock();
                let head = append::head(&writer.connection).map_err(fail)?;
                writer.head = head;
                drop(writer);
                let Some(last) = batch.messages.last() else { return Ok(Fenced::NotCommitted) };
                if head.position < last.global_position {
                    return Ok(Fenced::NotCommitted);
                }
                let entries = batch.entries(head.time);
                files.remember(&entries);
                Ok(Fenced::Committed(entries))
            })
            .await
    }

    async fn versions(&self, streams: &[Arc<str>]) -> Result<Vec<i64>> {
        let streams = streams.to_vec();
        self.0.clone().reading(move |connection, memtable, _| lookup::versions(connection, memtable, &streams)).await
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Message>> {
        let ids = ids.to_vec();
        self.0.clone().reading(move |connection, memtable, _| lookup::find(connection, memtable, &ids)).await
    }

    async fn read(&self, select: &Select) -> Result<Slice> {
        let select = select.clone();
        self.0
            .clone()
            .reading(move |connection, memtable, shared| {
                read::read(connection, memtable, &select, shared.settings.examined_rows)
            })
            .await
    }

    async fn streams(&self, page: &StreamsPage) -> Result<Vec<StreamListed>> {
        let page = page.clone();
        self.0.clone().reading(move |connection, memtable, _| lookup::streams(connection, memtable, &page)).await
    }

    async fn categories(&self) -> Result<Vec<CategoryListed>> {
        self.0.clone().reading(move |connection, memtable, _| lookup::categories(connection, memtable)).await
    }

    async fn counts(&self) -> Result<Counts> {
        self.0.clone().reading(move |connection, memtable, _| lookup::counts(connection, memtable)).await
    }

    fn spawn(&self, turn: BoxFuture<'static, ()>) {
        self.0.shared.threads.write(turn);
    }

    async fn close(&self) {
        let storage = self.0.clone();
        let deadline = Instant::now() + CLOSE_WITHIN;
        let closed = move || {
            // An indexer that still works with the files is waited for.
            while !storage.close_idle(true) && storage.shared.location != Location::Memory && Instant::now() < deadline
            {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Ok(())
        };
        if let Err(error) = self.0.shared.threads.run(closed).await {
            tracing::warn!(incarnation = self.0.incarnation.0, %error, "a log was not closed cleanly");
        }
    }
}

/// A storage as the log holds it.
pub(super) struct Handle(pub(super) Arc<SqliteStorage>);

/// Indexes the log batch by batch until the rest fits into the memtable.
fn catch_up(connection: &mut Connection, shared: &Shared, progress: &Rebuild) -> rusqlite::Result<()> {
    let mut begins_anew = index_file::checkpoint(connection)?;
    while !progress.stop.load(SeqCst) {
        let completion = indexer::progress(connection)?.completion;
        progress.done.store(completion.unsigned_abs(), SeqCst);
        let places = indexer::suffix(connection, completion, shared.settings.index_batch)?;
        if places.len() < shared.settings.index_batch {
            return Ok(());
        }
        indexer::index(connection, &places, begins_anew)?;
        begins_anew = index_file::checkpoint(connection)?;
    }
    Ok(())
}

fn rebuilding(progress: &Rebuild) -> Error {
    let (done, of) = (progress.done.load(SeqCst), progress.of.load(SeqCst).max(1));
    Error::unavailable(format!("the index is being built: {done} of {of} messages"))
}

fn log_path(shared: &Shared, incarnation: Incarnation) -> PathBuf {
    file(shared, &format!("{}.log.db", incarnation.0))
}

fn index_path(shared: &Shared, incarnation: Incarnation) -> PathBuf {
    file(shared, &format!("{}.index.db", incarnation.0))
}

fn file(shared: &Shared, name: &str) -> PathBuf {
    match &shared.location {
        Location::Directory(directory) => directory.join(name),
        Location::Memory => PathBuf::new(),
    }
}

fn log(shared: &Shared, incarnation: Incarnation) -> Attach {
    let file = (shared.location != Location::Memory).then(|| log_path(shared, incarnation));
    Attach { file, name: "log", synchronous: Synchronous::Full, migrations: migrations::SQLITE_LOG }
}

fn index(shared: &Shared, incarnation: Incarnation) -> Attach {
    let file = (shared.location != Location::Memory).then(|| index_path(shared, incarnation));
    Attach { file, name: "idx", synchronous: Synchronous::Normal, migrations: migrations::SQLITE_INDEX }
}

/// A connection for the indexer, to an index that is one of this log.
fn open_index(shared: &Shared, incarnation: Incarnation) -> Result<Connection, connection::Error> {
    let alone = index_file::state_of_file_alone(&index_path(shared, incarnation))?;
    let connection = connection::open(&[log(shared, incarnation), index(shared, incarnation)])?;
    set_up(&connection)?;
    if !indexer::belongs(&connection)? {
        return Err(connection::Error::Foreign);
    }
    if let Some(alone) = alone
        && !index_file::follows(&connection, &alone)?
    {
        return Err(connection::Error::Foreign);
    }
    Ok(connection)
}

fn open_reader(shared: &Shared, incarnation: Incarnation) -> rusqlite::Result<Connection> {
    let connection =
        connection::open(&[log(shared, incarnation), index(shared, incarnation)]).map_err(|error| match error {
            connection::Error::Sqlite(error) => error,
            error => rusqlite::Error::ToSqlConversionFailure(Box::new(error)),
        })?;
    set_up(&connection)?;
    Ok(connection)
}

/// What holds for every connection to files: checkpoints are made when we say so.
pub(super) fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)
}

/// Removes a database's file and what SQLite keeps beside it.
pub(super) fn remove_database(file: &Path) -> std::io::Result<()> {
    for file in [file.to_owned(), beside(file, "-wal"), beside(file, "-shm")] {
        match fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn fail(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DiskFull) => Error::unavailable(error),
        _ => Error::failed(error),
    }
}

fn open_failed(file: &Path, error: connection::Error) -> Error {
    match error {
        connection::Error::Sqlite(error) => fail(error),
        error => Error::failed(format!("{}: {error}", file.display())),
    }
}

/// A statement that failed has changed nothing; a commit whose write or sync failed is settled by
/// the fence.
fn append_failed(error: rusqlite::Error) -> AppendError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::SystemIoFailure) => AppendError::Unknown(Arc::new(error)),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DiskFull) => {
            AppendError::Unavailable(Arc::new(error))
        }
        _ => AppendError::Rejected(Arc::new(error)),
    }
}
