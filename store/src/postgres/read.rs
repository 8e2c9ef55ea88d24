//! The read path: one slice is one statement, driven by an index, that ends soon.
//!
//! A filter may have to pass over many messages. Its statement therefore looks at a **window**, a bounded number of
//! positions, and reports the position of the next message of the scope behind the window. So each slice makes
//! progress, and a gap or a rare category costs one look into the index.

use eventodb_protocol::filter::Traits;
use eventodb_protocol::message::MessageRef;
use eventodb_protocol::{Direction, Filter, Scope};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::connection::Connection;
use super::error::Failure;
use super::statement::{
    FILTER_ALL, FILTER_CATEGORIES, FILTER_STREAM, LOCATE, READ_ALL, READ_CATEGORY, READ_STREAM, Template,
};
use super::time::Time;
use crate::model::{Axis, Columns, Incarnation, Rows, Select, Slice};

/// Number of index entries that cost as much as one message. A filter on a stream has to look at messages, because the
/// index by stream has no columns for it.
const ENTRIES_PER_MESSAGE: usize = 10;

/// One slice of a log.
pub(super) async fn read(
    connection: &mut Connection,
    log: Incarnation,
    select: &Select,
    examined_rows: usize,
) -> Result<Slice, Failure> {
    let reader = Reader { connection, log, select, examined_rows, gathered: Gathered::new(select) };
    match &select.filter.scope {
        Scope::Stream(stream) => reader.stream(stream).await,
        Scope::All => reader.global(None).await,
        Scope::Categories(categories) => {
            let names: Vec<&str> = categories.iter().map(|name| &**name).collect();
            reader.global(Some(&names)).await
        }
    }
}

struct Reader<'a> {
    connection: &'a mut Connection,
    log: Incarnation,
    select: &'a Select,
    examined_rows: usize,
    gathered: Gathered<'a>,
}

/// Positions from `low` to `high`, both inclusive; empty where `low` is the higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    low: i64,
    high: i64,
}

impl Range {
    const EMPTY: Self = Self { low: 1, high: 0 };

    /// The part of it that a read in this direction looks at first, and the rest.
    fn split(self, direction: Direction, window: usize) -> (Self, Self) {
        let Self { low, high } = self;
        let window = i64::try_from(window.max(1)).unwrap_or(i64::MAX);
        match direction {
            Direction::Forward => {
                let end = low.saturating_add(window - 1).min(high);
                let rest = if end < high { Self { low: end + 1, high } } else { Self::EMPTY };
                (Self { low, high: end }, rest)
            }
            Direction::Backward => {
                let end = high.saturating_sub(window - 1).max(low);
                let rest = if low < end { Self { low, high: end - 1 } } else { Self::EMPTY };
                (Self { low: end, high }, rest)
            }
        }
    }
}

