//! Looking up versions, ids, streams, categories and counts.
//!
//! Each function looks into the memtable first and into the index afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use eventodb_protocol::Timestamp;
use eventodb_protocol::message::Message;
use eventodb_protocol::name;
use eventodb_protocol::reply::{CategoryListed, StreamListed};
use eventodb_protocol::request::ListPage;
use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use uuid::Uuid;

use super::checksum::{Checker, Seed, column};
use super::failure::{ReadError, is_damage};
use super::memtable::Memtable;
use super::read::{self, Known};
use super::{append, indexer};
use crate::model::{Counts, Rows};

/// The last message of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    position: i64,
    global_position: i64,
}

/// The last position of each stream; -1 for one without messages.
///
/// # Errors
/// SQLite's, and [`ReadError::Damaged`] if a damaged message may be the end of a stream; so for all functions here.
pub(super) fn versions(connection: &Connection, known: Known<'_>, streams: &[Arc<str>]) -> Result<Vec<i64>, ReadError> {
    let recent: Vec<Option<Last>> = {
        let memtable = known.memtable.read();
        streams.iter().map(|stream| recent_last(&memtable, stream)).collect()
    };
    let answers = streams.iter().zip(recent).map(|(stream, recent)| {
        let last = match recent {
            Some(last) => Some(last),
            None => indexed_last(connection, stream)?,
        };
        match (last, known.unplaced.last()) {
            (Some(last), Some(unplaced)) if last.global_position < *unplaced => Err(ReadError::Damaged(*unplaced)),
            (None, Some(unplaced)) => Err(ReadError::Damaged(*unplaced)),
            (last, _) => Ok(last.map_or(-1, |last| last.position)),
        }
    });
    answers.collect()
}

fn indexed_last(connection: &Connection, stream: &str) -> rusqlite::Result<Option<Last>> {
    connection
        .prepare_cached(include_str!("sql/stream_last.sql"))?
        .query_row([stream], |row| Ok(Last { position: row.get(0)?, global_position: row.get(1)? }))
        .optional()
}

/// The messages with these ids. An index that leads to another message is damaged, as if it led to none.
pub(super) fn find(connection: &Connection, known: Known<'_>, ids: &[Uuid]) -> Result<Vec<Message>, ReadError> {
    let recent: Vec<Option<i64>> = {
        let memtable = known.memtable.read();
        ids.iter().map(|id| memtable.find(id)).collect()
    };
    let snapshot = connection.unchecked_transaction()?;
    let checker = Checker::new(&snapshot, known.seed);
    let mut select = snapshot.prepare_cached("SELECT global_position FROM idx.ids WHERE id = ?1")?;
    let mut found = Vec::new();
    for (id, recent) in ids.iter().zip(recent) {
        let position = match recent {
            Some(position) => Some(position),
            None => select.query_row([id.as_bytes()], |row| row.get(0)).optional()?,
        };
        if let Some(position) = position {
            let mut rows = Rows::default();
            read::fetch(&checker, &snapshot, position, &mut rows)?;
            if rows.last().is_none_or(|message| message.id != *id) {
                return Err(rusqlite::Error::QueryReturnedNoRows.into());
            }
            found.extend(rows.iter().map(|message| message.to_message()));
        }
    }
    Ok(found)
}

/// The message with this id. If there is none, a damaged message whose stream is not known may be it.
pub(super) fn message(connection: &Connection, known: Known<'_>, id: Uuid) -> Result<Option<Message>, ReadError> {
    match (find(connection, known, &[id])?.pop(), known.unplaced.first()) {
        (None, Some(unplaced)) => Err(ReadError::Damaged(*unplaced)),
        (found, _) => Ok(found),
    }
}

