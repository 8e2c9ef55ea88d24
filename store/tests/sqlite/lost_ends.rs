//! A log that lost its end, as a crash with a damaged write-ahead log leaves it. The store reports the loss, serves the
//! messages that are left, and refuses writes until an operator accepts the loss.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use eventodb_protocol::message::{Expected, NewMessage};
use eventodb_protocol::request::{Append, AppendEntry, Read};
use eventodb_protocol::{Filter, Scope};
use eventodb_store::sqlite::Settings;
use eventodb_store::sqlite::maintenance::{Permissions, backup, repair, verify};
use eventodb_store::{Error, EventStore};
use rusqlite::Connection;
use tempfile::TempDir;

use super::support::*;

/// Number of messages that are written before the crash.
const MANY: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_flipped_in_the_write_ahead_log_after_a_crash() {
    check(|wal| {
        let mut bytes = fs::read(wal).expect("it is there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(wal, bytes).expect("it is ours");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_ahead_log_that_was_cut_after_a_crash() {
    check(|wal| {
        let bytes = fs::read(wal).expect("it is there");
        fs::write(wal, &bytes[..bytes.len() / 3]).expect("it is ours");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_ahead_log_that_was_removed_after_a_crash() {
    check(|wal| fs::remove_file(wal).expect("it is there")).await;
}

/// Damages the write-ahead log in copies of a crashed directory. The mark in the registry and the index show the loss:
/// one copy has only the mark, one only the index, and one has both.
async fn check(damage: impl Fn(&Path)) {
    let (directory, model) = crashed().await;
    for (mark, index) in [(true, false), (false, true), (true, true)] {
        let copy = crash_copy(directory.path());
        if !mark {
            forget_mark(copy.path());
        }
        if !index {
            remove_index(copy.path());
        }
        damage(&beside(&log_file(copy.path()), "-wal"));
        check_refused(copy.path(), &model).await;
        // The first check leaves the mark and the index as they are, so that the second one finds the same.
        check_refused(copy.path(), &model).await;
        check_accepted(copy.path(), &model).await;
    }
}

/// A directory as a crash leaves it, whose index and registry know the whole log.
async fn crashed() -> (TempDir, Model) {
    let (directory, mut model) = store_of(20).await;
    let store = open(directory.path(), Settings::default()).await;
    model.write(&log(&store, NAME).await, MANY).await;
    let head = model.0.len() as i64;
    let deadline = Instant::now() + PATIENCE;
    let copy = loop {
        let copy = crash_copy(directory.path());
        if marked(copy.path()) == head && indexed(copy.path()) == head {
            break copy;
        }
        assert!(Instant::now() < deadline, "the head is never marked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    store.close().await;
    (copy, model)
}

fn marked(directory: &Path) -> i64 {
    ask(directory, "registry.db", "SELECT marked_head FROM namespaces WHERE incarnation = 1")
}

fn indexed(directory: &Path) -> i64 {
    ask(directory, "1.index.db", "SELECT completion FROM progress")
}

/// Runs a query on a copy of a file, so that the file itself stays as it is.
fn ask(directory: &Path, file: &str, select: &str) -> i64 {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for name in [file.to_owned(), format!("{file}-wal")] {
        let _ = fs::copy(directory.join(&name), copy.path().join(&name));
    }
    let connection = Connection::open(copy.path().join(file)).expect("a database");
    connection.query_row(select, [], |row| row.get(0)).expect("one of ours")
}

fn forget_mark(directory: &Path) {
    let registry = Connection::open(directory.join("registry.db")).expect("a database");
    registry.execute("UPDATE namespaces SET marked_head = 0", []).expect("it is ours");
}

fn remove_index(directory: &Path) {
    for suffix in ["", "-wal"] {
        let _ = fs::remove_file(beside(&index_file(directory), suffix));
    }
}

async fn check_refused(directory: &Path, model: &Model) {
    let report = verify(directory, &mut |_| {}).expect("it can be read");
    let told: Vec<_> = report.files.iter().flat_map(|file| &file.problems).collect();
    assert!(told.iter().any(|problem| problem.contains("lost its end")), "{told:?}");
    let outcomes = repair(directory, Permissions::default(), &mut |_| {}).expect("it can be written");
    assert!(outcomes.iter().any(|outcome| !outcome.is_usable), "{outcomes:?}");

    let store = open(directory, Settings::default()).await;
    let kept = read_all(&store).await;
    assert!(kept < model.0.len(), "the end is lost");
    let error = try_to_write(&store).await.expect_err("positions would be given out twice");
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    let codes: Vec<_> = store.degraded().into_iter().map(|degraded| degraded.code).collect();
    assert_eq!(codes, ["LOG_END_LOST"]);
    assert_eq!(read_all(&store).await, kept);
    store.close().await;
}

async fn check_accepted(directory: &Path, model: &Model) {
    let outcomes =
        repair(directory, Permissions { accept_loss: true, dry_run: false }, &mut |_| {}).expect("it can be written");
    assert!(outcomes.iter().all(|outcome| outcome.is_usable), "{outcomes:?}");
    assert!(verify(directory, &mut |_| {}).expect("it can be read").is_sound());
    let store = open(directory, Settings::default()).await;
    let mut left = model.clone();
    left.0.truncate(read_all(&store).await);
    left.check(&store).await;
    assert_eq!(store.degraded(), []);
    store.close().await;
}

async fn read_all(store: &EventStore) -> usize {
    let all = Read::forward(Filter::new(Scope::All), 0, 10_000);
    let found = messages(&log(store, NAME).await, all).await;
    let positions: Vec<i64> = found.iter().map(|message| message.global_position).collect();
    assert_eq!(positions, (1..=found.len() as i64).collect::<Vec<_>>());
    found.len()
}

/// Tries once. It does not try again after a refusal.
async fn try_to_write(store: &EventStore) -> Result<(), Error> {
    let message = NewMessage { id: None, kind: "T".into(), data: "{}".into(), metadata: None };
    let entry = AppendEntry { stream: "a-1".into(), expected: Expected::Any, messages: vec![message] };
    let append = Append { entries: vec![entry], checks: Vec::new(), group: None };
    log(store, NAME).await.append(append).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_end_is_told_before_its_namespace_is_used() {
    let (directory, _) = crashed().await;
    for (mark, index) in [(true, false), (false, true)] {
        let copy = crash_copy(directory.path());
        if !mark {
            forget_mark(copy.path());
        }
        if !index {
            remove_index(copy.path());
        }
        fs::remove_file(beside(&log_file(copy.path()), "-wal")).expect("it is there");
        let store = open(copy.path(), Settings::default()).await;
        let deadline = Instant::now() + PATIENCE;
        while codes(&store) != ["LOG_END_LOST"] {
            assert!(Instant::now() < deadline, "mark {mark}: {:?} is told", codes(&store));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        store.close().await;
    }
}

/// The mark in a backup is the head of the log in it. If an older log takes that log's place, the mark shows that its
/// end is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_carries_the_mark_of_the_log_that_it_holds() {
    let (directory, mut model) = store_of(50).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let older = folder.path().join("older");
    backup(directory.path(), &older, &mut |_| {}).expect("the store is there");
    let store = open(directory.path(), Settings::default()).await;
    model.write(&log(&store, NAME).await, 50).await;
    let newer = folder.path().join("newer");
    backup(directory.path(), &newer, &mut |_| {}).expect("the store is there");
    store.close().await;
    assert_eq!((marked(&older), marked(&newer)), (50, 100));

    fs::copy(log_file(&older), log_file(&newer)).expect("both are ours");
    let restored = open(&newer, Settings::default()).await;
    assert_eq!(read_all(&restored).await, 50);
    try_to_write(&restored).await.expect_err("it is the log of an older backup");
    restored.close().await;
    let restored = open(&older, Settings::default()).await;
    model.0.truncate(50);
    model.check(&restored).await;
    restored.close().await;
}
