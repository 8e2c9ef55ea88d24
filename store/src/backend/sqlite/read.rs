//! Slices of messages.
//!
//! What is asked of a whole namespace is a walk along the log. What is asked of a stream or of
//! categories is a walk along their places, in the index and then in the memtable, whose matches
//! are fetched from the log one by one. Filters are answered from the places' hashes; a hash of a
//! type or a correlation is confirmed by the row.

use std::collections::{VecDeque, vec_deque};

use eventodb_schema::message::MessageRef;
use eventodb_schema::{Direction, Filter, Scope, Timestamp};
use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::memtable::{Hashes, Memtable, text_hash};
use crate::backend::{Axis, Columns, Rows, Select, Slice};

/// Reads one slice; looks at no more than `examined` places in search of matches.
///
/// # Errors
/// SQLite's.
pub(super) fn read(
    connection: &Connection,
    memtable: &RwLock<Memtable>,
    select: &Select,
    examined: usize,
) -> rusqlite::Result<Slice> {
    // One transaction takes the files' locks once, not for each row. It begins with its first
    // statement, which comes after the look into the memtable.
    let transaction = connection.unchecked_transaction()?;
    let walk = Walk { connection, memtable, select, wanted: Wanted::new(&select.filter), examined };
    let slice = match &select.filter.scope {
        Scope::All => walk.log(),
        Scope::Stream(stream) => walk.stream(stream),
        Scope::Categories(categories) => walk.categories(categories),
    }?;
    transaction.commit()?;
    Ok(slice)
}

/// Appends the message at a global position.
///
/// # Errors
/// SQLite's; that there is none means that the index does not fit the log.
pub(super) fn fetch(connection: &Connection, global_position: i64, rows: &mut Rows) -> rusqlite::Result<()> {
    connection.prepare_cached(include_str!("sql/message.sql"))?.query_row([global_position], |row| {
        rows.push(message(row, Columns::All)?);
        Ok(())
    })
}

/// One read under way.
struct Walk<'a> {
    connection: &'a Connection,
    memtable: &'a RwLock<Memtable>,
    select: &'a Select,
    wanted: Wanted<'a>,
    examined: usize,
}

/// A filter's conditions on single messages, as hashes.
struct Wanted<'a> {
    filter: &'a Filter,
    kinds: Vec<i64>,
    correlation: Option<i64>,
}

impl<'a> Wanted<'a> {
    fn new(filter: &'a Filter) -> Self {
        Self {
            filter,
            kinds: filter.types.iter().map(|kind| text_hash(kind)).collect(),
            correlation: filter.correlation.as_deref().map(text_hash),
        }
    }

    /// Whether a place may match; types and correlations may still turn out to be others.
    fn admits(&self, hashes: Hashes) -> bool {
        self.admits_kind(hashes.kind)
            && (self.correlation.is_none() || self.correlation == hashes.correlation)
            && self.filter.group.is_none_or(|group| group.owns_hash(hashes.stream))
    }

    fn admits_kind(&self, kind: i64) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// Whether hashes decide nothing about types and correlations, so that rows are looked at.
    fn needs_row(&self) -> bool {
        !self.kinds.is_empty() || self.correlation.is_some()
    }

    /// Whether a row of an admitted place matches.
    fn confirms(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        if !self.needs_row() {
            return Ok(true);
        }
        let kind = row.get_ref(column::TYPE)?.as_str()?;
        let correlation = row.get_ref(column::CORRELATION)?.as_str_or_null()?;
        let filter = self.filter;
        Ok(filter.types_match(kind) && (filter.correlation.is_none() || filter.correlation.as_deref() == correlation))
    }
}

/// Columns of `sql/message*.sql` and `sql/log*.sql`.
mod column {
    pub(super) const GLOBAL_POSITION: usize = 0;
    pub(super) const STREAM: usize = 1;
    pub(super) const POSITION: usize = 2;
    pub(super) const TYPE: usize = 3;
    pub(super) const CORRELATION: usize = 4;
    pub(super) const ID: usize = 5;
    pub(super) const TIME: usize = 6;
    pub(super) const METADATA: usize = 7;
    pub(super) const DATA: usize = 8;
}

