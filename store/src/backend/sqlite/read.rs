//! Slices of messages.
//!
//! What is asked of a whole namespace is a walk along the log. What is asked of a stream or of
//! categories is a walk along their places, in the index and then in the memtable, whose matches
//! are fetched from the log one by one; so is a search for types or a correlation in a namespace of
//! not too many categories. Filters are answered from the places' hashes; a hash of a type or a
//! correlation is confirmed by the row.

use std::collections::{VecDeque, vec_deque};
use std::sync::Arc;

use eventodb_schema::message::MessageRef;
use eventodb_schema::{Direction, Filter, Scope, Timestamp};
use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::memtable::{CategoryPlace, Hashes, Memtable, StreamPlace, text_hash};
use super::{Settings, runs};
use crate::backend::{Axis, Columns, Rows, Select, Slice};

/// Reads one slice; looks at a bounded number of places in search of matches.
///
/// # Errors
/// SQLite's.
pub(super) fn read(
    connection: &Connection,
    memtable: &RwLock<Memtable>,
    select: &Select,
    settings: &Settings,
) -> rusqlite::Result<Slice> {
    // One transaction takes the files' locks once, not for each row. It begins with its first
    // statement, which comes after the look into the memtable.
    let transaction = connection.unchecked_transaction()?;
    let Settings { examined_rows: examined, merged_categories, .. } = *settings;
    let wanted = Wanted::new(&select.filter);
    let walk = Walk { connection, memtable, select, wanted, examined, merged_categories };
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
    /// Most places looked at, of each category.
    examined: usize,
    merged_categories: usize,
}

