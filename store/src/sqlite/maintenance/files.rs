//! Opening, naming and syncing the files of a data directory.

use std::fs::File;
use std::path::{Path, PathBuf};

use eventodb_protocol::Timestamp;
use eventodb_protocol::reply::Quota;
use eventodb_protocol::token::TokenHash;
use eventodb_schema::SQLITE_LOG;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row};

use super::super::connection::{self, Attach};
use super::super::evidence::{self, Identity};
use super::super::registry::Registry;
use super::super::tokens;
use super::{Error, database, io, shown};
use crate::model::{self, Incarnation, TokenRecord};

/// The first version of the registry's schema that has tokens of their own.
const FIRST_WITH_TOKENS: usize = 3;

/// A living namespace, with every column of the registry, and its tokens.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    pub(super) incarnation: i64,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) metadata: String,
    pub(super) created_at: i64,
    pub(super) messages: Option<u64>,
    /// The identity of its log; `None` if an earlier version made it and it was not opened since.
    pub(super) identity: Option<Vec<u8>>,
    /// A global position that its log has reached.
    pub(super) marked_head: i64,
    /// The incarnation with which it was created.
    pub(super) origin: i64,
    pub(super) protected: bool,
    pub(super) quota: Quota,
    pub(super) tokens: Vec<TokenRecord>,
}

impl Namespace {
    /// Whether the server tests itself in it.
    pub(super) fn is_of_self_tests(&self) -> bool {
        self.name == model::Namespace::OF_SELF_TESTS
    }

    /// What a report calls it.
    pub(super) fn title(&self) -> String {
        if self.is_of_self_tests() {
            return "the server's tests of itself".to_owned();
        }
        format!("namespace {}", self.name)
    }

    /// Whether a log may be its own.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn owns(&self, log: &Connection) -> rusqlite::Result<bool> {
        // If the end of a damaged log cannot be read, there is one.
        let is_empty = head(log).is_ok_and(|head| head == 0);
        Ok(evidence::compare(self.identity.as_deref(), &identity(log)?, is_empty) != Identity::Foreign)
    }
}

pub(super) fn registry_path(directory: &Path) -> PathBuf {
    directory.join(Registry::FILE)
}

pub(super) fn log_path(directory: &Path, incarnation: i64) -> PathBuf {
    directory.join(format!("{incarnation}.log.db"))
}

pub(super) fn index_path(directory: &Path, incarnation: i64) -> PathBuf {
    directory.join(format!("{incarnation}.index.db"))
}

/// A database's name within its directory.
pub(super) fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Opens a database to read, through its write-ahead log, while others may write to it.
///
/// # Errors
/// [`Error::Database`], also if the file is newer than this program.
pub(super) fn open_live(file: &Path, migrations: &[&str]) -> Result<Connection, Error> {
    let failed = database(file);
    // Writing is needed for SQLite's shared memory alone; nothing is created.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags).map_err(&failed)?;
    set_up(&connection).map_err(&failed)?;
    refuse_newer(&connection, file, migrations)?;
    Ok(connection)
}

/// Opens a database of a backup, which nobody changes and which stays as it is.
///
/// # Errors
/// As [`open_live`].
pub(super) fn open_still(file: &Path, migrations: &[&str]) -> Result<Connection, Error> {
    let connection = connection::open_alone(file).map_err(database(file))?;
    refuse_newer(&connection, file, migrations)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(connection::BUSY_TIMEOUT)?;
    // The write-ahead log belongs to the server, even if this connection is the last one to close.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // A file that was cut is read as far as it goes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "query_only", true)
}

fn refuse_newer(connection: &Connection, file: &Path, migrations: &[&str]) -> Result<(), Error> {
    let found = version(connection).map_err(database(file))?;
    let known = migrations.len();
    if found > known {
        return Err(Error::Database(shown(file), connection::Error::Newer { found, known }));
    }
    Ok(())
}

/// A new log that is of no use before it is finished, so that nothing of it needs to be safe until
/// then; see [`sync`].
///
/// # Errors
/// [`Error::Database`].
pub(super) fn create_log(file: &Path) -> Result<Connection, Error> {
    let connection =
        connection::open(&[Attach::log(Some(file.to_owned()))]).map_err(|error| Error::Database(shown(file), error))?;
    connection.pragma_update(Some("log"), "journal_mode", "OFF").map_err(database(file))?;
    connection.pragma_update(Some("log"), "synchronous", "OFF").map_err(database(file))?;
    Ok(connection)
}

