//! Where a log ends.

use eventodb_protocol::Timestamp;
use uuid::Uuid;

/// Where a log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Global position of the last message; 0 where there is none.
    pub position: i64,
    /// Number of the last batch; 0 where there is none.
    pub batch: i64,
    /// Its id, which tells it from what another history of the log has under its number; nil where there is none,
    /// and always where the backend is not shared.
    pub id: Uuid,
    /// Time of the last written message.
    pub time: Timestamp,
}

/// How a log's head stands to one that was known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// It is the known one, or follows it.
    Follows,
    /// The log ends before the known one, or has another batch in its place: it went back.
    Diverged,
    /// The known one is so old that its batch is forgotten; what was known may be wrong.
    Forgotten,
}
