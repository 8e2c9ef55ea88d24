//! SQLite: the log first, indexes behind it.
//!
//! A data directory holds `registry.db` (the namespaces), and two files for each incarnation. `N.log.db` has every
//! message by global position; a commit to it is durable. `N.index.db` is derived from it, and rebuilt if it does not
//! fit the log. Messages that the index does not hold yet are in a memtable.
//!
//! | file | what it is for |
//! |---|---|
//! | `access` | opening a file beside which nothing can be written |
//! | `connection` | opening a database file: pragmas, migrations |
//! | `directory` | making and taking the data directory, and seeing that it is still there |
//! | `registry` | the namespaces |
//! | `storage` | one incarnation: opening, closing, and the methods of `Storage` |
//! | `appender` | the appends of one incarnation: the methods of `Appender` |
//! | `marks` | how far logs have come, noted in the registry |
//! | `evidence` | what the registry and the index know of a log |
//! | `background` | work beside the calls: indexing, checkpoints |
//! | `room` | whether the disk is nearly full |
//! | `failure` | the meaning of SQLite's errors |
//! | `files` | the open files of one incarnation: appends, the indexer, checkpoints |
//! | `paths` | the paths of the files, and connections to them |
//! | `append` | one commit to the log |
//! | `checksum` | the checksum of a message, and the verdict on a row |
//! | `backfill` | checksums for messages of a version without them |
//! | `damage` | the damaged messages that were found |
//! | `whole_row` | one message with all columns of the log |
//! | `memtable` | the index entries of messages that are not indexed yet |
//! | `indexer` | moving the memtable's head into the index |
//! | `interned` | the numbers of streams and categories |
//! | `runs` | messages of a stream or a category, packed into one row of the index |
//! | `many_rows` | inserting rows many at a time |
//! | `index_file` | whether an index file fits its log |
//! | `lookup` | versions, ids, streams, categories, counts |
//! | `read` | slices of messages |
//! | `threads` | the threads on which blocking calls are made |
//! | `maintenance` | backup, verify, repair |

mod access;
mod append;
mod appender;
mod backfill;
mod background;
pub(crate) mod checksum;
pub mod connection;
mod damage;
mod directory;
mod evidence;
mod failure;
mod files;
mod index_file;
mod indexer;
mod interned;
mod lookup;
pub mod maintenance;
mod many_rows;
mod marks;
mod memtable;
mod paths;
mod read;
mod registry;
mod room;
mod runs;
mod storage;
mod threads;
mod trickle;
mod whole_row;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use eventodb_protocol::Timestamp;
use eventodb_protocol::token::TokenHash;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::appender::SqliteAppender;
use self::damage::Damage;
use self::directory::{Directory, Found};
use self::failure::{change_failed, fail};
use self::marks::Marks;
use self::registry::Registry;
use self::room::Room;
use self::storage::{Handle, SqliteStorage};
use self::threads::Threads;
use crate::degraded::Degraded;
use crate::error::{Chain, Error, Result};
use crate::model::{Incarnation, Namespace, NewNamespace};
use crate::storage::{Backend, Hint, Opened, Storage};

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
}

impl Settings {
    /// Number of waiting messages for which the indexer begins while appends go on: a batch, or all that a smaller
    /// memtable holds.
    fn whole_batch(&self) -> usize {
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
        }
    }
}

/// Why a data directory could not be opened: a line for the operator, with its causes behind it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be created or written to.
    #[error("cannot use the data directory {0}")]
    Directory(Shown, #[source] std::io::Error),
    /// Another server has it.
    #[error("the data directory {0} is in use by another server")]
    Locked(Shown),
    /// The registry is damaged, or newer than this program.
    #[error("cannot open {0}")]
    Registry(Shown, #[source] connection::Error),
    /// There are logs and no registry, so that the namespaces of the logs are not known.
    #[error("{0} is missing beside log files: put it back from a backup of this directory, or move the log files away")]
    NoRegistry(Shown),
    /// The registry does not know these logs, so that it would give their numbers to new namespaces.
    #[error(
        "the registry does not know {0}: put back the registry.db of the same moment, or move the log away and import \
         what it holds"
    )]
    UnknownLog(Shown),
    /// The system provides no threads.
    #[error("cannot start threads")]
    Threads(#[source] std::io::Error),
}

/// A path as text for people.
pub type Shown = String;