/// A filter's conditions on single messages, as hashes.
struct Wanted<'a> {
    filter: &'a Filter,
    kinds: Vec<u32>,
    correlation: Option<u32>,
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

    fn admits_kind(&self, kind: u32) -> bool {
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

/// Runs of one stream or category from the index, in the order asked for.
struct Runs<'a> {
    /// The stream or category.
    id: i64,
    rows: rusqlite::Rows<'a>,
    /// The memtable's: from there on it knows.
    floor: i64,
    /// The lowest and the highest position wanted on the walk's axis.
    bounds: (i64, i64),
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
            return match self.every_category()? {
                Some(slice) => Ok(slice),
                None => self.sifted_log(),
            };
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

    /// Along the log itself where types or a correlation are wanted in very many categories: SQLite looks at them,
    /// and hands over the rows that match. How many it looks at is bounded by a stretch of positions.
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
        let start = match self.select.axis {
            Axis::Stream => self.start(),
            Axis::Global => self.position_from(id, self.start())?,
        };
        let mut statement = self.connection.prepare_cached(match self.select.direction {
            Direction::Forward => include_str!("sql/stream_forward.sql"),
            Direction::Backward => include_str!("sql/stream_backward.sql"),
        })?;
        let runs = Runs { id, rows: statement.query(params![id, start])?, floor, bounds: self.bounds() };
        self.gather(runs, |StreamPlace { position, global_position, kind }| {
            (Step { at: self.at(position, global_position), global_position }, self.wanted.admits_kind(kind))
        })
    }

    /// The places of runs; `look` tells where one stands, and whether it may match.
    fn gather<P: runs::Entry>(&self, runs: Runs<'_>, look: impl Fn(P) -> (Step, bool)) -> rusqlite::Result<Steps> {
        let Runs { id, mut rows, floor, bounds: (low, high) } = runs;
        let forward = self.select.direction == Direction::Forward;
        let mut steps = Steps::new();
        let mut examined = 0;
        let mut places = Vec::new();
        while let Some(row) = rows.next()? {
            places.clear();
            runs::unpack(id, row, &mut places)?;
            if forward {
                places.reverse();
            }
            for &place in &places {
                let (step, may_match) = look(place);
                // From the floor on the memtable knows, above the head nobody asks.
                let is_above = step.at > high || step.global_position >= floor.min(self.select.head.saturating_add(1));
                let is_below = step.at < low;
                if is_above || is_below {
                    if is_above == forward {
                        return Ok(steps);
                    }
                    continue;
                }
                examined += 1;
                if may_match {
                    steps.steps.push(step);
                }
                if steps.steps.len() == self.select.rows || examined == self.examined {
                    steps.cut = Some(step.at);
                    return Ok(steps);
                }
            }
        }
        Ok(steps)
    }

    /// A position of a stream from which the first run has the messages at or above a global position: positions
    /// and global positions of a stream ascend together, so it is found by halving.
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
    fn categories(&self, categories: &[Arc<str>]) -> rusqlite::Result<Slice> {
        // The memtable first: see there.
        let (floor, recent) = {
            let memtable = self.memtable.read();
            (memtable.floor(), self.recent_categories(&memtable, categories))
        };
        self.join(self.indexed_categories(categories, floor)?, recent)
    }

    /// Along the places of all categories, where they are not too many.
    fn every_category(&self) -> rusqlite::Result<Option<Slice>> {
        // One more than are taken together shows that there are more.
        let most = self.merged_categories + 1;
        let (floor, recent, mut categories) = {
            let memtable = self.memtable.read();
            let names: Vec<Arc<str>> = memtable.categories().take(most).map(|(name, _)| name.into()).collect();
            (memtable.floor(), self.recent_categories(&memtable, &names), names)
        };
        let mut select = self.connection.prepare_cached(include_str!("sql/largest_categories.sql"))?;
        let indexed: Vec<Arc<str>> =
            select.query_map([most as i64], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        categories.retain(|name| !indexed.contains(name));
        if indexed.len() + categories.len() >= most {
            return Ok(None);
        }
        self.join(self.indexed_categories(&indexed, floor)?, recent).map(Some)
    }

    fn recent_categories(&self, memtable: &Memtable, categories: &[Arc<str>]) -> Steps {
        let recent = categories.iter().filter_map(|category| memtable.category(category)).map(|category| {
            let places = self.within(&category.places, |place| place.global_position);
            let places = places.filter(|place| self.wanted.admits(place.hashes));
            self.take(places.map(|place| Step { at: place.global_position, global_position: place.global_position }))
        });
        self.merge(recent.collect())
    }

    fn indexed_categories(&self, categories: &[Arc<str>], floor: i64) -> rusqlite::Result<Steps> {
        let mut walks = Vec::with_capacity(categories.len());
        let mut bounds = self.bounds();
        for category in categories {
            let walk = self.indexed_category(category, floor, bounds)?;
            // What lies beyond the end of one walk is of no use in another.
            if let Some(cut) = walk.cut {
                match self.select.direction {
                    Direction::Forward => bounds.1 = cut,
                    Direction::Backward => bounds.0 = cut,
                }
            }
            walks.push(walk);
        }
        Ok(self.merge(walks))
    }

    fn indexed_category(&self, category: &str, floor: i64, bounds: (i64, i64)) -> rusqlite::Result<Steps> {
        let id: Option<i64> = self
            .connection
            .prepare_cached(include_str!("sql/category_id.sql"))?
            .query_row([category], |row| row.get(0))
            .optional()?;
        let Some(id) = id else { return Ok(Steps::new()) };
        let mut statement = self.connection.prepare_cached(match self.select.direction {
            Direction::Forward => include_str!("sql/category_forward.sql"),
            Direction::Backward => include_str!("sql/category_backward.sql"),
        })?;
        let runs = Runs { id, rows: statement.query(params![id, self.start()])?, floor, bounds };
        self.gather(runs, |CategoryPlace { global_position, hashes }| {
            (Step { at: global_position, global_position }, self.wanted.admits(hashes))
        })
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

    /// The bound that a walk starts from.
    fn start(&self) -> i64 {
        let (low, high) = self.bounds();
        if self.select.direction == Direction::Forward { low } else { high }
    }

    fn at(&self, position: i64, global_position: i64) -> i64 {
        match self.select.axis {
            Axis::Stream => position,
            Axis::Global => global_position,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::{self, Attach};
    use super::super::indexer;
    use super::super::memtable::Place;
    use super::*;

    /// Places leave the memtable after the index has them: for a moment both do. A walk through the index whose
    /// bound of places falls there must not pass for one that has seen them.
    #[test]
    fn a_walk_that_ends_where_index_and_memtable_overlap_misses_nothing() {
        let mut connection = connection::open(&[Attach::log(None), Attach::index(None)]).unwrap();
        assert!(indexer::belongs(&connection).unwrap());
        let place = |global_position: i64| Place {
            global_position,
            stream: "account-1".into(),
            position: global_position - 1,
            starts_stream: global_position == 1,
            id: uuid::Uuid::from_u128(global_position.unsigned_abs().into()),
            hashes: Hashes { stream: 1, kind: text_hash("Opened"), correlation: None },
        };
        let places: Vec<Place> = (1..=6).map(place).collect();
        for place in &places {
            let Place { global_position, position, stream, .. } = place;
            let insert = "INSERT INTO log.messages VALUES (?1, ?2, ?3, 0, ?4, 'Opened', NULL, 0, NULL, '{}')";
            connection.execute(insert, params![global_position, stream, position, place.id.as_bytes()]).unwrap();
        }
        indexer::index(&mut connection, &places[..4].iter().collect::<Vec<_>>(), true).unwrap();
        let mut memtable = Memtable::new(2);
        places[2..].iter().for_each(|place| memtable.push(place.clone()));
        let memtable = RwLock::new(memtable);

        let scopes = [Scope::Stream("account-1".into()), Scope::Categories(vec!["account".into()])];
        for (scope, examined, direction) in walks(&scopes) {
            let axis = if matches!(scope, Scope::Stream(_)) { Axis::Stream } else { Axis::Global };
            let (lowest, highest) = if axis == Axis::Stream { (0, 5) } else { (1, 6) };
            let (mut from, to, next) = match direction {
                Direction::Forward => (lowest, highest, 1),
                Direction::Backward => (highest, lowest, -1),
            };
            let mut found = Vec::new();
            while from != to + next {
                let select = Select {
                    filter: Arc::new(Filter::new(scope.clone())),
                    axis,
                    from,
                    to,
                    head: 6,
                    direction,
                    rows: 100,
                    bytes: usize::MAX,
                    columns: Columns::Places,
                };
                let settings = Settings { examined_rows: examined, ..Settings::default() };
                let slice = read(&connection, &memtable, &select, &settings).unwrap();
                found.extend(slice.rows.iter().map(|message| message.global_position));
                from = slice.covered + next;
            }
            found.sort_unstable();
            assert_eq!(found, [1, 2, 3, 4, 5, 6], "{scope:?}, {examined} at once, {direction:?}");
        }
    }

    fn walks(scopes: &[Scope]) -> impl Iterator<Item = (&Scope, usize, Direction)> {
        let each = |scope| (1..=7).map(move |examined| (scope, examined));
        scopes.iter().flat_map(each).flat_map(|(scope, examined)| {
            [Direction::Forward, Direction::Backward].map(|direction| (scope, examined, direction))
        })
    }
}
