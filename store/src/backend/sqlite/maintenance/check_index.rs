//! Whether an index says what the log says, up to its completion position.

use std::collections::HashMap;

use eventodb_schema::name;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::indexer;
use super::super::memtable::Place;
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
        let places = indexer::suffix(connection, position, SLICE)?;
        if places.is_empty() {
            break;
        }
        for place in places {
            if place.global_position > indexed.completion {
                break 'log;
            }
            position = place.global_position;
            messages += 1;
            streams += u64::from(place.starts_stream);
            let counts = categories.entry(name::category(&place.stream).to_owned()).or_default();
            *counts = (counts.0 + u64::from(place.starts_stream), counts.1 + 1);
            if !has(connection, &place)? {
                problems.add(format!("the message at global position {position} is not in it as the log has it"));
            }
        }
        progress(Step { what, done: messages, of: indexed.messages });
    }
    if (messages, streams) != (indexed.messages, indexed.streams) {
        problems.add(format!("it counts {} messages where the log has {messages}", indexed.messages));
    }
    for table in ["stream_entries", "category_entries", "ids"] {
        let entries: u64 = connection.query_row(&format!("SELECT count(*) FROM idx.{table}"), [], |row| row.get(0))?;
        if entries != messages {
            problems.add(format!("it has {entries} entries in {table} for {messages} messages"));
        }
    }
    compare_categories(connection, &mut categories, problems)
}

/// Whether everything that the index should say of a message is there.
fn has(connection: &Connection, place: &Place) -> rusqlite::Result<bool> {
    let hashes = place.hashes;
    let by_id: Option<i64> = connection
        .prepare_cached("SELECT global_position FROM idx.ids WHERE id = ?1")?
        .query_row([place.id.as_bytes()], |row| row.get(0))
        .optional()?;
    let in_stream = connection
        .prepare_cached(
            "SELECT 1 FROM idx.stream_entries AS e JOIN idx.streams AS s ON s.stream_id = e.stream_id
             WHERE s.name = ?1 AND e.position = ?2 AND e.global_position = ?3 AND e.type_hash = ?4",
        )?
        .exists(params![place.stream, place.position, place.global_position, hashes.kind])?;
    let in_category = connection
        .prepare_cached(
            "SELECT 1 FROM idx.category_entries AS e JOIN idx.categories AS c ON c.category_id = e.category_id
             WHERE c.name = ?1 AND e.global_position = ?2 AND e.stream_hash = ?3 AND e.type_hash = ?4
             AND e.correlation_hash IS ?5",
        )?
        .exists(params![
            name::category(&place.stream),
            place.global_position,
            hashes.stream,
            hashes.kind,
            hashes.correlation
        ])?;
    Ok(by_id == Some(place.global_position) && in_stream && in_category)
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
