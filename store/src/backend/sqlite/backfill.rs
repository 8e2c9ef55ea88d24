//! Checksums for the messages of a log that a version without them wrote.
//!
//! They are computed while the log is served, a batch at a time under the writer's lock, with pauses as long as the
//! batches. Each batch notes in its own transaction how far it came, so that the work goes on after a crash.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::checksum::{Seed, Stored};
use super::failure::is_damage;
use super::files::Files;
use super::storage::SqliteStorage;
use super::whole_row::WholeRow;

/// Messages of one batch: appends wait as long as it takes.
const BATCH: i64 = 256;
/// The shortest pause between two batches.
const PAUSE: Duration = Duration::from_millis(1);
/// The pause after a batch that failed.
const AFTER_A_FAULT: Duration = Duration::from_secs(1);

/// What a batch did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Bytes of text that were written anew.
    pub(super) bytes: u64,
    /// Messages that cannot have been written as they are. They stay without a checksum, which tells that they are damaged.
    pub(super) damaged: Vec<i64>,
    /// Whether none is left.
    pub(super) is_all: bool,
}

/// Computes the next checksums of the log that is attached as `log`.
///
/// # Errors
/// SQLite's.
pub(super) fn batch(connection: &mut Connection, seed: Seed) -> rusqlite::Result<Done> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut outcome = Done::default();
    let Some((done, last)) = unchecked(&transaction)? else { return Ok(Done { is_all: true, ..outcome }) };
    let mut reached = last;
    {
        let mut select = transaction.prepare_cached(include_str!("sql/unchecked_rows.sql"))?;
        let mut update =
            transaction.prepare_cached("UPDATE log.messages SET checksum = ?2 WHERE global_position = ?1")?;
        let mut rows = select.query([done, last, BATCH])?;
        let mut sums = Vec::new();
        while let Some(row) = rows.next()? {
            let at: i64 = row.get(0)?;
            match (Stored::of_row(row)?, WholeRow::read(row)) {
                (Some(stored), Ok(whole)) if whole.fault().is_none() => {
                    outcome.bytes += whole.bytes() as u64;
                    sums.push((at, stored.checksum(seed)));
                }
                (_, Err(error)) if !is_damage(&error) => return Err(error),
                _ => outcome.damaged.push(at),
            }
            reached = at;
        }
        drop(rows);
        let looked_at = sums.len() + outcome.damaged.len();
        outcome.is_all = looked_at < BATCH as usize || reached == last;
        for (at, sum) in sums {
            update.execute(params![at, sum])?;
        }
    }
    match outcome.is_all {
        true => transaction.execute("DELETE FROM log.unchecked", [])?,
        false => transaction.execute("UPDATE log.unchecked SET done = ?1", [reached])?,
    };
    transaction.commit()?;
    Ok(outcome)
}

/// The positions between which messages may lack a checksum, while there may be any.
///
/// # Errors
/// SQLite's.
pub(super) fn unchecked(log: &Connection) -> rusqlite::Result<Option<(i64, i64)>> {
    log.query_row("SELECT done, last_position FROM log.unchecked", [], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

impl SqliteStorage {
    /// Computes checksums for as long as the files stay open and some are missing.
    pub(super) fn start_backfill(self: &Arc<Self>, files: &Files) {
        if !files.lacks_checksums.load(SeqCst) || self.backfilling.swap(true, SeqCst) {
            return;
        }
        let incarnation = self.incarnation.0;
        tracing::info!(incarnation, "computing the checksums of messages that an earlier version wrote");
        // The files are not held between batches, so that they can be closed.
        let storage = Arc::downgrade(self);
        self.shared.threads.write(Box::pin(async move {
            loop {
                let Some(storage) = storage.upgrade() else { return };
                let begun = Instant::now();
                let of_batch = storage.clone();
                let progress = tokio::task::spawn_blocking(move || of_batch.backfill_batch()).await;
                let pause = match progress {
                    Ok(Progress::Some) => begun.elapsed().max(PAUSE),
                    Ok(Progress::Failed) => AFTER_A_FAULT,
                    // A panic, which is a fault of this program, is not tried again.
                    Ok(Progress::Stopped) | Err(_) => {
                        storage.backfilling.store(false, SeqCst);
                        return;
                    }
                };
                drop(storage);
                tokio::time::sleep(pause).await;
            }
        }));
    }

    fn backfill_batch(self: &Arc<Self>) -> Progress {
        let Some(files) = self.opened_files() else { return Progress::Stopped };
        let incarnation = self.incarnation.0;
        match files.backfill() {
            Ok(Done { damaged, is_all, .. }) => {
                files.backfill_fault.mended(incarnation);
                damaged.into_iter().for_each(|at| self.shared.damage.met(&self.shared.registry, self.incarnation, at));
                self.start_checkpoint(&files);
                if !is_all {
                    return Progress::Some;
                }
                files.lacks_checksums.store(false, SeqCst);
                tracing::info!(incarnation, "every message has a checksum");
                Progress::Stopped
            }
            Err(error) if is_damage(&error) => {
                files.lacks_checksums.store(false, SeqCst);
                tracing::error!(incarnation, %error, "the log is damaged: checksums are not computed beyond");
                Progress::Stopped
            }
            Err(error) => {
                files.backfill_fault.failed(incarnation, &error);
                Progress::Failed
            }
        }
    }
}

/// How far the work is after a batch.
enum Progress {
    Some,
    Failed,
    /// There is no more to do, or not while the files are as they are.
    Stopped,
}
