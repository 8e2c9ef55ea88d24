//! Slices of messages.
//!
//! A read of a whole namespace walks along the log. A read of a stream or of categories walks along their entries, in
//! the index and then in the memtable, and fetches the matching rows from the log. So does a search for types or a
//! correlation in a namespace that has not too many categories. Filters are answered from the entries' hashes; a hash
//! of a type or a correlation is confirmed by the row.

mod categories;
mod log;
mod steps;
mod stream;

use eventodb_protocol::message::MessageRef;
use eventodb_protocol::{Direction, Filter, Scope, Timestamp};
use parking_lot::RwLock;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::Settings;
use super::checksum::{Checker, Seed, Stored, column};
use super::failure::{ReadError, is_damage};
use super::memtable::{Hashes, Memtable, text_hash};
use crate::model::{Axis, Columns, Rows, Select, Slice};

/// The parts of a log that a read needs besides its files.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) memtable: &'a RwLock<Memtable>,
    pub(super) seed: Seed,
    /// Damaged messages whose stream is not known, in order.
    pub(super) unplaced: &'a [i64],
}

/// Reads one slice; looks at a bounded number of index entries in search of matches. It ends before a damaged message.
///
/// # Errors
/// SQLite's, and [`ReadError::Damaged`] if nothing comes before the damaged message.
pub(super) fn read(
    connection: &Connection,
    known: Known<'_>,
    select: &Select,
    settings: &Settings,
) -> Result<Slice, ReadError> {
    // One transaction takes the files' locks once, not for each row. It begins with its first
    // statement, which comes after the look into the memtable.
    let transaction = connection.unchecked_transaction()?;
    let Settings { examined_rows: examined, merged_categories, .. } = *settings;
    let Known { memtable, seed, unplaced } = known;
    let wanted = Wanted::new(&select.filter);
    let checker = Checker::new(connection, seed);
    let walk = Walk { connection, memtable, checker, unplaced, select, wanted, examined, merged_categories };
    let slice = match &select.filter.scope {
        Scope::All => walk.log(),
        Scope::Stream(stream) => walk.stream(stream),
        Scope::Categories(categories) => walk.categories(categories),
    }?;
    match transaction.commit() {
        // If a damaged page ended the slice, the end of the transaction fails as well. Nothing was written in it.
        Err(error) if !is_damage(&error) => Err(error.into()),
        _ => Ok(slice),
    }
}

/// Appends the message at a global position. The caller has a transaction open.
///
/// # Errors
/// SQLite's, and [`ReadError::Damaged`].
pub(super) fn fetch(checker: &Checker<'_>, connection: &Connection, at: i64, rows: &mut Rows) -> Result<(), ReadError> {
    let mut select = connection.prepare_cached(include_str!("../sql/message.sql"))?;
    let mut found = select.query([at])?;
    let sound = row_at(checker, at, found.next(), |stored| {
        rows.push(message(stored, stored.stream()?, Columns::All)?);
        Ok(())
    })?;
    sound.ok_or(ReadError::Damaged(at))
}

/// The result of `take` for the row at a global position. `None` if the row is damaged, or missing at a position at
/// which the log has no gaps. If this row is missing, the query may have found one at another position.
///
/// # Errors
/// SQLite's; `QueryReturnedNoRows` if the row is missing where a gap may be: the index does not fit the log.
fn row_at<T>(
    checker: &Checker<'_>,
    at: i64,
    found: rusqlite::Result<Option<&Row<'_>>>,
    take: impl FnOnce(&Stored<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let taken = found.and_then(|row| match row {
        Some(row) if row.get_ref(column::GLOBAL_POSITION)? == ValueRef::Integer(at) => {
            checker.read(row)?.as_ref().map(take).transpose()
        }
        _ if checker.missing(at, at)?.is_some() => Ok(None),
        _ => Err(rusqlite::Error::QueryReturnedNoRows),
    });
    match taken {
        Err(error) if is_damage(&error) => Ok(None),
        taken => taken,
    }
}

/// One read under way.
struct Walk<'a> {
    connection: &'a Connection,
    memtable: &'a RwLock<Memtable>,
    checker: Checker<'a>,
    unplaced: &'a [i64],
    select: &'a Select,
    wanted: Wanted<'a>,
    /// At most this number of entries of each category are looked at.
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

    /// Whether an entry may match. Its type and correlation are only compared by their hashes.
    fn admits(&self, hashes: Hashes) -> bool {
        self.admits_kind(hashes.kind)
            && (self.correlation.is_none() || self.correlation == hashes.correlation)
            && self.filter.group.is_none_or(|group| group.owns_hash(hashes.stream))
    }

    fn admits_kind(&self, kind: u32) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// Whether the message of an admitted entry matches. The hash of a stream decides its group; whatever else is asked
    /// for is decided by the row.
    fn confirms(&self, stored: &Stored<'_>) -> rusqlite::Result<bool> {
        Ok(!self.filter.has_conditions() || self.filter.matches(stored.traits()?))
    }
}

