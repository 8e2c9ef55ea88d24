//! A request for some messages of a log, and the slice that answers it.

use std::sync::Arc;

use eventodb_protocol::{Direction, Filter};

use super::Rows;

/// A request for one slice of a log's messages.
#[derive(Clone, Debug)]
pub struct Select {
    /// The filter that they match.
    pub filter: Arc<Filter>,
    /// Whether `from` and `to` are positions in the stream or global ones.
    pub axis: Axis,
    /// The first position looked at, inclusive.
    pub from: i64,
    /// The last position looked at, inclusive: at or above `from` forward, at or below it backward.
    pub to: i64,
    /// The slice has no message above this global position.
    pub head: i64,
    /// Ascending or descending.
    pub direction: Direction,
    /// The slice has at most this many messages.
    pub rows: usize,
    /// The slice ends with the first message that brings its text to this many bytes.
    pub bytes: usize,
    /// The parts of each message that are read.
    pub columns: Columns,
}

/// Whether positions are counted in a stream or in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Positions in the stream; only where the scope is a stream.
    Stream,
    /// Global positions.
    Global,
}

/// The parts of each message that a slice has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// All of them.
    All,
    /// Stream, type and positions; the rest may be empty.
    Positions,
}

/// Messages that follow each other among those that match.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The messages, in the order asked for.
    pub rows: Rows,
    /// Every match from `Select::from` up to this position, both inclusive, is in `rows`. It is `Select::to` once
    /// all is read. Each slice moves it on, whether anything matches or not, so that a walk always ends.
    pub covered: i64,
}
