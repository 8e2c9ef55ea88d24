//! Opening databases: the settings of every connection, and the migrations.

use std::path::{Path, PathBuf};
use std::time::Duration;

use eventodb_schema::{SQLITE_INDEX, SQLITE_LOG, SQLITE_REGISTRY};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::access::{self, Access};
use super::directory::keep_private;

/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 64;

/// How long a connection waits for another's lock. Readers and the one writer of a file never wait for each other; a
/// checkpoint or a backup that starts or ends may hold a lock.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a database file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite reported an error.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The file cannot be made.
    #[error(transparent)]
    Create(#[from] std::io::Error),
    /// The file was written by a newer program.
    #[error(
        "its schema needs a newer version of this program: it is at step {found}, and this is {}, which knows {known} steps",
        eventodb_protocol::VERSION
    )]
    Newer {
        /// The version of the file.
        found: usize,
        /// The newest that this program knows.
        known: usize,
    },
    /// An index that was not built from the log beside it.
    #[error("it was not built from the log beside it")]
    Foreign,
}

/// How safe a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Synchronous {
    /// A commit is on the disk.
    Full,
    /// A commit is consistent, but may be lost with the power.
    Normal,
}

/// Bytes of a page of the log and of the registry: the same as a page of the file system.
const PAGE_SIZE: u32 = 4096;

/// Bytes of a page of the index. A batch of messages changes a page for each of its streams, and all of them are
/// written back soon. Small pages make the syncs shorter that an append waits behind.
const INDEX_PAGE_SIZE: u32 = 1024;

/// A database attached under a name.
#[derive(Clone, Debug)]
pub(super) struct Attach {
    /// `None` is a database in memory.
    file: Option<PathBuf>,
    /// The name that SQL calls it.
    name: &'static str,
    synchronous: Synchronous,
    /// Bytes of a page, for a file that does not exist yet; a power of two.
    page_size: u32,
    /// Steps of its schema.
    migrations: &'static [&'static str],
    /// Whether an older schema is brought to the newest.
    migrates: bool,
    /// The least access with which it may be opened: see [`access`].
    least: Access,
}

impl Attach {
    /// The namespaces of a data directory, as `registry`.
    pub(super) fn registry(file: Option<PathBuf>) -> Self {
        let synchronous = Synchronous::Full;
        Self {
            file,
            name: "registry",
            synchronous,
            page_size: PAGE_SIZE,
            migrations: SQLITE_REGISTRY,
            migrates: true,
            least: Access::Shared,
        }
    }

    /// The log of one incarnation, as `log`.
    pub(super) fn log(file: Option<PathBuf>) -> Self {
        let synchronous = Synchronous::Full;
        Self {
            file,
            name: "log",
            synchronous,
            page_size: PAGE_SIZE,
            migrations: SQLITE_LOG,
            migrates: true,
            least: Access::Shared,
        }
    }

    /// The log of one incarnation, with the schema that the file has. Opening it changes nothing. A file that somebody
    /// emptied stays empty, which shows that its messages are gone.
    pub(super) fn log_as_it_is(file: PathBuf) -> Self {
        Self { migrates: false, ..Self::log(Some(file)) }
    }

    /// The index of one incarnation, as `idx`.
    pub(super) fn index(file: Option<PathBuf>) -> Self {
        let synchronous = Synchronous::Normal;
        Self {
            file,
            name: "idx",
            synchronous,
            page_size: INDEX_PAGE_SIZE,
            migrations: SQLITE_INDEX,
            migrates: true,
            least: Access::Shared,
        }
    }

    /// The index of one incarnation, with the schema that the file has. Opening it changes nothing.
    pub(super) fn index_as_it_is(file: PathBuf) -> Self {
        Self { migrates: false, ..Self::index(Some(file)) }
    }

    /// The same, but if the file cannot be opened with [`Access::Shared`], it may be opened with any access up to
    /// `least`. Only for a directory that this process has locked: see [`access`].
    pub(super) fn at_least(self, least: Access) -> Self {
        Self { least, ..self }
    }
}