/// The SQLite backend.
pub struct Sqlite {
    shared: Arc<Shared>,
    storages: Arc<Mutex<HashMap<Incarnation, Arc<SqliteStorage>>>>,
    housekeeping: CancellationToken,
}

/// What all incarnations share.
struct Shared {
    location: Location,
    settings: Settings,
    registry: Registry,
    marks: Marks,
    damage: Damage,
    room: Room,
    threads: Threads,
    /// Namespaces whose files are open, and perhaps some whose files were closed since.
    opened: Mutex<Vec<Weak<SqliteStorage>>>,
    /// Held by the one that opens files while descriptors are scarce.
    scarce: Mutex<()>,
    /// Number of entries in all memtables.
    waiting: Arc<AtomicUsize>,
    /// The directory's lock, held until the backend is closed so that no other server uses it.
    directory: Mutex<Option<Arc<Directory>>>,
    /// The registry's files, as they were opened.
    registry_files: Mutex<Arc<Found>>,
}

impl Sqlite {
    /// Opens the store at a location, and creates it if there is none.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(location: Location, settings: Settings) -> Result<Arc<Self>, OpenError> {
        let directory = match &location {
            Location::Directory(directory) => Some(Directory::take(directory)?),
            Location::Memory => None,
        };
        if let Location::Directory(directory) = &location {
            refuse_without_registry(directory)?;
        }
        let registry = Registry::open(&location).map_err(|error| match &location {
            Location::Directory(directory) => OpenError::Registry(shown(&directory.join(Registry::FILE)), error),
            Location::Memory => OpenError::Registry(":memory:".to_owned(), error),
        })?;
        let registry_files = match &location {
            Location::Directory(directory) => Found::database(&directory.join(Registry::FILE))
                .map_err(|error| OpenError::Directory(shown(directory), error))?,
            Location::Memory => Found::default(),
        };
        if let Location::Directory(directory) = &location {
            refuse_unknown_logs(directory, &registry)?;
        }
        let threads = Threads::start(&settings).map_err(OpenError::Threads)?;
        let shared = Arc::new(Shared {
            location,
            settings,
            registry,
            marks: Marks::new(),
            damage: Damage::default(),
            room: Room::default(),
            threads,
            opened: Mutex::default(),
            scarce: Mutex::default(),
            waiting: Arc::default(),
            directory: Mutex::new(directory.map(Arc::new)),
            registry_files: Mutex::new(Arc::new(registry_files)),
        });
        let sqlite = Self { shared, storages: Arc::default(), housekeeping: CancellationToken::new() };
        sqlite.keep_house();
        sqlite.keep_marks();
        Ok(Arc::new(sqlite))
    }

    fn storage(&self, incarnation: Incarnation) -> Arc<SqliteStorage> {
        let mut storages = self.storages.lock();
        let new = || Arc::new(SqliteStorage::new(self.shared.clone(), incarnation));
        storages.entry(incarnation).or_insert_with(new).clone()
    }

    /// Now and then indexes messages that have waited long enough, and closes namespaces beyond the bound.
    fn keep_house(&self) {
        let (shared, storages) = (Arc::downgrade(&self.shared), self.storages.clone());
        let stop = self.housekeeping.clone();
        self.shared.threads.write(Box::pin(async move {
            while stop.run_until_cancelled(tokio::time::sleep(HOUSEKEEPING)).await.is_some() {
                let Some(shared) = shared.upgrade() else { return };
                let open: Vec<Arc<SqliteStorage>> = storages.lock().values().cloned().collect();
                open.iter().for_each(SqliteStorage::look_after);
                drop(open);
                shared.close_beyond(shared.settings.open_namespaces);
            }
        }));
    }
}

/// How often the backend looks after its files.
const HOUSEKEEPING: Duration = Duration::from_millis(250);

impl Shared {
    /// Looks whether the directory and the registry in it are still those that were opened.
    ///
    /// # Errors
    /// As [`Self::still_holds`].
    fn still_holds_registry(&self) -> Result<()> {
        let files = Arc::clone(&self.registry_files.lock());
        self.still_holds(&files)
    }

    /// Writes to the registry, and to the logs whose last write failed.
    fn write_test(&self, failing: &[Arc<SqliteStorage>]) -> Result<()> {
        let Location::Directory(directory) = &self.location else { return Ok(()) };
        if self.still_holds_registry().is_err() {
            // That is logged and reported by itself.
            return Ok(());
        }
        self.room.look(directory);
        for storage in failing {
            storage.write_test();
        }
        self.registry.write_test().map_err(Error::unavailable)?;
        // It may have been opened anew.
        let files = Found::database(&directory.join(Registry::FILE)).map_err(Error::unavailable)?;
        *self.registry_files.lock() = Arc::new(files);
        Ok(())
    }

