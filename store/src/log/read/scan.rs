//! Looking through a log for messages, without making a page of them.

use std::ops::ControlFlow;
use std::sync::Arc;

use eventodb_protocol::message::MessageRef;
use eventodb_protocol::{Direction, Filter};

use super::Reader;
use crate::error::{Error, Result};
use crate::model::{Axis, Columns, Select};

/// The rows of a slice here, in those of a slice of a page. Nobody waits for the first of them, and each slice costs two
/// changes of threads.
const SLICES: usize = 4;

/// What is looked for, in ascending global positions.
#[derive(Clone, Debug)]
pub(in crate::log) struct Scan {
    pub(in crate::log) filter: Arc<Filter>,
    /// Only messages above this global position.
    pub(in crate::log) above: i64,
    /// Only messages at or below this one, which this server shows.
    pub(in crate::log) upto: i64,
    pub(in crate::log) columns: Columns,
    /// How many messages are expected: no slice has more, nor fewer for want of room.
    pub(in crate::log) rows: usize,
}

/// How far a scan came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) struct Scanned {
    /// Every match up to here was offered.
    pub(in crate::log) covered: i64,
    /// The damaged message before which it ended.
    pub(in crate::log) damaged: Option<i64>,
}

/// What a scan that ends before no damaged message comes upon.
#[derive(Clone, Copy, Debug)]
pub(in crate::log) enum Met<'a> {
    /// A message that matches.
    Message(MessageRef<'a>),
    /// A message that cannot be read and may match.
    Damaged(i64),
}

impl Reader {
    /// Offers messages in order, until one is the last that is wanted.
    ///
    /// # Errors
    /// As [`super::super::Log::read`], except that a damaged message ends the scan.
    pub(in crate::log) async fn scan(
        &self,
        scan: &Scan,
        mut offer: impl FnMut(MessageRef<'_>) -> ControlFlow<()> + Send,
    ) -> Result<Scanned> {
        let mut covered = scan.above;
        while covered < scan.upto {
            self.base.window.open_or_closed()?;
            let select = self.select_of(scan, covered);
            let mut last = None;
            let mut each = |message: MessageRef<'_>| {
                last = Some(message.global_position);
                offer(message)
            };
            let (end, flow) = match self.base.recent(&select) {
                Some(found) => {
                    (found.covered, found.entries.iter().try_for_each(|entry| each(entry.message().as_ref())))
                }
                None => {
                    self.base.pauses.at("before a slice of a scan").await;
                    let turn = self.base.call_reads().await?;
                    let read = self.base.stored(&select).await;
                    drop(turn);
                    match read {
                        Ok(slice) => (slice.covered, slice.rows.iter().try_for_each(each)),
                        Err(Error::Damaged(at)) => return Ok(Scanned { covered, damaged: Some(at) }),
                        Err(error) => return Err(error),
                    }
                }
            };
            match (flow, last) {
                (ControlFlow::Break(()), Some(last)) => return Ok(Scanned { covered: last, damaged: None }),
                _ => covered = end,
            }
        }
        Ok(Scanned { covered: covered.max(scan.upto), damaged: None })
    }

    /// As [`Self::scan`], but a damaged message is offered by its position, and the scan goes on behind it.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub(in crate::log) async fn scan_all(
        &self,
        scan: &Scan,
        mut offer: impl FnMut(Met<'_>) -> ControlFlow<()> + Send,
    ) -> Result<()> {
        let mut scan = scan.clone();
        while let Some(damaged) = self.scan(&scan, |message| offer(Met::Message(message))).await?.damaged {
            if offer(Met::Damaged(damaged)).is_break() {
                break;
            }
            scan.above = damaged;
        }
        Ok(())
    }

    fn select_of(&self, scan: &Scan, covered: i64) -> Select {
        Select {
            filter: Arc::clone(&scan.filter),
            axis: Axis::Global,
            from: covered.saturating_add(1),
            to: scan.upto,
            head: scan.upto,
            direction: Direction::Forward,
            rows: scan.rows.clamp(1, self.base.settings.slice_rows.saturating_mul(SLICES).max(1)),
            bytes: self.base.settings.slice_bytes,
            columns: scan.columns,
        }
    }

    /// The last message below a global position that matches, by its own global position.
    ///
    /// # Errors
    /// As [`super::super::Log::read`].
    pub(in crate::log) async fn last_below(&self, filter: &Arc<Filter>, position: i64) -> Result<Option<i64>> {
        let mut from = position - 1;
        while from > 0 {
            let select = Select {
                filter: Arc::clone(filter),
                axis: Axis::Global,
                from,
                to: 0,
                head: from,
                direction: Direction::Backward,
                rows: 1,
                bytes: self.base.settings.slice_bytes,
                columns: Columns::Positions,
            };
            let _turn = self.base.call_reads().await?;
            let slice = self.base.stored(&select).await?;
            if let Some(found) = slice.rows.last() {
                return Ok(Some(found.global_position));
            }
            if slice.covered <= 0 {
                break;
            }
            from = slice.covered - 1;
        }
        Ok(None)
    }

    /// Waits until this server shows everything up to a head that the database has told.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Unavailable`].
    pub(in crate::log) async fn show(&self, head: i64) -> Result<()> {
        self.follow_to(head).await
    }
}
