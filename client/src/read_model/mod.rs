//! Read models of workers on groups: tables in a database of one's own that each message changes exactly once.
//!
//! The transaction that changes the tables for a message also stores the message's position, by group and **stream**, and
//! changes nothing if the position stored there is not below. That is exact over restarts, moves of partitions, resizes and
//! retries of parked streams. A position for each partition would not be: a resize renumbers the partitions, and a retry
//! lies below the checkpoint.
//!
//! A reset of the group would be passed over, because the positions are there still. So [`rebuild`] empties the tables and
//! the positions and resets the group. From before the reset until the tables are empty, every message is refused: otherwise a
//! worker could handle one that comes again, and its effect would go with the rest. A worker that does not know of the reset
//! yet acts under an older epoch, and is refused also later. Of two rebuilds at once the one that began last empties the tables.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use async_trait::async_trait;
use eventodb_protocol::group::Epoch;
use uuid::Uuid;

#[cfg(feature = "postgres")]
pub use postgres::{PostgresProjection, PostgresTables};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteProjection, SqliteTables};

use crate::client::Client;
use crate::error::Error;
use crate::group::{ResetGroup, ResetTo};
use crate::message::Message;
use crate::worker::HandlerError;

/// Tables that are kept up to date by the messages of one group.
///
/// # Contract
/// All effects of a message and its position are durable together or not at all.
#[async_trait]
pub trait ReadModel: Send + Sync + 'static {
    /// Handles a message of the group, under the epoch of its partition. It changes nothing if the message was handled before.
    ///
    /// # Errors
    /// Those of the projection and of the database, and [`Rebuilt`]. Nothing was changed, or the connection was lost while
    /// the transaction was committed: then the next try finds out.
    async fn handle(&self, epoch: Epoch, message: &Message) -> Result<(), HandlerError>;

    /// Begins a rebuild, and takes over from one that has begun before. Until its end every message is refused by [`Rebuilt`].
    ///
    /// # Errors
    /// Those of the database.
    async fn begin_rebuild(&self, rebuild: Uuid) -> Result<(), HandlerError>;

    /// Empties the tables and forgets all positions of the group, which ends the rebuild. From then on only epochs from
    /// `least` on are accepted. Returns `false`, and changes nothing, if another rebuild has taken over.
    ///
    /// # Errors
    /// Those of the projection and of the database. Nothing was changed.
    async fn clear(&self, rebuild: Uuid, least: Epoch) -> Result<bool, HandlerError>;
}

/// The tables are emptied to be built anew, and the message is handed out again.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the read model is built anew")]
pub struct Rebuilt;

/// Why a read model is not built anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The server refuses a call. If the group was paused already, it still is, and must stay so until a rebuild succeeds: the
    /// tables may refuse every message.
    #[error("cannot reset the group")]
    Group(#[source] Error),
    /// The tables cannot be emptied. The same holds for the group.
    #[error("cannot empty the tables")]
    Tables(#[source] HandlerError),
    /// Another rebuild of the same tables has begun since, and goes on.
    #[error("another rebuild has taken over")]
    TakenOver,
}

/// Builds a read model anew: pauses the group, resets it to the beginning, empties the tables, and resumes the group. Workers
/// may run meanwhile. The token needs the rights `admin` and `read`.
///
/// # Errors
/// See [`RebuildError`]. Whatever the error is, the rebuild may be repeated.
pub async fn rebuild(client: &Client, group: &str, model: &impl ReadModel) -> Result<(), RebuildError> {
    let (group, rebuild) = (client.group(group), Uuid::new_v4());
    group.pause().await.map_err(RebuildError::Group)?;
    model.begin_rebuild(rebuild).await.map_err(RebuildError::Tables)?;
    let reset = ResetGroup { to: ResetTo::Beginning, partitions: None, dry_run: false };
    group.reset(&reset).await.map_err(RebuildError::Group)?;
    let status = group.status().await.map_err(RebuildError::Group)?;
    // Epochs grow: all from before the reset are lower.
    let least = status.partitions.iter().map(|partition| partition.epoch).min();
    let least = least.unwrap_or(Epoch::from_number(0));
    if !model.clear(rebuild, least).await.map_err(RebuildError::Tables)? {
        return Err(RebuildError::TakenOver);
    }
    group.resume().await.map_err(RebuildError::Group)?;
    Ok(())
}