    /// Looks whether the directory and these files in it are still those that were opened.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if not: nobody would find what is written.
    fn still_holds(&self, files: &Found) -> Result<()> {
        let directory = self.directory.lock().clone();
        if directory.is_none_or(|directory| directory.lock().is_there()) && files.is_there() {
            return Ok(());
        }
        Err(Error::unavailable("the data directory was removed or replaced while it was in use"))
    }

    /// Closes the namespaces that were unused for the longest time until no more than `most` are open. Namespaces that
    /// are in use stay open. The caller holds no storage's lock.
    fn close_beyond(&self, most: usize) {
        let mut open: Vec<_> = {
            let mut opened = self.opened.lock();
            opened.retain(|storage| storage.strong_count() > 0);
            opened.iter().filter_map(Weak::upgrade).collect()
        };
        if open.len() <= most {
            return;
        }
        open.sort_by_cached_key(|storage| storage.last_use());
        let beyond = open.len() - most;
        open.into_iter().filter(|storage| storage.close_idle(false)).take(beyond).for_each(drop);
        self.opened.lock().retain(|storage| storage.upgrade().is_some_and(|storage| storage.is_open()));
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.housekeeping.cancel();
    }
}

fn shown(path: &Path) -> Shown {
    path.display().to_string()
}

/// A new registry would give the numbers of the logs that are there to other namespaces.
fn refuse_without_registry(directory: &Path) -> Result<(), OpenError> {
    let registry = directory.join(Registry::FILE);
    let is_there = registry.metadata().is_ok_and(|metadata| metadata.len() > 0);
    let logs = paths::logs_in(directory).map_err(|error| OpenError::Directory(shown(directory), error))?;
    if is_there || logs.is_empty() { Ok(()) } else { Err(OpenError::NoRegistry(shown(&registry))) }
}

fn refuse_unknown_logs(directory: &Path, registry: &Registry) -> Result<(), OpenError> {
    let path = || shown(&directory.join(Registry::FILE));
    let known = registry.incarnations().map_err(|error| OpenError::Registry(path(), error.into()))?;
    let logs = paths::logs_in(directory).map_err(|error| OpenError::Directory(shown(directory), error))?;
    match logs.into_iter().find(|(number, _)| !known.contains(number)) {
        Some((_, log)) => Err(OpenError::UnknownLog(shown(&log))),
        None => Ok(()),
    }
}

