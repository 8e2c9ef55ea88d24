//! Backups: taken of a store in use, complete up to a moment, checked to the byte, and started again.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use eventodb_protocol::Filter;
use eventodb_protocol::Scope;
use eventodb_protocol::message::{Expected, NewMessage};
use eventodb_protocol::request::group::{AtomicForm, CreateGroup, GroupForm, Join, Start};
use eventodb_protocol::request::{Append, AppendEntry, Read};
use eventodb_store::EventStore;
use eventodb_store::sqlite::maintenance::{Error, Manifest, backup, verify};
use eventodb_store::sqlite::{Location, Settings, Sqlite};
use rusqlite::Connection;

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_store_in_use_is_a_data_directory() {
    let (directory, mut model) = store_of(300).await;
    let store = open(directory.path(), tiny()).await;
    create(&store, "unused").await;
    model.write(&log(&store, NAME).await, 50).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = folder.path().join("backup");
    let manifest = backup(directory.path(), &output, &mut |_| {}).expect("the store is there");
    assert_eq!((manifest.namespaces[0].head, manifest.namespaces[0].messages), (350, 350));
    let later = model.clone();
    // What is written later is not in it, and does not disturb it.
    model.write(&log(&store, NAME).await, 20).await;
    model.check(&store).await;

    let report = verify(&output, &mut |_| {}).expect("it can be read");
    assert!(report.is_backup && report.is_sound(), "{report:?}");
    assert!(!output.join("1.index.db").exists());
    let mut restored_model = later;
    let restored = open(&output, Settings::default()).await;
    restored_model.check(&restored).await;
    assert_eq!(restored.list().await.expect("the storage answers").len(), 2);
    create(&restored, "new").await;
    restored_model.write(&log(&restored, NAME).await, 5).await;
    restored.close().await;
    let report = verify(&output, &mut |_| {}).expect("it can be read");
    assert!(!report.is_backup && report.is_sound(), "{report:?}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_tests_of_itself_are_in_no_backup() {
    let (directory, model) = store_of(30).await;
    let backend = Sqlite::open(Location::Directory(directory.path().to_owned()), Settings::default());
    let testing =
        eventodb_store::Settings { self_test: Some(Arc::new(true.into())), ..eventodb_store::Settings::default() };
    let store = EventStore::open(backend.expect("the directory is ours"), testing).await.expect("the store opens");
    let tested = async {
        while store.self_tests().passed.get() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, tested).await.expect("it tests itself");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = folder.path().join("backup");
    let manifest = backup(directory.path(), &output, &mut |_| {}).expect("the store is there");
    store.close().await;
    assert_eq!(manifest.namespaces.iter().map(|of| &*of.namespace).collect::<Vec<_>>(), [NAME]);
    let report = verify(directory.path(), &mut |_| {}).expect("it can be read");
    assert!(report.is_sound(), "{report:?}");
    let holds: Vec<&str> = report.files.iter().map(|file| &*file.holds).collect();
    assert_eq!(holds[0], "1 namespaces");
    assert!(holds.contains(&"log of the server's tests of itself, 1 messages"), "{holds:?}");
    let restored = open(&output, Settings::default()).await;
    let mut restored_model = model;
    restored_model.check(&restored).await;
    restored.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_in_a_backup_and_are_verified() {
    let (directory, _) = store_of(30).await;
    let store = open(directory.path(), Settings::default()).await;
    let log_here = log(&store, NAME).await;
    let new = CreateGroup {
        categories: [].into(),
        types: [].into(),
        partitions: 3,
        start: Start::After(20),
        session_ms: 600_000,
        max_parked: 5,
        description: "one".to_owned(),
    };
    log_here.groups().create("g", new).await.expect("it is new");
    log_here.groups().join("g", Join::default()).await.expect("there is room");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = folder.path().join("backup");
    backup(directory.path(), &output, &mut |_| {}).expect("the store is there");
    store.close().await;
    assert!(verify(&output, &mut |_| {}).expect("it can be read").is_sound());
    let restored = open(&output, Settings::default()).await;
    let groups = log(&restored, NAME).await;
    let status = groups.groups().status("g").await.expect("it is there");
    assert!(status.partitions.iter().all(|partition| partition.checkpoint == 20));
    assert!(status.members.is_empty(), "who was a member then may be none any more");
    drop(groups);
    restored.close().await;
    assert!(verify(&output, &mut |_| {}).expect("it can be read").is_sound());
    let file = rusqlite::Connection::open(log_file(&output)).expect("a database");
    file.execute_batch("UPDATE group_epoch SET last = 5").expect("a log");
    drop(file);
    assert!(!verify(&output, &mut |_| {}).expect("it can be read").is_sound(), "epochs that were not given");
}

/// Results and the checkpoint of the same commit are in a backup together, so that no result is written again after it is
/// restored.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_never_parts_a_checkpoint_from_its_results() {
    const INPUTS: i64 = 5_000;
    let (directory, _) = store_of(0).await;
    // Rows that a backup copies beside the checkpoint, so that it takes a while.
    let file = Connection::open(log_file(directory.path())).expect("a database");
    let rows = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000)
                INSERT INTO group_audit SELECT 'another', n, 0, NULL, 'x', '{}' FROM n";
    file.execute_batch(rows).expect("a log");
    drop(file);
    let store = open(directory.path(), Settings::default()).await;
    let here = log(&store, NAME).await;
    let append = |stream: &str, count: i64, group| {
        let new = |_| NewMessage { id: None, kind: "T".into(), data: "{}".into(), metadata: None };
        let messages = (0..count).map(new).collect();
        let entry = AppendEntry { stream: stream.into(), expected: Expected::Any, messages };
        Append { entries: vec![entry], checks: Vec::new(), group }
    };
    for at in 0..5 {
        here.append(append(&format!("in-{at}"), INPUTS / 5, None)).await.expect("there is room");
    }
    let new = CreateGroup {
        categories: ["in".to_owned()].into(),
        types: [].into(),
        partitions: 1,
        start: Start::After(0),
        session_ms: 600_000,
        max_parked: 5,
        description: String::new(),
    };
    here.groups().create("g", new).await.expect("it is new");
    let epoch = here.groups().join("g", Join::default()).await.expect("there is room").assigned[0].epoch;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    // One result for each input, so that there are as many as the checkpoint says.
    let worker = tokio::spawn(async move {
        for position in 1..=INPUTS {
            let form = AtomicForm::Checkpoint { partition: 0, epoch, position };
            let group = Some(GroupForm { group: "g".to_owned(), form });
            here.append(append("out-1", 1, group)).await.expect("the member lives");
            if stopped.load(SeqCst) {
                return;
            }
        }
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    for round in 0..5 {
        let (from, output) = (directory.path().to_owned(), folder.path().join(format!("backup{round}")));
        let to = output.clone();
        let manifest = tokio::task::spawn_blocking(move || backup(&from, &to, &mut |_| {})).await;
        manifest.expect("it does not panic").expect("the store is there");
        let copy = Connection::open(log_file(&output)).expect("a database");
        let results = "SELECT count(*) FROM messages WHERE stream = 'out-1'";
        let results: i64 = copy.query_row(results, [], |row| row.get(0)).expect("a log");
        drop(copy);
        let restored = open(&output, Settings::default()).await;
        let status = log(&restored, NAME).await.groups().status("g").await.expect("it is there");
        assert_eq!(status.partitions[0].checkpoint, results);
        restored.close().await;
    }
    stop.store(true, SeqCst);
    worker.await.expect("it does not panic");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_a_prefix_of_every_log() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let store = open(directory.path(), Settings::default()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for name in ["n", "m", "gone"] {
        create(&store, name).await;
        let (log, stop) = (log(&store, name).await, stop.clone());
        writers.push(tokio::spawn(async move {
            let mut model = Model::default();
            model.write(&log, 200).await;
            while !stop.load(SeqCst) {
                model.write(&log, 10).await;
            }
            model
        }));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    for round in 0..3 {
        let (from, output) = (directory.path().to_owned(), folder.path().join(format!("backup{round}")));
        let to = output.clone();
        let manifest = tokio::task::spawn_blocking(move || backup(&from, &to, &mut |_| {})).await;
        let manifest = manifest.expect("it does not panic").expect("the store is there");
        assert!(verify(&output, &mut |_| {}).expect("it can be read").is_sound());
        let restored = open(&output, tiny()).await;
        for namespace in &manifest.namespaces {
            let log = log(&restored, &namespace.namespace).await;
            let all = messages(&log, Read::forward(Filter::new(Scope::All), 0, 10_000)).await;
            let positions: Vec<i64> = all.iter().map(|message| message.global_position).collect();
            assert_eq!(positions, (1..=namespace.head).collect::<Vec<_>>());
            assert!(namespace.head > 0 || round == 0);
        }
        restored.close().await;
    }
    stop.store(true, SeqCst);
    for (name, writer) in ["n", "m", "gone"].into_iter().zip(writers) {
        writer.await.expect("no write fails").check_named(&store, name).await;
    }
    store.close().await;
}

/// Namespaces that come and go while a backup is taken are in it wholly or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_meanwhile_is_left_out() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let store = open(directory.path(), Settings::default()).await;
    for at in 0..8 {
        let name = format!("n{at}");
        create(&store, &name).await;
        Model::default().write(&log(&store, &name).await, 20).await;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = folder.path().join("backup");
    let manifest = backup_meanwhile(directory.path(), &output, async {
        store.delete("n0").await.expect("it is there");
        store.delete("n7").await.expect("it is there");
        create(&store, "n7").await;
    })
    .await;
    let names: Vec<_> = manifest.namespaces.iter().map(|namespace| namespace.namespace.as_str()).collect();
    assert_eq!(names, ["n1", "n2", "n3", "n4", "n5", "n6"]);
    assert_eq!(manifest.deleted, ["n0", "n7"]);
    assert!(verify(&output, &mut |_| {}).expect("it can be read").is_sound());
    store.close().await;
}

/// A namespace whose messages are replaced while a backup is taken is in it, with the old ones or with the new ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_replaced_meanwhile_is_in_the_backup() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let store = open(directory.path(), Settings::default()).await;
    for name in ["n0", "n1", "n2"] {
        create(&store, name).await;
        Model::default().write(&log(&store, name).await, 20).await;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = folder.path().join("backup");
    let manifest = backup_meanwhile(directory.path(), &output, async {
        // One is being copied, and the other is not copied yet.
        for name in ["n0", "n2"] {
            let replacement = store.replace(name, None).await.expect("it is there");
            Model::default().write(replacement.log(), 30).await;
            replacement.finish().await.expect("nobody else replaces it");
        }
    })
    .await;
    let found = manifest.namespaces.iter().map(|namespace| (namespace.namespace.as_str(), namespace.head));
    let mut found: Vec<_> = found.collect();
    found.sort_unstable();
    assert_eq!(found, [("n0", 30), ("n1", 20), ("n2", 30)]);
    assert!(manifest.deleted.is_empty());
    assert!(verify(&output, &mut |_| {}).expect("it can be read").is_sound());
    store.close().await;
    let restored = open(&output, Settings::default()).await;
    for (name, head) in found {
        assert_eq!(log(&restored, name).await.head(), head);
    }
    restored.close().await;
    assert!(verify(&output, &mut |_| {}).expect("it can be read").is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_gives_up_a_namespace_that_is_replaced_whenever_it_is_copied() {
    let (directory, _) = store_of(20).await;
    let store = open(directory.path(), Settings::default()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (from, to) = (directory.path().to_owned(), folder.path().join("backup"));
    let (replaced, runtime) = (Arc::clone(&store), tokio::runtime::Handle::current());
    let backup = tokio::task::spawn_blocking(move || {
        backup(&from, &to, &mut |_| {
            runtime.block_on(async {
                let replacement = replaced.replace(NAME, None).await.expect("it is there");
                Model::default().write(replacement.log(), 5).await;
                replacement.finish().await.expect("nobody else replaces it");
            });
        })
    });
    let error = backup.await.expect("it does not panic").expect_err("it never has the namespace as it is");
    assert!(matches!(&error, Error::ReplacedAgain(name) if name == NAME), "{error}");
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0, "nothing is left of it");
    store.close().await;
}

/// Takes a backup, which goes by name. It is held while it tells of the first namespace, until `work` is done.
async fn backup_meanwhile(from: &Path, to: &Path, work: impl Future<Output = ()>) -> Manifest {
    let (told, mut wait) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, going_on) = std::sync::mpsc::channel::<()>();
    let (from, to) = (from.to_owned(), to.to_owned());
    let backup = tokio::task::spawn_blocking(move || {
        let mut held = false;
        backup(&from, &to, &mut |_| {
            if !std::mem::replace(&mut held, true) {
                let _ = told.send(());
                let _ = going_on.recv();
            }
        })
    });
    wait.recv().await.expect("the backup tells of its progress");
    work.await;
    go_on.send(()).expect("the backup waits");
    backup.await.expect("it does not panic").expect("the store is there")
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_every_flipped_byte_of_a_backup() {
    let (directory, _) = store_of(20).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = folder.path().join("backup");
    let manifest = backup(directory.path(), &output, &mut |_| {}).expect("the store is there");
    for file in &manifest.files {
        let path = output.join(&file.name);
        let whole = fs::read(&path).expect("it is there");
        for at in (0..whole.len()).step_by(997) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, bytes).expect("it is ours");
            let report = verify(&output, &mut |_| {}).expect("it can be read");
            let found = report.files.iter().find(|found| found.file == file.name).expect("each file is told");
            assert!(!found.problems.is_empty(), "byte {at} of {}", file.name);
        }
        fs::write(&path, whole).expect("it is ours");
    }
    assert!(verify(&output, &mut |_| {}).expect("it can be read").is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_never_overwrites_and_never_stays_half() {
    let (directory, _) = store_of(5).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("mine"), b"x").expect("it is ours");
    let error = backup(directory.path(), folder.path(), &mut |_| {}).expect_err("it is not empty");
    assert!(matches!(error, Error::OutputExists(_)), "{error}");
    fs::remove_file(log_file(directory.path())).expect("it is there");
    let error = backup(directory.path(), &folder.path().join("b"), &mut |_| {}).expect_err("a log is missing");
    assert!(matches!(error, Error::MissingLog(_)), "{error}");
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1);
    let error = backup(folder.path(), &folder.path().join("b"), &mut |_| {}).expect_err("there is no store");
    assert!(matches!(error, Error::NoStore(_)), "{error}");
}
