//! A disk without room, and one that takes no writes: the store starts and is read, says that it takes no writes, and
//! takes them as soon as the disk does.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_protocol::group::Epoch;
use eventodb_protocol::group::reply::Membership;
use eventodb_protocol::message::{Expected, NewMessage};
use eventodb_protocol::request::group::{AtomicForm, CreateGroup, GroupForm, Join, MemberCall, Park, Presented, Start};
use eventodb_protocol::request::{Append, AppendEntry};
use eventodb_store::sqlite::Settings;
use eventodb_store::testing::Disk;
use eventodb_store::{Error, EventStore, Log};
use tokio_util::sync::CancellationToken;

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

/// These disks are smaller than the reserve.
fn without_reserve() -> Settings {
    Settings { min_free: 0, ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_a_full_disk_is_read_and_written_once_there_is_room() {
    for end in ENDS {
        let Some(disk) = Disk::mount(SIZE) else { return };
        let data = disk.path().join("data");
        let model = prepare(&data, end).await;
        disk.fill();
        let store = open(&data, without_reserve()).await;
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
        let store = open(&data, without_reserve()).await;
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
    let store = open(&data, without_reserve()).await;
    model.check_served(&store).await;
    assert_eq!(codes(&store), Vec::<&str>::new());
    disk.fill();
    told(&store, |codes| codes.contains(&"SELF_TEST_FAILED")).await;
    disk.make_room();
    takes_writes_again(&store, model).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_before_the_disk_is_full_and_come_back_by_themselves() {
    let Some(disk) = Disk::mount(4 * SIZE) else { return };
    let data = disk.path().join("data");
    let mut model = prepare(&data, End::Clean).await;
    let store = open(&data, Settings { min_free: SIZE, ..Settings::default() }).await;
    assert_eq!(codes(&store), Vec::<&str>::new());
    let log = log(&store, NAME).await;
    model.write(&log, 10).await;
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![0; 3 * SIZE as usize]).expect("there is room");
    told(&store, |codes| codes == ["DISK_LOW"]).await;
    let refused = try_append(&log).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    let refused = store.create(new_namespace("m")).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    model.check_served(&store).await;
    fs::remove_file(&filler).expect("it is there");
    told(&store, |codes| codes.is_empty()).await;
    model.write(&log, 10).await;
    model.check(&store).await;
    store.close().await;
}

/// Of each kind one change of a group, for a member that owns its only partition: a checkpoint, a park, and an append
/// with the next checkpoint.
struct GroupCalls {
    member: Membership,
}

impl GroupCalls {
    async fn new(log: &Log) -> Self {
        let new = CreateGroup {
            categories: [].into(),
            types: [].into(),
            partitions: 1,
            start: Start::After(0),
            session_ms: 600_000,
            max_parked: 10,
            description: String::new(),
        };
        log.groups().create("g", new).await.expect("it is new");
        Self { member: log.groups().join("g", Join::default()).await.expect("there is room") }
    }

    fn epoch(&self) -> Epoch {
        self.member.assigned[0].epoch
    }

    async fn checkpoint(&self, log: &Log) -> Result<(), Error> {
        let presented = Presented { epoch: self.epoch(), position: 10 };
        let call = MemberCall { checkpoints: [(0, presented)].into(), ..MemberCall::default() };
        let beat = log.groups().heartbeat("g", &self.member.member, call, &CancellationToken::new()).await?;
        assert!(beat.fenced.is_empty(), "the epoch is the same");
        Ok(())
    }

    async fn park(&self, log: &Log) -> Result<(), Error> {
        let (epoch, reason) = (self.epoch(), "too early".to_owned());
        let park = Park { partition: 0, epoch, position: 11, attempt: None, reason, retry_in_ms: None };
        log.groups().park("g", &self.member.member, park).await.map(|_| ())
    }

    async fn append(&self, log: &Arc<Log>) -> Result<(), Error> {
        let form = AtomicForm::Checkpoint { partition: 0, epoch: self.epoch(), position: 12 };
        let group = Some(GroupForm { group: "g".to_owned(), form });
        let message = NewMessage { id: None, kind: "T".into(), data: "{}".into(), metadata: None };
        let entry = AppendEntry { stream: "s-1".into(), expected: Expected::NoStream, messages: vec![message] };
        log.append(Append { entries: vec![entry], checks: Vec::new(), group }).await.map(|_| ())
    }

    /// Each is refused, and nothing of it is stored.
    async fn are_refused(&self, log: &Arc<Log>) {
        for refused in [self.checkpoint(log).await, self.park(log).await, self.append(log).await] {
            assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        }
        self.are_stored(log, 0, 0, 100).await;
        // A lease needs no room.
        let beat = MemberCall::default();
        let beat = log.groups().heartbeat("g", &self.member.member, beat, &CancellationToken::new()).await;
        assert_eq!(beat.expect("it lives").membership.assigned, self.member.assigned);
    }

    /// The same calls are taken.
    async fn are_taken(&self, log: &Arc<Log>) {
        available(|| self.checkpoint(log)).await.expect("there is room");
        available(|| self.park(log)).await.expect("there is room");
        available(|| self.append(log)).await.expect("there is room");
        self.are_stored(log, 12, 1, 101).await;
    }

    async fn are_stored(&self, log: &Log, checkpoint: i64, streams: usize, head: i64) {
        let status = log.groups().status("g").await.expect("it is read");
        let partition = &status.partitions[0];
        let stored = (partition.checkpoint, partition.parked.streams, status.summary.head, partition.epoch);
        assert_eq!(stored, (checkpoint, streams, head, self.epoch()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_changed_wholly_or_not_at_all_while_a_disk_is_full() {
    let Some(disk) = Disk::mount(4 * SIZE) else { return };
    let filler = disk.path().join("some");
    for min_free in [0, SIZE] {
        let data = disk.path().join(format!("data-{min_free}"));
        prepare(&data, End::Clean).await;
        let store = open(&data, Settings { min_free, ..Settings::default() }).await;
        let here = log(&store, NAME).await;
        let calls = GroupCalls::new(&here).await;
        if min_free == 0 {
            disk.fill();
        } else {
            fs::write(&filler, vec![0; 3 * SIZE as usize]).expect("there is room");
            told(&store, |codes| codes == ["DISK_LOW"]).await;
        }
        calls.are_refused(&here).await;
        if min_free == 0 {
            disk.make_room();
        } else {
            fs::remove_file(&filler).expect("it is there");
        }
        calls.are_taken(&here).await;
        store.close().await;
        let store = open(&data, Settings { min_free: 0, ..Settings::default() }).await;
        calls.are_stored(&*log(&store, NAME).await, 12, 1, 101).await;
        store.close().await;
    }
}
