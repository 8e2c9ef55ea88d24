//! The group's half of an atomic append.

use eventodb_protocol::group::Epoch;
use serde::Serialize;

/// What happens to a group in the same commit as an append, or not at all. If it is refused, nothing is written: the
/// error is [`Fenced`](crate::Error::Fenced).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Commit {
    /// The partition is handled up to a position.
    #[serde(rename_all = "camelCase")]
    Checkpoint {
        /// The group.
        group: String,
        /// Which partition.
        partition: u32,
        /// The epoch under which the member has it.
        epoch: Epoch,
        /// The global position.
        position: i64,
    },
    /// A retry was handled.
    #[serde(rename_all = "camelCase")]
    Handled {
        /// The group.
        group: String,
        /// Which partition.
        partition: u32,
        /// The epoch under which the member has it.
        epoch: Epoch,
        /// The parked stream.
        stream: String,
        /// The global position of the message.
        position: i64,
        /// How far the member has read in the partition.
        read_to: i64,
    },
    /// Only the epoch is checked.
    #[serde(rename_all = "camelCase")]
    Fence {
        /// The group.
        group: String,
        /// Which partition.
        partition: u32,
        /// The epoch that is to be its current one.
        epoch: Epoch,
    },
}
