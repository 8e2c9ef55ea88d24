//! A log that a version without checksums wrote: looked after as it is, and given its checksums while it is served.

use std::fs;
use std::path::Path;

use eventodb_protocol::request::Read;
use eventodb_protocol::{Filter, Scope};
use eventodb_store::Error;
use eventodb_store::sqlite::Settings;
use eventodb_store::sqlite::maintenance::{Permissions, backup, give_up, repair, verify};
use eventodb_store::testing::logs::{FIRST_VERSION_MESSAGES, unpack_first_version};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tempfile::TempDir;

use super::support::*;

/// Its namespace.
const DEFAULT: &str = "default";

fn first_version() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary folder");
    unpack_first_version(directory.path()).expect("it is there");
    directory
}

/// What `verify` says of the log, which is sound.
fn verified(directory: &Path) -> String {
    let report = verify(directory, &mut |_| {}).expect("it can be read");
    assert!(report.is_sound(), "{report:?}");
    report.files[1].holds.clone()
}

fn version(file: &Path) -> usize {
    let database = Connection::open(file).expect("a database");
    database.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a database")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_verified_and_backed_up_as_it_is() {
    let directory = first_version();
    let without = format!("{FIRST_VERSION_MESSAGES} of them from an earlier version and without a checksum yet");
    assert!(verified(directory.path()).contains(&without));
    let outcomes = repair(directory.path(), Permissions::default(), &mut |_| {}).expect("it can be written");
    assert!(outcomes.iter().all(|outcome| outcome.problems.is_empty()), "{outcomes:?}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = folder.path().join("backup");
    let manifest = backup(directory.path(), &output, &mut |_| {}).expect("it can be copied");
    assert_eq!(manifest.namespaces[0].messages, FIRST_VERSION_MESSAGES as u64);
    let versions = [log_file, index_file].map(|file| version(&file(directory.path())));
    assert_eq!(versions, [1, 2], "whoever looks changes nothing");
    // The copy has checksums.
    assert!(!verified(&output).contains("without a checksum"));
}

#[test]
fn what_stands_in_write_ahead_logs_stays_there() {
    let directory = first_version();
    let files = [log_file(directory.path()), index_file(directory.path())];
    let changes = [
        "UPDATE messages SET global_position = global_position WHERE global_position = 1",
        "UPDATE progress SET session = x'01'",
    ];
    for (file, change) in files.iter().zip(changes) {
        let database = Connection::open(file).expect("a database");
        database.pragma_update(None, "journal_mode", "WAL").expect("a database");
        database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("a database");
        assert_eq!(database.execute(change, []).expect("it is ours"), 1);
    }
    let bytes = || {
        let all = files.iter().flat_map(|file| [file.clone(), beside(file, "-wal")]);
        all.map(|file| fs::read(file).expect("it is there")).collect::<Vec<_>>()
    };
    let before = bytes();
    assert!(before.iter().all(|bytes| !bytes.is_empty()));
    verified(directory.path());
    assert!(bytes() == before, "whoever looks changes nothing");
}

/// Bringing the index up to date would empty it, and with it what it knows of the log's end.
#[test]
fn an_index_of_the_first_version_shows_that_the_log_has_lost_its_end() {
    let directory = first_version();
    let index = Connection::open(index_file(directory.path())).expect("a database");
    index.pragma_update(None, "user_version", 1).expect("it is ours");
    let log = Connection::open(log_file(directory.path())).expect("a database");
    log.execute("DELETE FROM messages WHERE global_position > 2990", []).expect("it is ours");
    drop((index, log));
    let report = verify(directory.path(), &mut |_| {}).expect("it can be read");
    let problems = report.files[1].problems.join("; ");
    assert!(problems.contains("it ends at global position 2990, and 3398 was acknowledged"), "{problems}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gets_its_checksums_while_it_is_served() {
    let directory = first_version();
    let store = open(directory.path(), Settings::default()).await;
    let log = log(&store, DEFAULT).await;
    let everything = || Read::forward(Filter::new(Scope::All), 0, 10_000);
    assert_eq!(messages(&log, everything()).await.len(), FIRST_VERSION_MESSAGES);
    let mut written = 0;
    while unchecked(directory.path()) > 0 {
        append_any(&log, "account-1").await.expect("writes are taken");
        written += 1;
        assert_eq!(messages(&log, everything()).await.len(), FIRST_VERSION_MESSAGES + written);
    }
    store.close().await;
    let holds = verified(directory.path());
    assert!(holds.contains(&format!("{} messages", FIRST_VERSION_MESSAGES + written)), "{holds}");
    assert!(!holds.contains("without a checksum"), "{holds}");
}

/// Messages that have no checksum.
fn unchecked(directory: &Path) -> i64 {
    let log = Connection::open(log_file(directory)).expect("a database");
    log.busy_timeout(PATIENCE).expect("a database");
    log.query_row("SELECT count(*) FROM messages WHERE checksum IS NULL", [], |row| row.get(0)).expect("a log")
}

/// What cannot have been written so gets no checksum that says it was.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_right_in_it_is_damaged() {
    let directory = first_version();
    let connection = Connection::open(log_file(directory.path())).expect("a database");
    connection.execute("UPDATE messages SET data = '{' WHERE global_position = 700", []).expect("a log");
    drop(connection);
    let store = open(directory.path(), Settings::default()).await;
    let log = log(&store, DEFAULT).await;
    append_any(&log, "account-1").await.expect("writes are taken");
    while unchecked(directory.path()) > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let read = log.read(Read::forward(Filter::new(Scope::All), 700, 10)).await.map(|_| ());
    // The last batch is committed before the count is seen here.
    assert!(matches!(read, Err(Error::Damaged(700))), "{read:?}");
    assert!(store.degraded().iter().any(|reason| reason.code == "DATA_DAMAGED"));
    store.close().await;
    let report = verify(directory.path(), &mut |_| {}).expect("it can be read");
    assert!(report.files[1].problems.join("\n").contains("global position 700 is damaged"), "{report:?}");
    give_up(directory.path(), DEFAULT, 700, &mut |_| {}).expect("it is damaged");
    assert!(!verified(directory.path()).contains("without a checksum"));
}
