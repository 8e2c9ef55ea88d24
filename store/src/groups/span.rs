//! What a decision asks of the log.

use std::sync::Arc;

/// A question about one stream: which messages that the group reads lie in it above one position and at or below
/// another? The answer is their positions, ascending, `limit` at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The stream.
    pub stream: Arc<str>,
    /// Only messages above this position.
    pub above: i64,
    /// Only messages at or below this position.
    pub upto: i64,
    /// How many positions are wanted.
    pub limit: usize,
}
