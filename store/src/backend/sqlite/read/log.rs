//! Along the log itself.

use eventodb_schema::Direction;
use rusqlite::params;

use super::{Walk, column, message};
use crate::backend::{Columns, Rows, Slice};

impl Walk<'_> {
    /// Every message of a namespace, or those that the filter wants of them.
    pub(super) fn log(&self) -> rusqlite::Result<Slice> {
        if self.wanted.needs_row() {
            return match self.every_category()? {
                Some(slice) => Ok(slice),
                None => self.sifted_log(),
            };
        }
        let (low, high) = self.bounds();
        let sql = match (self.select.direction, self.select.columns) {
            (Direction::Forward, Columns::All) => include_str!("../sql/log_forward.sql"),
            (Direction::Forward, Columns::Places) => include_str!("../sql/log_places.sql"),
            (Direction::Backward, _) => include_str!("../sql/log_backward.sql"),
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query(params![low, high, self.examined as i64])?;
        let mut rows = Rows::default();
        let (mut examined, mut last) = (0, None);
        while let Some(row) = found.next()? {
            examined += 1;
            let global_position = row.get(column::GLOBAL_POSITION)?;
            last = Some(global_position);
            let stream = row.get_ref(column::STREAM)?.as_str()?;
            let owned = self.select.filter.group.is_none_or(|group| group.owns(stream));
            if owned {
                rows.push(message(row, self.select.columns)?);
            }
            if self.is_full(&rows) {
                return Ok(Slice { rows, covered: global_position });
            }
        }
        let covered = last.filter(|_| examined == self.examined).unwrap_or(self.select.to);
        Ok(Slice { rows, covered })
    }

    /// Along the log itself where types or a correlation are wanted in very many categories: SQLite looks at them,
    /// and hands over the rows that match. How many it looks at is bounded by a stretch of positions.
    fn sifted_log(&self) -> rusqlite::Result<Slice> {
        let (low, high) = self.bounds();
        let beyond = self.examined as i64 - 1;
        let forward = self.select.direction == Direction::Forward;
        let (sql, from, to) = if forward {
            (include_str!("../sql/sift_forward.sql"), low, high.min(low.saturating_add(beyond)))
        } else {
            (include_str!("../sql/sift_backward.sql"), low.max(high.saturating_sub(beyond)), high)
        };
        let filter = &self.select.filter;
        let kinds =
            (!filter.types.is_empty()).then(|| serde_json::Value::from_iter(filter.types.iter().map(|kind| &**kind)));
        let kinds = kinds.map(|kinds| kinds.to_string());
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query(params![from, to, kinds, filter.correlation.as_deref()])?;
        let mut rows = Rows::default();
        while let Some(row) = found.next()? {
            let stream = row.get_ref(column::STREAM)?.as_str()?;
            if filter.group.is_none_or(|group| group.owns(stream)) {
                rows.push(message(row, self.select.columns)?);
            }
            if self.is_full(&rows) {
                return Ok(Slice { rows, covered: row.get(column::GLOBAL_POSITION)? });
            }
        }
        let next = match forward {
            true if to < high => self.first_in(to + 1, high)?,
            false if low < from => self.last_in(low, from - 1)?,
            _ => None,
        };
        let covered = next.map(|next| if forward { next - 1 } else { next + 1 });
        Ok(Slice { rows, covered: covered.unwrap_or(self.select.to) })
    }

    /// The first position of the log within bounds: an import may leave any gap.
    fn first_in(&self, low: i64, high: i64) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT min(global_position) FROM log.messages WHERE global_position BETWEEN ?1 AND ?2";
        self.connection.prepare_cached(sql)?.query_row([low, high], |row| row.get(0))
    }

    /// The last one.
    fn last_in(&self, low: i64, high: i64) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT max(global_position) FROM log.messages WHERE global_position BETWEEN ?1 AND ?2";
        self.connection.prepare_cached(sql)?.query_row([low, high], |row| row.get(0))
    }
}
