//! One incarnation: its files are opened when they are needed, and closed when they are idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eventodb_protocol::Timestamp;
use eventodb_protocol::message::Message;
use eventodb_protocol::reply::{CategoryListed, StreamListed};
use eventodb_protocol::request::ListPage;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, OptionalExtension as _};
use uuid::Uuid;

use super::access::Access;
use super::connection::Attach;
use super::failure::{READ_AGAIN, READ_PAUSE, ReadError, Suspicion, fail, is_damage, is_not_opened, lacks_one};
use super::files::{self, Files, Opened};
use super::paths::{index, index_path, log_path, remove_database, set_up};
use super::{Location, Shared, connection, evidence, index_file, indexer, lookup, read};
use crate::degraded::Degraded;
use crate::error::{Chain, Error, Result};
use crate::fault::Fault;
use crate::model::{Counts, Head, Incarnation, Lineage, Select, Slice};
use crate::storage::Storage;

/// How long an opening waits for descriptors, and how often it looks whether there are some.
const DESCRIPTORS_WITHIN: Duration = Duration::from_secs(5);
const DESCRIPTORS_PAUSE: Duration = Duration::from_millis(5);

/// How long closing waits for calls that still work with the files.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The log of one incarnation, open or not.
pub(super) struct SqliteStorage {
    pub(super) shared: Arc<Shared>,
    pub(super) incarnation: Incarnation,
    condition: Mutex<Condition>,
    /// Whether the incarnation does not live any more. Locked for reading while something is committed to it.
    has_ended: RwLock<bool>,
    /// Whether the log was found to have lost its end. It is kept while the files are closed.
    lost_end: AtomicBool,
    /// Whether checksums are being computed.
    pub(super) backfilling: AtomicBool,
    /// Whether the last batch could not be written, for want of space or because of an error of the disk.
    pub(super) append_fault: Arc<Fault>,
    /// Damage that may be a disk that cannot be read for a moment.
    suspected: Suspicion,
}

/// Whether the files are open. Everybody who works with them holds a clone of the `Arc`, taken under the lock, so that
/// they are closed only while nobody works with them.
enum Condition {
    Closed,
    Open(Arc<Files>),
    /// The index is being built anew.
    Rebuilding(Arc<Rebuild>),
    Deleted,
}

#[derive(Default)]
struct Rebuild {
    done: AtomicU64,
    of: AtomicU64,
    /// Whether to end before it is done.
    stop: AtomicBool,
}

impl SqliteStorage {
    pub(super) fn new(shared: Arc<Shared>, incarnation: Incarnation) -> Self {
        Self {
            shared,
            incarnation,
            condition: Mutex::new(Condition::Closed),
            has_ended: RwLock::new(false),
            lost_end: AtomicBool::new(false),
            backfilling: AtomicBool::new(false),
            append_fault: Arc::new(Fault::of("writing the log")),
            suspected: Suspicion::default(),
        }
    }

    /// The open files; opens them if they are closed.
    pub(super) fn files(self: &Arc<Self>) -> Result<Arc<Files>> {
        let condition = self.condition.lock();
        match &*condition {
            Condition::Open(files) if !files.indexing.is_damaged() => {
                *files.last_use.lock() = Instant::now();
                return Ok(files.clone());
            }
            Condition::Rebuilding(progress) => return Err(rebuilding(progress)),
            Condition::Deleted => return Err(Error::Closed),
            Condition::Open(_) | Condition::Closed => {}
        }
        drop(condition);
        self.shared.close_beyond(self.shared.settings.open_namespaces.saturating_sub(1));
        let opened = self.open_files(&mut self.condition.lock());
        match opened {
            Err(error) if lacks_descriptors(&error) => self.open_in_turn(error),
            opened => opened,
        }
    }

    /// Opens the files once others have closed theirs, because descriptors are scarce. Only one caller does so at a
    /// time: two that each have half of the descriptors they need would wait for each other.
    fn open_in_turn(self: &Arc<Self>, mut error: Error) -> Result<Arc<Files>> {
        let deadline = Instant::now() + DESCRIPTORS_WITHIN;
        let _turn = self.shared.scarce.lock();
        while Instant::now() < deadline {
            self.shared.close_one();
            match self.open_files(&mut self.condition.lock()) {
                Err(again) if lacks_descriptors(&again) => error = again,
                opened => return opened,
            }
            std::thread::sleep(DESCRIPTORS_PAUSE);
        }
        Err(error)
    }

