//! Opens the configured backend.

use std::sync::Arc;

use eventodb_store::Backend;
use eventodb_store::postgres::{OpenError as PostgresError, Postgres};
use eventodb_store::sqlite::{OpenError as SqliteError, Sqlite};

use super::config::Storage;
use crate::usage::{Exit, Refused};

/// Opens the backend.
///
/// # Errors
/// Why it cannot be opened, and what to do.
pub(super) async fn open(storage: &Storage) -> Result<Arc<dyn Backend>, Refused> {
    match storage {
        Storage::Sqlite(location, settings) => {
            let opened = Sqlite::open(location.clone(), settings.clone());
            Ok(opened.map_err(|error| Refused::new(of_sqlite(&error), error))?)
        }
        Storage::Postgres(settings) => {
            let opened = Postgres::open((**settings).clone()).await;
            Ok(opened.map_err(|error| Refused::new(of_postgres(&error), error))?)
        }
    }
}

/// As on PostgreSQL, a store that needs a newer version is a wrong configuration: another start does not help.
fn of_sqlite(error: &SqliteError) -> Exit {
    match error {
        error if error.is_newer() => Exit::Usage,
        SqliteError::Directory(..) | SqliteError::Locked(_) | SqliteError::Foreign { .. } => Exit::CannotCreate,
        _ => Exit::Io,
    }
}

/// The exit code if the database cannot be used. A wrong configuration has another code than an unreachable database.
pub(crate) fn of_postgres(error: &PostgresError) -> Exit {
    use PostgresError::{Citus, MigrationNeeded, MissingDatabase, NewerSchema, NotUtf8, Privilege, TooOld};
    match error {
        PostgresError::Refused { .. } | MissingDatabase { .. } => Exit::Usage,
        TooOld(_) | NotUtf8(_) | Citus(_) | Privilege(_) | NewerSchema { .. } | MigrationNeeded(_) => Exit::Usage,
        _ => Exit::Unavailable,
    }
}