impl Reader<'_> {
    /// Messages in global order, of these categories or of all.
    async fn global(mut self, categories: Option<&[&str]>) -> Result<Slice, Failure> {
        let Select { from, to, head, direction, .. } = *self.select;
        let mut range = match direction {
            Direction::Forward => Range { low: from, high: to },
            Direction::Backward => Range { low: to, high: from },
        };
        range.high = range.high.min(head);
        if range.low > range.high {
            return Ok(self.gathered.finish(Next::End));
        }
        let (rows, bytes, data) = self.bounds();
        match categories {
            None if self.select.filter.is_open() => {
                self.plain(&READ_ALL, &[&range.low, &range.high, &rows, &bytes, &data]).await?;
            }
            Some([category]) if self.select.filter.is_open() => {
                self.plain(&READ_CATEGORY, &[category, &range.low, &range.high, &rows, &bytes, &data]).await?;
            }
            _ => return self.filtered_global(categories, range).await,
        }
        Ok(self.gathered.finish(Next::End))
    }

    async fn filtered_global(mut self, categories: Option<&[&str]>, range: Range) -> Result<Slice, Failure> {
        let (window, rest) = range.split(self.select.direction, self.examined_rows);
        let (rows, bytes, data) = self.bounds();
        let passes = Passes::new(&self.select.filter);
        let [size, member, types, correlation] = passes.parameters();
        let (low, high, next_low, next_high) = (&window.low, &window.high, &rest.low, &rest.high);
        let next = match categories {
            None => {
                let parameters: [&(dyn ToSql + Sync); 11] =
                    [size, member, types, correlation, low, high, next_low, next_high, &rows, &bytes, &data];
                self.filtered(&FILTER_ALL, &parameters).await?
            }
            Some(categories) => {
                let scope: &(dyn ToSql + Sync) = &categories;
                let parameters: [&(dyn ToSql + Sync); 12] =
                    [size, member, types, correlation, scope, low, high, next_low, next_high, &rows, &bytes, &data];
                self.filtered(&FILTER_CATEGORIES, &parameters).await?
            }
        };
        Ok(self.gathered.finish(next))
    }

    /// Messages of one stream, by its positions or by global ones.
    async fn stream(mut self, stream: &str) -> Result<Slice, Failure> {
        let range = match self.select.axis {
            Axis::Stream => match self.select.direction {
                Direction::Forward => Range { low: self.select.from, high: self.select.to },
                Direction::Backward => Range { low: self.select.to, high: self.select.from },
            },
            Axis::Global => self.located(stream).await?,
        };
        if range.low > range.high {
            return Ok(self.gathered.finish(Next::End));
        }
        let (rows, bytes, data) = self.bounds();
        if self.select.filter.is_open() {
            self.plain(&READ_STREAM, &[&stream, &range.low, &range.high, &rows, &bytes, &data]).await?;
            return Ok(self.gathered.finish(Next::End));
        }
        let (window, rest) = range.split(self.select.direction, self.examined_rows.div_ceil(ENTRIES_PER_MESSAGE));
        let passes = Passes::new(&self.select.filter);
        let [size, member, types, correlation] = passes.parameters();
        let (low, high, next_low, next_high) = (&window.low, &window.high, &rest.low, &rest.high);
        let parameters: [&(dyn ToSql + Sync); 12] =
            [size, member, types, correlation, &stream, low, high, next_low, next_high, &rows, &bytes, &data];
        let next = self.filtered(&FILTER_STREAM, &parameters).await?;
        Ok(self.gathered.finish(next))
    }

    /// The stream's positions that global positions stand for: the two ascend together.
    async fn located(&mut self, stream: &str) -> Result<Range, Failure> {
        let Select { from, to, head, direction, .. } = *self.select;
        Ok(match direction {
            // The end is seen on the way, by the rows' global positions.
            Direction::Forward => Range { low: self.locate(stream, from).await?, high: i64::MAX },
            Direction::Backward => {
                let above = self.locate(stream, from.min(head).saturating_add(1)).await?;
                Range { low: self.locate(stream, to).await?, high: above - 1 }
            }
        })
    }

    async fn locate(&mut self, stream: &str, global_position: i64) -> Result<i64, Failure> {
        let row = self.connection.query_one(LOCATE.on(self.log), &[&stream, &global_position]).await?;
        Ok(row.map_or(0, |row| row.get(0)))
    }

    async fn plain(&mut self, template: &'static Template, parameters: &[&(dyn ToSql + Sync)]) -> Result<(), Failure> {
        let statement = template.ordered(self.log, self.select.direction);
        self.connection.for_each(statement, parameters, |row| self.gathered.take(&row)).await
    }

    async fn filtered(
        &mut self,
        template: &'static Template,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Next, Failure> {
        let statement = template.ordered(self.log, self.select.direction);
        let mut next = Next::Unknown;
        let each = |row: Row| match row.get::<_, Option<Uuid>>(ID) {
            Some(_) => self.gathered.take(&row),
            None => next = Next::of(&row, self.select.axis),
        };
        self.connection.for_each(statement, parameters, each).await?;
        Ok(next)
    }

    fn bounds(&self) -> (i64, i64, bool) {
        let bound = |of: usize| i64::try_from(of).unwrap_or(i64::MAX);
        (bound(self.select.rows), bound(self.select.bytes), self.select.columns == Columns::All)
    }
}

/// The next message behind the window of a statement.
#[derive(Clone, Copy)]
enum Next {
    /// There is none.
    End,
    /// It is at this position, on the axis of the read.
    At(i64),
    /// It is not known, because the statement ended when it had enough rows.
    Unknown,
}

impl Next {
    /// From the row without id that a filtered statement ends with.
    fn of(row: &Row, axis: Axis) -> Self {
        let column = if axis == Axis::Stream { POSITION } else { GLOBAL_POSITION };
        row.get::<_, Option<i64>>(column).map_or(Self::End, Self::At)
    }
}