    /// The files, if they are open. `None` also while they are being opened or closed, which may take long.
    pub(super) fn opened_files(&self) -> Option<Arc<Files>> {
        match &*self.condition.try_lock()? {
            Condition::Open(files) => Some(files.clone()),
            _ => None,
        }
    }

    /// Why writes are refused at the moment, or soon will be.
    pub(super) fn degraded(&self) -> Vec<Degraded> {
        let mut degraded = self.opened_files().map_or_else(Vec::new, |files| files.degraded());
        if self.append_fault.is_there() {
            degraded.push(Degraded::new("LOG_NOT_WRITTEN", "the last write to a namespace failed by its disk"));
        }
        if self.lost_end.load(SeqCst) {
            let message = "the log of a namespace has lost its end and takes no writes: the server's log says which";
            degraded.push(Degraded::new("LOG_END_LOST", message));
        }
        degraded
    }

    /// Writes to a log whose last write failed, so that it is known when writes succeed again.
    pub(super) fn write_test(self: &Arc<Self>) {
        if let Err(error) = self.files().and_then(|files| files.write_test(&self.shared, self.incarnation)) {
            self.append_fault.failed(self.incarnation.0, &Chain(&error));
        }
    }

    /// Time of the last written message, without building the index. The file's schema may be one of an earlier version. If
    /// the log has lost its end, that is noticed, because it may be long until somebody opens it.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn last_time(&self) -> Result<Timestamp> {
        if let Some(files) = self.opened_files() {
            return Ok(files.connections.writer().head.time);
        }
        let file = log_path(&self.shared, self.incarnation);
        let is_empty = std::fs::metadata(&file).map_or(0, |metadata| metadata.len()) == 0;
        if self.shared.location == Location::Memory || is_empty {
            return Ok(Timestamp::default());
        }
        let log =
            connection::open(&[Attach::log_as_it_is(file).at_least(Access::ReadOnly)]).map_err(Error::unavailable)?;
        set_up(&log).map_err(fail)?;
        if let Err(error) = self.look_at_end(&log) {
            // A log of an earlier version has no identity, and one that is being deleted nothing to look at.
            tracing::debug!(incarnation = self.incarnation.0, error = %Chain(&error), "the end of a log was not looked at");
        }
        let time = log.query_row(include_str!("sql/last_time.sql"), [], |row| row.get(0)).optional().map_err(fail)?;
        Ok(Timestamp::from_micros(time.unwrap_or_default()))
    }

    /// Notices whether a log has lost its end.
    fn look_at_end(&self, log: &Connection) -> Result<()> {
        let noted = self.shared.registry.noted(self.incarnation).map_err(fail)?.ok_or(Error::Closed)?;
        let identity = evidence::identity(log).map_err(fail)?;
        let known = evidence::known_head(&noted, &index_path(&self.shared, self.incarnation), &identity);
        // Read after what is known of it, because it may be growing.
        let head = files::last_position(log).map_err(fail)?;
        if head < known && !self.lost_end.swap(true, SeqCst) {
            evidence::tell_of_lost_end(self.incarnation, head, known);
        }
        Ok(())
    }

    /// As [`Self::files`], after room was made for one more open namespace.
    fn open_files(self: &Arc<Self>, condition: &mut Condition) -> Result<Arc<Files>> {
        match condition {
            Condition::Open(files) if !files.indexing.is_damaged() => return Ok(files.clone()),
            Condition::Open(files) => {
                if Arc::get_mut(files).is_none() {
                    return Err(Error::unavailable("the index is damaged and will be built anew"));
                }
                *condition = Condition::Closed;
                remove_database(&index_path(&self.shared, self.incarnation)).map_err(Error::failed)?;
            }
            Condition::Rebuilding(progress) => return Err(rebuilding(progress)),
            Condition::Deleted => return Err(Error::Closed),
            Condition::Closed => {}
        }
        // If the directory was replaced, its files belong to another store.
        self.shared.still_holds_registry()?;
        let Some(noted) = self.shared.registry.noted(self.incarnation).map_err(fail)? else {
            *condition = Condition::Deleted;
            return Err(Error::Closed);
        };
        let opened = files::open(&self.shared, self.incarnation, &noted, &self.append_fault);
        match opened.map_err(|error| self.open_failed(error))? {
            Opened::Ready(files) => {
                let files = Arc::new(*files);
                self.lost_end.store(files.obstacles.has_lost_end(), SeqCst);
                *condition = Condition::Open(files.clone());
                let mut all = self.shared.opened.lock();
                // It may have been open before.
                all.retain(|storage| !std::ptr::eq(storage.as_ptr(), Arc::as_ptr(self)));
                all.push(Arc::downgrade(self));
                drop(all);
                Ok(files)
            }
            Opened::Behind(connection, of) => {
                let progress = Arc::new(Rebuild { of: AtomicU64::new(of), ..Rebuild::default() });
                *condition = Condition::Rebuilding(progress.clone());
                let storage = self.clone();
                let work = progress.clone();
                self.shared.threads.index(move || storage.rebuild(connection, &work));
                Err(rebuilding(&progress))
            }
        }
    }

    /// The error of an opening that failed. Damage may only be a disk that cannot be read for a moment.
    fn open_failed(&self, error: Error) -> Error {
        match error {
            Error::Failed(cause)
                if cause.downcast_ref::<rusqlite::Error>().is_some_and(is_damage) && self.suspected.may_pass() =>
            {
                Error::Unavailable(cause)
            }
            error => error,
        }
    }

    /// Indexes the log until the rest fits into the memtable.
    fn rebuild(self: Arc<Self>, mut connection: Connection, progress: &Rebuild) {
        tracing::warn!(incarnation = self.incarnation.0, "the index does not fit the log: building it anew");
        let outcome = catch_up(&mut connection, &self.shared, self.incarnation, progress);
        drop(connection);
        *self.condition.lock() = Condition::Closed;
        match outcome {
            Ok(()) => tracing::info!(incarnation = self.incarnation.0, "the index is built"),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                tracing::error!(incarnation = self.incarnation.0, %error, "the log holds an id or a position twice: run `eventodb repair`");
            }
            Err(error) => tracing::error!(incarnation = self.incarnation.0, %error, "the index could not be built"),
        }
    }

    /// Closes the files if nobody works with them. Returns whether they are closed now. With `thoroughly`, the rest is
    /// indexed first, and the building of an index is broken off.
    pub(super) fn close_idle(&self, thoroughly: bool) -> bool {
        let mut condition = match thoroughly {
            true => self.condition.lock(),
            // Another call opens or closes the files, which may take long.
            false => match self.condition.try_lock() {
                Some(condition) => condition,
                None => return false,
            },
        };
        let files = match &mut *condition {
            Condition::Open(files) => files,
            Condition::Rebuilding(progress) => {
                progress.stop.fetch_or(thoroughly, SeqCst);
                return false;
            }
            Condition::Closed | Condition::Deleted => return true,
        };
        if self.shared.location == Location::Memory {
            return false;
        }
        let Some(files) = Arc::get_mut(files) else { return false };
        if let Err(error) = files.finish(&self.shared, self.incarnation, thoroughly) {
            tracing::warn!(incarnation = self.incarnation.0, %error, "a log was not closed cleanly");
        }
        *condition = Condition::Closed;
        true
    }

    /// When it was last used, if it is open. A namespace that is being opened or closed is used now.
    pub(super) fn last_use(&self) -> Option<Instant> {
        let Some(condition) = self.condition.try_lock() else { return Some(Instant::now()) };
        match &*condition {
            Condition::Open(files) => Some(*files.last_use.lock()),
            _ => None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.last_use().is_some()
    }

    /// Looks whether the incarnation was deleted, or replaced: then nothing is committed to it from now on. Returns whether
    /// it lives.
    pub(super) fn end_unless_it_lives(&self) -> rusqlite::Result<bool> {
        let lives = self.shared.registry.lives(self.incarnation)?;
        if !lives {
            self.end();
        }
        Ok(lives)
    }

    /// The incarnation was deleted, or replaced: nothing is committed to it from now on.
    pub(super) fn end(&self) {
        *self.has_ended.write() = true;
    }

    /// Commits something, if the incarnation still lives. It lives until that is done.
    pub(super) fn while_living<T, E>(&self, ended: E, commit: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let has_ended = self.has_ended.read();
        if *has_ended { Err(ended) } else { commit() }
    }

    /// Refuses all calls from now on, and removes the files once nobody works with them. Returns whether they are gone.
    pub(super) fn remove(&self) -> bool {
        let mut condition = self.condition.lock();
        match &mut *condition {
            Condition::Open(files) => {
                if Arc::get_mut(files).is_none() {
                    return false;
                }
            }
            Condition::Rebuilding(progress) => {
                progress.stop.store(true, SeqCst);
                return false;
            }
            Condition::Closed | Condition::Deleted => {}
        }
        *condition = Condition::Deleted;
        if let Location::Directory(_) = self.shared.location {
            for file in [log_path(&self.shared, self.incarnation), index_path(&self.shared, self.incarnation)] {
                if let Err(error) = remove_database(&file) {
                    tracing::warn!(file = %file.display(), %error, "cannot remove a deleted namespace's file yet");
                    return false;
                }
            }
        }
        self.shared.damage.forget(self.incarnation);
        // Once the registry forgets the number, no file of it may come back after a crash.
        if let Location::Directory(directory) = &self.shared.location
            && let Err(error) = std::fs::File::open(directory).and_then(|directory| directory.sync_all())
        {
            tracing::warn!(%error, "cannot sync the data directory after a namespace's files were removed");
            return false;
        }
        true
    }

    /// Runs a reading call on a thread that it may block.
    pub(super) async fn reading<T: Send + 'static>(
        self: Arc<Self>,
        work: impl Fn(&mut Connection, &Files, &Shared) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T> {
        let shared = self.shared.clone();
        let storage = self;
        shared
            .threads
            .run(move || {
                let files = storage.files()?;
                let read = || {
                    files.connections.with_reader(&storage.shared, storage.incarnation, |connection| {
                        work(connection, &files, &storage.shared)
                    })
                };
                let outcome = storage.read_again(read(), read);
                outcome.map_err(|error| storage.read_failed(&files, error))
            })
            .await
    }

    /// Reads again if something seems to be damaged, because SQLite also calls a page damaged that it could not read
    /// for a moment. A message that does not fit its checksum is read again a few times, if its log has no damaged
    /// message yet.
    fn read_again<T>(
        &self,
        mut outcome: Result<T, ReadError>,
        read: impl Fn() -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut attempts = 0;
        loop {
            match &outcome {
                Err(ReadError::Sqlite(error)) if is_damage(error) && attempts == 0 => {}
                Err(ReadError::Damaged(_)) if attempts < READ_AGAIN && !self.shared.damage.is_in(self.incarnation) => {
                    std::thread::sleep(READ_PAUSE);
                }
                Ok(_) if attempts > 0 => {
                    self.suspected.settled();
                    return outcome;
                }
                _ => return outcome,
            }
            attempts += 1;
            outcome = read();
        }
    }

    /// The error of a read that failed. If the index contradicts itself or the log, the next call that finds nobody
    /// working with it throws it away.
    fn read_failed(&self, files: &Files, error: ReadError) -> Error {
        let error = match error {
            ReadError::Sqlite(error) => error,
            ReadError::Damaged(at) => {
                self.shared.damage.met(&self.shared.registry, self.incarnation, at);
                return Error::Damaged(at);
            }
        };
        if is_damage(&error) && self.suspected.may_pass() {
            return Error::unavailable(error);
        }
        let leads_nowhere = matches!(error, rusqlite::Error::QueryReturnedNoRows);
        if !files.connections.have_files() || !(leads_nowhere || is_damage(&error) && self.index_is_damaged()) {
            return fail(error);
        }
        tracing::error!(incarnation = self.incarnation.0, %error, "the index is damaged and will be built anew");
        files.indexing.damaged();
        Error::unavailable(error)
    }

    /// Whether the index is damaged, and not the log.
    pub(super) fn index_is_damaged(&self) -> bool {
        let connection = connection::open(&[index(&self.shared, self.incarnation, Access::Alone)]);
        let checked = connection.map_err(|_| ()).and_then(|connection| {
            set_up(&connection).map_err(|_| ())?;
            let verdict = connection.query_row("PRAGMA idx.quick_check(1)", [], |row| row.get::<_, String>(0));
            verdict.map_err(|_| ())
        });
        checked.as_deref() != Ok("ok")
    }
}

