//! One commit to the log.

use std::sync::Arc;

use eventodb_protocol::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::checksum::{Checker, Seed, Stored};
use super::groups;
use crate::model::Entry;
use crate::model::{Batch, Head};

/// Inserts the entries of a batch in one transaction, with what happens to groups, durable when it returns. `false` if a
/// group has moved on: nothing is there then.
///
/// # Errors
/// [`NotAppended`].
pub(super) fn append(
    connection: &mut Connection,
    seed: Seed,
    batch: &Batch,
    entries: &[Arc<Entry>],
) -> Result<bool, NotAppended> {
    let transaction = insert(connection, seed, batch, entries).map_err(NotAppended::Before)?;
    for change in &batch.groups {
        if groups::store(&transaction, change).map_err(NotAppended::Before)?.is_none() {
            return Ok(false);
        }
    }
    transaction.commit().map_err(NotAppended::Committing)?;
    Ok(true)
}

/// Why a batch was not committed.
pub(super) enum NotAppended {
    /// A statement failed: nothing of the batch is or will be there.
    Before(rusqlite::Error),
    /// The commit failed: all of it may be on the disk, and be there after a crash.
    Committing(rusqlite::Error),
}

fn insert<'a>(
    connection: &'a mut Connection,
    seed: Seed,
    batch: &Batch,
    entries: &[Arc<Entry>],
) -> rusqlite::Result<Transaction<'a>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare_cached(include_str!("sql/append.sql"))?;
        for entry in entries {
            let message = entry.message();
            insert.execute(params![
                message.global_position,
                message.stream,
                message.position,
                entry.starts_stream(),
                message.id.as_bytes(),
                message.kind,
                entry.correlation(),
                message.time.as_micros(),
                message.metadata,
                message.data,
                Stored::of_entry(entry).checksum(seed),
            ])?;
        }
        if batch.keep_times
            && let Some(last) = entries.last()
        {
            transaction.execute("DELETE FROM log.imports", [])?;
            transaction.execute(
                "INSERT INTO log.imports (last_position, written_time) VALUES (?1, ?2)",
                params![last.message().global_position, batch.after.time.as_micros()],
            )?;
        }
    }
    Ok(transaction)
}

/// Damaged messages before the head that are passed over in search of its time.
const PASSED_OVER: i64 = 1_000;

/// The head of the log as it is committed.
///
/// # Errors
/// SQLite's.
pub(super) fn head(connection: &Connection, seed: Seed) -> rusqlite::Result<Head> {
    let snapshot = connection.unchecked_transaction()?;
    let last: Option<(i64, Option<i64>)> = snapshot
        .prepare_cached(include_str!("sql/head.sql"))?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((position, written_time)) = last else { return Ok(Head::default()) };
    let time = match written_time {
        Some(time) => time,
        None => last_time(&snapshot, seed, position)?.unwrap_or(0),
    };
    // One server writes this log, so that batches need no numbers: the position says it all.
    Ok(Head { position, batch: position, time: Timestamp::from_micros(time), ..Head::default() })
}

/// The time of the last message at or before a position that is as it was written: a changed one would stay in all
/// later times. The caller has a transaction open.
///
/// # Errors
/// SQLite's.
pub(super) fn last_time(snapshot: &Connection, seed: Seed, position: i64) -> rusqlite::Result<Option<i64>> {
    let checker = Checker::new(snapshot, seed);
    let mut select = snapshot.prepare_cached(include_str!("sql/log_backward.sql"))?;
    let mut rows = select.query([0, position, PASSED_OVER])?;
    while let Some(row) = rows.next()? {
        if let Some(stored) = checker.read(row)? {
            return Ok(Some(stored.time()));
        }
    }
    Ok(None)
}
