//! Attaching a database file on a disk that is full or read-only.
//!
//! Connections share memory in the file `-shm`, which SQLite makes or lengthens at the first opening. A full disk has
//! no room for it, and a read-only disk does not take it. The server that holds the data directory can do without,
//! because no other process writes there.

use std::path::Path;
use std::time::Duration;

use parking_lot::RwLock;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::paths::beside;

/// How long a file that could not be opened beside other processes stays open without them before that is tried again.
pub(super) const ALONE_FOR: Duration = Duration::from_secs(30);

/// The way in which a database file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    /// Beside other processes.
    Shared,
    /// By this process alone, whose connections share memory of its own. A backup finds it locked.
    Alone,
    /// For reading only, by this process alone.
    ReadOnly,
}

/// Held while a file is attached: alone where it is attached in another way than [`Access::Shared`]. SQLite shares the
/// memory of a file between the connections of a process from the moment at which the first one tries to open it. A
/// connection that came in another way meanwhile would get memory that lacks room, too.
static ATTACHING: RwLock<()> = RwLock::new(());

/// Attaches a file under a name, in the best way that is possible, and in none that is worse than `least`. Returns the
/// way. Other ways than [`Access::Shared`] are for a process beside which no other writes. A connection that only reads
/// does not see what others write; so if one connection to a file only reads, all must.
///
/// # Errors
/// SQLite's.
pub(super) fn attach(connection: &Connection, file: &Path, name: &str, least: Access) -> rusqlite::Result<Access> {
    let shared = ATTACHING.read();
    let attached = attach_as(connection, file, name, Access::Shared);
    drop(shared);
    let Err(error) = attached else {
        if !connection.is_readonly(name)? {
            return Ok(Access::Shared);
        }
        keep_write_ahead_log(connection)?;
        return Ok(Access::ReadOnly);
    };
    if least == Access::Shared || !lacks_something_beside(&error) {
        return Err(error);
    }
    let _alone = ATTACHING.write();
    let is_attached = attach_as(connection, file, name, Access::Alone).is_ok();
    if is_attached && !connection.is_readonly(name)? {
        return Ok(Access::Alone);
    }
    if is_attached {
        // Its locks need a file that can be written to.
        connection.execute(&format!("DETACH DATABASE {name}"), [])?;
    }
    if least != Access::ReadOnly {
        return Err(error);
    }
    keep_write_ahead_log(connection)?;
    attach_as(connection, file, name, Access::ReadOnly).map(|()| Access::ReadOnly).map_err(|_| error)
}

/// A connection that holds no lock must not take the write-ahead log away when it is closed.
fn keep_write_ahead_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

fn attach_as(connection: &Connection, file: &Path, name: &str, access: Access) -> rusqlite::Result<()> {
    let has_log = || beside(file, "-wal").exists();
    let file = match access {
        Access::Shared => file.to_string_lossy().into_owned(),
        Access::Alone => uri(file, "vfs=unix-excl"),
        // For reading only, also if it can be written to by now, because nothing may be written without locks.
        Access::ReadOnly if has_log() => {
            // Each connection has its own memory of the write-ahead log.
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            uri(file, "vfs=unix-none&mode=ro")
        }
        Access::ReadOnly => uri(file, "immutable=1&mode=ro"),
    };
    // The names are our own constants; the file is bound.
    connection.execute(&format!("ATTACH DATABASE ?1 AS {name}"), [file])?;
    // For the files that are attached after this one. This one keeps the mode, because its write-ahead log is open.
    connection.pragma_update(None, "locking_mode", "NORMAL")
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

/// A file's name with options, as a URI for SQLite.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Disk;

    #[test]
    fn what_is_attached_for_reading_is_not_written_to_although_it_could_be() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let file = directory.path().join("a.db");
        let writer = Connection::open(&file).expect("the folder is ours");
        writer.pragma_update(None, "journal_mode", "WAL").expect("it is new");
        writer
            .execute_batch("CREATE TABLE numbers (number INTEGER); INSERT INTO numbers VALUES (1)")
            .expect("it is new");
        let count = |reader: &Connection| {
            reader.query_row("SELECT count(*) FROM there.numbers", [], |row| row.get::<_, i64>(0))
        };
        for has_log in [true, false] {
            assert_eq!(beside(&file, "-wal").exists(), has_log);
            let reader = Connection::open_in_memory().expect("it needs nothing");
            keep_write_ahead_log(&reader).expect("it is open");
            attach_as(&reader, &file, "there", Access::ReadOnly).expect("it is there");
            assert_eq!(count(&reader), Ok(1));
            let refused = reader.execute("INSERT INTO there.numbers VALUES (2)", []);
            assert_eq!(refused.expect_err("it is read").sqlite_error_code(), Some(ErrorCode::ReadOnly));
            drop(reader);
            assert_eq!(beside(&file, "-wal").exists(), has_log, "it belongs to the writer");
            if has_log {
                // Without a write-ahead log the file holds everything.
                writer.pragma_update(None, "journal_mode", "DELETE").expect("nobody reads");
            }
        }
    }

    /// A database of one table, which the connection that made it keeps open.
    fn database(file: &Path) -> Connection {
        let writer = Connection::open(file).expect("the folder is ours");
        writer.pragma_update(None, "journal_mode", "WAL").expect("it is new");
        writer.execute_batch("CREATE TABLE numbers (number INTEGER)").expect("it is new");
        writer
    }

    #[test]
    fn a_file_beside_one_that_is_only_read_is_shared_by_its_readers() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let (log, index) = (directory.path().join("a.db"), directory.path().join("b.db"));
        let _writers = [database(&log), database(&index)];
        let readers = [(); 2].map(|()| {
            let reader = Connection::open_in_memory().expect("it needs nothing");
            attach_as(&reader, &log, "log", Access::ReadOnly).expect("it is there");
            assert_eq!(attach(&reader, &index, "idx", Access::ReadOnly), Ok(Access::Shared));
            reader
        });
        for reader in &readers {
            let count = reader.query_row("SELECT count(*) FROM idx.numbers", [], |row| row.get::<_, i64>(0));
            assert_eq!(count, Ok(0));
        }
    }

    #[test]
    fn connections_that_attach_a_file_at_once_on_a_full_disk_can_all_write() {
        let Some(disk) = Disk::mount(1024 * 1024) else { return };
        let file = disk.path().join("a.db");
        drop(database(&file));
        disk.fill();
        for _ in 0..200 {
            std::thread::scope(|scope| {
                let attached = [(); 4].map(|()| {
                    scope.spawn(|| {
                        let connection = Connection::open_in_memory().expect("it needs nothing");
                        let access = attach(&connection, &file, "there", Access::ReadOnly);
                        (connection, access)
                    })
                });
                let attached = attached.map(|one| one.join().expect("it does not panic"));
                for (_, access) in &attached {
                    assert!(matches!(access, Ok(Access::Shared | Access::Alone)), "{access:?}");
                }
            });
        }
    }
}