fn message<'row>(row: &'row Row<'_>, columns: Columns) -> rusqlite::Result<MessageRef<'row>> {
    let place = MessageRef {
        id: uuid::Uuid::nil(),
        stream: row.get_ref(column::STREAM)?.as_str()?,
        kind: "",
        position: row.get(column::POSITION)?,
        global_position: row.get(column::GLOBAL_POSITION)?,
        data: "",
        metadata: None,
        time: Timestamp::default(),
    };
    if columns == Columns::Places {
        return Ok(place);
    }
    Ok(MessageRef {
        id: uuid::Uuid::from_bytes(row.get(column::ID)?),
        kind: row.get_ref(column::TYPE)?.as_str()?,
        data: row.get_ref(column::DATA)?.as_str()?,
        metadata: row.get_ref(column::METADATA)?.as_str_or_null()?,
        time: Timestamp::from_micros(row.get(column::TIME)?),
        ..place
    })
}

/// A place along a walk: where it stands on the walk's axis, and its row in the log.
#[derive(Clone, Copy)]
struct Step {
    at: i64,
    global_position: i64,
}

/// The places of a walk that may match, as far as it came.
struct Steps {
    steps: Vec<Step>,
    /// Position on the axis up to which every place was looked at; `None` where it came to the end.
    cut: Option<i64>,
}

impl Steps {
    fn new() -> Self {
        Self { steps: Vec::new(), cut: None }
    }
}

