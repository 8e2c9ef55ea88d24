//! A registry that is gone, older than the logs, or beside logs of other namespaces: nobody ever reads what is not his.

use std::fs;
use std::path::Path;

use eventodb_store::Chain;
use eventodb_store::sqlite::maintenance::{self, Permissions, backup, repair, verify};
use eventodb_store::sqlite::{Location, OpenError, Settings, Sqlite};
use rusqlite::Connection;

use super::support::*;

fn refusal(directory: &Path) -> OpenError {
    let opened = Sqlite::open(Location::Directory(directory.to_owned()), Settings::default());
    opened.err().expect("it is refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_gone_is_never_made_anew_beside_logs() {
    let (directory, _) = store_of(20).await;
    for emptied in [false, true] {
        let copy = crash_copy(directory.path());
        let registry = copy.path().join("registry.db");
        if emptied {
            fs::write(&registry, b"").expect("it is ours");
        } else {
            fs::remove_file(&registry).expect("it is there");
        }
        let error = refusal(copy.path());
        assert!(matches!(error, OpenError::NoRegistry(_)), "{error}");
        let told = error.to_string();
        assert!(told.contains("registry.db") && told.contains("backup"), "{told}");
    }
    fs::remove_file(directory.path().join("registry.db")).expect("it is there");
    let output = directory.path().join("backup");
    for error in [
        verify(directory.path(), &mut |_| {}).expect_err("there is no registry"),
        repair(directory.path(), Permissions::default(), &mut |_| {}).expect_err("there is no registry"),
        backup(directory.path(), &output, &mut |_| {}).expect_err("there is no registry"),
    ] {
        assert!(matches!(error, maintenance::Error::NoRegistry(_)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_the_registry_does_not_know_is_told_at_the_start() {
    let (directory, _) = store_of(20).await;
    let older = fs::read(directory.path().join("registry.db")).expect("it is there");
    let store = open(directory.path(), Settings::default()).await;
    create(&store, "later").await;
    append_any(&log(&store, "later").await, "a-1").await.expect("nothing is in the way");
    store.close().await;
    fs::write(directory.path().join("registry.db"), older).expect("it is ours");
    let error = refusal(directory.path());
    assert!(matches!(error, OpenError::UnknownLog(_)), "{error}");
    assert!(error.to_string().contains("2.log.db"), "{error}");
    let report = verify(directory.path(), &mut |_| {}).expect("it can be read");
    let stray = report.files.iter().find(|file| file.file == "2.log.db").expect("it is told");
    assert!(!stray.problems.is_empty());
}

/// Numbers begin again in a new registry: an old log under such a number is not the new namespace's.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_another_namespace_is_never_opened() {
    let (old, _) = store_of(20).await;
    let directory = tempfile::tempdir().expect("a temporary folder");
    let store = open(directory.path(), Settings::default()).await;
    create(&store, NAME).await;
    for file in ["1.log.db", "1.index.db"] {
        fs::copy(old.path().join(file), directory.path().join(file)).expect("both are ours");
    }
    let told = Chain(&store.log(NAME).await.expect_err("it is another's")).to_string();
    assert!(told.contains("another namespace"), "{told}");
    store.close().await;
    let outcomes = repair(directory.path(), Permissions { accept_loss: true, dry_run: false }, &mut |_| {})
        .expect("it can be read");
    assert!(outcomes.iter().any(|outcome| outcome.file == "1.log.db" && !outcome.is_usable), "{outcomes:?}");
    let report = verify(directory.path(), &mut |_| {}).expect("it can be read");
    assert!(!report.is_sound());
}

/// A store of before there were identities and marks takes those of its logs.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_an_earlier_version_takes_the_identities_of_its_logs() {
    let (directory, mut model) = store_of(20).await;
    make_registry_earlier(directory.path(), 1);
    assert!(verify(directory.path(), &mut |_| {}).expect("it can be read").is_sound());
    let store = open(directory.path(), Settings::default()).await;
    model.check(&store).await;
    store.close().await;
    let identities = |file: &str, select: &str| -> Vec<u8> {
        let connection = Connection::open(directory.path().join(file)).expect("a database");
        connection.query_row(select, [], |row| row.get(0)).expect("one of ours")
    };
    let of_log = identities("1.log.db", "SELECT identity FROM identity");
    assert_eq!(identities("registry.db", "SELECT identity FROM namespaces"), of_log);
}
