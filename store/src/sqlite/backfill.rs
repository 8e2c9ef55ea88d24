//! Checksums for messages that a version without checksums wrote.
//!
//! They are computed while the log is served, one batch at a time under the writer's lock, with pauses as long as the
//! batches. Each batch notes its end in its own transaction, so that the work goes on there after a crash.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::checksum::{Seed, Stored};
use super::failure::{READ_AGAIN, READ_PAUSE, is_damage};
use super::files::Files;
use super::storage::SqliteStorage;
use super::whole_row::WholeRow;
use crate::model::Incarnation;
use crate::seldom::{Due, Seldom};

/// Messages of one batch. Appends wait until a batch is done.
const BATCH: i64 = 256;
/// The shortest pause between two batches.
const PAUSE: Duration = Duration::from_millis(1);
/// The pause after a batch that failed.
const AFTER_A_FAULT: Duration = Duration::from_secs(1);

/// The work of one batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Bytes of text that were written anew.
    pub(super) bytes: u64,
    /// Messages that cannot have been written as they are. They stay without a checksum, which marks them as damaged.
    pub(super) damaged: Vec<i64>,
    /// The message before which the batch ended, because it seems to be damaged.
    pub(super) suspect: Option<i64>,
    /// Up to which position it is done, of which.
    pub(super) reached: (i64, i64),
    /// Whether no message without a checksum is left.
    pub(super) is_all: bool,
}

/// Computes the next checksums of the log that is attached as `log`. A message that seems to be damaged ends the batch,
/// because a page that cannot be read for a moment looks the same. `certain` is a message that was looked at often
/// enough to be damaged for sure.
///
/// # Errors
/// SQLite's.
pub(super) fn batch(connection: &mut Connection, seed: Seed, certain: Option<i64>) -> rusqlite::Result<Done> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut outcome = Done::default();
    let Some((done, last)) = unchecked(&transaction)? else { return Ok(Done { is_all: true, ..outcome }) };
    let mut reached = done;
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
                _ if certain == Some(at) => outcome.damaged.push(at),
                _ => {
                    outcome.suspect = Some(at);
                    break;
                }
            }
            reached = at;
        }
        drop(rows);
        let looked_at = sums.len() + outcome.damaged.len();
        outcome.is_all = outcome.suspect.is_none() && (looked_at < BATCH as usize || reached == last);
        for (at, sum) in sums {
            update.execute(params![at, sum])?;
        }
    }
    match outcome.is_all {
        true => transaction.execute("DELETE FROM log.unchecked", [])?,
        false => transaction.execute("UPDATE log.unchecked SET done = ?1", [reached])?,
    };
    transaction.commit()?;
    outcome.reached = (reached, last);
    Ok(outcome)
}

/// The positions between which messages may lack a checksum; `None` if none do.
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
        // The files are not held between batches, so that they can be closed.
        let storage = Arc::downgrade(self);
        self.shared.threads.write(Box::pin(async move {
            let mut doubt = Doubt::default();
            loop {
                let Some(storage) = storage.upgrade() else { return };
                let begun = Instant::now();
                let of_batch = storage.clone();
                let certain = doubt.certain();
                let progress = tokio::task::spawn_blocking(move || of_batch.backfill_batch(certain)).await;
                let pause = match progress {
                    Ok(Progress::Some) => begun.elapsed().max(PAUSE),
                    Ok(Progress::Suspects(at)) => {
                        doubt.again(at);
                        READ_PAUSE
                    }
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

    fn backfill_batch(self: &Arc<Self>, certain: Option<i64>) -> Progress {
        let Some(files) = self.opened_files() else { return Progress::Stopped };
        let incarnation = self.incarnation.0;
        match files.backfill(certain) {
            Ok(Done { damaged, suspect, is_all, reached, .. }) => {
                files.backfill_fault.mended(incarnation);
                damaged.into_iter().for_each(|at| self.shared.damage.met(&self.shared.registry, self.incarnation, at));
                self.start_checkpoint(&files);
                if let Some(at) = suspect {
                    return Progress::Suspects(at);
                }
                if !is_all {
                    tell(self.incarnation, reached);
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

/// Logs now and then how far the checksums of a log are. An update has thousands of logs.
fn tell(incarnation: Incarnation, (done, of): (i64, i64)) {
    static TOLD: Seldom = Seldom::new();
    if let Some(Due { held_back }) = TOLD.due("checksums") {
        let incarnation = incarnation.0;
        tracing::info!(incarnation, done, of, held_back, "messages of an earlier version get their checksums");
    }
}

/// The state of the work after a batch.
enum Progress {
    Some,
    /// The next message seems to be damaged.
    Suspects(i64),
    Failed,
    /// There is no more to do, or it cannot be done with these files.
    Stopped,
}

/// A message that seems to be damaged, and how often it was looked at.
#[derive(Debug, Default)]
struct Doubt {
    at: i64,
    times: usize,
}

impl Doubt {
    fn again(&mut self, at: i64) {
        self.times = if self.at == at { self.times + 1 } else { 1 };
        self.at = at;
    }

    /// The message, once it was looked at often enough.
    fn certain(&self) -> Option<i64> {
        (self.times > READ_AGAIN).then_some(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::{self, Attach};
    use super::*;

    /// A log of three messages without checksums, of which the second cannot be right.
    fn log() -> Connection {
        let connection = connection::open(&[Attach::log(None)]).expect("a database");
        connection
            .execute_batch(
                "INSERT INTO log.messages (global_position, stream, position, starts_stream, id, type, time, data) VALUES
                     (1, 'a-1', 0, 1, zeroblob(16), 'T', 0, '{}'),
                     (2, 'a-1', 1, 0, zeroblob(16), 'T', 0, '{'),
                     (3, 'a-1', 2, 0, zeroblob(16), 'T', 0, '{}');
                 INSERT INTO log.unchecked VALUES (0, 3);",
            )
            .expect("a log");
        connection
    }

    fn next(log: &mut Connection, certain: Option<i64>) -> Done {
        batch(log, Seed::of(b"identity"), certain).expect("a log")
    }

    #[test]
    fn a_message_that_seems_to_be_damaged_for_a_moment_gets_its_checksum_later() {
        let mut log = log();
        for _ in 0..2 {
            let done = next(&mut log, None);
            assert_eq!((done.suspect, done.damaged, done.is_all), (Some(2), vec![], false));
            assert_eq!(unchecked(&log).expect("a log"), Some((1, 3)), "the first one is done");
        }
        log.execute("UPDATE log.messages SET data = '{}' WHERE global_position = 2", []).expect("a log");
        assert!(next(&mut log, None).is_all);
        let without: i64 = log
            .query_row("SELECT count(*) FROM log.messages WHERE checksum IS NULL", [], |row| row.get(0))
            .expect("a log");
        assert_eq!(without, 0);
    }

    #[test]
    fn a_message_that_is_certain_to_be_damaged_is_passed_over() {
        let mut log = log();
        assert_eq!(next(&mut log, None).suspect, Some(2));
        let done = next(&mut log, Some(2));
        assert_eq!((done.suspect, done.damaged, done.is_all), (None, vec![2], true));
    }

    #[test]
    fn a_doubt_becomes_certain_after_some_looks() {
        let mut doubt = Doubt::default();
        (0..READ_AGAIN).for_each(|_| doubt.again(7));
        assert_eq!(doubt.certain(), None);
        doubt.again(7);
        assert_eq!(doubt.certain(), Some(7));
        doubt.again(8);
        assert_eq!(doubt.certain(), None, "another one");
    }
}
