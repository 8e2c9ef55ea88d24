//! Consumer groups in a log that is not what it was: restored from a backup, or cut by a repair.

use std::collections::BTreeMap;
use std::sync::Arc;

use eventodb_protocol::group::reply::Heartbeat;
use eventodb_protocol::group::{Epoch, Fence};
use eventodb_protocol::request::group::{CreateGroup, Join, MemberCall, Presented, ReadGroup, Start};
use eventodb_store::groups::Refusal;
use eventodb_store::sqlite::Settings;
use eventodb_store::sqlite::maintenance::{Permissions, backup, repair};
use eventodb_store::{Error, Log};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::support::*;

const GROUP: &str = "g";

async fn create_group(log: &Log) {
    let new = CreateGroup {
        categories: [].into(),
        types: [].into(),
        partitions: 1,
        start: Start::After(0),
        session_ms: 600_000,
        max_parked: 10,
        description: String::new(),
    };
    log.groups().create(GROUP, new).await.expect("it is new");
}

/// A store of this many messages with a group that has handled them all, and its member.
async fn handled(count: usize) -> (TempDir, String) {
    let (directory, _) = store_of(count).await;
    let store = open(directory.path(), Settings::default()).await;
    let log = log(&store, NAME).await;
    create_group(&log).await;
    let joined = log.groups().join(GROUP, Join::default()).await.expect("there is room");
    let presented = Presented { epoch: joined.assigned[0].epoch, position: count as i64 };
    let call = MemberCall { checkpoints: [(0, presented)].into(), ..MemberCall::default() };
    let beat = log.groups().heartbeat(GROUP, &joined.member, call, &CancellationToken::new()).await;
    assert!(beat.expect("it lives").fenced.is_empty());
    store.close().await;
    (directory, joined.member)
}

async fn heartbeat(log: &Log, member: &str, presented: Option<Presented>) -> Heartbeat {
    let checkpoints = presented.into_iter().map(|presented| (0, presented)).collect();
    let call = MemberCall { checkpoints, ..MemberCall::default() };
    log.groups().heartbeat(GROUP, member, call, &CancellationToken::new()).await.expect("it lives")
}

/// Its next call tells a member of before that it is none any more, and a new one gets what is written from now on.
async fn begins_anew(log: &Arc<Log>, member: &str, epoch: Epoch, head: i64) {
    for _ in 0..5 {
        append_any(log, "a-1").await.expect("writes are taken");
    }
    let call = MemberCall::default();
    let beat = log.groups().heartbeat(GROUP, member, call, &CancellationToken::new()).await;
    assert!(matches!(beat, Err(Error::Group(Refusal::Fenced { reason: Fence::Unknown, .. }))), "{beat:?}");
    let joined = log.groups().join(GROUP, Join::default()).await.expect("there is room");
    assert!(joined.assigned[0].epoch > epoch);
    let call = ReadGroup { heartbeat: MemberCall::default(), batch: 100, partitions: None, after: BTreeMap::new() };
    let page = log.groups().read(GROUP, &joined.member, call, &CancellationToken::new(), |_| true).await;
    let rows = page.expect("it lives").messages;
    let rows = rows.iter().map(|row| serde_json::from_slice::<Value>(row.get()).expect("JSON"));
    let positions: Vec<i64> = rows.map(|row| row[4].as_i64().expect("a position")).collect();
    assert_eq!(positions, (head + 1..=head + 5).collect::<Vec<_>>());
}

/// A member that outlives a restored backup does not know that it is there once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_in_a_restored_backup_begins_anew() {
    let (directory, member) = handled(20).await;
    let output = directory.path().join("backup");
    backup(directory.path(), &output, &mut |_| {}).expect("the store is there");
    let store = open(directory.path(), Settings::default()).await;
    let here = log(&store, NAME).await;
    for _ in 0..3 {
        here.groups().join(GROUP, Join::default()).await.expect("there is room");
    }
    let epoch = here.groups().status(GROUP).await.expect("it is there").partitions[0].epoch;
    store.close().await;
    let store = open(&output, Settings::default()).await;
    begins_anew(&log(&store, NAME).await, &member, epoch, 20).await;
    store.close().await;
}

/// A copy of the directory is put back. Its member went on meanwhile, and has handled messages that are lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_in_a_directory_that_was_put_back_takes_no_epoch_of_before() {
    let (directory, member) = handled(20).await;
    let copy = tempfile::tempdir().expect("a temporary folder");
    for file in std::fs::read_dir(directory.path()).expect("it is there") {
        let file = file.expect("it is there");
        if file.file_type().expect("it is there").is_file() {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("there is room");
        }
    }
    let (before, after) =
        (open(directory.path(), Settings::default()).await, open(copy.path(), Settings::default()).await);
    let (old, new) = (log(&before, NAME).await, log(&after, NAME).await);
    for log in [&old, &new] {
        for _ in 0..5 {
            append_any(log, "a-1").await.expect("writes are taken");
        }
    }
    let assigned = heartbeat(&old, &member, None).await.membership.assigned;
    let present = Presented { epoch: assigned[0].epoch, position: 25 };
    let told = heartbeat(&new, &member, Some(present)).await;
    assert_eq!(told.fenced.len(), 1, "{told:?}");
    let given = &told.membership.assigned[0];
    assert!(given.epoch > present.epoch && given.checkpoint == 20, "{given:?}");
    after.close().await;
    let after = open(copy.path(), Settings::default()).await;
    let new = log(&after, NAME).await;
    let present = Presented { epoch: given.epoch, position: 25 };
    assert!(heartbeat(&new, &member, Some(present)).await.fenced.is_empty(), "it is the same file");
    before.close().await;
    after.close().await;
}

/// The log ends earlier than what was acknowledged, and the loss is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_a_log_whose_lost_end_was_accepted_begins_anew() {
    let (directory, member) = handled(20).await;
    let registry = rusqlite::Connection::open(directory.path().join("registry.db")).expect("a database");
    registry.execute("UPDATE namespaces SET marked_head = 25", []).expect("it is ours");
    drop(registry);
    for dry_run in [true, false] {
        repair(directory.path(), Permissions { accept_loss: true, dry_run }, &mut |_| {}).expect("it can be read");
    }
    let store = open(directory.path(), Settings::default()).await;
    begins_anew(&log(&store, NAME).await, &member, Epoch::from_number(0), 20).await;
    store.close().await;
}

/// What is written after the cut is handed out, although the checkpoint was above it.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_a_log_that_a_repair_has_cut_begins_anew() {
    let (directory, member) = handled(2_000).await;
    let file = log_file(directory.path());
    let bytes = std::fs::read(&file).expect("it is there");
    let middle = bytes.len() / 4096 / 2 * 4096;
    let damaged = [&bytes[..middle], &[0xa5; 4096], &bytes[middle + 4096..]].concat();
    std::fs::write(&file, damaged).expect("it is ours");
    repair(directory.path(), Permissions { accept_loss: true, dry_run: false }, &mut |_| {}).expect("it can be read");
    let store = open(directory.path(), Settings::default()).await;
    let log = log(&store, NAME).await;
    let head = log.head();
    assert!(head > 0 && head < 2_000, "{head}");
    begins_anew(&log, &member, Epoch::from_number(0), head).await;
    store.close().await;
}
