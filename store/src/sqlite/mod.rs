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
//! | `settings` | the location of a store, and its bounds |
//! | `shared` | opening a store; what all incarnations share: the directory, the registry, the bounds of the process |
//! | `open_error` | why a store is not opened |
//! | `strangers` | whether a new data directory is another program's |
//! | `registry` | the namespaces |
//! | `storage` | one incarnation: opening, closing, and the methods of `Storage` |
//! | `appender` | the appends of one incarnation: the methods of `Appender` |
//! | `groups` | the groups of one incarnation: the methods of `GroupStorage` |
//! | `marks` | how far logs have come, noted in the registry |
//! | `evidence` | what the registry and the index know of a log |
//! | `background` | work beside the calls: indexing, checkpoints |
//! | `room` | whether the disk has room for writes |
//! | `failure` | the meaning of SQLite's errors |
//! | `files/` | the open files of one incarnation: opening, appends, the indexer, checkpoints |
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
//! | `tokens` | the tokens in the registry |
//! | `living_hashes` | the hashes of the living tokens, in memory |
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
mod groups;
mod index_file;
mod indexer;
mod interned;
mod living_hashes;
mod lookup;
pub mod maintenance;
mod many_rows;
mod marks;
mod memtable;
mod open_error;
mod paths;
mod read;
mod registry;
mod room;
mod runs;
mod settings;
mod shared;
mod storage;
mod strangers;
mod threads;
mod tokens;
mod trickle;
mod whole_row;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use eventodb_protocol::Timestamp;
use eventodb_protocol::token::TokenHash;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use open_error::{OpenError, Shown};
pub use settings::{Location, Settings};
pub use strangers::Strangers;

use self::appender::SqliteAppender;
use self::failure::{change_failed, fail};
use self::registry::Registry;
use self::shared::Shared;
use self::storage::{Handle, SqliteStorage};
use crate::degraded::Degraded;
use crate::error::{Chain, Error, Result};
use crate::figures::BackendFigures;
use crate::model::{
    Incarnation, Meant, Namespace, NamespaceUpdate, NewNamespace, Size, TokenChange, TokenId, TokenRecord,
};
use crate::storage::{Backend, Hint, Opened, Readers, Storage};

/// The SQLite backend.
pub struct Sqlite {
    shared: Arc<Shared>,
    storages: Arc<Storages>,
    housekeeping: CancellationToken,
}

impl Sqlite {
    /// Opens the store at a location, and creates it if there is none.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(location: Location, settings: Settings) -> Result<Arc<Self>, OpenError> {
        let shared = Arc::new(Shared::open(location, settings)?);
        let sqlite = Self { shared, storages: Arc::default(), housekeeping: CancellationToken::new() };
        sqlite.keep_house();
        sqlite.keep_marks();
        Ok(Arc::new(sqlite))
    }

    fn storage(&self, incarnation: Incarnation) -> Arc<SqliteStorage> {
        storage_of(&self.storages, &self.shared, incarnation)
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

/// How long a call waits while other calls have all reads that run at once.
const READ_PATIENCE: Duration = Duration::from_secs(30);

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.housekeeping.cancel();
    }
}

