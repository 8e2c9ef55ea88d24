//! What stands in the way of consumer groups: it is never passed over, and told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::group::partition_of;
use eventodb_protocol::group::reply::{GroupRead, GroupStatus, Membership, Waited, Why};
use eventodb_protocol::message::{Expected, NewMessage};
use eventodb_protocol::request::group::{CreateGroup, Join, MemberCall, Park, Presented, ReadGroup, Skip, Start, Wait};
use eventodb_protocol::request::{Append, AppendEntry};
use eventodb_protocol::wire::Row;
use eventodb_store::sqlite::Settings;
use eventodb_store::{Error, EventStore, Log, Result};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::support::*;

const GROUP: &str = "g";
const PARTITIONS: u32 = 3;
/// Longer than any test takes.
const SESSION_MS: i64 = 600_000;
const HEAD: i64 = 100;
/// The message that is damaged.
const DAMAGED: i64 = 50;

/// A store of messages of which some are damaged, and a member of a group that owns all partitions.
struct World {
    directory: TempDir,
    store: Arc<EventStore>,
    log: Arc<Log>,
    model: Model,
    member: Membership,
}

impl World {
    async fn new(damaged: &[i64]) -> Self {
        let (directory, model) = store_of(HEAD as usize).await;
        damage(directory.path(), damaged);
        let store = open(directory.path(), Settings::default()).await;
        let log = log(&store, NAME).await;
        available(|| log.groups().create(GROUP, new_group(0))).await.expect("it is new");
        let member = log.groups().join(GROUP, Join::default()).await.expect("there is room");
        Self { directory, store, log, model, member }
    }

    /// The same after a restart of the store. Messages are damaged meanwhile.
    async fn restarted(self, damaged: &[i64]) -> Self {
        self.store.close().await;
        damage(self.directory.path(), damaged);
        let store = open(self.directory.path(), Settings::default()).await;
        let log = log(&store, NAME).await;
        Self { store, log, ..self }
    }

    /// The partition of the message at a position.
    fn partition(&self, at: i64) -> u32 {
        partition_of(&self.model.0[at as usize - 1].stream, PARTITIONS)
    }

    /// The positions between two positions that wait in a partition.
    fn within(&self, partition: u32, above: i64, upto: i64) -> Vec<i64> {
        (above + 1..=upto).filter(|at| self.partition(*at) == partition).collect()
    }

    fn presented(&self, position: impl Fn(u32) -> i64) -> BTreeMap<u32, Presented> {
        let assigned = self.member.assigned.iter();
        assigned.map(|a| (a.partition, Presented { epoch: a.epoch, position: position(a.partition) })).collect()
    }

    async fn checkpoint(&self, position: impl Fn(u32) -> i64) {
        let call = MemberCall { checkpoints: self.presented(position), ..MemberCall::default() };
        let stored = self.log.groups().heartbeat(GROUP, &self.member.member, call, &CancellationToken::new()).await;
        assert!(stored.expect("it lives").fenced.is_empty());
    }

    async fn read(&self, call: ReadGroup) -> Result<GroupRead<Row>> {
        self.log.groups().read(GROUP, &self.member.member, call, &CancellationToken::new(), |_| true).await
    }

    async fn status(&self) -> GroupStatus {
        self.log.groups().status(GROUP).await.expect("it is told")
    }

    async fn wait(&self, position: i64, stream: Option<&str>) -> Waited {
        let wait = Wait { position, stream: stream.map(Into::into), timeout_ms: 1 };
        self.log.groups().wait(GROUP, wait, &CancellationToken::new()).await.expect("it is told")
    }
}

fn new_group(position: i64) -> CreateGroup {
    CreateGroup {
        categories: [].into(),
        types: [].into(),
        partitions: PARTITIONS,
        start: Start::After(position),
        session_ms: SESSION_MS,
        max_parked: 1_000,
        description: String::new(),
    }
}

fn call(batch: usize, wait_ms: i64) -> ReadGroup {
    let heartbeat = MemberCall { wait_ms, ..MemberCall::default() };
    ReadGroup { heartbeat, batch, partitions: None, after: BTreeMap::new() }
}