/// A message of this stream.
fn message<'a>(stored: &Stored<'a>, stream: &'a str, columns: Columns) -> rusqlite::Result<MessageRef<'a>> {
    let positions = MessageRef {
        id: uuid::Uuid::nil(),
        stream,
        kind: stored.kind()?,
        position: stored.position(),
        global_position: stored.global_position(),
        data: "",
        metadata: None,
        time: Timestamp::default(),
    };
    if columns == Columns::Positions {
        return Ok(positions);
    }
    Ok(MessageRef {
        id: stored.id()?,
        data: stored.data()?,
        metadata: stored.metadata()?,
        time: Timestamp::from_micros(stored.time()),
        ..positions
    })
}

impl Walk<'_> {
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

    /// A slice that ends before a damaged message; `covered` is the position of the last entry before it.
    fn ending_before(&self, damaged: i64, rows: Rows, covered: Option<i64>) -> Result<Slice, ReadError> {
        match covered {
            Some(covered) if !rows.is_empty() => Ok(Slice { rows, covered }),
            _ => Err(ReadError::Damaged(damaged)),
        }
    }

    fn is_forward(&self) -> bool {
        self.select.direction == Direction::Forward
    }

    /// The bound that a walk starts from.
    fn start(&self) -> i64 {
        let (low, high) = self.bounds();
        if self.is_forward() { low } else { high }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eventodb_protocol::message::Message;
    use rusqlite::params;

    use super::super::connection::{self, Attach};
    use super::super::indexer;
    use super::super::memtable::IndexEntry;
    use super::*;
    use crate::model::Entry;

    /// An entry of `account-1`, the only stream of the log.
    fn entry(global_position: i64) -> IndexEntry {
        IndexEntry {
            global_position,
            stream: "account-1".into(),
            position: global_position - 1,
            starts_stream: global_position == 1,
            id: uuid::Uuid::from_u128(global_position.unsigned_abs().into()),
            hashes: Hashes { stream: 1, kind: text_hash("Opened"), correlation: None },
        }
    }

    /// Puts the message of an entry into the log.
    fn insert(connection: &Connection, entry: &IndexEntry, seed: Seed) {
        let IndexEntry { global_position, position, stream, .. } = entry;
        let message = Message {
            id: entry.id,
            stream: stream.clone(),
            kind: "Opened".into(),
            position: *position,
            global_position: *global_position,
            data: "{}".into(),
            metadata: None,
            time: Timestamp::default(),
        };
        let checksum = Stored::of_entry(&Entry::new(message, entry.starts_stream)).checksum(seed);
        let insert = "INSERT INTO log.messages VALUES (?1, ?2, ?3, ?4, ?5, 'Opened', NULL, 0, NULL, '{}', ?6)";
        let values = params![global_position, stream, position, entry.starts_stream, entry.id.as_bytes(), checksum];
        connection.execute(insert, values).unwrap();
    }

    /// Entries leave the memtable after the index has them: for a moment both have them. A walk through the index whose
    /// bound of entries falls there must not pass for one that has seen them.
    #[test]
    fn a_walk_that_ends_where_index_and_memtable_overlap_misses_nothing() {
        let seed = Seed::of(b"a log's identity");
        let mut connection = connection::open(&[Attach::log(None), Attach::index(None)]).unwrap();
        assert!(indexer::belongs(&connection).unwrap());
        let entries: Vec<IndexEntry> = (1..=6).map(entry).collect();
        entries.iter().for_each(|entry| insert(&connection, entry, seed));
        indexer::index(&mut connection, entries[..4].iter().collect(), true).unwrap();
        let mut memtable = Memtable::new(2);
        entries[2..].iter().for_each(|entry| memtable.push(entry.clone()));
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
                    columns: Columns::Positions,
                };
                let settings = Settings { examined_rows: examined, ..Settings::default() };
                let known = Known { memtable: &memtable, seed, unplaced: &[] };
                let slice = read(&connection, known, &select, &settings).unwrap();
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