#[async_trait]
impl Backend for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn namespace(&self, name: &str) -> Result<Option<Namespace>> {
        let name = name.to_owned();
        self.registry(move |registry| registry.namespace(&name)).await
    }

    async fn token_hash(&self, name: &str) -> Result<Option<TokenHash>> {
        let name = name.to_owned();
        self.registry(move |registry| registry.token_hash(&name)).await
    }

    async fn namespaces(&self) -> Result<Vec<Namespace>> {
        self.registry(Registry::namespaces).await
    }

    async fn create(&self, new: &NewNamespace) -> Result<Namespace> {
        let new = new.clone();
        self.change(move |registry| registry.create(&new)).await?.ok_or(Error::NamespaceExists)
    }

    async fn delete(&self, incarnation: Incarnation) -> Result<Option<Timestamp>> {
        self.change(move |registry| registry.delete(incarnation)).await
    }

    async fn stage(&self, living: Incarnation) -> Result<Namespace> {
        if let Some(staged) = self.change(move |registry| registry.stage(living)).await? {
            return Ok(staged);
        }
        let lives = self.registry(move |registry| registry.lives(living)).await?;
        Err(if lives { Error::Replacing } else { Error::NamespaceNotFound })
    }

    async fn keep(&self, staged: Incarnation) -> Result<()> {
        let kept = self.registry(move |registry| registry.is_promotable(staged)).await?;
        if kept { Ok(()) } else { Err(Error::Overtaken) }
    }

    async fn promote(&self, staged: Incarnation) -> Result<()> {
        let promoted = self.change(move |registry| registry.promote(staged)).await?;
        if promoted { Ok(()) } else { Err(Error::Overtaken) }
    }

    async fn discard(&self, staged: Incarnation) -> Result<()> {
        self.shared.registry.discard(staged);
        Ok(())
    }

    async fn set_token(&self, name: &str, token_hash: &TokenHash) -> Result<()> {
        let (name, hash) = (name.to_owned(), *token_hash);
        let found = self.change(move |registry| registry.set_token(&name, &hash)).await?;
        if found { Ok(()) } else { Err(Error::NamespaceNotFound) }
    }

    async fn purge(&self) -> Result<()> {
        for incarnation in self.registry(Registry::deleted).await? {
            let storage = self.storage(incarnation);
            let removed = self.shared.threads.run(move || Ok(storage.remove())).await?;
            if removed {
                self.storages.lock().remove(&incarnation);
                self.registry(move |registry| registry.forget(incarnation)).await?;
            }
        }
        Ok(())
    }

    async fn message_counts(&self) -> Result<Vec<(Incarnation, u64)>> {
        let mut counts = Vec::new();
        for (incarnation, noted) in self.registry(Registry::noted_messages).await? {
            let messages = match noted {
                Some(messages) => messages,
                None => match Handle(self.storage(incarnation)).counts().await {
                    Ok(counts) => counts.messages,
                    Err(Error::Closed) => continue,
                    Err(error) => return Err(error),
                },
            };
            counts.push((incarnation, messages));
        }
        Ok(counts)
    }

    async fn open(&self, incarnation: Incarnation) -> Result<Opened> {
        let storage = self.storage(incarnation);
        let appender = Box::new(SqliteAppender(Arc::clone(&storage)));
        Ok(Opened { storage: Arc::new(Handle(storage)), appender })
    }

    fn hints(&self) -> Option<mpsc::Receiver<Hint>> {
        None
    }

    async fn ping(&self) -> Result<()> {
        self.registry(Registry::ping).await
    }

    async fn self_test(&self) -> Result<()> {
        let failing = |storage: &&Arc<SqliteStorage>| storage.append_fault.is_there();
        let failing: Vec<Arc<SqliteStorage>> = self.storages.lock().values().filter(failing).cloned().collect();
        let shared = self.shared.clone();
        // The write waits for the disk, and therefore takes a thread that no append needs.
        tokio::task::spawn_blocking(move || shared.write_test(&failing)).await.map_err(Error::failed)?
    }

    async fn last_time(&self, incarnation: Incarnation) -> Result<Timestamp> {
        let storage = self.storage(incarnation);
        self.shared.threads.run(move || storage.last_time()).await
    }

    fn degraded(&self) -> Vec<Degraded> {
        let storages: Vec<Arc<SqliteStorage>> = self.storages.lock().values().cloned().collect();
        let mut degraded: Vec<Degraded> = storages.iter().flat_map(|storage| storage.degraded()).collect();
        let is_lost = self.shared.registry_files.lock().is_lost()
            || self.shared.directory.lock().as_ref().is_some_and(|directory| directory.lock().is_lost());
        if is_lost {
            let message = "the data directory was removed or replaced while it was in use: nothing is written";
            degraded.push(Degraded::new("DIRECTORY_LOST", message));
        }
        degraded.extend(self.shared.room.degraded());
        if self.shared.marks.fault.is_there() {
            let message = "the registry cannot be written: a log that loses its end now may not be noticed";
            degraded.push(Degraded::new("REGISTRY_NOT_WRITTEN", message));
        }
        degraded.extend(self.shared.damage.degraded());
        degraded.sort_unstable();
        degraded.dedup();
        degraded
    }

    async fn close(&self) {
        self.housekeeping.cancel();
        let storages: Vec<_> = self.storages.lock().values().cloned().collect();
        for storage in storages {
            Handle(storage).close().await;
        }
        if let Err(error) = self.registry(Registry::checkpoint).await {
            tracing::warn!(error = %Chain(&error), "the registry was not closed cleanly");
        }
        *self.shared.directory.lock() = None;
    }
}

impl Sqlite {
    /// Changes the registry, if it is still there to be found.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Registry) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = self.shared.clone();
        self.shared
            .threads
            .run(move || {
                shared.still_holds_registry()?;
                work(&shared.registry).map_err(change_failed)
            })
            .await
    }

    async fn registry<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Registry) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let registry = self.shared.registry.clone();
        self.shared.threads.run(move || work(&registry).map_err(fail)).await
    }
}
