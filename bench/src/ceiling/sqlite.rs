//! The ceilings of SQLite: one connection that appends to a log, and the same with the indexes built behind it.
//!
//! The tables are those of the server's own files. The log is synchronous=FULL; the indexes are in a file of their
//! own, synchronous=NORMAL, written by a second connection in large sorted transactions.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use eventodb_schema::{SQLITE_INDEX, SQLITE_LOG};
use rusqlite::{Connection, params};

use super::rows::{Row, Rows};
use crate::load::Loaded;
use crate::measure::{Gauge, Measured};

/// A log and, where it is wanted, its indexes.
#[derive(Debug)]
pub(crate) struct Sqlite {
    log: Connection,
    index: Option<Index>,
    rows: Rows,
}

#[derive(Debug)]
struct Index {
    connection: Connection,
    /// The id of each stream that is in the index: the global position of its first message.
    streams: HashMap<u64, i64>,
}

/// Messages that the log may be ahead of the indexes, as many as the server lets wait: then appending waits.
const AHEAD: u64 = 65_536;
/// Messages that are indexed in one transaction, as many as the server takes.
const INDEX_BATCH: usize = 32_768;
/// Entries of a stream that share a row, as many as the server packs into one.
const STREAM_RUN: usize = 22;
/// The same of a category.
const CATEGORY_RUN: usize = 168;
/// How long the indexer waits for a full batch.
const INDEX_AFTER: Duration = Duration::from_millis(100);
/// Messages in a commit while the log is filled.
const FILL: u64 = 1_000;

impl Sqlite {
    /// A log in `directory` with `preload` messages in place, indexed where `is_indexed`.
    pub(crate) fn new(
        directory: &Path,
        rows: Rows,
        preload: u64,
        is_indexed: bool,
        gauge: &Gauge,
    ) -> anyhow::Result<Self> {
        let name = if is_indexed { "ceiling-indexed" } else { "ceiling" };
        let file = |part: &str| directory.join(format!("{name}.{part}.db"));
        let log = open("log", &file("log"), "FULL", SQLITE_LOG)?;
        let index = is_indexed.then(|| open("idx", &file("index"), "NORMAL", SQLITE_INDEX)).transpose()?;
        let index = index.map(|connection| Index { connection, streams: HashMap::new() });
        let mut ceiling = Self { log, index, rows };
        ceiling.append(FILL, &|written, _| written >= preload, gauge)?;
        let placed = ceiling.rows.written();
        gauge.go_on(|| format!("messages were put in place: {placed} of {preload}"))?;
        Ok(ceiling)
    }

    /// Commits batches of `batch` messages for this long. The time that the indexes take to catch up counts.
    pub(crate) fn run(&mut self, batch: u64, duration: Duration, gauge: &Gauge) -> anyhow::Result<Loaded> {
        self.append(batch, &|_, elapsed| elapsed >= duration, gauge)
    }

    fn append(&mut self, batch: u64, is_over: &dyn Fn(u64, Duration) -> bool, gauge: &Gauge) -> anyhow::Result<Loaded> {
        let Self { log, index, rows } = self;
        let (sender, receiver) = sync_channel(usize::try_from((AHEAD / batch).max(1))?);
        let begin = Instant::now();
        let mut measured = Measured::default();
        std::thread::scope(|scope| {
            let indexer = index.as_mut().map(|index| scope.spawn(move || index.follow(&receiver)));
            while !is_over(rows.written(), begin.elapsed()) && !gauge.is_stopped() {
                let made = rows.batch(batch);
                let sent = Instant::now();
                commit(log, &made, &rows.data)?;
                measured.answer(sent.elapsed(), begin.elapsed(), batch);
                // An indexer that failed says why below.
                if indexer.is_some() && sender.send(made).is_err() {
                    break;
                }
            }
            drop(sender);
            indexer.map_or(Ok(()), |indexer| indexer.join().expect("the indexer does not panic"))
        })?;
        Ok(Loaded { measured, elapsed: begin.elapsed(), ..Loaded::default() })
    }
}

