//! `registry.db`: the namespaces and their tokens ([`super::tokens`]), how many messages a closed one holds, and the identity
//! and a mark of the head of its log.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use eventodb_protocol::Timestamp;
use eventodb_protocol::reply::Quota;
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, ffi, params};

use super::Location;
use super::access::{ALONE_FOR, Access};
use super::connection::{self, Attach};
use super::failure::{is_not_opened, is_read_only};
use super::living_hashes::LivingHashes;
use super::tokens;
use crate::error::{Error, Result};
use crate::model::{Incarnation, Meant, Namespace, NamespaceUpdate, NewNamespace, Size, TokenRecord};

/// The registry of one data directory. Cloning shares it.
#[derive(Clone)]
pub(super) struct Registry {
    /// `None` is a registry in memory.
    file: Option<PathBuf>,
    connection: Kept,
    /// The staged incarnations, and the one that each is to replace. Locked before the connection.
    staged: Arc<Mutex<HashMap<Incarnation, Incarnation>>>,
    /// Marks heads. It is a connection of its own, so that looking up a namespace never waits for the disk behind it.
    marking: Kept,
    opened: Arc<Mutex<Opened>>,
    /// Changed by whoever holds the connection.
    pub(super) living: Arc<LivingHashes>,
}

/// A connection; `None` if the file could not be opened anew.
type Kept = Arc<Mutex<Option<Connection>>>;

/// How and when the file was opened.
#[derive(Clone, Copy, Debug)]
struct Opened {
    access: Access,
    at: Instant,
}

/// Marks the file as a registry. It is written again to see whether the file takes a write.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"EvDB");

/// What is noted about a living incarnation.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    /// How many messages it holds, if that is known.
    pub(super) messages: Option<u64>,
    /// The identity of its log; `None` until a log of an earlier version is opened.
    pub(super) identity: Option<Vec<u8>>,
    /// A global position that its log has reached.
    pub(super) marked_head: i64,
}

impl Registry {
    /// Name of its file in the data directory.
    pub(super) const FILE: &'static str = "registry.db";

    pub(super) fn open(location: &Location) -> Result<Self, connection::Error> {
        let file = match location {
            Location::Directory(directory) => Some(directory.join(Self::FILE)),
            Location::Memory => None,
        };
        let (connection, access) =
            connection::open_somehow(&[Attach::registry(file.clone()).at_least(Access::ReadOnly)])?;
        let living = Arc::new(LivingHashes::default());
        living.read(&connection)?;
        let connection = Arc::new(Mutex::new(Some(connection)));
        let mut registry = Self {
            marking: Arc::clone(&connection),
            connection,
            staged: Arc::default(),
            opened: Arc::new(Mutex::new(Opened { access, at: Instant::now() })),
            living,
            file,
        };
        if registry.file.is_some() {
            registry.marking = Arc::default();
            registry.open_marking(access)?;
        }
        Ok(registry)
    }

    /// Opens the connection that marks heads. It is kept only if both connections can write, or neither can.
    fn open_marking(&self, access: Access) -> Result<(), connection::Error> {
        let marking = connection::open_somehow(&[Attach::registry(self.file.clone()).at_least(Access::ReadOnly)])?;
        // A connection that only reads would not see what the other writes.
        let same = (access == Access::ReadOnly) == (marking.1 == Access::ReadOnly);
        *self.marking.lock() = same.then_some(marking.0);
        Ok(())
    }

    /// Opens the file anew. SQLite keeps a file that is open for reading only, or for this process alone, in that way
    /// until the last connection is closed.
    ///
    /// # Errors
    /// The file cannot be opened; it is tried again with the next call.
    fn open_again(&self) -> Result<(), connection::Error> {
        if self.file.is_none() {
            return Ok(());
        }
        let (mut connection, mut marking) = (self.connection.lock(), self.marking.lock());
        for closed in [connection.take(), marking.take()].into_iter().flatten() {
            // The write-ahead log stays, because it shows that the directory is still the same.
            let _ = closed.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
        drop(marking);
        let (opened, access) =
            connection::open_somehow(&[Attach::registry(self.file.clone()).at_least(Access::ReadOnly)])?;
        *connection = Some(opened);
        *self.opened.lock() = Opened { access, at: Instant::now() };
        self.open_marking(access)
    }

    pub(super) fn connection(&self) -> rusqlite::Result<MappedMutexGuard<'_, Connection>> {
        kept(&self.connection)
    }

