//! The index is derived: whatever happens to its file, the store opens, and every answer is right.

use std::fs;
use std::path::Path;

use eventodb_schema::SQLITE_INDEX;
use eventodb_store::sqlite::Settings;
use eventodb_store::sqlite::maintenance::{Permissions, repair, verify};
use eventodb_store::testing::seed;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::support::*;

/// Enough for an index of many pages.
const MANY: usize = 600;

/// Opens a store whose index was tampered with, also with bounds under which it is built in the
/// background, and compares everything.
async fn check_tampered(tamper: impl Fn(&Path)) {
    for settings in [Settings::default(), tiny()] {
        let (directory, mut model) = store_of(MANY).await;
        tamper(directory.path());
        let store = open(directory.path(), settings).await;
        model.check(&store).await;
        store.close().await;
        let store = open(directory.path(), Settings::default()).await;
        model.check(&store).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_index() {
    check_tampered(|directory| fs::remove_file(index_file(directory)).expect("it is there")).await;
}

/// A server that was stopped while it began the index leaves its tables in the write-ahead log, and nothing in them.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_not_begun() {
    check_tampered(|directory| {
        let file = index_file(directory);
        fs::remove_file(&file).expect("it is there");
        let _ = fs::remove_file(beside(&file, "-wal"));
        let index = Connection::open_in_memory().expect("memory is there");
        index.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("it can be set");
        index.execute("ATTACH ?1 AS idx", [file.to_str()]).expect("it is new");
        index.pragma_update(Some("idx"), "journal_mode", "WAL").expect("it is new");
        SQLITE_INDEX.iter().for_each(|step| index.execute_batch(step).expect("it is new"));
        index.pragma_update(Some("idx"), "user_version", SQLITE_INDEX.len()).expect("it is new");
        drop(index);
        assert!(holds_something(&beside(&file, "-wal")));
        let report = verify(directory, &mut |_| {}).expect("everything is readable");
        assert!(report.is_sound(), "{report:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_index() {
    check_tampered(|directory| fs::write(index_file(directory), b"").expect("it is ours")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halved_index() {
    check_tampered(|directory| {
        let file = index_file(directory);
        let bytes = fs::read(&file).expect("it is there");
        fs::write(&file, &bytes[..bytes.len() / 2]).expect("it is ours");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_garbage() {
    check_tampered(|directory| {
        let mut bytes = fs::read(index_file(directory)).expect("it is there");
        StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
        fs::write(index_file(directory), bytes).expect("it is ours");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_with_garbage_in_the_middle() {
    const PAGE: usize = 4096;
    let seed = seed();
    for part in 1..8 {
        check_tampered(|directory| {
            let mut bytes = fs::read(index_file(directory)).expect("it is there");
            let start = bytes.len() / PAGE * part / 8 * PAGE;
            let end = (start + 3 * PAGE).min(bytes.len());
            StdRng::seed_from_u64(seed).fill_bytes(&mut bytes[start..end]);
            fs::write(index_file(directory), bytes).expect("it is ours");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_that_is_met_while_indexing() {
    const PAGE: usize = 4096;
    let (directory, mut model) = store_of(MANY).await;
    let store = open(directory.path(), tiny()).await;
    let log = log(&store, NAME).await;
    // The files are open by now; from the third page on there is only garbage.
    let mut bytes = fs::read(index_file(directory.path())).expect("it is there");
    StdRng::seed_from_u64(2).fill_bytes(&mut bytes[2 * PAGE..]);
    fs::write(index_file(directory.path()), bytes).expect("it is ours");
    model.write(&log, 30).await;
    model.check(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_older_than_the_log() {
    let (directory, mut model) = store_of(MANY).await;
    let old = fs::read(index_file(directory.path())).expect("it is there");
    let store = open(directory.path(), Settings::default()).await;
    model.write(&log(&store, NAME).await, 100).await;
    store.close().await;
    fs::write(index_file(directory.path()), old).expect("it is ours");
    for settings in [lazy(), tiny()] {
        let store = open(directory.path(), settings).await;
        model.check(&store).await;
        store.close().await;
    }
}

/// A log from a backup beside the index of the newer one: what the index has seen is lost, and that is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_newer_than_the_log() {
    let (directory, mut model) = store_of(100).await;
    put_an_older_log(directory.path(), &model).await;
    let store = open(directory.path(), Settings::default()).await;
    model.check(&store).await;
    store.close().await;
}

/// As above, but as many other messages were written meanwhile as the index is ahead.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_future_of_the_log() {
    let (directory, mut model) = store_of(100).await;
    let ahead = put_an_older_log(directory.path(), &model).await;
    let store = open(directory.path(), Settings::default()).await;
    model.write(&log(&store, NAME).await, 150).await;
    store.close().await;
    fs::write(index_file(directory.path()), ahead).expect("it is ours");
    let store = open(directory.path(), Settings::default()).await;
    model.check(&store).await;
    store.close().await;
}

/// Writes a hundred messages, puts back the log from before and accepts their loss. Returns the index that has seen
/// them.
async fn put_an_older_log(directory: &Path, model: &Model) -> Vec<u8> {
    let old = fs::read(log_file(directory)).expect("it is there");
    let store = open(directory, Settings::default()).await;
    model.clone().write(&log(&store, NAME).await, 100).await;
    store.close().await;
    let ahead = fs::read(index_file(directory)).expect("it is there");
    fs::write(log_file(directory), old).expect("it is ours");
    let outcomes =
        repair(directory, Permissions { accept_loss: true, dry_run: false }, &mut |_| {}).expect("it can be written");
    assert!(outcomes.iter().all(|outcome| outcome.is_usable), "{outcomes:?}");
    ahead
}

/// As the first step of its schema made it: each entry a row.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_the_first_schema() {
    check_tampered(|directory| {
        let file = index_file(directory);
        let kept: (Vec<u8>, i64, Vec<u8>) = Connection::open(&file)
            .and_then(|index| {
                let select = "SELECT log_identity, completion, completion_id FROM progress";
                index.query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            })
            .expect("an index");
        fs::remove_file(&file).expect("it is there");
        let index = Connection::open_in_memory().expect("a connection");
        index.execute("ATTACH DATABASE ?1 AS idx", [file.to_string_lossy()]).expect("a file");
        index.execute_batch(SQLITE_INDEX[0]).expect("its first step");
        index.pragma_update(Some("idx"), "user_version", 1).expect("its version");
        let progress = "INSERT INTO idx.progress VALUES (?1, x'00', NULL, ?2, ?3, 600, 10)";
        index.execute(progress, kept).expect("its row");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_log() {
    let (other, _) = store_of(MANY).await;
    check_tampered(|directory| {
        fs::copy(index_file(other.path()), index_file(directory)).expect("both are ours");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash() {
    let (directory, mut model) = store_of(MANY).await;
    let store = open(directory.path(), tiny()).await;
    let log = log(&store, NAME).await;
    for _ in 0..5 {
        model.write(&log, 13).await;
        let copy = crash_copy(directory.path());
        assert!(holds_something(&beside(&log_file(copy.path()), "-wal")));
        let crashed = open(copy.path(), Settings::default()).await;
        model.clone().check(&crashed).await;
        crashed.close().await;
    }
    store.close().await;
}

/// An index of an earlier session, put beside the write-ahead log that a crash left behind.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_index_beside_the_write_ahead_log_of_a_crash() {
    let (directory, mut model) = store_of(MANY).await;
    let old = fs::read(index_file(directory.path())).expect("it is there");
    let store = open(directory.path(), tiny()).await;
    model.write(&log(&store, NAME).await, 200).await;
    let copy = crash_copy(directory.path());
    assert!(holds_something(&beside(&index_file(copy.path()), "-wal")));
    fs::write(index_file(copy.path()), old).expect("it is ours");
    let crashed = open(copy.path(), Settings::default()).await;
    model.check(&crashed).await;
    crashed.close().await;
    store.close().await;
}

/// The same with one of the same session, whose write-ahead log has begun anew since.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_index_of_the_same_session_beside_the_write_ahead_log_of_a_crash() {
    let (directory, mut model) = store_of(MANY).await;
    let store = open(directory.path(), tiny()).await;
    let log = log(&store, NAME).await;
    model.write(&log, 40).await;
    let old = crash_copy(directory.path());
    model.write(&log, 400).await;
    let copy = crash_copy(directory.path());
    fs::copy(index_file(old.path()), index_file(copy.path())).expect("both are ours");
    let crashed = open(copy.path(), Settings::default()).await;
    model.check(&crashed).await;
    crashed.close().await;
    store.close().await;
}

/// A crash while the index is so far behind that it is built in the background.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_with_the_indexer_far_behind() {
    let (directory, mut model) = store_of(10).await;
    let store = open(directory.path(), lazy()).await;
    model.write(&log(&store, NAME).await, 300).await;
    let copy = crash_copy(directory.path());
    let crashed = open(copy.path(), tiny()).await;
    model.check(&crashed).await;
    // What was waiting at the start is counted, so that appends are not held up for nothing.
    crashed.close().await;
    store.close().await;
}

/// What is left when no whole batch is left has to be indexed too, where the memtable does not hold it.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_larger_than_the_memtable() {
    let (directory, mut model) = store_of(MANY).await;
    fs::remove_file(index_file(directory.path())).expect("it is there");
    let settings = Settings { index_batch: MANY * 2, memtable_messages: 2, ..Settings::default() };
    let store = open(directory.path(), settings).await;
    model.check(&store).await;
    store.close().await;
}

/// A store that is closed while an index is being built lets go of it before another takes over.
#[tokio::test(flavor = "multi_thread")]
async fn closing_while_an_index_is_built() {
    let (directory, mut model) = store_of(2_000).await;
    for _ in 0..10 {
        fs::remove_file(index_file(directory.path())).expect("it is there");
        let store = open(directory.path(), tiny()).await;
        let _ = store.log(NAME).await;
        store.close().await;
    }
    let store = open(directory.path(), Settings::default()).await;
    model.check(&store).await;
    store.close().await;
}