#[async_trait]
impl Backend for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn figures(&self) -> BackendFigures {
        let not_indexed = self.shared.waiting.load(Relaxed) as u64;
        BackendFigures { not_indexed, disk_free: self.shared.room_left(), ..BackendFigures::default() }
    }

    fn give_up_files(&self) {
        self.shared.close_one();
    }

    fn is_durable(&self) -> bool {
        self.shared.location != Location::Memory
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn namespace(&self, name: &str) -> Result<Option<Namespace>> {
        let name = name.to_owned();
        self.registry(move |registry| registry.namespace(&name)).await
    }

    async fn token(&self, namespace: &str, hash: &TokenHash) -> Result<Option<TokenRecord>> {
        if !self.shared.registry.living.may_have(hash) {
            return Ok(None);
        }
        let (namespace, hash) = (namespace.to_owned(), *hash);
        self.registry(move |registry| registry.token(&namespace, &hash)).await
    }

    async fn token_by_id(&self, id: TokenId) -> Result<Option<TokenRecord>> {
        self.registry(move |registry| registry.token_by_id(id)).await
    }

    async fn tokens(&self, namespace: &str) -> Result<Vec<TokenRecord>> {
        let namespace = namespace.to_owned();
        self.registry(move |registry| registry.tokens(&namespace)).await
    }

    async fn change_tokens(&self, change: TokenChange) -> Result<TokenRecord> {
        self.change(move |registry| registry.change_tokens(change)).await?
    }

    async fn living_tokens(&self, ids: &[TokenId]) -> Result<Vec<(TokenId, Option<Timestamp>)>> {
        let ids = ids.to_owned();
        self.registry(move |registry| registry.living_tokens(&ids)).await
    }

    async fn note_used(&self, ids: &[TokenId], hour: Timestamp) -> Result<()> {
        let ids = ids.to_owned();
        self.change(move |registry| registry.note_used(&ids, hour)).await
    }

    async fn update(&self, meant: Meant<'_>, update: &NamespaceUpdate) -> Result<Namespace> {
        let (name, origin, update) = (meant.name.to_owned(), meant.origin, update.clone());
        let updated = self.change(move |registry| registry.update(Meant { name: &name, origin }, &update)).await?;
        updated.ok_or(Error::NamespaceNotFound)
    }

    async fn namespaces(&self) -> Result<Vec<Namespace>> {
        self.registry(Registry::namespaces).await
    }

    async fn create(&self, new: &NewNamespace) -> Result<Namespace> {
        self.shared.room.let_write().map_err(Error::Unavailable)?;
        let new = new.clone();
        self.change(move |registry| registry.create(&new)).await?.ok_or(Error::NamespaceExists)
    }

    async fn delete(&self, incarnation: Incarnation) -> Result<Option<Timestamp>> {
        let storage = self.storage(incarnation);
        let delete = move |registry: &Registry| {
            let deleted = registry.delete(incarnation);
            let lives = match deleted {
                Ok(Some(_)) => {
                    storage.end();
                    false
                }
                _ => storage.end_unless_it_lives()?,
            };
            Ok((deleted?, lives))
        };
        match self.change(delete).await? {
            (None, true) => Err(Error::Protected),
            (deleted, _) => Ok(deleted),
        }
    }

    async fn end_deleted(&self, _name: &str) -> Result<()> {
        // Only this process has the store, and its deletions end what they delete.
        Ok(())
    }

    async fn stage(&self, living: Incarnation) -> Result<Namespace> {
        self.shared.room.let_write().map_err(Error::Unavailable)?;
        if let Some(staged) = self.change(move |registry| registry.stage(living)).await? {
            return Ok(staged);
        }
        Err(match self.registry(move |registry| registry.is_protected(living)).await? {
            None => Error::NamespaceNotFound,
            Some(true) => Error::Protected,
            Some(false) => Error::Replacing,
        })
    }

    async fn keep(&self, staged: Incarnation) -> Result<()> {
        let kept = self.registry(move |registry| registry.is_promotable(staged)).await?;
        if kept { Ok(()) } else { Err(Error::Overtaken) }
    }

    async fn promote(&self, staged: Incarnation, size: Size) -> Result<()> {
        let storages = self.storages.clone();
        let shared = self.shared.clone();
        self.change(move |registry| {
            let living = registry.place_of(staged);
            let outcome = registry.promote(staged, size);
            if let Some(living) = living {
                let storage = storage_of(&storages, &shared, living);
                match outcome {
                    Ok(Ok(())) => storage.end(),
                    _ => _ = storage.end_unless_it_lives()?,
                }
            }
            outcome
        })
        .await?
    }

    async fn discard(&self, staged: Incarnation) -> Result<()> {
        self.shared.registry.discard(staged);
        Ok(())
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
        let handle = Arc::new(Handle(storage));
        Ok(Opened { storage: handle.clone(), appender, groups: handle })
    }

    fn hints(&self) -> Option<mpsc::Receiver<Hint>> {
        None
    }

    fn readers(&self) -> Readers {
        Readers { at_once: self.shared.settings.readers, patience: READ_PATIENCE }
    }

    async fn ping(&self) -> Result<()> {
        self.registry(Registry::ping).await
    }

    async fn beat(&self) {
        self.shared.threads.beat().await;
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
        degraded.extend(self.shared.degraded());
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
        self.shared.release_directory();
    }
}

/// The storage of each incarnation that was asked for.
type Storages = Mutex<HashMap<Incarnation, Arc<SqliteStorage>>>;

fn storage_of(storages: &Storages, shared: &Arc<Shared>, incarnation: Incarnation) -> Arc<SqliteStorage> {
    let new = || Arc::new(SqliteStorage::new(Arc::clone(shared), incarnation));
    storages.lock().entry(incarnation).or_insert_with(new).clone()
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