impl Index {
    /// Indexes the rows that come, in large batches, until the sender has gone.
    fn follow(&mut self, rows: &Receiver<Vec<Row>>) -> anyhow::Result<()> {
        let mut waiting = Vec::new();
        loop {
            let is_over = match rows.recv_timeout(INDEX_AFTER) {
                Ok(more) => {
                    waiting.extend(more);
                    if waiting.len() < INDEX_BATCH {
                        continue;
                    }
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if !waiting.is_empty() {
                self.take(&mut waiting)?;
                waiting.clear();
            }
            if is_over {
                return Ok(());
            }
        }
    }

    /// Puts rows into the indexes, each in its order.
    fn take(&mut self, rows: &mut [Row]) -> anyhow::Result<()> {
        let Some(last) = rows.last().map(|row| (row.global_position, row.id)) else { return Ok(()) };
        let transaction = self.connection.transaction()?;
        {
            rows.sort_unstable_by_key(|row| (row.number, row.position));
            let mut stream = transaction.prepare_cached(include_str!("sqlite/index_stream.sql"))?;
            let mut entries = transaction.prepare_cached(include_str!("sqlite/index_stream_run.sql"))?;
            for of_stream in rows.chunk_by(|a, b| a.number == b.number) {
                let first = of_stream[0].global_position;
                let id = *self.streams.entry(of_stream[0].number).or_insert(first);
                if id == first {
                    stream.execute(params![&*of_stream[0].stream, id])?;
                }
                for run in of_stream.chunks(STREAM_RUN) {
                    let last = run.last().expect("a chunk has a row");
                    entries.execute(params![id, last.position, last.global_position, packed(run.len(), 7)])?;
                }
            }
            rows.sort_unstable_by_key(|row| (row.category, row.global_position));
            let mut entries = transaction.prepare_cached(include_str!("sqlite/index_category_run.sql"))?;
            for of_category in rows.chunk_by(|a, b| a.category == b.category) {
                for run in of_category.chunks(CATEGORY_RUN) {
                    let last = run.last().expect("a chunk has a row");
                    entries.execute(params![last.category as i64, last.global_position, packed(run.len(), 13)])?;
                }
            }
            rows.sort_unstable_by_key(|row| row.id);
            let mut entry = transaction.prepare_cached(include_str!("sqlite/index_id.sql"))?;
            for row in rows.iter() {
                entry.execute(params![row.id.as_bytes(), row.global_position])?;
            }
            let mut progress = transaction.prepare_cached(include_str!("sqlite/index_progress.sql"))?;
            progress.execute(params![last.0, last.1.as_bytes()])?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// A run of entries of this many bytes each. Nothing reads it.
fn packed(entries: usize, bytes: usize) -> Vec<u8> {
    vec![1; 4 + entries * bytes]
}

fn commit(log: &mut Connection, rows: &[Row], data: &str) -> rusqlite::Result<()> {
    let transaction = log.transaction()?;
    {
        let mut insert = transaction.prepare_cached(include_str!("sqlite/append.sql"))?;
        for row in rows {
            let (starts_stream, time) = (row.position == 0, row.global_position);
            let id = row.id.as_bytes();
            insert.execute(params![row.global_position, &*row.stream, row.position, starts_stream, id, time, data])?;
        }
    }
    transaction.commit()
}

/// A connection with one database, under the name that its schema calls it.
fn open(name: &str, file: &Path, synchronous: &str, migrations: &[&str]) -> anyhow::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    // The name is one of two constants; the file is bound.
    connection.execute(&format!("ATTACH DATABASE ?1 AS {name}"), [file.to_string_lossy()])?;
    connection.pragma_update(Some(name), "journal_mode", "WAL")?;
    connection.pragma_update(Some(name), "synchronous", synchronous)?;
    for step in migrations {
        connection.execute_batch(step)?;
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Distribution, Names};

    #[test]
    fn the_indexes_have_caught_up_at_the_end_of_a_run() {
        let directory = tempfile::tempdir().unwrap();
        let rows = Rows::new(&Names::new(50, 5, Distribution::Uniform), 64, 0);
        let gauge = Gauge::default();
        let mut ceiling = Sqlite::new(directory.path(), rows, 3_000, true, &gauge).unwrap();
        let loaded = ceiling.run(32, Duration::from_millis(50), &gauge).unwrap();
        let written = ceiling.rows.written() as i64;
        assert_eq!(loaded.measured.messages as i64, written - 3_000);
        let count =
            |connection: &Connection, select: &str| connection.query_row(select, [], |row| row.get::<_, i64>(0));
        assert_eq!(count(&ceiling.log, "SELECT max(global_position) FROM log.messages"), Ok(written));
        let index = &ceiling.index.as_ref().unwrap().connection;
        assert_eq!(count(index, "SELECT count(*) FROM idx.ids"), Ok(written));
        let packed = "SELECT sum((length(run) - 4) / 7) FROM idx.stream_runs";
        assert_eq!(count(index, packed), Ok(written));
        let packed = "SELECT sum((length(run) - 4) / 13) FROM idx.category_runs";
        assert_eq!(count(index, packed), Ok(written));
        assert_eq!(count(index, "SELECT completion FROM idx.progress"), Ok(written));
        assert_eq!(count(index, "SELECT count(*) FROM idx.streams"), Ok(50));
    }
}
