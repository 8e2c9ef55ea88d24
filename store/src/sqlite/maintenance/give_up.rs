//! Putting a marker in the place of a message that is damaged or missing, so that the messages behind it can be read
//! again.
//!
//! The marker's stream, position and id are taken from the index, because a damaged row cannot be relied on. If the
//! index does not have the message, the marker goes into a stream of its own.

use std::path::Path;

use eventodb_protocol::Timestamp;
use eventodb_schema::SQLITE_REGISTRY;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::super::checksum::Checker;
use super::super::connection::{self, Attach};
use super::super::directory::Directory;
use super::super::failure::is_damage;
use super::super::memtable::StreamEntry;
use super::super::paths::set_up;
use super::super::runs;
use super::super::whole_row::{WholeRow, note_given_up};
use super::super::{append, index_file, indexer};
use super::files::{self, Namespace};
use super::renew::{Renewed, renew};
use super::repair::{Outcome, build_index, note};
use super::{Error, Progress, database, shown};
use crate::groups::MARKER;

/// Puts a marker (type `$damaged`, data `{}`) in the place of one damaged message of a namespace, on record, and builds
/// the index anew.
///
/// # Errors
/// [`Error::NotDamaged`] if there is nothing to give up, and those of [`super::repair()`].
pub fn give_up(
    directory: &Path,
    namespace: &str,
    global_position: i64,
    progress: &mut Progress<'_>,
) -> Result<Vec<Outcome>, Error> {
    let registry_path = super::registry_of(directory)?;
    let _taken = Directory::take(directory)?;
    let registry = files::open_live(&registry_path, SQLITE_REGISTRY)?;
    let mut namespaces = files::namespaces(&registry).map_err(database(&registry_path))?.into_iter();
    let namespace =
        namespaces.find(|known| known.name == namespace).ok_or_else(|| Error::NoNamespace(namespace.to_owned()))?;
    let path = files::log_path(directory, namespace.incarnation);
    let index = files::index_path(directory, namespace.incarnation);
    if !path.exists() {
        return Err(Error::MissingLog(shown(&path)));
    }
    let log = open(&path)?;
    if !namespace.owns(&log).map_err(database(&path))? {
        return Err(Error::ForeignLog(shown(&path)));
    }
    let known = by_index(&path, &index, global_position);
    // If the end of the log cannot be read, other files know its head.
    let head = files::head(&log).unwrap_or(0).max(files::known_head(&namespace, &log, &index));
    let fault = fault_at(&log, &path, global_position, head)?;
    let replaced = match fault {
        Fault::Page => None,
        Fault::Damaged | Fault::Missing => in_place(&log, known.as_ref(), global_position).map_err(database(&path))?,
    };
    drop(log);
    let (marker, renewed) = match replaced {
        Some(marker) => (marker, None),
        None => {
            let renewed = renew(&path, &namespace, head, progress)?;
            let log = open(&path)?;
            (replace(&log, known.as_ref(), global_position).map_err(database(&path))?, Some(renewed))
        }
    };
    note(&registry_path, &namespace, namespace.marked_head)?;
    let messages = build_index(&path, &index, progress)?;
    Ok(vec![of_log(&namespace, &path, fault, &marker, renewed), of_index(&index, messages)])
}

fn open(path: &Path) -> Result<Connection, Error> {
    let log =
        connection::open(&[Attach::log(Some(path.to_owned()))]).map_err(|error| Error::Database(shown(path), error))?;
    set_up(&log).map_err(database(path))?;
    Ok(log)
}

/// The fault of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Damaged,
    Missing,
    /// SQLite cannot read the page that it should be on.
    Page,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Damaged => "is damaged",
            Self::Missing => "is missing",
            Self::Page => "is on a page that cannot be read",
        })
    }
}

/// The fault of the message at a position of a log that reaches `head`.
fn fault_at(log: &Connection, path: &Path, at: i64, head: i64) -> Result<Fault, Error> {
    if at > head || at < 1 {
        return Err(Error::NotDamaged(at, "the log does not reach it"));
    }
    let failed = database(path);
    let checker = Checker::of_log(log).map_err(&failed)?;
    match is_sound(log, &checker, at) {
        Ok(Some(true)) => Err(Error::NotDamaged(at, "it is as it was written")),
        Ok(Some(false)) => Ok(Fault::Damaged),
        Ok(None) => match checker.missing(at, at).map_err(&failed)? {
            Some(_) => Ok(Fault::Missing),
            None => Err(Error::NotDamaged(at, "an import or a repair left its position out")),
        },
        Err(error) if is_damage(&error) => Ok(Fault::Page),
        Err(error) => Err(failed(error)),
    }
}

/// Whether a message is as it was written; `None` if there is none.
fn is_sound(log: &Connection, checker: &Checker<'_>, at: i64) -> rusqlite::Result<Option<bool>> {
    let mut select = log.prepare(include_str!("../sql/message.sql"))?;
    let mut rows = select.query([at])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let whole = WholeRow::read_checked(row, checker);
    Ok(Some(whole.is_ok_and(|whole| whole.is_some_and(|whole| whole.fault().is_none()))))
}

/// A message as the index has it.
#[derive(Clone)]
struct Indexed {
    id: Uuid,
    stream: String,
    position: i64,
    starts_stream: bool,
}