/// Whether a file could not be opened, perhaps for want of descriptors.
fn lacks_descriptors(error: &Error) -> bool {
    let Error::Unavailable(cause) = error else { return false };
    let by_sqlite = cause.downcast_ref::<rusqlite::Error>().is_some_and(is_not_opened);
    let by_system = cause.downcast_ref::<std::io::Error>().is_some_and(lacks_one);
    by_sqlite || by_system
}

#[async_trait]
impl Storage for Handle {
    async fn head_since(&self, known: &Head) -> Result<(Head, Lineage)> {
        let storage = self.0.clone();
        let head = self.0.shared.threads.run(move || Ok(storage.files()?.connections.writer().head)).await?;
        // Only this server writes here, so that no other batch can have the known head's number.
        let lineage = if head.position < known.position { Lineage::Diverged } else { Lineage::Follows };
        Ok((head, lineage))
    }

    async fn versions(&self, streams: &[Arc<str>]) -> Result<Vec<i64>> {
        let streams = streams.to_vec();
        self.0.clone().reading(move |connection, files, _| lookup::versions(connection, files.known(), &streams)).await
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Message>> {
        let ids = ids.to_vec();
        self.0.clone().reading(move |connection, files, _| lookup::find(connection, files.known(), &ids)).await
    }

    async fn message(&self, id: Uuid) -> Result<Option<Message>> {
        self.0.clone().reading(move |connection, files, _| lookup::message(connection, files.known(), id)).await
    }

    async fn position_at(&self, time: Timestamp, head: i64) -> Result<i64> {
        self.0
            .clone()
            .reading(move |connection, files, _| lookup::position_at(connection, files.known(), time, head))
            .await
    }

    async fn read(&self, select: &Select) -> Result<Slice> {
        let select = select.clone();
        self.0
            .clone()
            .reading(move |connection, files, shared| read::read(connection, files.known(), &select, &shared.settings))
            .await
    }

    async fn streams(&self, page: &ListPage) -> Result<Vec<StreamListed>> {
        let page = page.clone();
        self.0.clone().reading(move |connection, files, _| lookup::streams(connection, files.known(), &page)).await
    }

    async fn categories(&self, page: &ListPage) -> Result<Vec<CategoryListed>> {
        let page = page.clone();
        self.0
            .clone()
            .reading(move |connection, files, _| Ok(lookup::categories(connection, files.backlog.memtable(), &page)?))
            .await
    }

    async fn counts(&self) -> Result<Counts> {
        self.0.clone().reading(move |connection, files, _| Ok(lookup::counts(connection, files.known())?)).await
    }

    async fn bytes(&self) -> Result<u64> {
        self.0.clone().reading(move |connection, _, _| Ok(lookup::bytes(connection)?)).await
    }

    fn spawn(&self, run: BoxFuture<'static, ()>) {
        self.0.shared.threads.write(run);
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
            tracing::warn!(incarnation = self.0.incarnation.0, error = %Chain(&error), "a log was not closed cleanly");
        }
    }
}

