//! Where a log ends.

use eventodb_protocol::Timestamp;
use uuid::Uuid;

/// The end of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Global position of the last message; 0 if there is none.
    pub position: i64,
    /// Number of the last batch; 0 if there is none.
    pub batch: i64,
    /// Id of the last batch. After a failover another batch may have the same number; the id tells them apart. Nil if
    /// there is no batch, and always if the backend is not shared.
    pub id: Uuid,
    /// Time of the last written message.
    pub time: Timestamp,
}

/// How a log's head stands to one that was known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// It is the known head, or follows it.
    Follows,
    /// The log went back: it ends before the known head, or has another batch in its place.
    Diverged,
    /// The known head is so old that its batch was pruned. It cannot be told whether the log went back.
    Forgotten,
}
