//! Along the index entries of one stream.

use eventodb_protocol::Direction;
use rusqlite::{OptionalExtension as _, params};

use super::super::failure::ReadError;
use super::super::memtable::StreamEntry;
use super::Walk;
use super::steps::{Runs, Step, Steps};
use crate::model::{Axis, Rows, Slice};

impl Walk<'_> {
    /// In the index, and then in the memtable.
    pub(super) fn stream(&self, stream: &str) -> Result<Slice, ReadError> {
        if !self.select.filter.group.is_none_or(|group| group.owns(stream)) {
            return Ok(Slice { rows: Rows::default(), covered: self.select.to });
        }
        let (floor, recent) = {
            // The memtable first: see there.
            let memtable = self.memtable.read();
            let recent = memtable.stream(stream).map_or_else(Steps::new, |entries| {
                let entries = self.within(entries, |entry| self.at(entry.position, entry.global_position));
                let entries = entries.filter(|entry| self.wanted.admits_kind(entry.kind));
                self.first_of(entries.map(|entry| Step {
                    at: self.at(entry.position, entry.global_position),
                    global_position: entry.global_position,
                }))
            });
            (memtable.floor(), recent)
        };
        let id: Option<i64> = self
            .connection
            .prepare_cached(include_str!("../sql/stream_id.sql"))?
            .query_row([stream], |row| row.get(0))
            .optional()?;
        let indexed = match id {
            Some(id) => self.indexed_stream(id, floor)?,
            None => Steps::new(),
        };
        self.join(indexed, recent)
    }

    fn indexed_stream(&self, id: i64, floor: i64) -> rusqlite::Result<Steps> {
        let start = match self.select.axis {
            Axis::Stream => self.start(),
            Axis::Global => self.position_from(id, self.start())?,
        };
        let mut statement = self.connection.prepare_cached(match self.select.direction {
            Direction::Forward => include_str!("../sql/stream_forward.sql"),
            Direction::Backward => include_str!("../sql/stream_backward.sql"),
        })?;
        let runs = Runs { id, rows: statement.query(params![id, start])?, floor, bounds: self.bounds() };
        self.gather(runs, |StreamEntry { position, global_position, kind }| {
            (Step { at: self.at(position, global_position), global_position }, self.wanted.admits_kind(kind))
        })
    }

    /// A position of a stream from which the first run has the messages at or above a global position: positions
    /// and global positions of a stream ascend together, so it is found by halving.
    fn position_from(&self, id: i64, global_position: i64) -> rusqlite::Result<i64> {
        let mut at_or_after = self.connection.prepare_cached(include_str!("../sql/stream_seek.sql"))?;
        let last: Option<i64> = self
            .connection
            .prepare_cached(include_str!("../sql/stream_end.sql"))?
            .query_row([id], |row| row.get(0))
            .optional()?;
        let (mut low, mut high) = (0, last.map_or(0, |last| last.saturating_add(1)));
        while low < high {
            let middle = low + (high - low) / 2;
            let (position, there): (i64, i64) =
                at_or_after.query_row(params![id, middle], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if there < global_position {
                low = position.saturating_add(1);
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn at(&self, position: i64, global_position: i64) -> i64 {
        match self.select.axis {
            Axis::Stream => position,
            Axis::Global => global_position,
        }
    }
}
