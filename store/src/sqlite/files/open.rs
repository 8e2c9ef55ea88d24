//! Opening the files of an incarnation: which index fits the log, and what stands in the way of writes.

use std::fs::{self, File};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::super::access::Access;
use super::super::checksum::Seed;
use super::super::directory::Found;
use super::super::evidence::{self, Identity};
use super::super::failure::{fail, is_damage, is_for_now, is_of_the_disk, open_failed};
use super::super::memtable::Memtable;
use super::super::paths::{beside, index, index_path, log, log_path, open_index, remove_database, set_up};
use super::super::registry::Noted;
use super::super::{Location, Shared, append, backfill, connection, index_file, indexer};
use super::Files;
use super::backlog::Backlog;
use super::connections::{Connections, Writer};
use super::indexing::Indexing;
use super::obstacles::Obstacles;
use super::write_back::WriteBack;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::model::{Head, Incarnation};

/// The outcome of an opening.
pub(in crate::sqlite) enum Opened {
    Ready(Box<Files>),
    /// The index lags behind the log by more than the memtable holds. With a connection to both, and the number of the
    /// log's messages.
    Behind(Connection, u64),
}

/// Opens the files of an incarnation; `noted` is what the registry knows of it. Files that cannot be written to now
/// are opened for reading.
pub(in crate::sqlite) fn open(
    shared: &Shared,
    incarnation: Incarnation,
    noted: &Noted,
    append_fault: &Arc<Fault>,
) -> Result<Opened> {
    if shared.location == Location::Memory {
        let files = in_memory(shared, incarnation)?.into_files(shared, incarnation, append_fault);
        return Ok(Opened::Ready(Box::new(files)));
    }
    let file = log_path(shared, incarnation);
    // SQLite would make an empty file, and the loss would go unnoticed.
    if noted.messages != Some(0) && fs::metadata(&file).map_or(0, |metadata| metadata.len()) == 0 {
        return Err(Error::failed(format!("{} is missing or empty: restore it from a backup", file.display())));
    }
    let opened = connection::open_somehow(&[log(shared, incarnation, Access::ReadOnly)]);
    let (writer, access) = opened.map_err(|error| open_failed(&file, error))?;
    set_up(&writer).map_err(fail)?;
    let identity = identify(shared, incarnation, noted, &writer)?;
    let mut known = noted.marked_head;
    // The two connections must open files alike: if only one could write, the other would not see what it writes.
    let least = access.max(Access::Alone);
    let (indexer, index_access) = open_or_renew_index(shared, incarnation, least, &identity, &mut known)?;
    // If it fails, a later one does the work.
    let begins_anew = index_file::checkpoint(&indexer).unwrap_or(false);
    let seed = Seed::of(&identity);
    let most = 2 * shared.settings.memtable_messages;
    let indexer::Progress { completion, messages: indexed, .. } = indexer::progress(&indexer).map_err(fail)?;
    let suffix = indexer::certain_suffix(&indexer, completion, most + 1).map_err(fail)?;
    let indexer::Suffix { entries, damaged, .. } = suffix;
    if entries.len() > most {
        let of = append::head(&indexer, seed).map_err(fail)?.position.unsigned_abs();
        return Ok(Opened::Behind(indexer, of));
    }
    let mut memtable = Memtable::new(completion);
    entries.into_iter().for_each(|entry| memtable.push(entry));
    let messages = indexed + memtable.len() as u64;
    let head = append::head(&writer, seed).map_err(fail)?;
    let lost_end = (head.position < known).then_some((head.position, known));
    let unplaced = unplaced(shared, incarnation, &indexer, damaged)?;
    let found = Found::database(&file).map_err(Error::failed)?;
    let opening = Opening {
        lacks_checksums: backfill::unchecked(&writer).map_err(fail)?.is_some(),
        writer: Writer { connection: writer, head },
        indexer: Some(indexer),
        access: access.max(index_access),
        memtable,
        seed,
        known,
        obstacles: Obstacles::new(incarnation, found, lost_end, unplaced),
        write_ahead: fs::metadata(beside(&file, "-wal")).map_or(0, |metadata| metadata.len()),
        indexing: Indexing::new(File::open(index_path(shared, incarnation)).ok(), begins_anew),
    };
    let files = opening.into_files(shared, incarnation, append_fault);
    if noted.messages.is_some_and(|noted| noted != messages) {
        correct_count(&files, shared, incarnation)?;
    }
    Ok(Opened::Ready(Box::new(files)))
}

/// What was opened and found out.
struct Opening {
    writer: Writer,
    indexer: Option<Connection>,
    access: Access,
    memtable: Memtable,
    seed: Seed,
    /// A head that the log is known to have had.
    known: i64,
    lacks_checksums: bool,
    obstacles: Obstacles,
    /// Bytes in the log's write-ahead log.
    write_ahead: u64,
    indexing: Indexing,
}

