//! A disk without room, and one that takes no writes: the store starts and is read, says that it takes no writes, and
//! takes them as soon as the disk does.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_store::sqlite::Settings;
use eventodb_store::testing::Disk;
use eventodb_store::{Error, EventStore};

use super::support::*;

const SIZE: u64 = 4 * 1024 * 1024;

/// How the last server on the directory ended.
#[derive(Clone, Copy, Debug)]
enum End {
    Clean,
    /// Killed; `true`: SQLite's shared memory is there, as after SIGKILL, `false`: it is not, as in a copy.
    Killed(bool),
}

const ENDS: [End; 3] = [End::Clean, End::Killed(true), End::Killed(false)];

/// Puts a store of some messages on a disk.
async fn prepare(disk: &Path, end: End) -> Model {
    let (directory, model) = match end {
        End::Clean => store_of(100).await,
        End::Killed(_) => {
            let (directory, mut model) = store_of(50).await;
            let store = open(directory.path(), Settings::default()).await;
            model.write(&log(&store, NAME).await, 50).await;
            let copy = crash_copy(directory.path());
            store.close().await;
            (copy, model)
        }
    };
    fs::create_dir(disk).expect("there is room");
    for file in fs::read_dir(directory.path()).expect("the folder is there") {
        let file = file.expect("a file");
        fs::copy(file.path(), disk.join(file.file_name())).expect("there is room");
    }
    if let End::Killed(true) = end {
        for name in ["registry.db-shm", "1.log.db-shm", "1.index.db-shm"] {
            fs::write(disk.join(name), [0; 32 * 1024]).expect("there is room");
        }
    }
    model
}

async fn is_read_and_not_written(store: &Arc<EventStore>, model: &Model) {
    model.check_served(store).await;
    let log = log(store, NAME).await;
    let refused = try_append(&log).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(store.create(new_namespace("m")).await.is_err());
    store.ping().await.expect("reads are answered");
    told(store, |codes| codes.contains(&"SELF_TEST_FAILED") && codes.contains(&"LOG_NOT_WRITTEN")).await;
    model.check_served(store).await;
}

/// Waits until this is so of the codes that the store tells.
async fn told(store: &EventStore, wanted: impl Fn(&[&str]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted(&codes(store)) {
        assert!(Instant::now() < deadline, "{:?} is told", codes(store));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nobody writes meanwhile: the store finds out by itself.
async fn takes_writes_again(store: &Arc<EventStore>, mut model: Model) {
    told(store, |codes| codes.is_empty()).await;
    model.check(store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_a_full_disk_is_read_and_written_once_there_is_room() {
    for end in ENDS {
        let Some(disk) = Disk::mount(SIZE) else { return };
        let data = disk.path().join("data");
        let model = prepare(&data, end).await;
        disk.fill();
        let store = open(&data, Settings::default()).await;
        is_read_and_not_written(&store, &model).await;
        disk.make_room();
        takes_writes_again(&store, model).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_a_read_only_disk_is_read_and_written_once_it_may_be() {
    for end in ENDS {
        let Some(disk) = Disk::mount(SIZE) else { return };
        let data = disk.path().join("data");
        let model = prepare(&data, end).await;
        disk.set_read_only(true);
        let store = open(&data, Settings::default()).await;
        is_read_and_not_written(&store, &model).await;
        disk.set_read_only(false);
        takes_writes_again(&store, model).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_is_told_before_anybody_writes() {
    let Some(disk) = Disk::mount(SIZE) else { return };
    let data = disk.path().join("data");
    let model = prepare(&data, End::Clean).await;
    let store = open(&data, Settings::default()).await;
    model.check_served(&store).await;
    assert_eq!(codes(&store), Vec::<&str>::new());
    disk.fill();
    told(&store, |codes| codes.contains(&"SELF_TEST_FAILED")).await;
    disk.make_room();
    takes_writes_again(&store, model).await;
}
