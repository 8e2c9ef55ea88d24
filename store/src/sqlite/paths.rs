//! The paths of an incarnation's files, and connections to them.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::access::Access;
use super::connection::{self, Attach};
use super::{Location, Shared, index_file, indexer};
use crate::model::Incarnation;

/// Least and most KiB of a log's pages that a reader keeps in memory. The least is what SQLite keeps by itself. A read of
/// old messages of one category touches a page of the file for nearly each message: with the least, most of them are
/// read anew.
const READER_CACHE_KIB: (usize, usize) = (2 * 1024, 8 * 1024);
/// KiB that all readers may keep together, as long as each has more than the least.
const READER_CACHES_KIB: usize = 256 * 1024;

/// KiB that one more reader keeps where this number of namespaces is open, each with this number of readers.
fn reader_cache_kib(namespaces: usize, readers: usize) -> usize {
    let (least, most) = READER_CACHE_KIB;
    (READER_CACHES_KIB / (namespaces.max(1) * readers.max(1))).clamp(least, most)
}

pub(super) fn log_path(shared: &Shared, incarnation: Incarnation) -> PathBuf {
    file(shared, &format!("{}.log.db", incarnation.0))
}

pub(super) fn index_path(shared: &Shared, incarnation: Incarnation) -> PathBuf {
    file(shared, &format!("{}.index.db", incarnation.0))
}

pub(super) fn file(shared: &Shared, name: &str) -> PathBuf {
    match &shared.location {
        Location::Directory(directory) => directory.join(name),
        Location::Memory => PathBuf::new(),
    }
}

pub(super) fn log(shared: &Shared, incarnation: Incarnation, least: Access) -> Attach {
    let file = (shared.location != Location::Memory).then(|| log_path(shared, incarnation));
    Attach::log(file).at_least(least)
}

pub(super) fn index(shared: &Shared, incarnation: Incarnation, least: Access) -> Attach {
    let file = (shared.location != Location::Memory).then(|| index_path(shared, incarnation));
    Attach::index(file).at_least(least)
}

/// A connection for the indexer, to an index that belongs to this log.
pub(super) fn open_index(
    shared: &Shared,
    incarnation: Incarnation,
    least: Access,
) -> Result<(Connection, Access), connection::Error> {
    let alone = index_file::stamp_of_file_alone(&index_path(shared, incarnation))?;
    let both = [log(shared, incarnation, least), index(shared, incarnation, least)];
    let (connection, access) = connection::open_somehow(&both)?;
    set_up(&connection)?;
    if !indexer::belongs(&connection)? {
        return Err(connection::Error::Foreign);
    }
    if let Some(alone) = alone
        && !index_file::follows(&connection, &alone)?
    {
        return Err(connection::Error::Foreign);
    }
    Ok((connection, access))
}

pub(super) fn open_reader(shared: &Shared, incarnation: Incarnation, least: Access) -> rusqlite::Result<Connection> {
    let both = [log(shared, incarnation, least), index(shared, incarnation, least)];
    let connection = connection::open(&both).map_err(|error| match error {
        connection::Error::Sqlite(error) => error,
        error => rusqlite::Error::ToSqlConversionFailure(Box::new(error)),
    })?;
    set_up(&connection)?;
    let cache = reader_cache_kib(shared.opened.lock().len(), shared.settings.readers);
    // Negative numbers are KiB: https://sqlite.org/pragma.html#pragma_cache_size
    connection.pragma_update(Some("log"), "cache_size", -(cache as i64))?;
    Ok(connection)
}

/// The log files of a directory that hold anything, with their numbers, in order.
pub(super) fn logs_in(directory: &Path) -> std::io::Result<Vec<(i64, PathBuf)>> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(".log.db")?.parse().ok());
        if let Some(number) = number
            && fs::metadata(&path)?.len() > 0
        {
            logs.push((number, path));
        }
    }
    logs.sort_unstable();
    Ok(logs)
}

/// Sets a connection to files up: SQLite makes no checkpoints by itself.
pub(super) fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)
}

/// Removes a database's file and the files that SQLite keeps beside it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_of_many_namespaces_keep_no_more_than_sqlite_would() {
        let (least, most) = READER_CACHE_KIB;
        assert_eq!(reader_cache_kib(0, 4), most);
        assert_eq!(reader_cache_kib(8, 4), most);
        assert_eq!(reader_cache_kib(256, 4), least);
        for namespaces in 9..=32 {
            assert!(reader_cache_kib(namespaces, 4) * namespaces * 4 <= READER_CACHES_KIB, "{namespaces}");
        }
    }
}