impl Opening {
    fn into_files(self, shared: &Shared, incarnation: Incarnation, append_fault: &Arc<Fault>) -> Files {
        let Head { position, .. } = self.writer.head;
        Files {
            connections: Connections::new(self.writer, self.indexer, self.access),
            backlog: Backlog::new(self.memtable, Arc::clone(&shared.waiting)),
            write_back: WriteBack::new(self.write_ahead),
            obstacles: self.obstacles,
            seed: self.seed,
            noted: AtomicBool::new(false),
            mark: shared.marks.open(incarnation, position, self.known),
            last_append: Mutex::new(Instant::now()),
            last_use: Mutex::new(Instant::now()),
            append_fault: Arc::clone(append_fault),
            lacks_checksums: AtomicBool::new(self.lacks_checksums),
            backfill_fault: Fault::of("computing checksums"),
            indexing: self.indexing,
        }
    }
}

fn in_memory(shared: &Shared, incarnation: Incarnation) -> Result<Opening> {
    let databases = [log(shared, incarnation, Access::Shared), index(shared, incarnation, Access::Shared)];
    let connection =
        connection::open(&databases).map_err(|error| open_failed(&log_path(shared, incarnation), error))?;
    indexer::belongs(&connection).map_err(fail)?;
    let seed = Seed::of(&evidence::identity(&connection).map_err(fail)?);
    let head = append::head(&connection, seed).map_err(fail)?;
    Ok(Opening {
        writer: Writer { connection, head },
        indexer: None,
        access: Access::Shared,
        memtable: Memtable::new(0),
        seed,
        known: head.position,
        lacks_checksums: false,
        obstacles: Obstacles::default(),
        write_ahead: 0,
        indexing: Indexing::new(None, false),
    })
}

/// Opens the index; one that is unusable is thrown away and begun anew. `known` is raised to the head that it alone
/// knew.
fn open_or_renew_index(
    shared: &Shared,
    incarnation: Incarnation,
    least: Access,
    identity: &[u8],
    known: &mut i64,
) -> Result<(Connection, Access)> {
    let file = index_path(shared, incarnation);
    let has_index = file.exists();
    let opened = match open_index(shared, incarnation, least) {
        // SQLite also calls a page damaged that could not be read for a moment.
        Err(connection::Error::Sqlite(error)) if is_damage(&error) => open_index(shared, incarnation, least),
        opened => opened,
    };
    let error = match opened {
        Ok(opened) => return Ok(opened),
        // The system lacks something at the moment, which says nothing about the index.
        Err(connection::Error::Sqlite(error)) if has_index && is_for_now(&error) => return Err(fail(error)),
        Err(connection::Error::Create(error)) => return Err(Error::unavailable(error)),
        Err(error) => error,
    };
    // The head that only the index knows is kept before the index goes.
    let seen = evidence::seen_by_index(&file, identity).unwrap_or(0);
    if seen > *known {
        shared.registry.mark_heads(&[(incarnation, seen)]).map_err(fail)?;
        *known = seen;
    }
    tracing::warn!(incarnation = incarnation.0, %error, "the index is unusable and will be built anew");
    remove_database(&file).map_err(Error::failed)?;
    open_index(shared, incarnation, least).map_err(|error| open_failed(&file, error))
}

/// The damaged messages whose streams are not known, in order: those that the index has noted, and those that were
/// `found` behind it. Nothing may be written until they are given up, because their positions in their streams would be
/// given out again.
fn unplaced(shared: &Shared, incarnation: Incarnation, index: &Connection, found: Vec<i64>) -> Result<Vec<i64>> {
    let mut unplaced = indexer::unplaced(index).map_err(fail)?;
    unplaced.extend(found);
    unplaced.sort_unstable();
    unplaced.dedup();
    for at in &unplaced {
        shared.damage.met(&shared.registry, incarnation, *at);
    }
    Ok(unplaced)
}

/// Has the registry count the messages again, because the log was replaced, perhaps by one from a backup.
fn correct_count(files: &Files, shared: &Shared, incarnation: Incarnation) -> Result<()> {
    match shared.registry.note_messages(incarnation, None) {
        Ok(()) => files.noted.store(true, SeqCst),
        Err(error) if is_of_the_disk(&error) => {
            tracing::warn!(incarnation = incarnation.0, %error, "the registry's count of messages stays wrong");
        }
        Err(error) => return Err(fail(error)),
    }
    Ok(())
}

/// The identity of a log, which must be its namespace's.
fn identify(shared: &Shared, incarnation: Incarnation, noted: &Noted, log: &Connection) -> Result<Vec<u8>> {
    let head = last_position(log).map_err(fail)?;
    let found = evidence::identify(log, noted, head).map_err(fail)?;
    let identity = evidence::identity(log).map_err(fail)?;
    match found {
        Identity::Same => Ok(identity),
        Identity::Unknown => {
            match shared.registry.adopt_identity(incarnation, &identity) {
                // The next opening tries it again.
                Err(error) if !is_of_the_disk(&error) => Err(fail(error)),
                _ => Ok(identity),
            }
        }
        Identity::Foreign => {
            let file = log_path(shared, incarnation);
            Err(Error::failed(format!(
                "{} is the log of another namespace: put the right one in its entry, from a backup perhaps",
                file.display()
            )))
        }
    }
}

/// The global position of the last message of a log, attached as `log`; 0 if there is none.
///
/// # Errors
/// SQLite's.
pub(in crate::sqlite) fn last_position(log: &Connection) -> rusqlite::Result<i64> {
    log.query_row("SELECT coalesce(max(global_position), 0) FROM log.messages", [], |row| row.get(0))
}
