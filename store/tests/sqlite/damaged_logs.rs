//! A damaged log while a server runs on it: said loudly, never blamed on the index, and what is
//! sound is still read.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use eventodb_protocol::request::Read;
use eventodb_protocol::{Condition, Filter, Matching, Scope};
use eventodb_store::sqlite::Settings;
use eventodb_store::sqlite::maintenance::{Permissions, repair, verify};
use eventodb_store::testing::logs::restamp;
use eventodb_store::{Error, Log};
use rusqlite::Connection;

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_there_twice_stops_writing_and_not_reading() {
    check_doubled("101, stream, 1000, 0, id").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_there_twice_stops_writing_and_not_reading() {
    check_doubled("101, stream, position, 0, randomblob(16)").await;
}

/// Copies the tenth message of a hundred behind them, with these columns.
async fn check_doubled(columns: &str) {
    let (directory, _) = store_of(100).await;
    let connection = Connection::open(log_file(directory.path())).expect("a database");
    connection
        .execute(
            &format!(
                "INSERT INTO messages SELECT {columns}, type, correlation, time, metadata, data, NULL
                 FROM messages WHERE global_position = 10"
            ),
            [],
        )
        .expect("a log");
    drop(connection);
    restamp(&log_file(directory.path())).expect("a log");
    let store = open(directory.path(), Settings { index_batch: 10, ..Settings::default() }).await;
    let log = log(&store, NAME).await;
    let deadline = Instant::now() + PATIENCE;
    // The indexer meets it after a while; until then it is one message among others.
    let error = loop {
        assert!(Instant::now() < deadline, "nobody noticed");
        if let Err(error) = append_any(&log, "d-1").await {
            break error;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(matches!(error, Error::Failed(_)), "{error}");
    let read = Read::forward(Filter::new(Scope::Categories(vec!["a".into()])), 0, 20);
    let found = messages(&log, read).await;
    assert_eq!(found.len(), 20);
    store.close().await;
}

/// Reads page after page until that fails.
async fn read_on(log: &Arc<Log>) -> Error {
    let mut from = 1;
    loop {
        let read = async {
            let mut page = log.read(Read::forward(Filter::new(Scope::All), from, 1_000)).await?;
            let head = page.head().expect("forward pages have one");
            while page.next().await?.is_some() {}
            Ok(head)
        };
        match read.await {
            Ok(head) => from = head + 1,
            Err(error) => return error,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_of_the_log_leaves_the_index_alone() {
    const PAGE: usize = 4096;
    let (directory, _) = store_of(2_000).await;
    let file = log_file(directory.path());
    let mut bytes = fs::read(&file).expect("it is there");
    let middle = bytes.len() / PAGE / 2 * PAGE;
    bytes[middle..middle + PAGE].fill(0xa5);
    fs::write(&file, bytes).expect("it is ours");
    let index = fs::read(index_file(directory.path())).expect("it is there");
    let store = open(directory.path(), Settings::default()).await;
    let log = log(&store, NAME).await;
    let everything = Filter::new(Scope::All);
    assert_eq!(messages(&log, Read::forward(everything.clone(), 0, 100)).await.len(), 100);
    let outcome = async {
        let mut page = log.read(Read::forward(everything, 0, 10_000)).await?;
        while page.next().await?.is_some() {}
        Ok::<_, Error>(())
    };
    outcome.await.expect("a page ends before what is damaged");
    let error = read_on(&log).await;
    assert!(matches!(error, Error::Damaged(at) if at > 100), "{error}");
    let last = Filter::new(Scope::Categories(vec!["a".into()]));
    assert_eq!(messages(&log, Read::forward(last, 1_990, 100)).await.len(), 4);
    assert_eq!(fs::read(index_file(directory.path())).expect("it is there"), index);
    store.close().await;
}

/// However often it is asked: a survey of the log ends at the message.
#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_a_damaged_message_decides_is_refused() {
    let (directory, _) = store_of(100).await;
    damage(directory.path(), &[50]);
    let store = open(directory.path(), Settings::default()).await;
    let log = log(&store, NAME).await;
    for round in 0..100 {
        let tried = async |kind: &str, after: i64| {
            let condition = Condition { matching: Matching::default().types([kind]), after: Some(after) };
            append_if(&log, "d-1", condition).await
        };
        assert!(matches!(tried("U", 20).await, Err(Error::ConditionFailed(_))), "round {round}");
        assert!(matches!(tried("T", 49).await, Err(Error::Damaged(50))), "round {round}");
        assert!(tried("Never", 20).await.is_ok(), "round {round}");
    }
    store.close().await;
}

/// A server whose disk failed when it made the log, and which was killed then, leaves a file without tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_not_begun_is_sound_unless_messages_were_counted_in_it() {
    for count in [0, 3] {
        let (directory, _) = store_of(count).await;
        let file = log_file(directory.path());
        for file in [file.clone(), beside(&file, "-wal"), index_file(directory.path())] {
            let _ = std::fs::remove_file(file);
        }
        let log = rusqlite::Connection::open(&file).expect("it is new");
        log.pragma_update(None, "journal_mode", "WAL").expect("it is new");
        drop(log);
        assert!(holds_something(&file));
        let report = verify(directory.path(), &mut |_| {}).expect("it can be read");
        assert_eq!(report.is_sound(), count == 0, "{report:?}");
        let outcomes = repair(directory.path(), Permissions::default(), &mut |_| {}).expect("it can be written");
        assert_eq!(outcomes.iter().all(|outcome| outcome.problems.is_empty()), count == 0, "{outcomes:?}");
    }
}
