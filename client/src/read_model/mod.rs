//! Read models of workers on groups: tables in a database of one's own that each message changes exactly once.
//!
//! The transaction that changes the tables for a message also stores the message's position, by group and **stream**, and
//! changes nothing if the position stored there is not below. That is exact over restarts, moves of partitions, resizes and
//! retries of parked streams. A position for each partition would not be: a resize renumbers the partitions, and a retry
//! lies below the checkpoint.
//!
//! A reset of the group would be passed over, because the positions are there still. So [`rebuild`] empties the tables and
//! the positions and resets the group. A worker that does not know of it yet acts under an older epoch, and is refused.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use async_trait::async_trait;
use eventodb_protocol::group::Epoch;

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

    /// Empties the tables and forgets all positions of the group. From then on only epochs from `least` on are accepted.
    ///
    /// # Errors
    /// Those of the projection and of the database. Nothing was changed.
    async fn clear(&self, least: Epoch) -> Result<(), HandlerError>;
}

/// The tables were emptied to be built anew, and the message is handed out again.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the read model is built anew")]
pub struct Rebuilt;

/// Why a read model is not built anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The server refuses a call. If the group was paused already, it still is: the rebuild may be called again.
    #[error("cannot reset the group")]
    Group(#[source] Error),
    /// The tables cannot be emptied. The group is at its beginning and paused, and must stay so until a rebuild succeeds:
    /// what is in the tables would be passed over.
    #[error("cannot empty the tables")]
    Tables(#[source] HandlerError),
}

/// Builds a read model anew: pauses the group, resets it to the beginning, empties the tables, and resumes the group. Workers
/// may run meanwhile. The token needs the rights `admin` and `read`.
///
/// # Errors
/// See [`RebuildError`]. Whatever the error is, the rebuild may be repeated.
pub async fn rebuild(client: &Client, group: &str, model: &impl ReadModel) -> Result<(), RebuildError> {
    let group = client.group(group);
    group.pause().await.map_err(RebuildError::Group)?;
    let reset = ResetGroup { to: ResetTo::Beginning, partitions: None, dry_run: false };
    group.reset(&reset).await.map_err(RebuildError::Group)?;
    let status = group.status().await.map_err(RebuildError::Group)?;
    // Epochs grow: all from before the reset are lower.
    let least = status.partitions.iter().map(|partition| partition.epoch).min();
    model.clear(least.unwrap_or(Epoch::from_number(0))).await.map_err(RebuildError::Tables)?;
    group.resume().await.map_err(RebuildError::Group)?;
    Ok(())
}
