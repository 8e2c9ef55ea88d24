//! Moving entries from the memtable into the index, in large sorted batches.
//!
//! Each batch is one transaction that also moves the completion position. So the index always covers the log up to
//! there, whenever the process dies.

use eventodb_protocol::group::stream_hash;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::checksum::{Checker, Stored, column};
use super::failure::{READ_AGAIN, READ_PAUSE, is_damage};
use super::interned::{Interned, intern};
use super::many_rows::{Insert, insert};
use super::memtable::{CategoryEntry, Hashes, IndexEntry, StreamEntry, text_hash};
use super::runs::{self, Run};

const STREAM_RUNS: Insert =
    Insert { one: include_str!("sql/index_stream_run.sql"), many: include_str!("sql/index_32_stream_runs.sql") };

const CATEGORY_RUNS: Insert =
    Insert { one: include_str!("sql/index_category_run.sql"), many: include_str!("sql/index_32_category_runs.sql") };

const IDS: Insert = Insert { one: include_str!("sql/index_id.sql"), many: include_str!("sql/index_32_ids.sql") };

/// Puts entries into the index; they must follow its completion position directly. `begins_anew`
/// says that everything before is in the index's file, as [`super::index_file::checkpoint`] returned.
///
/// The memory for one part of the index is freed before the next part is made.
///
/// # Errors
/// SQLite's; a violated constraint means that the log holds an id or a (stream, position) twice.
pub(super) fn index(connection: &mut Connection, entries: Vec<&IndexEntry>, begins_anew: bool) -> rusqlite::Result<()> {
    let Some(&last) = entries.last() else { return Ok(()) };
    let count = entries.len();
    // An immediate one would take the write lock of every attached file, the log's too: each append
    // would wait until the batch is done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let Interned { streams, categories, new_streams } = intern(&transaction, &entries)?;
    index_streams(&transaction, streams.sort(&entries))?;
    drop(streams);
    index_categories(&transaction, categories.sort(&entries))?;
    index_ids(&transaction, entries)?;
    transaction.prepare_cached(include_str!("sql/index_progress.sql"))?.execute(params![
        last.global_position,
        last.id.as_bytes(),
        count as i64,
        new_streams as i64,
        begins_anew,
    ])?;
    transaction.commit()
}

fn index_streams<'a>(
    connection: &Connection,
    entries: impl Iterator<Item = (i64, &'a IndexEntry)>,
) -> rusqlite::Result<()> {
    runs::pack(entries, |runs: &[Run<StreamEntry>]| {
        refuse_overlaps(connection, runs)?;
        insert(connection, &STREAM_RUNS, runs, |row, run| {
            row.bind(run.id)?;
            row.bind(run.last.position)?;
            row.bind(run.last.global_position)?;
            row.bind(&run.packed[..])
        })
    })
}

fn index_categories<'a>(
    connection: &Connection,
    entries: impl Iterator<Item = (i64, &'a IndexEntry)>,
) -> rusqlite::Result<()> {
    runs::pack(entries, |runs: &[Run<CategoryEntry>]| {
        insert(connection, &CATEGORY_RUNS, runs, |row, run| {
            row.bind(run.id)?;
            row.bind(run.last.global_position)?;
            row.bind(&run.packed[..])
        })
    })
}

fn index_ids(connection: &Connection, mut entries: Vec<&IndexEntry>) -> rusqlite::Result<()> {
    entries.sort_unstable_by_key(|entry| entry.id);
    insert(connection, &IDS, &entries, |row, entry| {
        row.bind(&entry.id.as_bytes()[..])?;
        row.bind(entry.global_position)
    })
}

/// Refuses positions that are in the index already. The primary key does not, because it has only the last of a run.
fn refuse_overlaps(connection: &Connection, runs: &[Run<StreamEntry>]) -> rusqlite::Result<()> {
    let mut from = connection.prepare_cached(include_str!("sql/stream_seek.sql"))?;
    // The id of a stream that begins here is new, and so is everything under it.
    for run in runs.iter().filter(|run| run.id != run.first.global_position) {
        if from.exists(params![run.id, run.first.position])? {
            return Err(runs::twice());
        }
    }
    Ok(())
}

