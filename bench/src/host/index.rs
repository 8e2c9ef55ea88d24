//! When the indexes of a SQLite store have caught up with their logs: read from the files, which say it exactly.
//!
//! No call of the protocol tells it. An idle processor does not either, because the server lets the last messages wait a
//! while for more.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags};

const STEP: Duration = Duration::from_millis(10);
/// How long the indexes may stand still before they are taken for stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until every index in `directory` reaches as far as its log; returns when that was seen.
pub(super) async fn caught_up(directory: &Path) -> anyhow::Result<Instant> {
    let pairs = pairs(directory)?;
    let (mut before, mut moved) = (i64::MAX, Instant::now());
    loop {
        let mut behind = 0;
        for (log, index) in &pairs {
            // A new index has no table yet.
            let completion = position(index, include_str!("completion.sql")).unwrap_or_default();
            behind += position(log, include_str!("head.sql"))? - completion;
        }
        let now = Instant::now();
        if behind <= 0 {
            return Ok(now);
        }
        if behind < before {
            (before, moved) = (behind, now);
        }
        anyhow::ensure!(
            moved.elapsed() < PATIENCE,
            "the index stays {behind} messages behind its log: the run is no result"
        );
        tokio::time::sleep(STEP).await;
    }
}

fn position(database: &Connection, select: &str) -> rusqlite::Result<i64> {
    database.prepare_cached(select)?.query_row([], |row| row.get(0))
}

fn pairs(directory: &Path) -> anyhow::Result<Vec<(Connection, Connection)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let log = entry?.path();
        let name = log.file_name().unwrap_or_default().to_string_lossy();
        if let Some(number) = name.strip_suffix(".log.db") {
            let index = directory.join(format!("{number}.index.db"));
            found.push((open(&log)?, open(&index)?));
        }
    }
    anyhow::ensure!(!found.is_empty(), "there is no log in {}", directory.display());
    Ok(found)
}

fn open(file: &Path) -> anyhow::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database =
        Connection::open_with_flags(file, flags).with_context(|| format!("cannot open {}", file.display()))?;
    database.busy_timeout(PATIENCE)?;
    Ok(database)
}

#[cfg(test)]
mod tests {
    use eventodb_schema::{SQLITE_INDEX, SQLITE_LOG};

    use super::*;

    #[tokio::test]
    async fn an_index_has_caught_up_once_it_reaches_its_logs_head() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let store = Connection::open_in_memory().unwrap();
        store.execute("ATTACH ?1 AS log", [at("1.log.db")]).unwrap();
        store.execute("ATTACH ?1 AS idx", [at("1.index.db")]).unwrap();
        for (schema, steps) in [("log", SQLITE_LOG), ("idx", SQLITE_INDEX)] {
            store.pragma_update(Some(schema), "journal_mode", "WAL").unwrap();
            steps.iter().for_each(|step| store.execute_batch(step).unwrap());
        }
        store
            .execute_batch(
                "INSERT INTO log.messages VALUES (7, 'a-1', 0, 1, x'01', 'T', NULL, 0, NULL, '{}', NULL);
                 INSERT INTO idx.progress VALUES (x'01', x'01', NULL, 6, NULL, 6, 1);",
            )
            .unwrap();
        let waiting = caught_up(directory.path());
        tokio::pin!(waiting);
        let looked = tokio::time::timeout(Duration::ZERO, waiting.as_mut()).await;
        assert!(looked.is_err(), "the index is one message behind");
        store.execute_batch("UPDATE idx.progress SET completion = 7").unwrap();
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_directory_without_a_log_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(caught_up(directory.path()).await.is_err());
    }
}