/// The living namespaces.
///
/// # Errors
/// SQLite's.
pub(super) fn namespaces(registry: &Connection) -> rusqlite::Result<Vec<Namespace>> {
    let version = version(registry)?;
    let mut select = registry.prepare(match version {
        1 => include_str!("../sql/registry_rows_1.sql"),
        2 => include_str!("../sql/registry_rows_2.sql"),
        _ => include_str!("../sql/registry_rows.sql"),
    })?;
    let mut namespaces = select.query_map([], namespace)?.collect::<rusqlite::Result<Vec<_>>>()?;
    for namespace in &mut namespaces {
        namespace.tokens = if version < FIRST_WITH_TOKENS {
            vec![only_token(registry, namespace)?]
        } else {
            tokens::of_origin(registry, Incarnation(namespace.origin), &namespace.name)?
        };
    }
    Ok(namespaces)
}

/// The one token that a namespace had in earlier versions.
fn only_token(registry: &Connection, namespace: &Namespace) -> rusqlite::Result<TokenRecord> {
    let sql = "SELECT token_hash FROM namespaces WHERE incarnation = ?1";
    let hash = registry.query_row(sql, [namespace.incarnation], |row| row.get(0).map(TokenHash::from_bytes))?;
    let created_at = Timestamp::from_micros(namespace.created_at);
    Ok(TokenRecord::first(namespace.name.as_str().into(), Incarnation(namespace.origin), hash, created_at))
}

fn namespace(row: &Row<'_>) -> rusqlite::Result<Namespace> {
    Ok(Namespace {
        incarnation: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        metadata: row.get(3)?,
        created_at: row.get(4)?,
        messages: row.get(5)?,
        identity: row.get(6)?,
        marked_head: row.get(7)?,
        origin: row.get(8)?,
        protected: row.get(9)?,
        quota: Quota { messages: row.get(10)?, bytes: row.get(11)? },
        tokens: Vec::new(),
    })
}

/// Selects the messages of a log above one position and up to another, by [`super::super::checksum::column`].
///
/// # Errors
/// SQLite's.
pub(super) fn whole_rows(log: &Connection) -> rusqlite::Result<&'static str> {
    Ok(match version(log)? {
        1 => include_str!("../sql/whole_rows_1.sql"),
        _ => include_str!("../sql/whole_rows.sql"),
    })
}

/// The version of a database's schema.
///
/// # Errors
/// SQLite's.
pub(super) fn version(database: &Connection) -> rusqlite::Result<usize> {
    database.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The identity of a log.
///
/// # Errors
/// SQLite's.
pub(super) fn identity(log: &Connection) -> rusqlite::Result<Vec<u8>> {
    log.query_row("SELECT identity FROM identity", [], |row| row.get(0))
}

/// The head of a log.
///
/// # Errors
/// SQLite's.
pub(super) fn head(log: &Connection) -> rusqlite::Result<i64> {
    log.query_row("SELECT coalesce(max(global_position), 0) FROM messages", [], |row| row.get(0))
}

/// Whether a log has anything in it. One that could not be set up, because of a fault of the disk or a crash, has not.
pub(super) fn is_begun(path: &Path) -> bool {
    let is_empty = std::fs::metadata(path).map_or(0, |metadata| metadata.len()) == 0;
    let tables = "SELECT count(*) FROM sqlite_schema";
    let has_tables = |log: Connection| log.query_row(tables, [], |row| row.get::<_, i64>(0)).map_or(true, |n| n > 0);
    !is_empty && open_live(path, SQLITE_LOG).map_or(true, has_tables)
}

/// The head that a namespace's log is known to have had, by the registry and by its index.
pub(super) fn known_head(namespace: &Namespace, log: &Connection, index: &Path) -> i64 {
    let seen = identity(log).ok().and_then(|identity| evidence::seen_by_index(index, &identity));
    namespace.marked_head.max(seen.unwrap_or(0))
}

/// Whether the incarnation lives.
///
/// # Errors
/// SQLite's.
pub(super) fn lives(registry: &Connection, incarnation: i64) -> rusqlite::Result<bool> {
    registry
        .prepare_cached("SELECT 1 FROM namespaces WHERE incarnation = ?1 AND deleted_at IS NULL")?
        .exists([incarnation])
}

/// Puts a file or directory on the disk.
///
/// # Errors
/// [`Error::File`].
pub(super) fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).map_err(io(path))
}
