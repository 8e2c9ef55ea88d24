//! Index and memtable together always answer as a plain scan of the log does: a random walk of
//! writes, restarts, crashes and evictions with tiny bounds.

use eventodb_store::sqlite::Settings;
use eventodb_store::testing::seed;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rusqlite::Connection;

use super::support::*;

const STEPS: usize = 40;

fn bounds(random: &mut StdRng) -> Settings {
    Settings {
        open_namespaces: random.random_range(1..3),
        memtable_messages: random.random_range(2..40),
        memtables_messages: random.random_range(2..40),
        index_batch: random.random_range(1..20),
        writer_threads: 2,
        readers: 2,
        examined_rows: random.random_range(1..10),
        merged_categories: random.random_range(0..6),
        min_free: 0,
    }
}

/// The log as it stands in the file.
fn scan(directory: &std::path::Path) -> Vec<(i64, String, i64)> {
    let connection = Connection::open(log_file(directory)).expect("a database");
    let mut select = connection
        .prepare("SELECT global_position, stream, position FROM messages ORDER BY global_position")
        .expect("a log");
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("a log");
    rows.collect::<Result<_, _>>().expect("a log")
}

#[tokio::test(flavor = "multi_thread")]
async fn index_and_memtable_answer_as_the_log() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut directory = tempfile::tempdir().expect("a temporary folder");
    let mut model = Model::default();
    let mut store = open(directory.path(), bounds(&mut random)).await;
    create(&store, NAME).await;
    create(&store, "other").await;
    for _ in 0..STEPS {
        match random.random_range(0..10) {
            0..4 => model.write(&log(&store, NAME).await, random.random_range(1..60)).await,
            // The other namespace is opened, so that this one may have to close.
            4 => drop(log(&store, "other").await.counts().await),
            5..7 => {
                store.close().await;
                store = open(directory.path(), bounds(&mut random)).await;
            }
            7..9 => {
                // Only what a crash leaves behind goes on.
                let copy = crash_copy(directory.path());
                store.close().await;
                directory = copy;
                store = open(directory.path(), bounds(&mut random)).await;
            }
            _ => model.check(&store).await,
        }
    }
    model.check(&store).await;
    store.close().await;
    let written: Vec<_> =
        model.0.iter().map(|message| (message.global_position, message.stream.to_string(), message.position)).collect();
    assert_eq!(scan(directory.path()), written);
}