/// A storage as a log uses it.
pub(super) struct Handle(pub(super) Arc<SqliteStorage>);

/// Indexes the log batch by batch until the rest fits into the memtable.
fn catch_up(
    connection: &mut Connection,
    shared: &Shared,
    incarnation: Incarnation,
    progress: &Rebuild,
) -> rusqlite::Result<()> {
    /// How often a line says how far it is.
    const TELL_EVERY: Duration = Duration::from_secs(10);
    let mut told = Instant::now();
    let mut begins_anew = index_file::checkpoint(connection)?;
    while !progress.stop.load(SeqCst) {
        let completion = indexer::progress(connection)?.completion;
        progress.done.store(completion.unsigned_abs(), SeqCst);
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let (done, of) = (completion, progress.of.load(SeqCst));
            tracing::info!(incarnation = incarnation.0, done, of, "the index is being built");
        }
        let indexer::Suffix { entries, damaged, .. } =
            indexer::certain_suffix(connection, completion, shared.settings.index_batch)?;
        // Less than a whole batch is left, and it fits; a batch may be larger than the memtable.
        if entries.len() < shared.settings.index_batch && entries.len() <= shared.settings.memtable_messages {
            return Ok(());
        }
        indexer::note_unplaced(connection, &damaged)?;
        indexer::index(connection, entries.iter().collect(), begins_anew)?;
        begins_anew = index_file::checkpoint(connection)?;
    }
    Ok(())
}

fn rebuilding(progress: &Rebuild) -> Error {
    let (done, of) = (progress.done.load(SeqCst), progress.of.load(SeqCst).max(1));
    Error::unavailable(format!("the index is being built: {done} of {of} messages"))
}
