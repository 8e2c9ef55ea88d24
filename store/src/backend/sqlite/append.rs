//! One commit to the log.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use crate::backend::{Batch, Head};
use crate::log::Entry;

/// Inserts the entries of a batch in one transaction, durable when it returns.
///
/// # Errors
/// [`NotAppended`].
pub(super) fn append(connection: &mut Connection, batch: &Batch, entries: &[Arc<Entry>]) -> Result<(), NotAppended> {
    let transaction = insert(connection, batch, entries).map_err(NotAppended::Before)?;
    transaction.commit().map_err(NotAppended::Committing)
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

/// The head of the log as it is committed.
///
/// # Errors
/// SQLite's.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<Head> {
    let last: Option<(i64, i64)> = connection
        .prepare_cached(include_str!("sql/head.sql"))?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (position, time) = last.unwrap_or_default();
    // One server writes this log, so that batches need no numbers: the position says it all.
    Ok(Head { position, batch: position, time: eventodb_schema::Timestamp::from_micros(time), ..Head::default() })
}