impl Walk<'_> {
    /// Along the log itself.
    fn log(&self) -> rusqlite::Result<Slice> {
        if self.wanted.needs_row() {
            return self.sifted_log();
        }
        let (low, high) = self.bounds();
        let sql = match (self.select.direction, self.select.columns) {
            (Direction::Forward, Columns::All) => include_str!("sql/log_forward.sql"),
            (Direction::Forward, Columns::Places) => include_str!("sql/log_places.sql"),
            (Direction::Backward, _) => include_str!("sql/log_backward.sql"),
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

    /// Along the log itself where types or a correlation are wanted: SQLite looks at them, and hands over
    /// the rows that match. How many it looks at is bounded by a stretch of positions.
    fn sifted_log(&self) -> rusqlite::Result<Slice> {
        let (low, high) = self.bounds();
        let beyond = self.examined as i64 - 1;
        let forward = self.select.direction == Direction::Forward;
        let (sql, from, to) = if forward {
            (include_str!("sql/sift_forward.sql"), low, high.min(low.saturating_add(beyond)))
        } else {
            (include_str!("sql/sift_backward.sql"), low.max(high.saturating_sub(beyond)), high)
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
        let next = if forward { self.first_in(to.saturating_add(1), high)? } else { self.last_in(low, from - 1)? };
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

    /// Along the places of one stream.
    fn stream(&self, stream: &str) -> rusqlite::Result<Slice> {
        if !self.select.filter.group.is_none_or(|group| group.owns(stream)) {
            return Ok(Slice { rows: Rows::default(), covered: self.select.to });
        }
        let (floor, recent) = {
            // The memtable first: see there.
            let memtable = self.memtable.read();
            let recent = memtable.stream(stream).map_or_else(Steps::new, |places| {
                let places = self.within(places, |place| self.at(place.position, place.global_position));
                let places = places.filter(|place| self.wanted.admits_kind(place.kind));
                self.take(places.map(|place| Step {
                    at: self.at(place.position, place.global_position),
                    global_position: place.global_position,
                }))
            });
            (memtable.floor(), recent)
        };
        let id: Option<i64> = self
            .connection
            .prepare_cached(include_str!("sql/stream_id.sql"))?
            .query_row([stream], |row| row.get(0))
            .optional()?;
        let indexed = match id {
            Some(id) => self.indexed_stream(id, floor)?,
            None => Steps::new(),
        };
        self.join(indexed, recent)
    }

    fn indexed_stream(&self, id: i64, floor: i64) -> rusqlite::Result<Steps> {
        let (low, high) = self.bounds();
        let (low, high) = match self.select.axis {
            Axis::Stream => (low, high),
            Axis::Global => (self.position_from(id, low)?, self.position_from(id, high.saturating_add(1))? - 1),
        };
        let sql = match self.select.direction {
            Direction::Forward => include_str!("sql/stream_forward.sql"),
            Direction::Backward => include_str!("sql/stream_backward.sql"),
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query(params![id, low, high, self.examined as i64])?;
        let mut steps = Steps::new();
        let (mut examined, mut last) = (0, None);
        while let Some(row) = found.next()? {
            examined += 1;
            let (position, global_position): (i64, i64) = (row.get(0)?, row.get(1)?);
            last = Some(self.at(position, global_position));
            // Above the floor the memtable knows, above the head nobody asks.
            if global_position >= floor || global_position > self.select.head || !self.wanted.admits_kind(row.get(2)?) {
                continue;
            }
            steps.steps.push(Step { at: self.at(position, global_position), global_position });
            if steps.steps.len() == self.select.rows {
                steps.cut = last;
                return Ok(steps);
            }
        }
        steps.cut = last.filter(|_| examined == self.examined);
        Ok(steps)
    }

    /// The first position of a stream whose message is at or above a global position: positions and
    /// global positions of a stream ascend together, so it is found by halving.
    fn position_from(&self, id: i64, global_position: i64) -> rusqlite::Result<i64> {
        let mut at_or_after = self.connection.prepare_cached(include_str!("sql/stream_seek.sql"))?;
        let last: Option<i64> = self
            .connection
            .prepare_cached(include_str!("sql/stream_end.sql"))?
            .query_row([id], |row| row.get(0))
            .optional()?;
        let (mut low, mut high) = (0, last.map_or(0, |last| last + 1));
        while low < high {
            let middle = low + (high - low) / 2;
            let (position, there): (i64, i64) =
                at_or_after.query_row(params![id, middle], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if there < global_position {
                low = position + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Along the places of categories, merged.
    fn categories(&self, categories: &[std::sync::Arc<str>]) -> rusqlite::Result<Slice> {
        let (floor, recent) = {
            // The memtable first: see there.
            let memtable = self.memtable.read();
            let recent = categories.iter().filter_map(|category| memtable.category(category)).map(|category| {
                let places = self.within(&category.places, |(place, _)| *place);
                let places = places.filter(|(_, hashes)| self.wanted.admits(*hashes));
                self.take(places.map(|(place, _)| Step { at: *place, global_position: *place }))
            });
            (memtable.floor(), self.merge(recent.collect()))
        };
        let indexed = categories
            .iter()
            .map(|category| self.indexed_category(category, floor))
            .collect::<rusqlite::Result<Vec<_>>>()?;
        self.join(self.merge(indexed), recent)
    }

    fn indexed_category(&self, category: &str, floor: i64) -> rusqlite::Result<Steps> {
        let (low, high) = self.bounds();
        let high = high.min(floor.saturating_sub(1));
        let mut steps = Steps::new();
        let id: Option<i64> = self
            .connection
            .prepare_cached("SELECT category_id FROM idx.categories WHERE name = ?1")?
            .query_row([category], |row| row.get(0))
            .optional()?;
        let Some(id) = id else { return Ok(steps) };
        let sql = match self.select.direction {
            Direction::Forward => include_str!("sql/category_forward.sql"),
            Direction::Backward => include_str!("sql/category_backward.sql"),
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query(params![id, low, high, self.examined as i64])?;
        let (mut examined, mut last) = (0, None);
        while let Some(row) = found.next()? {
            examined += 1;
            let global_position = row.get(0)?;
            last = Some(global_position);
            let hashes = Hashes { stream: row.get(1)?, kind: row.get(2)?, correlation: row.get(3)? };
            if self.wanted.admits(hashes) {
                steps.steps.push(Step { at: global_position, global_position });
                if steps.steps.len() == self.select.rows {
                    steps.cut = last;
                    return Ok(steps);
                }
            }
        }
        steps.cut = last.filter(|_| examined == self.examined);
        Ok(steps)
    }

    /// The places within the bounds; `at` tells where one stands, and they ascend by it.
    fn within<'p, P>(&self, places: &'p VecDeque<P>, at: impl Fn(&P) -> i64) -> vec_deque::Iter<'p, P> {
        let (low, high) = self.bounds();
        let start = places.partition_point(|place| at(place) < low);
        let end = places.partition_point(|place| at(place) <= high);
        places.range(start..end.max(start))
    }

    /// Places in the order asked for, at most a slice of them; `places` ascend.
    fn take(&self, places: impl DoubleEndedIterator<Item = Step>) -> Steps {
        let visible = |step: &Step| step.global_position <= self.select.head;
        let most = self.select.rows;
        let steps: Vec<Step> = match self.select.direction {
            Direction::Forward => places.filter(visible).take(most).collect(),
            Direction::Backward => places.rev().filter(visible).take(most).collect(),
        };
        let cut = (steps.len() == most).then(|| steps.last().map(|step| step.at)).flatten();
        Steps { steps, cut }
    }

    /// Several walks as one: in order, and only as far as all of them came.
    fn merge(&self, walks: Vec<Steps>) -> Steps {
        let forward = self.select.direction == Direction::Forward;
        let cuts = walks.iter().filter_map(|walk| walk.cut);
        let cut = if forward { cuts.min() } else { cuts.max() };
        let mut steps: Vec<Step> = walks.into_iter().flat_map(|walk| walk.steps).collect();
        steps.retain(|step| cut.is_none_or(|cut| if forward { step.at <= cut } else { step.at >= cut }));
        if forward {
            steps.sort_unstable_by_key(|step| step.at);
        } else {
            steps.sort_unstable_by_key(|step| std::cmp::Reverse(step.at));
        }
        Steps { steps, cut }
    }

    /// The rows of what was found in the index and in the memtable, which lies above it.
    fn join(&self, indexed: Steps, recent: Steps) -> rusqlite::Result<Slice> {
        let (first, second) = match self.select.direction {
            Direction::Forward => (indexed, recent),
            Direction::Backward => (recent, indexed),
        };
        let (steps, cut) = match first.cut {
            Some(cut) => (first.steps, Some(cut)),
            None => ([first.steps, second.steps].concat(), second.cut),
        };
        let mut statement = self.connection.prepare_cached(match self.select.columns {
            Columns::All => include_str!("sql/message.sql"),
            Columns::Places => include_str!("sql/message_place.sql"),
        })?;
        let mut rows = Rows::default();
        for step in steps {
            let mut found = statement.query([step.global_position])?;
            let row = found.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            // An index that leads to another stream's message is damaged, as if it led to none.
            if !self.select.filter.scope.contains(row.get_ref(column::STREAM)?.as_str()?) {
                return Err(rusqlite::Error::QueryReturnedNoRows);
            }
            if self.wanted.confirms(row)? {
                rows.push(message(row, self.select.columns)?);
            }
            if self.is_full(&rows) {
                return Ok(Slice { rows, covered: step.at });
            }
        }
        Ok(Slice { rows, covered: cut.unwrap_or(self.select.to) })
    }

    fn is_full(&self, rows: &Rows) -> bool {
        rows.len() >= self.select.rows || rows.bytes() >= self.select.bytes
    }

    /// The lowest and the highest position wanted on the walk's axis.
    fn bounds(&self) -> (i64, i64) {
        let Select { from, to, head, axis, direction, .. } = self.select;
        let (low, high) = match direction {
            Direction::Forward => (*from, *to),
            Direction::Backward => (*to, *from),
        };
        (low, if *axis == Axis::Global { high.min(*head) } else { high })
    }

    fn at(&self, position: i64, global_position: i64) -> i64 {
        match self.select.axis {
            Axis::Stream => position,
            Axis::Global => global_position,
        }
    }
}
