//! What a member says.

use std::collections::BTreeMap;
use std::time::Duration;

use eventodb_protocol::group::Epoch;
use serde::Serialize;
use uuid::Uuid;

/// A member that joins.
#[derive(Clone, Debug, Serialize)]
pub struct Join {
    /// A label. A living member of the same label is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The id of this membership: a new one each time that the member joins.
    pub instance: Uuid,
}

/// A position in a partition, with the epoch under which the member has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Presented {
    /// The epoch.
    pub epoch: Epoch,
    /// The global position.
    pub position: i64,
}

/// A heartbeat, by itself or as a part of a read.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberCall {
    /// Up to where partitions are handled.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checkpoints: BTreeMap<u32, Presented>,
    /// Partitions under `revoking` that the member gives back.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub released: BTreeMap<u32, Epoch>,
    /// How long the reply may wait, in milliseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub wait_ms: u64,
}

/// A read.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadGroup {
    /// The heartbeat that comes with it.
    #[serde(flatten)]
    pub heartbeat: MemberCall,
    /// Most messages. Default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    /// Only of these partitions; of all that the member owns if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<u32>>,
    /// Only messages above these positions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub after: BTreeMap<u32, Presented>,
}

/// A message that failed. Its stream is parked from there on.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Park {
    /// Its partition.
    pub partition: u32,
    /// The epoch under which the member has it.
    pub epoch: Epoch,
    /// Its global position.
    pub position: i64,
    /// Which try it was; the one that was handed out last if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    /// What went wrong. The server keeps the first 4 KiB.
    pub reason: String,
    /// When it is to be tried again, in milliseconds; when an operator says so if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
}

/// Messages of a parked stream that were handled.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settle {
    /// The stream's partition.
    pub partition: u32,
    /// The epoch under which the member has it.
    pub epoch: Epoch,
    /// The stream.
    pub stream: String,
    /// The global position of the last message that was handled.
    pub position: i64,
    /// How far the member has read in the partition under this epoch; the checkpoint if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_to: Option<i64>,
    /// The stream's number that the member knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<i64>,
}

impl MemberCall {
    pub(super) fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
