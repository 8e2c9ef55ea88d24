//! Opening the backend that was asked for.

use std::sync::Arc;

use eventodb_store::Backend;
use eventodb_store::backend::postgres::Postgres;
use eventodb_store::backend::sqlite::Sqlite;

use super::config::Storage;
use crate::usage::Usage;

/// Opens it.
///
/// # Errors
/// In one line that says what to do.
pub(super) async fn open(storage: &Storage) -> Result<Arc<dyn Backend>, Usage> {
    match storage {
        Storage::Sqlite(location, settings) => {
            let backend = Sqlite::open(location.clone(), settings.clone()).map_err(Usage::new)?;
            Ok(backend)
        }
        Storage::Postgres(settings) => {
            let backend = Postgres::open((**settings).clone()).await.map_err(Usage::new)?;
            Ok(backend)
        }
    }
}
