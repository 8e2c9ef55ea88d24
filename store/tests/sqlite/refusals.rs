//! What is refused when a store is opened, and in which words.

use std::fs;

use eventodb_store::Chain;
use eventodb_store::sqlite::{Location, OpenError, Settings, Sqlite};
use rusqlite::Connection;

use super::support::*;

fn raise_version(file: &std::path::Path) {
    let connection = Connection::open(file).expect("a database");
    connection.pragma_update(None, "user_version", 99).expect("it is writable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_a_newer_program() {
    let (directory, _) = store_of(3).await;
    raise_version(&directory.path().join("registry.db"));
    let error = Sqlite::open(Location::Directory(directory.path().to_owned()), Settings::default()).err();
    let error = error.expect("it is refused");
    assert!(matches!(error, OpenError::Registry(..)), "{error}");
    let told = Chain(&error).to_string();
    assert!(
        told.contains("registry.db") && told.contains("step 99") && told.contains("a newer version of this program"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_a_newer_program() {
    let (directory, _) = store_of(3).await;
    raise_version(&log_file(directory.path()));
    let store = open(directory.path(), Settings::default()).await;
    let told = Chain(&store.log(NAME).await.expect_err("it is refused")).to_string();
    assert!(
        told.contains("1.log.db") && told.contains("step 99") && told.contains("a newer version of this program"),
        "{told}"
    );
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_a_newer_program_is_built_anew() {
    let (directory, mut model) = store_of(30).await;
    raise_version(&index_file(directory.path()));
    let store = open(directory.path(), Settings::default()).await;
    model.check(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let location = || Location::Directory(directory.path().to_owned());
    let store = open(directory.path(), Settings::default()).await;
    let error = Sqlite::open(location(), Settings::default()).err().expect("it is refused");
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
    store.close().await;
    open(directory.path(), Settings::default()).await.close().await;
}

/// A log that should hold messages and is not there is never taken for an empty one.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_log() {
    for crashed in [false, true] {
        let (directory, _) = store_of(30).await;
        let copy = if crashed {
            let store = open(directory.path(), Settings::default()).await;
            append_any(&log(&store, NAME).await, "a-1").await.expect("nothing is in the way");
            let copy = crash_copy(directory.path());
            store.close().await;
            copy
        } else {
            crash_copy(directory.path())
        };
        for emptied in [false, true] {
            let file = log_file(copy.path());
            let _ = fs::remove_file(beside(&file, "-wal"));
            if emptied {
                fs::write(&file, b"").expect("it is ours");
            } else {
                fs::remove_file(&file).expect("it is there");
            }
            let store = open(copy.path(), Settings::default()).await;
            let told = Chain(&store.log(NAME).await.expect_err("it is refused")).to_string();
            assert!(told.contains("1.log.db") && told.contains("missing"), "{told}");
            store.close().await;
        }
    }
}