fn positions(rows: &[Row]) -> Vec<i64> {
    let row = |row: &Row| serde_json::from_slice::<Value>(row.get()).expect("JSON")[4].as_i64().expect("a position");
    let mut positions: Vec<i64> = rows.iter().map(row).collect();
    positions.sort_unstable();
    positions
}

/// A member that stores what a page says is complete has not passed over the message that nobody could read.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_complete_up_to_before_a_damaged_message() {
    let world = World::new(&[DAMAGED]).await;
    let page = world.read(call(1_000, 0)).await.expect("sound messages come first");
    assert_eq!(positions(&page.messages), (1..DAMAGED).collect::<Vec<i64>>());
    assert!(page.up_to.values().all(|upto| *upto == DAMAGED - 1), "{:?}", page.up_to);
    world.checkpoint(|partition| page.up_to[&partition]).await;
    let next = world.read(call(1_000, 0)).await;
    assert!(matches!(next, Err(Error::Damaged(DAMAGED))), "{next:?}");
    world.store.close().await;
}

/// One of three partitions has passed the message: it goes on, and a read waits for its messages.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_behind_a_damaged_message_go_on() {
    let world = World::new(&[DAMAGED]).await;
    world.checkpoint(|partition| if partition == 0 { DAMAGED } else { DAMAGED - 1 }).await;
    let page = world.read(call(1_000, 0)).await.expect("one partition goes on");
    assert_eq!(positions(&page.messages), world.within(0, DAMAGED, HEAD));
    assert_eq!(page.up_to, [(0, HEAD), (1, DAMAGED - 1), (2, DAMAGED - 1)].into());
    // With nothing to give it waits, although two partitions cannot go on.
    let after = world.presented(|partition| if partition == 0 { HEAD } else { DAMAGED - 1 });
    let waiting = ReadGroup { after, ..call(1_000, SESSION_MS) };
    let mut waiting = std::pin::pin!(world.read(waiting));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
    let stream = (0..).map(|at| format!("d-{at}")).find(|stream| partition_of(stream, PARTITIONS) == 0);
    append_any(&world.log, &stream.expect("one of three")).await.expect("writes go on");
    let page = tokio::time::timeout(PATIENCE, waiting).await.expect("it is woken").expect("it lives");
    assert_eq!(positions(&page.messages), [HEAD + 1]);
    world.store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_names_the_damaged_message_in_the_way() {
    let world = World::new(&[DAMAGED, 70]).await;
    let status = world.status().await;
    for partition in &status.partitions {
        let waits = world.within(partition.partition, 0, HEAD).into_iter().filter(|at| ![DAMAGED, 70].contains(at));
        assert_eq!((partition.lag.messages, partition.lag.at_least), (waits.count(), true), "one of them may be its");
        assert_eq!(partition.why, Why::Working, "something waits before it: {partition:?}");
    }
    // Something of partition 0 waits before the first, 1 is right before it, and 2 is behind it.
    let last = *world.within(0, 0, DAMAGED - 1).last().expect("there are some");
    let behind = *world.within(2, 0, 69).last().expect("there are some");
    world.checkpoint(|partition| [last - 1, DAMAGED - 1, behind][partition as usize]).await;
    let status = world.status().await;
    let why: Vec<Why> = status.partitions.iter().map(|partition| partition.why.clone()).collect();
    assert_eq!(why, [Why::Working, Why::Damaged { position: DAMAGED }, Why::Damaged { position: 70 }]);
    let lag = &status.partitions[1].lag;
    let waits = world.within(1, DAMAGED, HEAD).into_iter().filter(|at| *at != 70).count();
    assert_eq!((lag.messages, lag.at_least), (waits, true), "messages behind it are counted");
    world.checkpoint(|_| 70).await;
    assert!(world.status().await.partitions.iter().all(|partition| !partition.lag.at_least), "it is passed");
    world.store.close().await;
}

