//! The streams and categories of a batch that is being indexed, and their numbers in the index.
//!
//! A batch has many messages of each. Therefore names are hashed once for each message, all other work is done once for
//! each name, and the messages are grouped without comparing names.

use eventodb_protocol::name;
use foldhash::{HashMap, HashMapExt as _};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::memtable::IndexEntry;

/// The messages of a batch in groups.
pub(super) struct Groups {
    /// The number of each group in the index.
    ids: Vec<i64>,
    /// The group of each message, in 32 bits, because these are most of a batch's memory.
    of: Vec<u32>,
}

impl Groups {
    /// The entries by the id of their group; those of one group in the order of the log.
    pub(super) fn sort<'a>(&self, entries: &[&'a IndexEntry]) -> impl Iterator<Item = (i64, &'a IndexEntry)> {
        let mut next = vec![0; self.ids.len()];
        self.of.iter().for_each(|&group| next[group as usize] += 1);
        let mut groups: Vec<usize> = (0..self.ids.len()).collect();
        groups.sort_unstable_by_key(|&group| self.ids[group]);
        let mut before = 0;
        for group in groups {
            before += std::mem::replace(&mut next[group], before);
        }
        let mut sorted = vec![0; self.of.len()];
        for (entry, &group) in (0u32..).zip(&self.of) {
            let at = &mut next[group as usize];
            sorted[*at] = entry;
            *at += 1;
        }
        let of = |entry: usize| (self.ids[self.of[entry] as usize], entries[entry]);
        sorted.into_iter().map(move |entry| of(entry as usize))
    }
}

/// A batch's messages by stream and by category.
pub(super) struct Interned {
    pub(super) streams: Groups,
    pub(super) categories: Groups,
    /// Streams that begin in the batch.
    pub(super) new_streams: usize,
}

/// Gives each name in `entries` its number, and brings the counts of the categories up to date.
///
/// # Errors
/// SQLite's.
pub(super) fn intern(connection: &Connection, entries: &[&IndexEntry]) -> rusqlite::Result<Interned> {
    let (streams, stream_of) = streams(entries);
    let (categories, category_of) = categories(&streams);
    Ok(Interned {
        new_streams: streams.iter().filter(|stream| stream.starts).count(),
        categories: Groups {
            ids: category_ids(connection, &categories)?,
            of: stream_of.iter().map(|&stream| category_of[stream as usize]).collect(),
        },
        streams: Groups { ids: stream_ids(connection, &streams)?, of: stream_of },
    })
}

struct Stream<'a> {
    name: &'a str,
    /// Global position of its first message in the batch. It is the stream's id, if the stream begins there.
    first: i64,
    starts: bool,
    messages: u32,
}

/// The streams in the order of their first messages, and the stream of each message.
fn streams<'a>(entries: &[&'a IndexEntry]) -> (Vec<Stream<'a>>, Vec<u32>) {
    let mut streams = Vec::new();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut of = Vec::with_capacity(entries.len());
    for entry in entries {
        let number = *numbers.entry(&entry.stream).or_insert(streams.len());
        if number == streams.len() {
            let first = entry.global_position;
            streams.push(Stream { name: &entry.stream, first, starts: entry.starts_stream, messages: 0 });
        }
        streams[number].messages += 1;
        of.push(number as u32);
    }
    (streams, of)
}

/// The id of each stream: the global position of its first message.
fn stream_ids(connection: &Connection, streams: &[Stream<'_>]) -> rusqlite::Result<Vec<i64>> {
    let mut insert = connection.prepare_cached(include_str!("sql/index_stream.sql"))?;
    let mut select = connection.prepare_cached(include_str!("sql/stream_id.sql"))?;
    // In the order of the index, by name, so that each of its pages is visited once.
    let mut by_name: Vec<usize> = (0..streams.len()).collect();
    by_name.sort_unstable_by_key(|&number| streams[number].name);
    let mut ids = vec![0; streams.len()];
    for number in by_name {
        let Stream { name, first, starts, .. } = &streams[number];
        ids[number] = if *starts {
            insert.execute(params![name, first])?;
            *first
        } else {
            match select.query_row([name], |row| row.get(0)).optional()? {
                Some(id) => id,
                None if has_lost_messages(connection)? => {
                    insert.execute(params![name, first])?;
                    *first
                }
                None => return Err(rusqlite::Error::QueryReturnedNoRows),
            }
        };
    }
    Ok(ids)
}

/// Whether the first message of a stream may be damaged.
fn has_lost_messages(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM idx.unplaced")?.exists([])
}

struct Category<'a> {
    name: &'a str,
    /// Global position of its first message in the batch.
    first: i64,
    messages: i64,
    new_streams: i64,
}

/// The categories, and the category of each stream.
fn categories<'a>(streams: &[Stream<'a>]) -> (Vec<Category<'a>>, Vec<u32>) {
    let mut categories = Vec::new();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut of = Vec::with_capacity(streams.len());
    for stream in streams {
        let name = name::category(stream.name);
        let number = *numbers.entry(name).or_insert(categories.len());
        if number == categories.len() {
            categories.push(Category { name, first: stream.first, messages: 0, new_streams: 0 });
        }
        let category = &mut categories[number];
        category.messages += i64::from(stream.messages);
        category.new_streams += i64::from(stream.starts);
        of.push(number as u32);
    }
    (categories, of)
}

/// The id of each category, with its counts brought up to date.
fn category_ids(connection: &Connection, categories: &[Category<'_>]) -> rusqlite::Result<Vec<i64>> {
    let mut upsert = connection.prepare_cached(include_str!("sql/index_category.sql"))?;
    let mut by_name: Vec<usize> = (0..categories.len()).collect();
    by_name.sort_unstable_by_key(|&number| categories[number].name);
    let mut ids = vec![0; categories.len()];
    for number in by_name {
        let Category { name, first, messages, new_streams } = &categories[number];
        ids[number] = upsert.query_row(params![name, first, new_streams, messages], |row| row.get(0))?;
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(global_position: i64, stream: &str) -> IndexEntry {
        IndexEntry {
            global_position,
            stream: stream.into(),
            position: 0,
            starts_stream: false,
            id: uuid::Uuid::from_u128(global_position as u128),
            hashes: super::super::memtable::Hashes { stream: 1, kind: 1, correlation: None },
        }
    }

    #[test]
    fn groups_come_by_their_ids_and_each_in_the_order_of_the_log() {
        let entries: Vec<_> =
            ["b-1", "a-1", "b-2", "b-1", "a-1"].into_iter().zip(11..).map(|(s, p)| entry(p, s)).collect();
        let entries: Vec<_> = entries.iter().collect();
        let (streams, of) = streams(&entries);
        assert_eq!(
            streams.iter().map(|stream| (stream.name, stream.first, stream.messages)).collect::<Vec<_>>(),
            [("b-1", 11, 2), ("a-1", 12, 2), ("b-2", 13, 1)]
        );
        let groups = Groups { ids: vec![7, 9, 2], of };
        let sorted: Vec<_> = groups.sort(&entries).map(|(id, entry)| (id, entry.global_position)).collect();
        assert_eq!(sorted, [(2, 13), (7, 11), (7, 14), (9, 12), (9, 15)]);

        let (categories, of) = categories(&streams);
        let categories: Vec<_> =
            categories.iter().map(|category| (category.name, category.first, category.messages)).collect();
        assert_eq!(categories, [("b", 11, 3), ("a", 12, 2)]);
        assert_eq!(of, [0, 1, 0]);
    }
}
