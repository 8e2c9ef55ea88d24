//! How a page is planned: from where to where, out of the tail or the storage, and up to where it
//! is complete.

use std::collections::VecDeque;
use std::sync::Arc;

use eventodb_protocol::Direction;
use eventodb_protocol::request::Read;
use tokio::time::Instant;

use super::Log;
use super::page::{Chunk, Page};
use crate::error::{Error, Result};
use crate::model::{Axis, Columns, Select};

impl Log {
    /// Reads one page; waits for a first message as long as the request says. A page ends before a damaged message.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Closed`], [`crate::Error::Failed`]; [`crate::Error::Damaged`]
    /// where a damaged message is the first one.
    pub async fn read(self: &Arc<Self>, read: Read) -> Result<Page> {
        self.read_within(read, |_| true).await
    }

    /// The same within bounds of memory: before the page keeps a piece of what it gathers, `room` is asked whether it may,
    /// with the bytes of text that it keeps then in all. A page whose reply begins before it is whole keeps no more.
    ///
    /// # Errors
    /// As [`Self::read`], and [`crate::Error::NoRoom`].
    pub async fn read_within(self: &Arc<Self>, read: Read, mut room: impl FnMut(usize) -> bool + Send) -> Result<Page> {
        if read.wait.is_zero() || read.limit == 0 {
            return self.read_now(&read, &mut room).await;
        }
        let deadline = Instant::now() + read.wait;
        // Registered before looking, so that nothing is missed in between.
        let waiter = self.topics.register(&read.filter.scope, || self.head());
        loop {
            let page = self.read_now(&read, &mut room).await?;
            if !page.is_empty() {
                return Ok(page);
            }
            tokio::select! {
                () = waiter.woken() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(page),
                () = self.closed.cancelled() => return Err(Error::Closed),
            }
        }
    }

    async fn read_now(self: &Arc<Self>, read: &Read, room: &mut (impl FnMut(usize) -> bool + Send)) -> Result<Page> {
        let head = self.confirm_head().await?;
        let Some(mut walk) = Walk::new(self.clone(), read, head) else {
            return Ok(Page::empty(complete_without_reading(read, head)));
        };
        let mut chunks = VecDeque::new();
        let mut bytes = 0;
        let mut last = None;
        while bytes < self.settings.page_bytes {
            let chunk = match walk.next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(Error::Damaged(_)) if !chunks.is_empty() => {
                    walk.cut_here();
                    break;
                }
                Err(error) => return Err(error),
            };
            bytes += chunk.bytes();
            if !room(bytes) {
                return Err(Error::NoRoom);
            }
            last = chunk.iter().last().map(|message| message.global_position).or(last);
            chunks.push_back(chunk);
        }
        if read.direction == Direction::Backward {
            return Ok(Page::new(chunks, walk, None));
        }
        if !walk.is_done() {
            // The reply begins before the page is whole, so its end is looked for first.
            last = walk.find_end().await?.or(last);
        }
        let complete = if walk.is_cut() { last.unwrap_or(head) } else { complete_at_the_end(read, head) };
        Ok(Page::new(chunks, walk, Some(complete)))
    }
}

/// Up to where an answer is complete that was not cut by its size.
fn complete_at_the_end(read: &Read, head: i64) -> i64 {
    match read.until {
        Some(until) if !read.by_stream_position => head.min(until.max(0)),
        _ => head,
    }
}

/// Up to where an answer is complete for which nothing was looked at.
fn complete_without_reading(read: &Read, head: i64) -> Option<i64> {
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
    log: Arc<Log>,
    select: Select,
    /// Messages that the page may still have.
    left: usize,
    done: bool,
    cut: bool,
}

impl Walk {
    /// `None` where nothing can match.
    fn new(log: Arc<Log>, read: &Read, head: i64) -> Option<Self> {
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
            bytes: log.settings.slice_bytes,
            columns: Columns::All,
        };
        Some(Self { log, select, left: read.limit, done: false, cut: false })
    }

    /// Ends the page here, although more may come.
    fn cut_here(&mut self) {
        (self.cut, self.done) = (true, true);
    }

    /// Whether the page ended because it was full, or a damaged message comes next.
    fn is_cut(&self) -> bool {
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
        if self.log.is_closed() {
            return Err(Error::Closed);
        }
        // The tail costs nothing per row; the storage is asked for a slice.
        self.select.rows = self.left;
        let recent = self.log.tail.read().read(&self.select);
        let (chunk, covered) = match recent {
            Some(found) => (Chunk::Recent(found.entries), found.covered),
            None => {
                self.select.rows = self.left.min(self.log.settings.slice_rows);
                self.log.pauses.at("before a slice").await;
                let slice = self.log.storage.read(&self.select).await?;
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
    async fn find_end(&mut self) -> Result<Option<i64>> {
        let mut ahead = self.clone();
        ahead.select.columns = Columns::Positions;
        let (mut last, mut last_at) = (None, None);
        while !ahead.done {
            ahead.select.rows = ahead.left;
            let slice = match self.log.storage.read(&ahead.select).await {
                Ok(slice) => slice,
                Err(Error::Damaged(_)) => {
                    ahead.cut_here();
                    break;
                }
                Err(error) => return Err(error),
            };
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