/// How far the index reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) completion: i64,
    pub(super) messages: u64,
    pub(super) streams: u64,
}

/// Reads how far the index reaches.
///
/// # Errors
/// SQLite's.
pub(super) fn progress(connection: &Connection) -> rusqlite::Result<Progress> {
    connection
        .prepare_cached("SELECT completion, message_count, stream_count FROM idx.progress")?
        .query_row([], |row| Ok(Progress { completion: row.get(0)?, messages: row.get(1)?, streams: row.get(2)? }))
}

/// Whether this index is one of this log: the identity is the log's, and the message at its
/// completion position is the one that it was built from. A new index is given the log's identity.
///
/// # Errors
/// SQLite's.
pub(super) fn belongs(connection: &Connection) -> rusqlite::Result<bool> {
    let log: Vec<u8> = connection.query_row("SELECT identity FROM log.identity", [], |row| row.get(0))?;
    let index: Option<(Vec<u8>, i64, Option<Vec<u8>>)> = connection
        .query_row("SELECT log_identity, completion, completion_id FROM idx.progress", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((identity, completion, completion_id)) = index else {
        connection.execute(include_str!("sql/index_new.sql"), [log])?;
        return Ok(true);
    };
    Ok(identity == log && completion_id.is_some() == (completion > 0) && is_at(connection, completion, completion_id)?)
}

/// Whether the log has the message of this id at a position. A damaged message there may be the one.
fn is_at(connection: &Connection, position: i64, id: Option<Vec<u8>>) -> rusqlite::Result<bool> {
    let checker = Checker::of_log(connection)?;
    let mut select = connection.prepare_cached(select_suffix(connection)?)?;
    let mut rows = select.query([position - 1])?;
    match rows.next()? {
        Some(row) if row.get::<_, i64>(column::GLOBAL_POSITION)? != position => Ok(id.is_none()),
        Some(row) => match checker.read(row)? {
            Some(stored) => Ok(id.is_some_and(|id| stored.id().is_ok_and(|found| found.as_bytes()[..] == id[..]))),
            None => Ok(true),
        },
        None => Ok(id.is_none()),
    }
}

fn select_suffix(connection: &Connection) -> rusqlite::Result<&'static str> {
    let version: usize = connection.pragma_query_value(Some("log"), "user_version", |row| row.get(0))?;
    Ok(if version == 1 { include_str!("sql/suffix_1.sql") } else { include_str!("sql/suffix.sql") })
}

/// The messages behind a position in the log.
#[derive(Debug, Default)]
pub(super) struct Suffix {
    pub(super) entries: Vec<IndexEntry>,
    /// Global positions of damaged messages between them, whose streams nobody knows; of several missing ones the
    /// first.
    pub(super) damaged: Vec<i64>,
    /// Whether the log cannot be read behind the last damaged one.
    pub(super) is_cut: bool,
}

/// As [`suffix`], but messages that seem to be damaged are read again for a moment, because the disk may only not have
/// been readable.
///
/// # Errors
/// As [`suffix`].
pub(super) fn certain_suffix(connection: &Connection, completion: i64, most: usize) -> rusqlite::Result<Suffix> {
    let mut found = suffix(connection, completion, most)?;
    for _ in 0..READ_AGAIN {
        if found.damaged.is_empty() {
            break;
        }
        std::thread::sleep(READ_PAUSE);
        found = suffix(connection, completion, most)?;
    }
    Ok(found)
}

