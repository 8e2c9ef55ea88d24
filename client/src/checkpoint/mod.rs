//! Checkpoints: the position of a consumer, kept over restarts.

mod file;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod stream;

use std::error::Error as StdError;

use async_trait::async_trait;

#[cfg(feature = "postgres")]
pub use eventodb_pg::{Url as PostgresUrl, UrlError as PostgresUrlError};
pub use file::FileCheckpoint;
pub use memory::MemoryCheckpoint;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresHandler, PostgresReadModel};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteReadModel;
pub(crate) use stream::is_position_category;
pub use stream::{SavedPosition, StreamCheckpoint, position_stream, saved_positions};

/// Keeps one position.
///
/// # Contract
/// After `save(p)` has returned, `load` in any later process returns `p` or a position that was saved after it. If two
/// workers use the same checkpoint, the one that loaded later fails with [`CheckpointError::Taken`]: at once, at its
/// next `save`, or by [`CheckpointStore::taken`].
#[async_trait]
pub trait CheckpointStore: Send {
    /// The saved position: everything up to it was handled. None if nothing was saved yet.
    ///
    /// # Errors
    /// `Taken` if another worker is known to use this checkpoint, otherwise `Failed`.
    async fn load(&mut self) -> Result<Option<i64>, CheckpointError>;

    /// Saves that everything up to `position` was handled.
    ///
    /// # Errors
    /// `Taken` if another worker uses this checkpoint too, otherwise `Failed`.
    async fn save(&mut self, position: i64) -> Result<(), CheckpointError>;

    /// Waits until another worker is found to use this checkpoint too. It never returns if only `load` and `save` can
    /// find that out. The worker awaits it while there is nothing to handle, and may drop it at any moment.
    async fn taken(&mut self) -> CheckpointError {
        std::future::pending().await
    }
}

/// Why a checkpoint was not loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Another worker uses the same checkpoint. This worker must stop, because its name is taken.
    #[error("another worker uses this checkpoint: {0}")]
    Taken(String),
    /// The position could not be read or stored.
    #[error("checkpoint: {what}")]
    Failed {
        /// The step that failed.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl CheckpointError {
    /// [`CheckpointError::Failed`] at this step.
    pub fn failed(what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Failed { what: what.into(), source: source.into() }
    }
}

#[async_trait]
impl<S: CheckpointStore + ?Sized> CheckpointStore for Box<S> {
    async fn load(&mut self) -> Result<Option<i64>, CheckpointError> {
        (**self).load().await
    }

    async fn save(&mut self, position: i64) -> Result<(), CheckpointError> {
        (**self).save(position).await
    }

    async fn taken(&mut self) -> CheckpointError {
        (**self).taken().await
    }
}
