//! How a database file is attached where the disk has no room for what SQLite keeps beside it, or cannot be written to.
//!
//! Connections share memory in the file `-shm`, which SQLite makes or lengthens at the first opening. A full disk has
//! no room for it, a read-only one does not take it. The server that holds the data directory needs no such file:
//! nobody but its process writes there.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::paths::beside;

/// How long a file that could not be opened beside others stays so before that is tried again.
pub(super) const ALONE_FOR: Duration = Duration::from_secs(30);

/// How a database file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    /// Beside other processes.
    Shared,
    /// By this process alone, whose connections share memory of its own. A backup finds it locked.
    Alone,
    /// For reading only, by this process alone.
    ReadOnly,
}

/// Attaches a file under a name. Where `alone`, nobody else writes to it, and it is attached even if nothing can be
/// written beside it; what comes back says how.
///
/// # Errors
/// SQLite's.
pub(super) fn attach(connection: &Connection, file: &Path, name: &str, alone: bool) -> rusqlite::Result<Access> {
    let Err(error) = attach_as(connection, file, name, Access::Shared) else {
        return Ok(if connection.is_readonly(name)? { Access::ReadOnly } else { Access::Shared });
    };
    if !alone || !lacks_something_beside(&error) {
        return Err(error);
    }
    let is_writable = attach_as(connection, file, name, Access::Alone);
    if is_writable.is_ok() && !connection.is_readonly(name)? {
        return Ok(Access::Alone);
    }
    if is_writable.is_ok() {
        // Its locks need a file that can be written to.
        connection.execute(&format!("DETACH DATABASE {name}"), [])?;
    }
    attach_as(connection, file, name, Access::ReadOnly).map(|()| Access::ReadOnly).map_err(|_| error)
}

fn attach_as(connection: &Connection, file: &Path, name: &str, access: Access) -> rusqlite::Result<()> {
    let has_log = || beside(file, "-wal").exists();
    let file = match access {
        Access::Shared => file.to_string_lossy().into_owned(),
        Access::Alone => uri(file, "vfs=unix-excl"),
        Access::ReadOnly if has_log() => {
            // Without locks each connection may keep what it knows of the write-ahead log to itself.
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            uri(file, "vfs=unix-none")
        }
        Access::ReadOnly => uri(file, "immutable=1"),
    };
    // The names are our own constants; the file is bound.
    connection.execute(&format!("ATTACH DATABASE ?1 AS {name}"), [file]).map(drop)
}

/// Whether the file beside a database cannot be made, lengthened, mapped or written to.
fn lacks_something_beside(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(failure, _) = error else { return false };
    match failure.code {
        ErrorCode::CannotOpen | ErrorCode::DiskFull | ErrorCode::ReadOnly => true,
        ErrorCode::SystemIoFailure => {
            let beside = [
                ffi::SQLITE_IOERR_SHMOPEN,
                ffi::SQLITE_IOERR_SHMSIZE,
                ffi::SQLITE_IOERR_SHMMAP,
                ffi::SQLITE_IOERR_WRITE,
                // A file that is open for reading only cannot be locked for this process alone.
                ffi::SQLITE_IOERR_LOCK,
            ];
            beside.contains(&failure.extended_code)
        }
        _ => false,
    }
}

/// A connection that reads a file alone, without the write-ahead log beside it.
///
/// # Errors
/// SQLite's.
pub(super) fn open_immutable(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri(file, "immutable=1"), flags)
}

/// A file's name as SQLite takes it with options.
fn uri(file: &Path, options: &str) -> String {
    let escaped: String = file
        .to_string_lossy()
        .bytes()
        .map(|byte| match byte {
            b'/' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    format!("file:{escaped}?{options}")
}
