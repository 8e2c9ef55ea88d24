//! Background work on one log: folding counts, deleting old batches.

use super::connection::Connection;
use super::error::Failure;
use super::statement::{FOLD, FOLDED, PRUNE};
use crate::model::Incarnation;

/// Messages that one transaction folds.
const FOLD_AT_ONCE: i64 = 20_000;
/// Batches that are kept in any case.
const KEEP_BATCHES: i64 = 10_000;
/// Batches that one statement deletes.
const PRUNE_AT_ONCE: i64 = 10_000;

/// Folds the counts of a log up to its head, and deletes old batches.
pub(super) async fn run(connection: &mut Connection, log: Incarnation) -> Result<(), Failure> {
    while fold(connection, log).await? {}
    connection.query(PRUNE.on(log), &[&KEEP_BATCHES, &PRUNE_AT_ONCE]).await?;
    Ok(())
}

/// Folds some messages. Returns whether there may be more.
async fn fold(connection: &mut Connection, log: Incarnation) -> Result<bool, Failure> {
    connection.begin().await?;
    let folded = match connection.query_one(FOLDED.on(log), &[]).await? {
        // With the row locked, a statement that begins now sees all that was folded before.
        Some(row) => {
            let position: i64 = row.get(0);
            connection.query_one(FOLD.on(log), &[&position, &FOLD_AT_ONCE]).await?.map_or(0, |row| row.get(0))
        }
        None => 0i64,
    };
    connection.commit().await?;
    Ok(folded == FOLD_AT_ONCE)
}
