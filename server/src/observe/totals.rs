//! What a server has done in all: for the last line of its log.

/// What a server has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that were taken.
    pub connections: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Requests that were answered with a status of 400 to 499.
    pub refused: u64,
    /// Requests that were answered with a status of 500 or more.
    pub failed: u64,
    /// Bytes that came.
    pub bytes_in: u64,
    /// Bytes that were sent.
    pub bytes_out: u64,
}
