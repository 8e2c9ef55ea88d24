//! Comparing an index with its log, up to the index's completion position.

use std::collections::HashMap;

use eventodb_protocol::name;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::indexer;
use super::super::memtable::{CategoryEntry, IndexEntry, StreamEntry};
use super::super::runs::{self, Entry};
use super::check_log::Problems;
use super::{Progress, Step};

/// Messages that are compared at once.
const SLICE: usize = 4096;

/// Compares an index, attached as `idx`, with the log, attached as `log`.
pub(super) fn check(connection: &Connection, what: &str, progress: &mut Progress<'_>) -> Problems {
    let mut problems = Problems::default();
    if let Err(error) = compare(connection, what, &mut problems, progress) {
        problems.add(format!("it cannot be read: {error}"));
    }
    problems
}

fn compare(
    connection: &Connection,
    what: &str,
    problems: &mut Problems,
    progress: &mut Progress<'_>,
) -> rusqlite::Result<()> {
    let verdict: String = connection.query_row("PRAGMA idx.integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        problems.add(verdict);
        return Ok(());
    }
    if !indexer::belongs(connection)? {
        problems.add("it was not built from the log beside it");
        return Ok(());
    }
    let indexed = indexer::progress(connection)?;
    let mut categories: HashMap<String, (u64, u64)> = HashMap::new();
    let (mut position, mut messages, mut streams) = (0, 0u64, 0u64);
    'log: loop {
        let indexer::Suffix { entries, .. } = indexer::suffix(connection, position, SLICE)?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            if entry.global_position > indexed.completion {
                break 'log;
            }
            position = entry.global_position;
            messages += 1;
            streams += u64::from(entry.starts_stream);
            let counts = categories.entry(name::category(&entry.stream).to_owned()).or_default();
            *counts = (counts.0 + u64::from(entry.starts_stream), counts.1 + 1);
            if !has(connection, &entry)? {
                problems.add(format!("the message at global position {position} is not in it as the log has it"));
            }
        }
        progress(Step { what, done: messages, of: indexed.messages });
    }
    if (messages, streams) != (indexed.messages, indexed.streams) {
        problems.add(format!("it counts {} messages where the log has {messages}", indexed.messages));
    }
    let ids = connection.query_row("SELECT count(*) FROM idx.ids", [], |row| row.get(0))?;
    let of_streams = entries::<StreamEntry>(connection, include_str!("../sql/all_stream_runs.sql"))?;
    let of_categories = entries::<CategoryEntry>(connection, include_str!("../sql/all_category_runs.sql"))?;
    for (what, found) in [("streams", of_streams), ("categories", of_categories), ("ids", ids)] {
        if found != messages {
            problems.add(format!("it has {found} entries of {what} for {messages} messages"));
        }
    }
    compare_categories(connection, &mut categories, problems)
}

/// Whether the index has all entries of a message.
fn has(connection: &Connection, entry: &IndexEntry) -> rusqlite::Result<bool> {
    let by_id: Option<i64> = connection
        .prepare_cached("SELECT global_position FROM idx.ids WHERE id = ?1")?
        .query_row([entry.id.as_bytes()], |row| row.get(0))
        .optional()?;
    let of_stream = [include_str!("../sql/stream_id.sql"), include_str!("../sql/stream_forward.sql")];
    let in_stream = holds(connection, of_stream, &entry.stream, entry.position, entry.in_stream())?;
    let of_category = [include_str!("../sql/category_id.sql"), include_str!("../sql/category_forward.sql")];
    let category = name::category(&entry.stream);
    let in_category = holds(connection, of_category, category, entry.global_position, entry.in_category())?;
    Ok(by_id == Some(entry.global_position) && in_stream && in_category)
}

/// Whether the run at or after a position holds an entry.
fn holds<E: Entry + PartialEq>(
    connection: &Connection,
    [id, run]: [&str; 2],
    name: &str,
    position: i64,
    entry: E,
) -> rusqlite::Result<bool> {
    let id: Option<i64> = connection.prepare_cached(id)?.query_row([name], |row| row.get(0)).optional()?;
    let Some(id) = id else { return Ok(false) };
    let mut select = connection.prepare_cached(run)?;
    let mut runs = select.query(params![id, position])?;
    let mut entries = Vec::new();
    if let Some(row) = runs.next()? {
        runs::unpack(id, row, &mut entries)?;
    }
    Ok(entries.contains(&entry))
}

/// How many entries all runs have, whose id comes last in `select`.
fn entries<E: Entry>(connection: &Connection, select: &str) -> rusqlite::Result<u64> {
    let mut select = connection.prepare(select)?;
    let id = select.column_count() - 1;
    let mut runs = select.query([])?;
    let mut entries = Vec::<E>::new();
    let mut counted = 0;
    while let Some(row) = runs.next()? {
        entries.clear();
        runs::unpack(row.get(id)?, row, &mut entries)?;
        counted += entries.len() as u64;
    }
    Ok(counted)
}

fn compare_categories(
    connection: &Connection,
    expected: &mut HashMap<String, (u64, u64)>,
    problems: &mut Problems,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare("SELECT name, stream_count, message_count FROM idx.categories")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if expected.remove(&name) != Some((row.get(1)?, row.get(2)?)) {
            problems.add(format!("category {name} is counted wrongly"));
        }
    }
    expected.keys().for_each(|name| problems.add(format!("category {name} is not in it")));
    Ok(())
}
