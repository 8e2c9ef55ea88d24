//! The meaning of SQLite's errors: whether a call may succeed later, whether a file is damaged, and whether a change
//! may be on the disk.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::append::NotAppended;
use super::connection;
use crate::error::Error;
use crate::storage::AppendError;

/// Why a read failed.
#[derive(Debug)]
pub(super) enum ReadError {
    /// SQLite reported an error.
    Sqlite(rusqlite::Error),
    /// The message at this global position is not as it was written.
    Damaged(i64),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<rusqlite::types::FromSqlError> for ReadError {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Sqlite(error.into())
    }
}

/// Whether SQLite found bytes that it cannot have written.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => true,
        error => matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase)),
    }
}

/// A page that SQLite calls damaged is read again for this long before it counts as damaged. SQLite does not
/// distinguish a page that it could not read from one with wrong bytes.
const SUSPECTED_FOR: Duration = Duration::from_secs(1);

/// How often a message that seems to be damaged is read again, and the pause before each time.
pub(super) const READ_AGAIN: usize = 4;
pub(super) const READ_PAUSE: Duration = Duration::from_millis(125);

/// A file that seems to be damaged, and since when.
#[derive(Debug, Default)]
pub(super) struct Suspicion(Mutex<Option<Instant>>);

impl Suspicion {
    /// Whether the disk may only not have been readable for a moment.
    pub(super) fn may_pass(&self) -> bool {
        self.0.lock().get_or_insert_with(Instant::now).elapsed() < SUSPECTED_FOR
    }

    /// The page was read after all.
    pub(super) fn settled(&self) {
        *self.0.lock() = None;
    }
}

/// The error of a statement.
pub(super) fn fail(error: rusqlite::Error) -> Error {
    if is_passing(&error) { Error::unavailable(error) } else { Error::failed(error) }
}

/// The error of a change of the registry. If its write or sync failed, the change may be on the disk, and be there
/// after a crash until another change takes its place.
pub(super) fn change_failed(error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode::{OutOfMemory, SystemIoFailure};
    match error.sqlite_error_code() {
        Some(SystemIoFailure | OutOfMemory) => Error::Unknown(Arc::new(error)),
        _ => fail(error),
    }
}

/// Whether the same call may succeed later, because the fault lies with the disk, the memory or the file descriptors
/// and not with the files' content.
fn is_passing(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseBusy, OutOfMemory};
    is_of_the_disk(error) || matches!(error.sqlite_error_code(), Some(CannotOpen | DatabaseBusy | OutOfMemory))
}

/// The error of opening a file.
pub(super) fn open_failed(file: &Path, error: connection::Error) -> Error {
    match error {
        connection::Error::Sqlite(error) => fail(error),
        connection::Error::Create(error) => Error::unavailable(error),
        error => Error::failed(format!("{}: {error}", file.display())),
    }
}

/// Whether the disk is full, cannot be written to or fails.
pub(super) fn is_of_the_disk(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DiskFull, ReadOnly, SystemIoFailure};
    matches!(error.sqlite_error_code(), Some(DiskFull | ReadOnly | SystemIoFailure))
}

/// Whether the system fails, and not the content of a file. A file that was cut reads like a fault of the disk.
pub(super) fn is_for_now(error: &rusqlite::Error) -> bool {
    is_passing(error) && error.sqlite_error_code() != Some(rusqlite::ErrorCode::SystemIoFailure)
}

/// Whether a file could not be opened; SQLite does not say why.
pub(super) fn is_not_opened(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen)
}

/// Whether there was no descriptor left for a file, in the process or in the system.
pub(super) fn lacks_one(error: &std::io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// Whether a file is open for reading only.
pub(super) fn is_read_only(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ReadOnly)
}

/// The error of an append. The outcome is unknown if the commit's write or sync failed, or if its frames could not be
/// noted for want of memory.
pub(super) fn append_failed(error: NotAppended) -> AppendError {
    use rusqlite::ErrorCode::{OutOfMemory, SystemIoFailure};
    match error {
        NotAppended::Committing(error) if matches!(error.sqlite_error_code(), Some(SystemIoFailure | OutOfMemory)) => {
            AppendError::Unknown(Arc::new(error))
        }
        NotAppended::Before(error) | NotAppended::Committing(error) if is_passing(&error) => {
            AppendError::Unavailable(Arc::new(error))
        }
        // A page could not be read, which is not the fault of a row.
        NotAppended::Before(error) if is_damage(&error) => AppendError::Unavailable(Arc::new(error)),
        NotAppended::Committing(error) if is_damage(&error) => AppendError::Unknown(Arc::new(error)),
        NotAppended::Before(error) | NotAppended::Committing(error) => AppendError::Rejected(Arc::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi::{
        self, SQLITE_CANTOPEN, SQLITE_CONSTRAINT, SQLITE_CORRUPT, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_NOMEM,
        SQLITE_READONLY,
    };

    use super::*;

    fn error(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn what_the_system_lacks_at_the_moment_is_unavailable_and_certainly_not_written() {
        for code in [SQLITE_CANTOPEN, SQLITE_FULL, SQLITE_NOMEM, SQLITE_READONLY] {
            assert!(matches!(fail(error(code)), Error::Unavailable(_)), "{code}");
            let before = append_failed(NotAppended::Before(error(code)));
            assert!(matches!(before, AppendError::Unavailable(_)), "{code}: {before:?}");
        }
        let before = append_failed(NotAppended::Before(error(SQLITE_IOERR_FSYNC)));
        assert!(matches!(before, AppendError::Unavailable(_)), "{before:?}");
        assert!(matches!(append_failed(NotAppended::Before(error(SQLITE_CORRUPT))), AppendError::Unavailable(_)));
        assert!(matches!(append_failed(NotAppended::Before(error(SQLITE_CONSTRAINT))), AppendError::Rejected(_)));
    }

    #[test]
    fn a_commit_that_may_be_on_the_disk_is_unknown_until_it_is_settled() {
        for code in [SQLITE_IOERR_FSYNC, SQLITE_NOMEM] {
            let committing = append_failed(NotAppended::Committing(error(code)));
            assert!(matches!(committing, AppendError::Unknown(_)), "{code}: {committing:?}");
        }
        for code in [SQLITE_IOERR_FSYNC, SQLITE_NOMEM] {
            assert!(matches!(change_failed(error(code)), Error::Unknown(_)), "{code}");
        }
        assert!(matches!(change_failed(error(SQLITE_FULL)), Error::Unavailable(_)));
        let full = append_failed(NotAppended::Committing(error(SQLITE_FULL)));
        assert!(matches!(full, AppendError::Unavailable(_)), "{full:?}");
    }
}