/// A filter's conditions beyond its scope, as parameters; `None` admits everything.
struct Passes<'a> {
    size: Option<i64>,
    member: Option<i64>,
    types: Option<Vec<&'a str>>,
    correlation: Option<&'a str>,
}

impl<'a> Passes<'a> {
    fn new(filter: &'a Filter) -> Self {
        let signed = |number: u64| i64::try_from(number).expect("members and sizes are made from signed numbers");
        let types: Vec<&str> = filter.types.iter().map(|name| &**name).collect();
        Self {
            size: filter.group.map(|group| signed(group.size())),
            member: filter.group.map(|group| signed(group.member())),
            types: (!types.is_empty()).then_some(types),
            correlation: filter.correlation.as_deref(),
        }
    }

    /// The first parameters of each statement with a filter, as `sql/passes.sql` numbers them.
    fn parameters(&self) -> [&(dyn ToSql + Sync); 4] {
        [&self.size, &self.member, &self.types, &self.correlation]
    }
}

/// The rows of a slice as they come.
struct Gathered<'a> {
    select: &'a Select,
    rows: Rows,
    bytes: usize,
    /// Number of rows that came, wanted or not.
    seen: usize,
    /// Position of the last of them, on the axis of the read.
    last: Option<i64>,
    /// Whether a row came that lies behind all that are wanted.
    ended: bool,
}

impl<'a> Gathered<'a> {
    fn new(select: &'a Select) -> Self {
        Self { select, rows: Rows::default(), bytes: 0, seen: 0, last: None, ended: false }
    }

    fn take(&mut self, row: &Row) {
        let message = to_message(row);
        self.seen += 1;
        let position = match self.select.axis {
            Axis::Stream => message.position,
            Axis::Global => message.global_position,
        };
        self.last = Some(position);
        let Select { from, to, head, direction, .. } = *self.select;
        let (behind, before) = match direction {
            Direction::Forward => (message.global_position > head || position > to, position < from),
            Direction::Backward => (position < to, message.global_position > head || position > from),
        };
        self.ended |= behind;
        if behind || before {
            return;
        }
        // Those that do not match count as well, as they do for the statement's own bounds.
        self.bytes += message.data.len() + message.metadata.map_or(0, str::len);
        if self.matches(&message) {
            self.rows.push(message);
        }
    }

    /// Whether a message matches the filter's conditions. The statement has compared the correlation, which is not among
    /// its columns, and the group.
    fn matches(&self, message: &MessageRef<'_>) -> bool {
        let filter = &self.select.filter;
        let correlation = filter.correlation.as_deref();
        !filter.has_conditions() || filter.matches(Traits { stream: message.stream, kind: message.kind, correlation })
    }

    fn finish(self, next: Next) -> Slice {
        let is_cut = self.seen >= self.select.rows || self.bytes >= self.select.bytes;
        let covered = match (self.last, next) {
            _ if self.ended => self.select.to,
            (Some(last), _) if is_cut => last,
            (Some(last), Next::Unknown) => last,
            (_, Next::At(position)) => match self.select.direction {
                Direction::Forward => position - 1,
                Direction::Backward => position + 1,
            },
            (_, Next::End) | (None, Next::Unknown) => self.select.to,
        };
        Slice { rows: self.rows, covered }
    }
}

const ID: usize = 0;
const POSITION: usize = 3;
const GLOBAL_POSITION: usize = 4;

/// A message from the columns that every statement with messages returns.
pub(super) fn to_message(row: &Row) -> MessageRef<'_> {
    MessageRef {
        id: row.get(ID),
        stream: row.get(1),
        kind: row.get(2),
        position: row.get(POSITION),
        global_position: row.get(GLOBAL_POSITION),
        time: row.get::<_, Time>(5).0,
        data: row.get(6),
        metadata: row.get(7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_behind_a_window_that_reaches_the_end() {
        for (direction, range) in [
            (Direction::Forward, Range { low: 5, high: i64::MAX }),
            (Direction::Forward, Range { low: i64::MAX, high: i64::MAX }),
            (Direction::Backward, Range { low: 0, high: 7 }),
        ] {
            assert_eq!(range.split(direction, usize::MAX), (range, Range::EMPTY), "{direction:?} {range:?}");
        }
        let (window, rest) = Range { low: 1, high: 9 }.split(Direction::Forward, 4);
        assert_eq!((window, rest), (Range { low: 1, high: 4 }, Range { low: 5, high: 9 }));
    }
}
