//! The walk over a page: from where to where it reads, slice by slice, from memory or from the storage, and up to where
//! the page is complete.

use std::sync::Arc;

use eventodb_protocol::Direction;
use eventodb_protocol::request::Read;

use super::Reader;
use super::page::Chunk;
use crate::error::{Error, Result};
use crate::model::{Axis, Columns, Select};

/// Up to where an answer is complete that was not cut by its size.
pub(super) fn complete_at_the_end(read: &Read, head: i64) -> i64 {
    match read.until {
        Some(until) if !read.by_stream_position => head.min(until.max(0)),
        _ => head,
    }
}

/// Up to where an answer is complete for which nothing was looked at.
pub(super) fn complete_without_reading(read: &Read, head: i64) -> Option<i64> {
    let complete = complete_at_the_end(read, head);
    match read.direction {
        Direction::Backward => None,
        Direction::Forward if read.limit > 0 => Some(complete),
        // An empty page says nothing about what lies from its start on.
        Direction::Forward if read.by_stream_position => Some(0),
        Direction::Forward => Some(complete.min(read.from.unwrap_or(0).saturating_sub(1).max(0))),
    }
}

/// A walk over a page's messages, slice by slice.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    reader: Arc<Reader>,
    select: Select,
    /// How many more messages the page may have.
    left: usize,
    done: bool,
    cut: bool,
}

impl Walk {
    /// `None` where nothing can match.
    pub(super) fn new(reader: Arc<Reader>, read: &Read, head: i64) -> Option<Self> {
        let axis = if read.by_stream_position { Axis::Stream } else { Axis::Global };
        let end = if axis == Axis::Global { head } else { i64::MAX };
        let highest = read.until.unwrap_or(end).min(end);
        let (from, to) = match read.direction {
            Direction::Forward => (read.from.unwrap_or(0).max(0), highest),
            Direction::Backward => (read.from.unwrap_or(end).min(highest), 0),
        };
        let is_empty = match read.direction {
            Direction::Forward => from > to,
            Direction::Backward => from < to,
        };
        if is_empty || head == 0 || read.limit == 0 || read.filter.scope.is_nothing() {
            return None;
        }
        let select = Select {
            filter: Arc::new(read.filter.clone()),
            axis,
            from,
            to,
            head,
            direction: read.direction,
            rows: 0,
            bytes: reader.base.settings.slice_bytes,
            columns: Columns::All,
        };
        Some(Self { reader, select, left: read.limit, done: false, cut: false })
    }

    /// Ends the page here, although more messages may follow.
    pub(super) fn cut_here(&mut self) {
        (self.cut, self.done) = (true, true);
    }

    /// Whether the page ended because it was full, or a damaged message comes next.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether the page ends here.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The next messages, or `None` at the page's end.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>> {
        while !self.done {
            let chunk = self.slice().await?;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    async fn slice(&mut self) -> Result<Chunk> {
        if self.reader.base.window.is_closed() {
            return Err(Error::Closed);
        }
        // In memory a slice may be as long as the page; a query of the storage has its own bound.
        self.select.rows = self.left;
        let recent = self.reader.base.recent(&self.select);
        let (chunk, covered) = match recent {
            Some(found) => (Chunk::Recent(found.entries), found.covered),
            None => {
                self.select.rows = self.left.min(self.reader.base.settings.slice_rows);
                self.reader.base.pauses.at("before a slice").await;
                let _turn = self.reader.base.call_reads().await?;
                let slice = self.reader.base.stored(&self.select).await?;
                (Chunk::Stored(slice.rows), slice.covered)
            }
        };
        self.left -= chunk.len();
        self.cut = self.left == 0;
        self.done = self.cut || covered == self.select.to;
        self.select.from = match self.select.direction {
            Direction::Forward => covered.saturating_add(1),
            Direction::Backward => covered - 1,
        };
        Ok(chunk)
    }

    /// Looks for the page's last message without reading texts, and ends the walk there. Its global
    /// position comes back, if there is one after what was walked.
    pub(super) async fn find_end(&mut self) -> Result<Option<i64>> {
        let mut ahead = self.clone();
        ahead.select.columns = Columns::Positions;
        let (mut last, mut last_at) = (None, None);
        while !ahead.done {
            ahead.select.rows = ahead.left;
            let turn = self.reader.base.call_reads().await?;
            let slice = match self.reader.base.stored(&ahead.select).await {
                Ok(slice) => slice,
                Err(Error::Damaged(_)) => {
                    ahead.cut_here();
                    break;
                }
                Err(error) => return Err(error),
            };
            drop(turn);
            if let Some(message) = slice.rows.last() {
                last = Some(message.global_position);
                last_at =
                    Some(if ahead.select.axis == Axis::Stream { message.position } else { message.global_position });
            }
            ahead.left -= slice.rows.len();
            ahead.cut = ahead.left == 0;
            ahead.done = ahead.cut || slice.covered == ahead.select.to;
            ahead.select.from = slice.covered.saturating_add(1);
        }
        self.cut = ahead.cut;
        match last_at {
            Some(at) => self.select.to = at,
            None => self.done = true,
        }
        Ok(last)
    }
}