/// Nothing else waits: the damaged message may.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_with_a_damaged_message_alone_is_not_caught_up() {
    let world = World::new(&[HEAD]).await;
    world.checkpoint(|partition| if partition == 0 { HEAD } else { HEAD - 1 }).await;
    let status = world.status().await;
    assert_eq!(status.partitions[0].why, Why::CaughtUp);
    for partition in &status.partitions[1..] {
        assert_eq!(partition.why, Why::Damaged { position: HEAD });
        assert_eq!((partition.lag.messages, partition.lag.at_least, partition.lag.ms), (0, true, 0));
    }
    world.store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_says_reached_only_of_what_could_be_read() {
    let world = World::new(&[DAMAGED]).await;
    let damaged = Arc::clone(&world.model.0[DAMAGED as usize - 1].stream);
    let other = Arc::clone(&world.model.0[DAMAGED as usize].stream);
    world.checkpoint(|_| DAMAGED - 1).await;
    assert!(world.wait(DAMAGED - 1, None).await.reached);
    for (position, stream) in [(DAMAGED, None), (DAMAGED, Some(&damaged)), (HEAD, None), (HEAD, Some(&damaged))] {
        assert!(!world.wait(position, stream.map(|s| &**s)).await.reached, "{position} {stream:?}");
    }
    assert!(world.wait(DAMAGED, Some(&other)).await.reached, "the message is of another stream");
    world.checkpoint(|_| DAMAGED).await;
    assert!(world.wait(DAMAGED, None).await.reached, "somebody has put it right elsewhere");
    world.store.close().await;
}

/// A parked stream whose next message is damaged since: it waits, and the rest of the group goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_damaged_holds_up_its_own_stream_alone() {
    let world = World::new(&[]).await;
    let (stream, partition) = (Arc::clone(&world.model.0[DAMAGED as usize - 1].stream), world.partition(DAMAGED));
    let epoch = world.member.assigned[partition as usize].epoch;
    let reason = "too early".to_owned();
    let park = Park { partition, epoch, position: DAMAGED, attempt: None, reason, retry_in_ms: Some(0) };
    world.log.groups().park(GROUP, &world.member.member, park).await.expect("it is its message");
    world.checkpoint(|_| HEAD).await;
    let world = world.restarted(&[DAMAGED]).await;
    let page = world.read(call(10, 0)).await.expect("the rest goes on");
    assert!(page.retries.is_empty() && page.drained.is_empty(), "{page:?}");
    let waited = world.wait(HEAD, None).await;
    assert!(waited.reached && waited.parked == 1, "{waited:?}");
    let skip = Skip { stream: stream.to_string(), position: HEAD, dry_run: false };
    let skipped = world.log.groups().skip(GROUP, skip, None).await;
    assert!(matches!(skipped, Err(Error::Damaged(DAMAGED))), "nobody knows what it was: {skipped:?}");
    world.store.close().await;
}

/// A read that looks at very many messages of other partitions gives up: complete is what it has looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_is_given_up_passes_over_nothing() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let store = open(directory.path(), Settings::default()).await;
    create(&store, NAME).await;
    let log = log(&store, NAME).await;
    let stream = |partition| (0..).map(|at| format!("a-{at}")).find(|s| partition_of(s, PARTITIONS) == partition);
    let (looked_at, wanted) = (stream(0).expect("one of three"), stream(1).expect("one of three"));
    for _ in 0..20 {
        let new = || NewMessage { id: None, kind: "T".into(), data: "{}".into(), metadata: None };
        let messages = (0..1_000).map(|_| new()).collect();
        let entry = AppendEntry { stream: looked_at.as_str().into(), expected: Expected::Any, messages };
        let append = Append { entries: vec![entry], checks: Vec::new(), group: None };
        available(|| log.append(append.clone())).await.expect("there is room");
    }
    append_any(&log, &wanted).await.expect("there is room");
    log.groups().create(GROUP, new_group(0)).await.expect("it is new");
    let member = log.groups().join(GROUP, Join::default()).await.expect("there is room");
    let mut after = BTreeMap::new();
    loop {
        let call = ReadGroup { partitions: Some(vec![1]), after, ..call(10, 0) };
        let page = log.groups().read(GROUP, &member.member, call, &CancellationToken::new(), |_| true).await;
        let page = page.expect("it lives");
        if !page.messages.is_empty() {
            break assert_eq!(positions(&page.messages), [20_001]);
        }
        assert!(page.up_to[&1] <= 20_000, "{:?}", page.up_to);
        after = [(1, Presented { epoch: member.assigned[1].epoch, position: page.up_to[&1] })].into();
    }
    store.close().await;
}
