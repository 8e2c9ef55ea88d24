//! A look at a store, in use or not, that changes nothing and makes no file.

use std::path::Path;

use eventodb_protocol::Timestamp;
use eventodb_schema::{SQLITE_LOG, SQLITE_REGISTRY};
use rusqlite::{Connection, OptionalExtension as _};

use super::super::paths::beside;
use super::{Error, database, files, registry_of};
use crate::model::TokenRecord;

/// What is known of a living namespace.
#[derive(Debug)]
pub struct NamespaceLook {
    /// Its name.
    pub name: String,
    /// The time of the last message that was written to it, if there is one that can be read.
    pub last_time: Option<Timestamp>,
    /// Its tokens.
    pub tokens: Vec<TokenRecord>,
}

/// Looks at each living namespace of a data directory.
///
/// # Errors
/// There is no store in the directory, it is newer than this program, or its registry cannot be read. A log that cannot be
/// read has no last time.
pub fn look(directory: &Path) -> Result<Vec<NamespaceLook>, Error> {
    let path = registry_of(directory)?;
    let registry = open(&path, SQLITE_REGISTRY)?;
    let namespaces = files::namespaces(&registry).map_err(database(&path))?;
    let shown = namespaces.into_iter().filter(|namespace| !namespace.is_of_self_tests());
    let look = |namespace: files::Namespace| NamespaceLook {
        last_time: last_time(&files::log_path(directory, namespace.incarnation)),
        name: namespace.name,
        tokens: namespace.tokens,
    };
    Ok(shown.map(look).collect())
}

/// Without a write-ahead log nobody has the file open, so that it can be read without the files that SQLite would make
/// beside it.
fn open(file: &Path, migrations: &[&str]) -> Result<Connection, Error> {
    let is_in_use = beside(file, "-wal").exists();
    if is_in_use { files::open_live(file, migrations) } else { files::open_still(file, migrations) }
}

fn last_time(file: &Path) -> Option<Timestamp> {
    // The file is not attached under the name that the statement has for it.
    let statement = include_str!("../sql/last_time.sql").replace("log.", "main.");
    let log = open(file, SQLITE_LOG).ok()?;
    let micros = log.query_row(&statement, [], |row| row.get(0)).optional().ok()??;
    Some(Timestamp::from_micros(micros))
}