/// The entries of the messages that follow `completion` in the log, at most `most`.
///
/// # Errors
/// SQLite's, but for a page of the log that is damaged.
pub(super) fn suffix(connection: &Connection, completion: i64, most: usize) -> rusqlite::Result<Suffix> {
    let snapshot = connection.unchecked_transaction()?;
    let checker = Checker::of_log(&snapshot)?;
    let mut select = snapshot.prepare_cached(select_suffix(&snapshot)?)?;
    let mut rows = select.query([completion])?;
    let mut suffix = Suffix::default();
    let mut last = completion;
    while suffix.entries.len() < most {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(error) if is_damage(&error) => {
                suffix.damaged.push(last.saturating_add(1));
                suffix.is_cut = true;
                break;
            }
            Err(error) => return Err(error),
        };
        let at: i64 = row.get(column::GLOBAL_POSITION)?;
        suffix.damaged.extend(checker.missing(last.saturating_add(1), at - 1)?);
        match checker.read(row).and_then(|stored| stored.as_ref().map(entry).transpose()) {
            Ok(Some(entry)) => suffix.entries.push(entry),
            Ok(None) => suffix.damaged.push(at),
            Err(error) if is_damage(&error) => suffix.damaged.push(at),
            Err(error) => return Err(error),
        }
        last = at;
    }
    Ok(suffix)
}

fn entry(stored: &Stored<'_>) -> rusqlite::Result<IndexEntry> {
    let stream = stored.stream()?;
    Ok(IndexEntry {
        global_position: stored.global_position(),
        position: stored.position(),
        starts_stream: stored.starts_stream(),
        id: stored.id()?,
        hashes: Hashes {
            stream: stream_hash(stream),
            kind: text_hash(stored.kind()?),
            correlation: stored.correlation()?.map(text_hash),
        },
        stream: stream.into(),
    })
}

/// Notes damaged messages that are in no run. A caller does so before it indexes messages behind them.
///
/// # Errors
/// SQLite's.
pub(super) fn note_unplaced(connection: &Connection, damaged: &[i64]) -> rusqlite::Result<()> {
    if damaged.is_empty() {
        return Ok(());
    }
    let transaction = connection.unchecked_transaction()?;
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO idx.unplaced (global_position) VALUES (?1)")?;
    damaged.iter().try_for_each(|at| insert.execute([at]).map(|_| ()))?;
    drop(insert);
    transaction.commit()
}

/// The damaged messages that are in no run, in order.
///
/// # Errors
/// SQLite's.
pub(super) fn unplaced(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut select = connection.prepare("SELECT global_position FROM idx.unplaced ORDER BY global_position")?;
    select.query_map([], |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    use rusqlite::hooks::Action;
    use uuid::Uuid;

    use super::super::connection::{self, Attach};
    use super::*;

    #[test]
    fn the_log_can_be_written_while_a_batch_is_indexed() {
        let directory = tempfile::tempdir().unwrap();
        let log = Attach::log(Some(directory.path().join("log.db")));
        let index_of_it = Attach::index(Some(directory.path().join("index.db")));
        let writer = connection::open(std::slice::from_ref(&log)).unwrap();
        writer.busy_timeout(Duration::ZERO).unwrap();
        let mut indexing = connection::open(&[log, index_of_it]).unwrap();
        assert!(belongs(&indexing).unwrap());

        let written = Arc::new(AtomicUsize::new(0));
        let wrote = written.clone();
        let writes = move |_: Action, _: &str, _: &str, _: i64| {
            writer.execute("INSERT INTO log.imports (last_position, written_time) VALUES (1, 1)", []).unwrap();
            writer.execute("DELETE FROM log.imports", []).unwrap();
            wrote.fetch_add(1, SeqCst);
        };
        indexing.update_hook(Some(writes)).unwrap();
        let entry = IndexEntry {
            global_position: 1,
            stream: "account-1".into(),
            position: 0,
            starts_stream: true,
            id: Uuid::from_u128(1),
            hashes: Hashes { stream: 1, kind: 1, correlation: None },
        };
        index(&mut indexing, vec![&entry], true).unwrap();
        assert!(written.load(SeqCst) > 0, "the hook ran inside the batch's transaction");
        assert_eq!(progress(&indexing).unwrap().completion, 1);
    }
}