/// The index's entry of the message at a position, if it is an index of this log and has it.
fn by_index(log: &Path, index: &Path, at: i64) -> Option<Indexed> {
    if !index.exists() {
        return None;
    }
    let alone = index_file::stamp_of_file_alone(index).ok()?;
    let connection =
        connection::open(&[Attach::log(Some(log.to_owned())), Attach::index(Some(index.to_owned()))]).ok()?;
    set_up(&connection).ok()?;
    let follows = alone.is_none_or(|alone| index_file::follows(&connection, &alone).unwrap_or(false));
    if !follows || !indexer::belongs(&connection).ok()? {
        return None;
    }
    indexed(&connection, at).ok()?
}

fn indexed(index: &Connection, at: i64) -> rusqlite::Result<Option<Indexed>> {
    let id = index
        .query_row("SELECT id FROM idx.ids WHERE global_position = ?1", [at], |row| row.get(0).map(Uuid::from_bytes))
        .optional()?;
    let Some(id) = id else { return Ok(None) };
    let Some((stream_id, position)) = in_stream(index, at)? else { return Ok(None) };
    let stream = index
        .query_row("SELECT name FROM idx.streams WHERE stream_id = ?1", [stream_id], |row| row.get(0))
        .optional()?;
    // A stream's id is the global position of its first message.
    Ok(stream.map(|stream| Indexed { id, stream, position, starts_stream: stream_id == at }))
}

/// The stream and the position in it of the message at a global position.
fn in_stream(index: &Connection, at: i64) -> rusqlite::Result<Option<(i64, i64)>> {
    let mut select = index.prepare(include_str!("../sql/all_stream_runs.sql"))?;
    let mut rows = select.query([])?;
    let mut entries: Vec<StreamEntry> = Vec::new();
    while let Some(row) = rows.next()? {
        entries.clear();
        let stream_id = row.get("stream_id")?;
        runs::unpack(stream_id, row, &mut entries)?;
        if let Some(entry) = entries.iter().find(|entry| entry.global_position == at) {
            return Ok(Some((stream_id, entry.position)));
        }
    }
    Ok(None)
}

/// As [`replace`]; `None` if SQLite cannot, because pages are damaged.
fn in_place(log: &Connection, known: Option<&Indexed>, at: i64) -> rusqlite::Result<Option<WholeRow>> {
    match replace(log, known, at) {
        Err(error) if is_damage(&error) => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Puts the marker in its place, in one transaction.
fn replace(log: &Connection, known: Option<&Indexed>, at: i64) -> rusqlite::Result<WholeRow> {
    let transaction = log.unchecked_transaction()?;
    let seed = Checker::of_log(&transaction)?.seed();
    let is_known = known.is_some();
    let known = known.cloned().unwrap_or_else(|| Indexed {
        id: Uuid::now_v7(),
        stream: format!("{MARKER}-{at}"),
        position: 0,
        starts_stream: true,
    });
    let marker = WholeRow {
        global_position: at,
        stream: known.stream,
        position: known.position,
        starts_stream: known.starts_stream,
        id: known.id,
        kind: MARKER.to_owned(),
        correlation: None,
        // Times ascend along the log.
        time: append::last_time(&transaction, seed, at - 1)?.unwrap_or(0),
        metadata: None,
        data: "{}".to_owned(),
    };
    transaction.execute("DELETE FROM log.messages WHERE global_position = ?1", [at])?;
    marker.insert(&mut transaction.prepare_cached(include_str!("../sql/append.sql"))?, seed)?;
    note_given_up(&transaction, at, Timestamp::now().as_micros())?;
    if !is_known {
        mark_beginnings(&transaction, at)?;
    }
    transaction.commit()?;
    Ok(marker)
}

/// A stream that lost its first message begins with the next.
fn mark_beginnings(log: &Connection, after: i64) -> rusqlite::Result<()> {
    let checker = Checker::of_log(log)?;
    let mut select = log.prepare("SELECT starts_stream, min(global_position) FROM log.messages GROUP BY stream")?;
    let firsts: Vec<(bool, i64)> =
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    for (_, at) in firsts.into_iter().filter(|(starts, at)| !starts && *at > after) {
        let mut select = log.prepare_cached(include_str!("../sql/message.sql"))?;
        let mut rows = select.query([at])?;
        let row = rows.next()?.map(|row| WholeRow::read_checked(row, &checker)).transpose()?.flatten();
        drop(rows);
        if let Some(row) = row {
            log.execute("DELETE FROM log.messages WHERE global_position = ?1", params![at])?;
            let row = WholeRow { starts_stream: true, ..row };
            row.insert(&mut log.prepare_cached(include_str!("../sql/append.sql"))?, checker.seed())?;
        }
    }
    Ok(())
}

fn of_log(namespace: &Namespace, log: &Path, fault: Fault, marker: &WholeRow, renewed: Option<Renewed>) -> Outcome {
    let WholeRow { global_position, stream, position, .. } = marker;
    let mut done = vec![format!(
        "it is given up: a message of type {MARKER} stands at global position {global_position}, at position {position} of \
         stream {stream}"
    )];
    if let Some(Renewed { damaged, unreadable }) = renewed {
        done.push(format!("the log was copied around what cannot be read; the damaged one is kept as {damaged}"));
        let stretches = unreadable.iter().map(|(first, last)| {
            format!(
                "global positions {first} to {last} could not be read: those that are not given up count as damaged"
            )
        });
        done.extend(stretches);
    }
    Outcome {
        file: files::name_of(log),
        problems: vec![format!(
            "the message at global position {global_position} of namespace {} {fault}",
            namespace.name
        )],
        done,
        is_usable: true,
    }
}

fn of_index(index: &Path, messages: u64) -> Outcome {
    Outcome {
        file: files::name_of(index),
        problems: Vec::new(),
        done: vec![format!("built anew from the log: {messages} messages")],
        is_usable: true,
    }
}