/// The global position of the first message up to `head` that is at or after `time`, by halving: times ascend with
/// positions. A damaged message tells no time, and is not passed over: the position is its own if the next sound message
/// is at or after `time`.
pub(super) fn position_at(
    connection: &Connection,
    known: Known<'_>,
    time: Timestamp,
    head: i64,
) -> Result<i64, ReadError> {
    let snapshot = connection.unchecked_transaction()?;
    let checker = Checker::new(&snapshot, known.seed);
    let mut select = snapshot.prepare_cached(include_str!("sql/log_forward.sql"))?;
    // Messages before `low` are earlier; from `high` on none is, and `found` is the first of those.
    let (mut low, mut high, mut found) = (1, head.saturating_add(1), head.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let rows = select.query([middle, high - 1, high - middle])?;
        match Probe::of(&checker, rows, (middle, high - 1)) {
            Ok(Probe { sound: Some((position, there)), .. }) if there < time.as_micros() => low = position + 1,
            Ok(Probe { first, .. }) => (high, found) = (middle, first.unwrap_or(found)),
            Err(error) if is_damage(&error) => return Err(ReadError::Damaged(middle)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// A look at the first messages within bounds.
struct Probe {
    /// Position of the first one, damaged or not.
    first: Option<i64>,
    /// Position and time of the first one that is as it was written.
    sound: Option<(i64, i64)>,
}

impl Probe {
    /// At the rows within these bounds.
    fn of(checker: &Checker<'_>, mut rows: rusqlite::Rows<'_>, (low, high): (i64, i64)) -> rusqlite::Result<Self> {
        let mut first = None;
        while let Some(row) = rows.next()? {
            let at: i64 = row.get(column::GLOBAL_POSITION)?;
            if first.is_none() {
                first = checker.missing(low, at - 1)?.or(Some(at));
            }
            if let Some(stored) = checker.read(row)? {
                return Ok(Self { first, sound: Some((at, stored.time())) });
            }
        }
        let first = match first {
            Some(first) => Some(first),
            None => checker.missing(low, high)?,
        };
        Ok(Self { first, sound: None })
    }
}

/// One page of streams, by byte order of their names.
pub(super) fn streams(
    connection: &Connection,
    known: Known<'_>,
    page: &ListPage,
) -> Result<Vec<StreamListed>, ReadError> {
    let memtable = known.memtable;
    let recent: HashMap<Arc<str>, Last> = {
        let memtable = memtable.read();
        let mut started: Vec<&Arc<str>> = memtable.started_streams().filter(|name| page.wants(name)).collect();
        if started.len() > page.limit {
            started.select_nth_unstable(page.limit);
            started.truncate(page.limit);
        }
        started
            .into_iter()
            .map(|name| (name.clone(), recent_last(&memtable, name).expect("it has just been met there")))
            .collect()
    };
    let mut names: Vec<Arc<str>> = recent.keys().cloned().collect();
    {
        let mut select = connection.prepare_cached(include_str!("sql/stream_names.sql"))?;
        // One bound alone: of two, SQLite seeks the first and steps to the second.
        let mut rows = select.query(params![page.first(), page.limit as i64 + 1])?;
        while let Some(row) = rows.next()? {
            let name = row.get_ref(0)?.as_str()?;
            if !name.starts_with(&page.prefix) {
                break;
            }
            if page.wants(name) {
                names.push(name.into());
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    names.truncate(page.limit);
    let mut listed = Vec::with_capacity(names.len());
    for name in names {
        let newest = recent_last(&memtable.read(), &name);
        let last = match newest {
            Some(last) => Some(last),
            None => indexed_last(connection, &name)?,
        };
        if let Some(last) = last.or_else(|| recent.get(&name).copied()) {
            listed.push(StreamListed {
                stream: name.as_ref().to_owned(),
                version: last.position,
                last_activity: time_of(connection, known.seed, last.global_position)?,
            });
        }
    }
    Ok(listed)
}

fn recent_last(memtable: &Memtable, stream: &str) -> Option<Last> {
    let entry = memtable.stream(stream)?.back()?;
    Some(Last { position: entry.position, global_position: entry.global_position })
}

fn time_of(connection: &Connection, seed: Seed, global_position: i64) -> Result<Timestamp, ReadError> {
    let snapshot = connection.unchecked_transaction()?;
    let mut rows = Rows::default();
    read::fetch(&Checker::new(&snapshot, seed), &snapshot, global_position, &mut rows)?;
    Ok(rows.last().map(|message| message.time).unwrap_or_default())
}

/// One page of categories, counted at one moment.
pub(super) fn categories(
    connection: &mut Connection,
    memtable: &RwLock<Memtable>,
    page: &ListPage,
) -> rusqlite::Result<Vec<CategoryListed>> {
    let (snapshot, mut counted, _) = at_one_moment(connection, memtable, |memtable, completion| {
        let mut counted: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (name, entries) in memtable.categories().filter(|(name, _)| page.wants(name)) {
            counted.insert(name.to_owned(), (entries.new_streams, entries.entries.len() as u64));
        }
        for entry in memtable.up_to(completion) {
            if let Some((streams, messages)) = counted.get_mut(name::category(&entry.stream)) {
                *streams -= u64::from(entry.starts_stream);
                *messages -= 1;
            }
        }
        counted
    })?;
    let mut select = snapshot.prepare_cached(include_str!("sql/categories.sql"))?;
    // One more than wanted, because the first may be the cursor itself.
    let mut rows = select.query(params![page.first(), page.limit as i64 + 1])?;
    while let Some(row) = rows.next()? {
        let category = row.get_ref(0)?.as_str()?;
        if !category.starts_with(&page.prefix) {
            break;
        }
        if page.wants(category) {
            let (streams, messages) = counted.entry(category.to_owned()).or_default();
            *streams += row.get::<_, u64>(1)?;
            *messages += row.get::<_, u64>(2)?;
        }
    }
    let page = counted.into_iter().take(page.limit);
    Ok(page
        .map(|(category, (stream_count, message_count))| CategoryListed { category, stream_count, message_count })
        .collect())
}

/// How many messages and streams there are, counted at one moment.
pub(super) fn counts(connection: &mut Connection, known: Known<'_>) -> rusqlite::Result<Counts> {
    let (snapshot, (messages, streams), indexed) =
        at_one_moment(connection, known.memtable, |memtable, completion| {
            let (mut messages, mut streams) = (memtable.len() as u64, memtable.new_streams());
            for entry in memtable.up_to(completion) {
                messages -= 1;
                streams -= u64::from(entry.starts_stream);
            }
            (messages, streams)
        })?;
    let last_activity = append::last_time(&snapshot, known.seed, i64::MAX)?.map(Timestamp::from_micros);
    Ok(Counts { messages: messages + indexed.messages, streams: streams + indexed.streams, last_activity })
}

/// How many bytes the log and its index take.
pub(super) fn bytes(connection: &Connection) -> rusqlite::Result<u64> {
    connection.prepare_cached(include_str!("sql/bytes.sql"))?.query_one([], |row| row.get(0))
}

/// A snapshot of the index, the result of `look` at the memtable, and the index's completion position, which `look` is
/// given.
///
/// Entries leave the memtable some time after the index has them, so that the two overlap, and counting must leave out
/// the overlap. No entry leaves while the memtable is locked. The snapshot is taken under that lock, so that the index
/// reaches at least to the beginning of the memtable.
fn at_one_moment<'a, T>(
    connection: &'a mut Connection,
    memtable: &RwLock<Memtable>,
    look: impl Fn(&Memtable, i64) -> T,
) -> rusqlite::Result<(Transaction<'a>, T, indexer::Progress)> {
    let snapshot = connection.transaction()?;
    let memtable = memtable.read();
    // The snapshot is taken by the first statement, which is this one.
    let progress = indexer::progress(&snapshot)?;
    if progress.completion < memtable.completion() {
        // The index lost entries that it held: it is damaged.
        return Err(rusqlite::Error::QueryReturnedNoRows);
    }
    let seen = look(&memtable, progress.completion);
    drop(memtable);
    Ok((snapshot, seen, progress))
}
