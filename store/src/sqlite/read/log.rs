//! Walks along the log itself.

use eventodb_protocol::Direction;
use rusqlite::Row;

use super::super::checksum::column;
use super::super::failure::{ReadError, is_damage};
use super::{Walk, message};
use crate::model::{Rows, Slice};

impl Walk<'_> {
    /// The messages of a namespace that match the filter.
    pub(super) fn log(&self) -> Result<Slice, ReadError> {
        if self.select.filter.has_conditions()
            && let Some(slice) = self.every_category()?
        {
            return Ok(slice);
        }
        let (low, high) = self.bounds();
        let mut statement = self.connection.prepare_cached(match self.select.direction {
            Direction::Forward => include_str!("../sql/log_forward.sql"),
            Direction::Backward => include_str!("../sql/log_backward.sql"),
        })?;
        let mut found = statement.query([low, high, self.examined as i64])?;
        let mut rows = Rows::default();
        let (mut examined, mut last) = (0, None);
        loop {
            let row = match found.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(error) if is_damage(&error) => return self.ending_before(self.after(last), rows, last),
                Err(error) => return Err(error.into()),
            };
            let at: i64 = row.get(column::GLOBAL_POSITION)?;
            if let Some(missing) = self.left_out(last, at)? {
                return self.ending_before(missing, rows, last);
            }
            match self.take_row(row, &mut rows) {
                Ok(true) => {}
                Ok(false) => return self.ending_before(at, rows, last),
                Err(error) if is_damage(&error) => return self.ending_before(at, rows, last),
                Err(error) => return Err(error.into()),
            }
            examined += 1;
            last = Some(at);
            if self.is_full(&rows) || examined == self.examined {
                return Ok(Slice { rows, covered: at });
            }
        }
        match self.left_out_at_the_end(last)? {
            Some(missing) => self.ending_before(missing, rows, last),
            None => Ok(Slice { rows, covered: self.select.to }),
        }
    }

    /// Takes a row, if it is wanted. Returns whether it is as it was written.
    fn take_row(&self, row: &Row<'_>, rows: &mut Rows) -> rusqlite::Result<bool> {
        let Some(stored) = self.checker.read(row)? else { return Ok(false) };
        if self.select.filter.is_open() || self.select.filter.matches(stored.traits()?) {
            rows.push(message(&stored, stored.stream()?, self.select.columns)?);
        }
        Ok(true)
    }

    /// The position at which the next message should be.
    fn after(&self, last: Option<i64>) -> i64 {
        let (low, high) = self.bounds();
        match (self.is_forward(), last) {
            (true, None) => low.max(1),
            (true, Some(last)) => last.saturating_add(1),
            (false, None) => high,
            (false, Some(last)) => last - 1,
        }
    }

    /// A position between the last row and this one at which a message is missing.
    fn left_out(&self, last: Option<i64>, at: i64) -> rusqlite::Result<Option<i64>> {
        let expected = self.after(last);
        if at == expected {
            return Ok(None);
        }
        match self.is_forward() {
            // The rows are out of order.
            true if at < expected => Ok(Some(expected)),
            true => self.checker.missing(expected, at - 1),
            false if at > expected => Ok(Some(expected)),
            false => Ok(self.checker.missing(at.saturating_add(1), expected)?.map(|_| expected)),
        }
    }

    /// The same behind the last row.
    fn left_out_at_the_end(&self, last: Option<i64>) -> rusqlite::Result<Option<i64>> {
        let (low, high) = self.bounds();
        let expected = self.after(last);
        match self.is_forward() {
            true => self.checker.missing(expected, high),
            false => Ok(self.checker.missing(low.max(1), expected)?.map(|_| expected)),
        }
    }
}