/// A connection with these databases attached, each migrated to its newest schema.
///
/// # Errors
/// [`Error`].
pub(super) fn open(databases: &[Attach]) -> Result<Connection, Error> {
    open_somehow(databases).map(|(connection, _)| connection)
}

/// As [`open`]. Also returns the worst access of these databases.
///
/// # Errors
/// [`Error`].
pub(super) fn open_somehow(databases: &[Attach]) -> Result<(Connection, Access), Error> {
    let mut connection = Connection::open_in_memory_with_flags(OpenFlags::default())?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Plans do not depend on the values of parameters. Otherwise SQLite prepares a statement anew whenever its LIMIT, which is
    // a parameter, is bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // SQLite then reports damaged cells, and does not take them for content.
    connection.pragma_update(None, "cell_size_check", true)?;
    // `rarray`: a list of positions as one parameter.
    rusqlite::vtab::array::load_module(&connection)?;
    let mut least = Access::Shared;
    for database in databases {
        least = least.max(attach(&mut connection, database)?);
    }
    Ok((connection, least))
}

/// A connection that reads a file alone, without the write-ahead log beside it.
///
/// # Errors
/// SQLite's.
pub(super) fn open_alone(file: &Path) -> rusqlite::Result<Connection> {
    let connection = access::open_immutable(file)?;
    // A checkpoint that was cut off leaves a file that is shorter than its header says. That is no damage, but SQLite
    // reads such a file with this setting only.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true)?;
    Ok(connection)
}

fn attach(connection: &mut Connection, database: &Attach) -> Result<Access, Error> {
    let Attach { file, name, synchronous, page_size, migrations, migrates, least } = database;
    if let Some(file) = file
        && *migrates
    {
        keep_private(file)?;
    }
    let file = file.as_deref().unwrap_or(Path::new(":memory:"));
    let access = access::attach(connection, file, name, *least)?;
    let synchronous = match synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    if *migrates {
        // First, because the first write to a new file fixes the size of its pages.
        connection.pragma_update(Some(*name), "page_size", page_size)?;
        connection.pragma_update(Some(*name), "journal_mode", "WAL")?;
    }
    connection.pragma_update(Some(*name), "synchronous", synchronous)?;
    if *migrates {
        migrate(connection, name, migrations)?;
    }
    Ok(access)
}

/// Brings a schema to its newest version, each step in a transaction of its own.
fn migrate(connection: &mut Connection, name: &str, migrations: &[&str]) -> Result<(), Error> {
    loop {
        let found = version(connection, name)?;
        if found > migrations.len() {
            return Err(Error::Newer { found, known: migrations.len() });
        }
        let Some(step) = migrations.get(found) else { return Ok(()) };
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(Some(name), "user_version", found + 1)?;
        transaction.commit()?;
    }
}

/// The steps of its schema that an attached database has taken.
pub(super) fn version(connection: &Connection, name: &str) -> Result<usize, Error> {
    Ok(connection.pragma_query_value(Some(name), "user_version", |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_not_prepared_anew_for_each_limit() {
        let connection = open(&[Attach::log(None)]).expect("memory is there");
        let mut statement = connection.prepare(include_str!("sql/log_forward.sql")).expect("good SQL");
        for limit in [10, 20, 30] {
            assert!(statement.query((1, 100, limit)).expect("it runs").next().expect("it runs").is_none());
        }
        assert_eq!(statement.get_status(rusqlite::StatementStatus::RePrepare), 0);
    }

    #[test]
    fn a_look_at_a_file_as_it_is_leaves_it_empty() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let file = directory.path().join("1.log.db");
        std::fs::write(&file, b"").expect("the folder is ours");
        let _ = open(&[Attach::log_as_it_is(file.clone())]);
        assert_eq!(std::fs::metadata(&file).expect("it is there").len(), 0);
    }
}
