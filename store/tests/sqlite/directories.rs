//! The data directory under a server: private, taken by one, and missed where it is removed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use eventodb_protocol::Token;
use eventodb_store::model::NewNamespace;
use eventodb_store::sqlite::{Location, OpenError, Settings, Sqlite, maintenance};
use eventodb_store::{Error, EventStore, Log};

use super::support::*;

async fn assert_refused(store: &EventStore, log: &Arc<Log>) {
    let refused = try_append(log).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert_eq!(codes(store), ["DIRECTORY_LOST"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_once_the_data_directory_is_removed() {
    let (directory, _) = store_of(3).await;
    let store = open(directory.path(), Settings::default()).await;
    let log = log(&store, NAME).await;
    try_append(&log).await.expect("the directory is there");
    fs::remove_dir_all(directory.path()).expect("it is ours");
    assert_refused(&store, &log).await;
    let new = NewNamespace {
        name: "m".to_owned(),
        token_hash: Token::generate("m").hash(),
        description: String::new(),
        metadata: "{}".to_owned(),
    };
    let refused = store.create(new).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(!directory.path().exists());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_while_a_log_is_missing() {
    for suffix in ["", "-wal"] {
        let (directory, _) = store_of(3).await;
        let store = open(directory.path(), Settings::default()).await;
        let log = log(&store, NAME).await;
        let file = beside(&log_file(directory.path()), suffix);
        let aside = beside(&file, ".aside");
        fs::rename(&file, &aside).expect("it is there");
        assert_refused(&store, &log).await;
        fs::write(&file, "another").expect("the folder is ours");
        assert_refused(&store, &log).await;
        fs::rename(&aside, &file).expect("it is there");
        try_append(&log).await.expect("the file is back");
        assert_eq!(codes(&store), Vec::<&str>::new());
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_or_replaced_lock_lets_no_second_server_in() {
    for replaced in [false, true] {
        let (directory, mut model) = store_of(3).await;
        let store = open(directory.path(), Settings::default()).await;
        let log_of_first = log(&store, NAME).await;
        let lock = directory.path().join("lock");
        fs::remove_file(&lock).expect("it is there");
        if replaced {
            fs::write(&lock, "").expect("the folder is ours");
        }
        let second = Sqlite::open(Location::Directory(directory.path().to_owned()), Settings::default());
        assert!(matches!(second.err(), Some(OpenError::Locked(_))));
        // A server of an earlier version knows nothing but the file.
        assert_refused(&store, &log_of_first).await;
        store.close().await;

        let store = open(directory.path(), Settings::default()).await;
        model.check(&store).await;
        store.close().await;
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").mode() & 0o777
}

fn assert_private(directory: &Path) {
    assert_eq!(mode(directory), 0o700, "{}", directory.display());
    for file in fs::read_dir(directory).expect("the folder is there") {
        let path = file.expect("a file").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_directories_are_for_their_owner_alone() {
    let there = tempfile::tempdir().expect("a temporary folder");
    let data = there.path().join("deep/data");
    let store = open(&data, Settings::default()).await;
    create(&store, NAME).await;
    append_any(&log(&store, NAME).await, "s-1").await.expect("it is free");
    assert_private(&data);
    let backup = there.path().join("backup");
    maintenance::backup(&data, &backup, &mut |_| {}).expect("it is sound");
    assert_private(&backup);
    store.close().await;

    // As an earlier version has left them.
    for file in fs::read_dir(&data).expect("the folder is there") {
        let path = file.expect("a file").path();
        if path.file_name().is_some_and(|name| name != "lock") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
        }
    }
    let store = open(&data, Settings::default()).await;
    append_any(&log(&store, NAME).await, "s-1").await.expect("it is free");
    assert_private(&data);
    store.close().await;
}