    /// Makes a write that is on the disk when this returns, and changes nothing. If the file is open for reading only,
    /// it is opened anew.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn write_test(&self) -> Result<(), connection::Error> {
        let Opened { access, at } = *self.opened.lock();
        if access == Access::Alone && at.elapsed() >= ALONE_FOR {
            self.open_again()?;
        }
        match self.write_application_id() {
            Err(error) if is_read_only(&error) || is_not_opened(&error) => {
                self.open_again()?;
                Ok(self.write_application_id()?)
            }
            outcome => Ok(outcome?),
        }
    }

    fn write_application_id(&self) -> rusqlite::Result<()> {
        for kept_one in [&self.connection, &self.marking] {
            kept(kept_one)?.pragma_update(Some("registry"), "application_id", APPLICATION_ID)?;
        }
        Ok(())
    }

    pub(super) fn namespace(&self, name: &str) -> rusqlite::Result<Option<Namespace>> {
        self.connection()?
            .prepare_cached(include_str!("sql/registry_namespace.sql"))?
            .query_row([name], namespace)
            .optional()
    }

    pub(super) fn namespaces(&self) -> rusqlite::Result<Vec<Namespace>> {
        let connection = self.connection()?;
        let mut select = connection.prepare_cached(include_str!("sql/registry_namespaces.sql"))?;
        select.query_map([], namespace)?.collect()
    }

    /// Creates a namespace; `None` if there is one of that name.
    pub(super) fn create(&self, new: &NewNamespace) -> rusqlite::Result<Option<Namespace>> {
        let mut connection = self.connection()?;
        // A statement without a transaction commits when it is reset after its first row, and an error of that is lost.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let created_at = Timestamp::now().as_micros();
        let values = params![new.name, new.description, new.metadata, created_at];
        let created = transaction
            .prepare_cached(include_str!("sql/registry_create.sql"))?
            .query_row(values, namespace)
            .optional()?;
        if let Some(created) = &created {
            let Namespace { name, origin, created_at, .. } = created;
            let first = TokenRecord::first(Arc::clone(name), *origin, new.token_hash, *created_at);
            tokens::save(&transaction, &first)?;
            self.living.expect(&[first]);
        }
        transaction.commit()?;
        Ok(created)
    }

    /// Changes a namespace; `None` if the one that is meant does not live.
    pub(super) fn update(&self, meant: Meant<'_>, update: &NamespaceUpdate) -> rusqlite::Result<Option<Namespace>> {
        let NamespaceUpdate { description, protected, quota } = update;
        let Quota { messages, bytes } = quota.unwrap_or_default();
        let origin = meant.origin.map(|origin| origin.0);
        let values = params![meant.name, description, protected, quota.is_some(), messages, bytes, origin];
        if self.connection()?.execute(include_str!("sql/registry_update.sql"), values)? == 0 {
            return Ok(None);
        }
        self.namespace(meant.name)
    }

    /// Deletes an incarnation, unless it is protected; `None` if it is, or was deleted before.
    pub(super) fn delete(&self, incarnation: Incarnation) -> rusqlite::Result<Option<Timestamp>> {
        let mut connection = self.connection()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = Timestamp::now();
        let sql = include_str!("sql/registry_delete.sql");
        if transaction.prepare_cached(sql)?.execute(params![incarnation.0, now.as_micros()])? == 0 {
            return Ok(None);
        }
        let hashes = tokens::hashes(&transaction, incarnation)?;
        transaction.commit()?;
        self.living.gone(hashes);
        Ok(Some(now))
    }

    /// Stages an incarnation for the place of a living one; `None` if that was deleted or is protected, or another is
    /// staged.
    /// Its row counts as deleted until it is promoted, so that nothing is left of it after a crash.
    pub(super) fn stage(&self, living: Incarnation) -> rusqlite::Result<Option<Namespace>> {
        let mut staged = self.staged.lock();
        if staged.values().any(|replaces| *replaces == living) {
            return Ok(None);
        }
        let mut connection = self.connection()?;
        // As in `create`.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = Timestamp::now().as_micros();
        let sql = include_str!("sql/registry_stage.sql");
        let namespace = transaction.prepare_cached(sql)?.query_row(params![living.0, now], namespace).optional()?;
        transaction.commit()?;
        staged.extend(namespace.iter().map(|namespace| (namespace.incarnation, living)));
        Ok(namespace)
    }

    /// The incarnation whose place a staged one is to take.
    pub(super) fn place_of(&self, staged: Incarnation) -> Option<Incarnation> {
        self.staged.lock().get(&staged).copied()
    }

    /// Whether a staged incarnation can be promoted.
    pub(super) fn is_promotable(&self, staged: Incarnation) -> rusqlite::Result<bool> {
        let Some(living) = self.place_of(staged) else { return Ok(false) };
        self.lives(living)
    }

    /// The name of a namespace's incarnation.
    pub(super) fn name(&self, incarnation: Incarnation) -> rusqlite::Result<Option<String>> {
        self.connection()?
            .prepare_cached("SELECT name FROM registry.namespaces WHERE incarnation = ?1")?
            .query_row([incarnation.0], |row| row.get(0))
            .optional()
    }

    /// Whether an incarnation is protected; `None` if it does not live.
    pub(super) fn is_protected(&self, incarnation: Incarnation) -> rusqlite::Result<Option<bool>> {
        self.connection()?
            .prepare_cached("SELECT protected FROM registry.namespaces WHERE incarnation = ?1 AND deleted_at IS NULL")?
            .query_row([incarnation.0], |row| row.get(0))
            .optional()
    }

    /// Whether an incarnation lives.
    pub(super) fn lives(&self, incarnation: Incarnation) -> rusqlite::Result<bool> {
        self.connection()?
            .prepare_cached("SELECT 1 FROM registry.namespaces WHERE incarnation = ?1 AND deleted_at IS NULL")?
            .exists([incarnation.0])
    }

    /// Gives a staged incarnation of this size the place of the living one.
    pub(super) fn promote(&self, incarnation: Incarnation, size: Size) -> rusqlite::Result<Result<()>> {
        let mut staged = self.staged.lock();
        let Some(living) = staged.get(&incarnation).copied() else {
            drop(staged);
            return Ok(if self.lives(incarnation)? { Ok(()) } else { Err(Error::Overtaken) });
        };
        let mut connection = self.connection()?;
        // An update waits until it ends, or has happened before: what is looked at here is what holds at the commit.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let terms = |row: &Row<'_>| Ok((row.get(0)?, Quota { messages: row.get(1)?, bytes: row.get(2)? }));
        let terms = transaction.query_row(include_str!("sql/registry_terms.sql"), [living.0], terms).optional()?;
        let Some((protected, quota)) = terms else { return Ok(Err(Error::Overtaken)) };
        if let Err(refused) = size.may_replace(protected, quota) {
            return Ok(Err(refused));
        }
        let now = Timestamp::now().as_micros();
        transaction.execute(include_str!("sql/registry_end.sql"), params![living.0, now])?;
        transaction.execute(include_str!("sql/registry_promote.sql"), params![incarnation.0, living.0])?;
        transaction.commit()?;
        staged.remove(&incarnation);
        Ok(Ok(()))
    }

    /// Gives a staged incarnation up.
    pub(super) fn discard(&self, incarnation: Incarnation) {
        self.staged.lock().remove(&incarnation);
    }

    /// Notes how many messages an incarnation holds; `None` if they have to be counted.
    pub(super) fn note_messages(&self, incarnation: Incarnation, messages: Option<u64>) -> rusqlite::Result<()> {
        let connection = self.connection()?;
        let mut update =
            connection.prepare_cached("UPDATE registry.namespaces SET messages = ?2 WHERE incarnation = ?1")?;
        update.execute(params![incarnation.0, messages])?;
        Ok(())
    }

    /// What is noted about the living incarnations.
    pub(super) fn noted_messages(&self) -> rusqlite::Result<Vec<(Incarnation, Option<u64>)>> {
        let connection = self.connection()?;
        let mut select = connection
            .prepare_cached("SELECT incarnation, messages FROM registry.namespaces WHERE deleted_at IS NULL")?;
        select.query_map([], |row| Ok((Incarnation(row.get(0)?), row.get(1)?)))?.collect()
    }

    /// What is noted about an incarnation; `None` if it neither lives nor is staged.
    pub(super) fn noted(&self, incarnation: Incarnation) -> rusqlite::Result<Option<Noted>> {
        let is_staged = self.staged.lock().contains_key(&incarnation);
        let sql = include_str!("sql/registry_noted.sql");
        let noted =
            |row: &Row<'_>| Ok(Noted { messages: row.get(0)?, identity: row.get(1)?, marked_head: row.get(2)? });
        self.connection()?.prepare_cached(sql)?.query_row(params![incarnation.0, is_staged], noted).optional()
    }

    /// Notes that logs have reached these heads. A mark never goes back.
    pub(super) fn mark_heads(&self, heads: &[(Incarnation, i64)]) -> rusqlite::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        let mut connection = self.marking()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut update = transaction.prepare_cached(include_str!("sql/registry_mark.sql"))?;
            for (incarnation, head) in heads {
                update.execute(params![incarnation.0, head])?;
            }
        }
        transaction.commit()
    }

    /// The connection that marks heads, for what else must not make a lookup wait for the disk.
    pub(super) fn marking(&self) -> rusqlite::Result<MappedMutexGuard<'_, Connection>> {
        kept(&self.marking)
    }

    /// Notes the identity of a log that an earlier version made.
    pub(super) fn adopt_identity(&self, incarnation: Incarnation, identity: &[u8]) -> rusqlite::Result<()> {
        let sql = "UPDATE registry.namespaces SET identity = ?2 WHERE incarnation = ?1 AND identity IS NULL";
        self.connection()?.execute(sql, params![incarnation.0, identity])?;
        Ok(())
    }

    /// The incarnations that live or whose files are still to be removed.
    pub(super) fn incarnations(&self) -> rusqlite::Result<HashSet<i64>> {
        let connection = self.connection()?;
        let mut select = connection.prepare("SELECT incarnation FROM registry.namespaces")?;
        select.query_map([], |row| row.get(0))?.collect()
    }

    /// Incarnations whose files are still to be removed.
    pub(super) fn deleted(&self) -> rusqlite::Result<Vec<Incarnation>> {
        let staged = self.staged.lock();
        let connection = self.connection()?;
        let mut select =
            connection.prepare_cached("SELECT incarnation FROM registry.namespaces WHERE deleted_at IS NOT NULL")?;
        let deleted = select.query_map([], |row| row.get(0).map(Incarnation))?;
        deleted.filter(|row| !row.as_ref().is_ok_and(|deleted| staged.contains_key(deleted))).collect()
    }

    /// Forgets an incarnation whose files are gone, and its tokens, unless another incarnation has them.
    pub(super) fn forget(&self, incarnation: Incarnation) -> rusqlite::Result<()> {
        let sql = "DELETE FROM registry.namespaces WHERE incarnation = ?1 AND deleted_at IS NOT NULL";
        let mut connection = self.connection()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(sql, [incarnation.0])?;
        transaction.execute(include_str!("sql/registry_forget_tokens.sql"), [])?;
        transaction.commit()
    }

    /// Whether the file can be read.
    pub(super) fn ping(&self) -> rusqlite::Result<()> {
        self.connection()?.query_row("SELECT count(*) FROM registry.sqlite_schema", [], |_| Ok(()))
    }

    /// Writes the write-ahead log into the file.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        self.connection()?.query_row("PRAGMA registry.wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

fn kept(kept: &Kept) -> rusqlite::Result<MappedMutexGuard<'_, Connection>> {
    MutexGuard::try_map(kept.lock(), Option::as_mut)
        .map_err(|_| rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CANTOPEN), None))
}

fn namespace(row: &Row<'_>) -> rusqlite::Result<Namespace> {
    Ok(Namespace {
        incarnation: Incarnation(row.get(0)?),
        name: row.get(1)?,
        description: row.get(2)?,
        created_at: Timestamp::from_micros(row.get(3)?),
        origin: Incarnation(row.get(4)?),
        protected: row.get(5)?,
        quota: Quota { messages: row.get(6)?, bytes: row.get(7)? },
    })
}
