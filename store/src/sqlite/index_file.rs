//! Whether the index's file and the write-ahead log beside it belong together.
//!
//! The write-ahead log begins anew once everything in it is in the file. From then on it only fits that file. If
//! another copy of the file is put beside it, the index looks whole and is not. Therefore each change gives the index a
//! random *session*. The first change after the write-ahead log began anew also notes the session of the file as its
//! *base*. A file fits if it is that base, or a later one.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::connection;
use super::paths::beside;

/// The session and base in an index's file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    session: Option<Vec<u8>>,
    base: Option<Vec<u8>>,
}

/// Writes the index's write-ahead log into its file. Returns whether all of it was written, so that the next change
/// begins a new one.
///
/// # Errors
/// SQLite's.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA idx.wal_checkpoint(PASSIVE)", [], |row| {
        let (busy, pages, written): (bool, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(!busy && pages == written)
    })
}

/// The stamp in the file itself; `None` if there is no write-ahead log beside it.
///
/// # Errors
/// SQLite's.
pub(super) fn stamp_of_file_alone(file: &Path) -> rusqlite::Result<Option<Stamp>> {
    let has_log = fs::metadata(beside(file, "-wal")).is_ok_and(|metadata| metadata.len() > 0);
    if !has_log {
        return Ok(None);
    }
    let alone = connection::open_alone(file)?;
    // If nothing was ever written back to the file, it has no table yet.
    Ok(Some(stamp(&alone, "SELECT session, base FROM progress").unwrap_or_default()))
}

/// Whether the index with its write-ahead log follows from the index in its file alone. One that was not begun yet has
/// nothing in it that could be wrong.
///
/// # Errors
/// SQLite's.
pub(super) fn follows(connection: &Connection, alone: &Stamp) -> rusqlite::Result<bool> {
    let whole = stamp(connection, "SELECT session, base FROM idx.progress").optional()?;
    Ok(whole.is_none_or(|whole| whole.base == alone.session || whole.base == alone.base && alone.session.is_some()))
}

fn stamp(connection: &Connection, select: &str) -> rusqlite::Result<Stamp> {
    connection.query_row(select, [], |row| Ok(Stamp { session: row.get(0)?, base: row.get(1)? }))
}
