//! Consumer groups: what holds beyond the rules, which have tests of their own. Calls that come at once, that wait, that go
//! to several servers; restarts; appends that act on groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use eventodb_protocol::group::reply::{Assigned, GroupRead, Membership, Why};
use eventodb_protocol::group::{Epoch, Fence, GroupsThen};
use eventodb_protocol::message::Expected;
use eventodb_protocol::request::Append;
use eventodb_protocol::request::group::{
    AtomicForm, AuditPage, CreateGroup, GroupForm, Handled, Join, Leave, MemberCall, Park, ParkedPage, Presented,
    ReadGroup, ResetGroup, ResetTo, Retry, Skip, Start, Wait,
};
use eventodb_protocol::wire::Row;
use futures_util::future::join_all;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::support::{PATIENCE, World, append, entry, message, write};
use crate::error::{Error, Result};
use crate::groups::{MARKER, Refusal};
use crate::log::{Allowed, Groups, Log, Named};

const GROUP: &str = "g";
/// Longer than any case takes.
const LONG_MS: i64 = 600_000;
/// The shortest session.
const SHORT_MS: i64 = 1_000;

pub(super) fn new_group(partitions: u32, session_ms: i64) -> CreateGroup {
    CreateGroup {
        categories: ["a".to_owned()].into(),
        types: [].into(),
        partitions,
        start: Start::After(0),
        session_ms,
        max_parked: 2,
        description: String::new(),
    }
}

async fn create(log: &Log, partitions: u32, session_ms: i64) {
    log.groups().create(GROUP, new_group(partitions, session_ms)).await.expect("it is new");
}

async fn join(log: &Log) -> Membership {
    log.groups().join(GROUP, Join::default()).await.expect("there is room")
}

fn call(wait_ms: i64) -> ReadGroup {
    let heartbeat = MemberCall { wait_ms, ..MemberCall::default() };
    ReadGroup { heartbeat, batch: 100, partitions: None, after: BTreeMap::new() }
}

async fn read(groups: &Groups, member: &str, call: ReadGroup) -> Result<GroupRead<Row>> {
    groups.read(GROUP, member, call, &CancellationToken::new(), |_| true).await
}

fn positions(rows: &[Row]) -> Vec<i64> {
    let row = |row: &Row| serde_json::from_slice::<Value>(row.get()).expect("JSON")[4].as_i64().expect("a position");
    rows.iter().map(row).collect()
}

/// A checkpoint of each assigned partition.
fn checkpoints(assigned: &[Assigned], position: i64) -> BTreeMap<u32, Presented> {
    assigned.iter().map(|a| (a.partition, Presented { epoch: a.epoch, position })).collect()
}

async fn heartbeat(groups: &Groups, member: &str, checkpoints: BTreeMap<u32, Presented>) -> Result<Membership> {
    let call = MemberCall { checkpoints, ..MemberCall::default() };
    Ok(groups.heartbeat(GROUP, member, call, &CancellationToken::new()).await?.membership)
}

fn is_fenced<T: std::fmt::Debug>(result: Result<T>, reason: Fence) -> bool {
    matches!(&result, Err(Error::Group(Refusal::Fenced { reason: found, .. })) if *found == reason)
}

fn acting(stream: &str, form: AtomicForm) -> Append {
    let group = Some(GroupForm { group: GROUP.to_owned(), form });
    Append { group, ..append(vec![entry(stream, Expected::Any, vec![message("T")])]) }
}

pub(super) async fn a_member_reads_up_to_the_head_and_goes_on_from_its_checkpoint(world: &mut World) {
    let mut log = world.log().await;
    for at in 0..12 {
        write(&log, &format!("a-{}", at % 5), "T").await;
        write(&log, "other-1", "T").await;
    }
    create(&log, 3, LONG_MS).await;
    let member = join(&log).await;
    assert_eq!(member.assigned.len(), 3);
    let page = read(log.groups(), &member.member, call(0)).await.expect("it lives");
    let mut found = positions(&page.messages);
    found.sort_unstable();
    assert_eq!(found, (0..12).map(|at| 2 * at + 1).collect::<Vec<i64>>());
    assert!(page.up_to.values().all(|upto| *upto == 24));
    heartbeat(log.groups(), &member.member, checkpoints(&page.assigned, 20)).await.expect("the head is 24");
    let name = Arc::clone(&log.namespace().name);
    if world.reopen().await {
        log = world.store.log(&name).await.expect("it is there");
    }
    let page = read(log.groups(), &member.member, call(0)).await.expect("its lease outlives the server");
    let mut found = positions(&page.messages);
    found.sort_unstable();
    assert_eq!(found, [21, 23]);
    let above = heartbeat(log.groups(), &member.member, checkpoints(&page.assigned, 25)).await;
    assert!(matches!(above, Err(Error::Group(Refusal::Invalid(_)))), "{above:?}");
}

pub(super) async fn a_page_gives_each_partition_its_share(world: &mut World) {
    let log = world.log().await;
    create(&log, 4, LONG_MS).await;
    for at in 0..40 {
        write(&log, &format!("a-{at}"), "T").await;
    }
    let member = join(&log).await;
    let (mut seen, mut after) = (Vec::new(), BTreeMap::new());
    while seen.len() < 40 {
        let asked = ReadGroup { batch: 6, after, ..call(0) };
        let page = read(log.groups(), &member.member, asked).await.expect("it lives");
        assert!(!page.messages.is_empty() && page.messages.len() <= 6, "{page:?}");
        seen.extend(positions(&page.messages));
        let presented = |a: &Assigned| (a.partition, Presented { epoch: a.epoch, position: page.up_to[&a.partition] });
        after = page.assigned.iter().map(presented).collect();
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=40).collect::<Vec<i64>>());
}

pub(super) async fn a_read_that_waits_is_woken_by_a_message_of_its_partitions(world: &mut World) {
    let log = world.log().await;
    create(&log, 2, LONG_MS).await;
    let member = join(&log).await;
    let waiting = {
        let (log, member) = (Arc::clone(&log), member.member.clone());
        tokio::spawn(async move { read(log.groups(), &member, call(LONG_MS)).await })
    };
    for _ in 0..10 {
        write(&log, "other-1", "T").await;
    }
    let written = write(&log, "a-1", "T").await;
    let page = tokio::time::timeout(PATIENCE, waiting).await.expect("it is woken").expect("no panic");
    assert_eq!(positions(&page.expect("it lives").messages), [written.first_global_position]);
}

pub(super) async fn a_member_that_leaves_hands_over_at_once(world: &mut World) {
    let log = world.log().await;
    create(&log, 4, LONG_MS).await;
    let (first, second) = (join(&log).await, join(&log).await);
    assert_eq!((first.assigned.len(), second.assigned.len()), (4, 0), "the first has not given anything back yet");
    let waiting = {
        let (log, member) = (Arc::clone(&log), second.member.clone());
        tokio::spawn(async move {
            let wait = MemberCall { wait_ms: LONG_MS, ..MemberCall::default() };
            log.groups().heartbeat(GROUP, &member, wait, &CancellationToken::new()).await
        })
    };
    log.groups().leave(GROUP, &first.member, Leave::default()).await.expect("it lives");
    let told = tokio::time::timeout(PATIENCE, waiting).await.expect("it is woken").expect("no panic");
    assert_eq!(told.expect("it lives").membership.assigned.len(), 4);
    let left = heartbeat(log.groups(), &first.member, BTreeMap::new()).await;
    assert!(is_fenced(left, Fence::Unknown));
}

/// The join that replaces a member may be decided in the same batch as the member's read.
pub(super) async fn a_read_beside_the_join_that_replaces_its_member_says_so(world: &mut World) {
    let log = world.log().await;
    create(&log, 2, LONG_MS).await;
    let named = || Join { name: Some("w".to_owned()), instance: None };
    for _ in 0..20 {
        let older = log.groups().join(GROUP, named()).await.expect("there is room");
        let beside = tokio::join!(read(log.groups(), &older.member, call(0)), log.groups().join(GROUP, named()));
        beside.1.expect("there is room");
        // A read that was decided before the join may have an answer of its own.
        let read = match beside.0 {
            Ok(_) => read(log.groups(), &older.member, call(0)).await,
            refused => refused,
        };
        assert!(is_fenced(read, Fence::Replaced));
    }
}

pub(super) async fn a_lease_that_ends_frees_partitions_without_a_call(world: &mut World) {
    let log = world.log().await;
    create(&log, 2, SHORT_MS).await;
    let (silent, second) = (join(&log).await, join(&log).await);
    let mut owned = second;
    while owned.assigned.len() < 2 {
        let call = MemberCall { wait_ms: LONG_MS, ..MemberCall::default() };
        let beat = log.groups().heartbeat(GROUP, &owned.member, call, &CancellationToken::new()).await;
        owned = beat.expect("it calls often enough").membership;
    }
    assert!(is_fenced(heartbeat(log.groups(), &silent.member, BTreeMap::new()).await, Fence::Lease));
}

pub(super) async fn calls_that_come_at_once_are_all_stored(world: &mut World) {
    let log = world.log().await;
    for _ in 0..20 {
        write(&log, "a-1", "T").await;
    }
    create(&log, 16, LONG_MS).await;
    let member = join(&log).await;
    let beats = (1..=20).flat_map(|position| {
        let member = &member;
        let groups = log.groups();
        member.assigned.iter().map(move |assigned| {
            heartbeat(groups, &member.member, checkpoints(std::slice::from_ref(assigned), position))
        })
    });
    for beat in join_all(beats).await {
        beat.expect("it lives");
    }
    let status = log.groups().status(GROUP).await.expect("it is there");
    assert!(status.partitions.iter().all(|partition| partition.checkpoint == 20), "{status:?}");
}

pub(super) async fn an_append_with_a_checkpoint_happens_once(world: &mut World) {
    let log = world.log().await;
    for _ in 0..5 {
        write(&log, "a-1", "T").await;
    }
    create(&log, 1, LONG_MS).await;
    let member = join(&log).await;
    let epoch = member.assigned[0].epoch;
    for position in 1..=5 {
        let form = AtomicForm::Checkpoint { partition: 0, epoch, position };
        let racing = (0..8).map(|_| log.append(acting("out-1", form.clone())));
        let mut outcomes = join_all(racing).await;
        outcomes.retain(|outcome| outcome.is_err());
        assert_eq!(outcomes.len(), 7, "exactly one wins");
        assert!(outcomes.into_iter().all(|outcome| is_fenced(outcome, Fence::Handled)));
    }
    assert_eq!(log.version("out-1").await.expect("it answers"), Some(4));
    let page = read(log.groups(), &member.member, call(0)).await.expect("it lives");
    assert_eq!(page.assigned[0].checkpoint, 5);
    assert!(page.messages.is_empty());
}

pub(super) async fn a_stale_epoch_fails_its_own_append_alone(world: &mut World) {
    let log = world.log().await;
    create(&log, 1, LONG_MS).await;
    let member = join(&log).await;
    let epoch = member.assigned[0].epoch;
    let stale = Epoch::from_number(epoch.number() - 1);
    let appends = (0..24).map(|at| {
        let epoch = if at % 3 == 0 { stale } else { epoch };
        let fence = AtomicForm::Fence { partition: 0, epoch };
        let plain = append(vec![entry("out-1", Expected::Any, vec![message("T")])]);
        log.append(if at % 3 == 1 { plain } else { acting("out-1", fence) })
    });
    for (at, outcome) in join_all(appends).await.into_iter().enumerate() {
        match at % 3 {
            0 => assert!(is_fenced(outcome, Fence::Epoch)),
            _ => _ = outcome.expect("nothing is in its way"),
        }
    }
    assert_eq!(log.version("out-1").await.expect("it answers"), Some(15));
    let unknown = GroupForm { group: "no".to_owned(), form: AtomicForm::Fence { partition: 0, epoch } };
    let unknown =
        log.append(Append { group: Some(unknown), ..acting("out-1", AtomicForm::Fence { partition: 0, epoch }) });
    assert!(matches!(unknown.await, Err(Error::GroupNotFound)));
}

pub(super) async fn a_repeated_append_asks_for_no_epoch(world: &mut World) {
    let log = world.log().await;
    write(&log, "a-1", "T").await;
    create(&log, 1, LONG_MS).await;
    let member = join(&log).await;
    let form = AtomicForm::Checkpoint { partition: 0, epoch: member.assigned[0].epoch, position: 1 };
    let mut wanted = acting("out-1", form);
    wanted.entries[0].messages[0].id = Some(uuid::Uuid::new_v4());
    let written = log.append(wanted.clone()).await.expect("the epoch is current");
    log.groups().leave(GROUP, &member.member, Leave::default()).await.expect("it lives");
    join(&log).await;
    assert_eq!(log.append(wanted.clone()).await.expect("it was written before"), written);
    wanted.entries[0].messages[0].id = None;
    assert!(is_fenced(log.append(wanted).await, Fence::Epoch));
}

pub(super) async fn a_parked_stream_comes_again_and_flows(world: &mut World) {
    let log = world.log().await;
    for stream in ["a-1", "a-2", "a-1", "a-2"] {
        write(&log, stream, "T").await;
    }
    create(&log, 1, LONG_MS).await;
    let groups = log.groups();
    let member = join(&log).await;
    let (id, epoch) = (&member.member, member.assigned[0].epoch);
    let park = Park { partition: 0, epoch, position: 1, attempt: None, reason: "broken".into(), retry_in_ms: None };
    assert_eq!(groups.park(GROUP, id, park.clone()).await.expect("it is the first").attempts, 1);
    let page = read(groups, id, call(0)).await.expect("it lives");
    assert_eq!(positions(&page.messages), [2, 4], "the other stream flows");
    heartbeat(groups, id, checkpoints(&page.assigned, 4)).await.expect("it lives");
    let wait = Wait { position: 4, stream: None, timeout_ms: 0 };
    let waited = groups.wait(GROUP, wait, &CancellationToken::new()).await.expect("it is there");
    assert_eq!((waited.reached, waited.parked), (true, 1));
    assert_eq!(groups.retry(GROUP, Retry::All).await.expect("it is there").streams, 1);
    let page = read(groups, id, call(LONG_MS)).await.expect("it lives");
    assert_eq!(positions(&page.retries), [1, 3]);
    let rev = serde_json::from_slice::<Value>(page.retries[0].get()).expect("JSON")[10].as_i64();
    let handled = Handled { partition: 0, epoch, stream: "a-1".to_owned(), position: 3, read_to: Some(4), rev };
    assert!(groups.handled(GROUP, id, handled).await.expect("it was handed out").flowing);
    let written = write(&log, "a-1", "T").await;
    let page = read(groups, id, call(LONG_MS)).await.expect("it lives");
    assert_eq!(positions(&page.messages), [written.first_global_position]);
}

/// A reset may be decided in the same batch as the step of a read that hands retries out.
pub(super) async fn a_read_beside_a_reset_gives_nothing_twice(world: &mut World) {
    let log = world.log().await;
    write(&log, "a-1", "T").await;
    create(&log, 1, LONG_MS).await;
    let (groups, member) = (log.groups(), join(&log).await);
    let to_beginning = ResetGroup { to: ResetTo::Position(0), partitions: None, dry_run: false };
    for _ in 0..20 {
        let owned = heartbeat(groups, &member.member, BTreeMap::new()).await.expect("it lives").assigned;
        let epoch = owned[0].epoch;
        let (reason, retry_in_ms) = ("broken".into(), Some(0));
        let park = Park { partition: 0, epoch, position: 1, attempt: None, reason, retry_in_ms };
        groups.park(GROUP, &member.member, park).await.expect("it is its owner");
        heartbeat(groups, &member.member, checkpoints(&owned, 1)).await.expect("it lives");
        let reading = read(groups, &member.member, call(0));
        let (page, reset) = tokio::join!(reading, groups.reset(GROUP, to_beginning.clone(), None));
        reset.expect("it is there");
        let page = page.expect("it lives");
        let is_before = page.assigned[0].epoch == epoch;
        let expected: (&[i64], &[i64]) = if is_before { (&[], &[1]) } else { (&[1], &[]) };
        assert_eq!((&*positions(&page.messages), &*positions(&page.retries)), expected);
    }
}

pub(super) async fn what_waits_for_a_group_ends_with_it(world: &mut World) {
    let log = world.log().await;
    create(&log, 1, LONG_MS).await;
    let member = join(&log).await;
    let waiting = {
        let (log, member) = (Arc::clone(&log), member.member.clone());
        tokio::spawn(async move { read(log.groups(), &member, call(LONG_MS)).await })
    };
    log.groups().delete(GROUP).await.expect("it is there");
    let ended = tokio::time::timeout(PATIENCE, waiting).await.expect("it is woken").expect("no panic");
    assert!(matches!(ended, Err(Error::GroupNotFound)));
    assert!(log.groups().list().await.expect("it answers").is_empty());
    create(&log, 2, LONG_MS).await;
    let old = heartbeat(log.groups(), &member.member, BTreeMap::new()).await;
    assert!(is_fenced(old, Fence::Unknown), "a group of the same name knows nothing of it");
    assert!(join(&log).await.assigned[0].epoch > member.assigned[0].epoch);
}

pub(super) async fn a_call_meets_only_the_group_that_it_may_touch(world: &mut World) {
    let log = world.log().await;
    create(&log, 1, LONG_MS).await;
    let groups = log.groups();
    let only = Allowed::Only(groups.definition(GROUP).await.expect("it is there"));
    let checked = Named::new(GROUP, only.clone());
    groups.pause(&checked, None).await.expect("it is the one that was checked");
    groups.delete(GROUP).await.expect("it is there");
    let other = CreateGroup { categories: ["secret".to_owned()].into(), ..new_group(1, LONG_MS) };
    groups.create(GROUP, other).await.expect("the name is free");
    let epoch = join(&log).await.assigned[0].epoch;
    let fence = || acting("out-1", AtomicForm::Fence { partition: 0, epoch });
    assert!(matches!(groups.definition(&checked).await, Err(Error::GroupNotFound)));
    assert!(matches!(groups.status(&checked).await, Err(Error::GroupNotFound)));
    assert!(matches!(groups.join(&checked, Join::default()).await, Err(Error::GroupNotFound)));
    assert!(matches!(groups.pause(&checked, None).await, Err(Error::GroupNotFound)));
    assert!(matches!(groups.delete(&checked).await, Err(Error::GroupNotFound)));
    for allowed in [only, Allowed::Nothing] {
        assert!(matches!(log.append_as(fence(), &allowed).await, Err(Error::GroupNotFound)));
    }
    log.append_as(fence(), &Allowed::Any).await.expect("the epoch is current");
    let status = groups.status(GROUP).await.expect("it is there");
    assert!(!status.summary.paused && status.members.len() == 1, "{status:?}");
}

pub(super) async fn groups_take_epochs_at_once(world: &mut World) {
    let log = world.log().await;
    let names: Vec<String> = (0..24).map(|at| format!("g-{at}")).collect();
    for name in &names {
        log.groups().create(name, new_group(2, LONG_MS)).await.expect("it is new");
    }
    let joins = names.iter().flat_map(|name| [name; 4]).map(|name| log.groups().join(name, Join::default()));
    let joined: Vec<Membership> = join_all(joins).await.into_iter().map(|joined| joined.expect("it joins")).collect();
    assert!(joined.iter().flat_map(|member| &member.assigned).count() >= 2 * names.len());
    let last = join_all(names.iter().map(|name| log.groups().status(name))).await;
    let epochs = last.into_iter().flat_map(|status| status.expect("it is there").partitions).map(|p| p.epoch);
    let highest = epochs.max().expect("there are some");
    log.groups().create(GROUP, new_group(1, LONG_MS)).await.expect("it is new");
    assert!(join(&log).await.assigned[0].epoch > highest, "a new group begins above all epochs");
}

/// Records at every tenth position.
async fn import(log: &Log, count: i64) {
    let record = |at: i64| eventodb_protocol::message::Message {
        id: uuid::Uuid::new_v4(),
        stream: "a-1".into(),
        kind: "New".into(),
        position: at - 1,
        global_position: 10 * at,
        data: "{}".into(),
        metadata: None,
        time: eventodb_protocol::Timestamp::default(),
    };
    log.import((1..=count).map(record).collect()).await.expect("it is empty");
}

pub(super) async fn a_replaced_log_keeps_or_drops_its_groups_as_asked(world: &mut World) {
    let log = world.log().await;
    let name = Arc::clone(&log.namespace().name);
    for stream in ["a-1", "a-1", "a-1", "a-2", "a-2"] {
        write(&log, stream, "T").await;
    }
    create(&log, 2, LONG_MS).await;
    let before = join(&log).await;
    let partition = eventodb_protocol::group::partition_of("a-1", 2);
    let epoch = before.assigned.iter().find(|a| a.partition == partition).expect("it has all").epoch;
    let park = Park { partition, epoch, position: 2, attempt: None, reason: "broken".into(), retry_in_ms: None };
    log.groups().park(GROUP, &before.member, park).await.expect("it is the first");
    heartbeat(log.groups(), &before.member, checkpoints(&before.assigned, 5)).await.expect("it lives");
    log.groups().pause(GROUP, Some("operator".to_owned())).await.expect("it is there");
    log.groups().resume(GROUP, None).await.expect("it is there");

    assert!(matches!(world.store.replace(&*name, None).await, Err(Error::GroupsUndecided)));
    write(&log, "a-2", "T").await;
    let replacement = world.store.replace(&*name, Some(GroupsThen::Keep)).await.expect("nobody else replaces it");
    let late = log.groups().pause(GROUP, None).await;
    assert!(matches!(late, Err(Error::Replacing)), "{late:?}");
    import(replacement.log(), 3).await;
    replacement.finish().await.expect("nothing is in the way");
    let log = world.store.log(&name).await.expect("it is there");
    let kept = log.groups().status(GROUP).await.expect("it is kept");
    assert!(kept.partitions.iter().all(|p| p.checkpoint == 5 && p.owner.is_none()), "{kept:?}");
    assert!(kept.partitions.iter().all(|p| before.assigned.iter().all(|a| a.epoch < p.epoch)), "{kept:?}");
    assert!(is_fenced(heartbeat(log.groups(), &before.member, BTreeMap::new()).await, Fence::Unknown));
    let parked = log.groups().parked(GROUP, ParkedPage { limit: 10, after: String::new() }).await;
    assert_eq!(parked.expect("it is there")[0].position, 2);
    let audited = log.groups().audit(GROUP, AuditPage { limit: 10, below: i64::MAX }).await.expect("it is there");
    assert_eq!(audited.iter().map(|entry| &*entry.act).collect::<Vec<_>>(), ["resume", "pause"]);
    assert_eq!(audited[1].token_id.as_deref(), Some("operator"));
    assert!(join(&log).await.assigned.iter().all(|a| before.assigned.iter().all(|b| b.epoch < a.epoch)));

    let replacement = world.store.replace(&*name, Some(GroupsThen::Keep)).await.expect("nobody else replaces it");
    replacement.finish().await.expect("nothing is in the way");
    let log = world.store.log(&name).await.expect("it is there");
    let cut = log.groups().status(GROUP).await.expect("it is kept");
    assert!(cut.partitions.iter().all(|partition| partition.checkpoint == 0), "at most the new head: {cut:?}");
    let replacement = world.store.replace(&*name, Some(GroupsThen::Drop)).await.expect("nobody else replaces it");
    replacement.finish().await.expect("nothing is in the way");
    let log = world.store.log(&name).await.expect("it is there");
    assert!(log.groups().list().await.expect("it answers").is_empty());
    create(&log, 1, LONG_MS).await;
    world.store.replace(&*name, Some(GroupsThen::Drop)).await.expect("nobody else replaces it").discard().await;
    log.groups().status(GROUP).await.expect("nothing was replaced");
}

pub(super) async fn a_reset_is_on_record(world: &mut World) {
    let log = world.log().await;
    for _ in 0..3 {
        write(&log, "a-1", "T").await;
    }
    create(&log, 2, LONG_MS).await;
    let before = join(&log).await;
    let reset = ResetGroup { to: ResetTo::End, partitions: None, dry_run: false };
    let token = Some("operator".to_owned());
    let told = log.groups().reset(GROUP, reset, token).await.expect("it is there").partitions;
    assert!(told.iter().all(|partition| partition.to == 3));
    assert_eq!(told.iter().map(|partition| partition.messages).sum::<usize>(), 3);
    let after = heartbeat(log.groups(), &before.member, BTreeMap::new()).await.expect("it lives");
    assert!(after.assigned.iter().zip(&before.assigned).all(|(after, before)| after.epoch > before.epoch));
    let page = AuditPage { limit: 10, below: i64::MAX };
    let audited = log.groups().audit(GROUP, page).await.expect("it is there");
    assert_eq!((audited[0].act.as_str(), audited[0].token_id.as_deref()), ("reset", Some("operator")));
}

/// What an operator does after a restore that the store cannot notice.
pub(super) async fn a_reset_to_the_group_itself_changes_only_its_epochs(world: &mut World) {
    let log = world.log().await;
    for at in 0..20 {
        write(&log, &format!("a-{}", at % 10), "T").await;
    }
    create(&log, 3, LONG_MS).await;
    let (groups, member) = (log.groups(), join(&log).await);
    let presented = |(place, given): (usize, &Assigned)| {
        (given.partition, Presented { epoch: given.epoch, position: 7 * place as i64 })
    };
    let handled: BTreeMap<u32, Presented> = member.assigned.iter().enumerate().map(presented).collect();
    heartbeat(groups, &member.member, handled.clone()).await.expect("it lives");
    let before = read(groups, &member.member, call(0)).await.expect("it lives");
    let reset = ResetGroup { to: ResetTo::Group(GROUP.to_owned()), partitions: None, dry_run: false };
    let told = groups.reset(GROUP, reset, None).await.expect("it is there").partitions;
    assert!(told.iter().all(|partition| partition.messages == 0), "{told:?}");
    let ahead = handled.into_iter().map(|(partition, presented)| (partition, Presented { position: 20, ..presented }));
    let call_of_before = MemberCall { checkpoints: ahead.collect(), ..MemberCall::default() };
    let told = groups.heartbeat(GROUP, &member.member, call_of_before, &CancellationToken::new()).await;
    assert_eq!(told.expect("it lives").fenced.len(), 3);
    let after = read(groups, &member.member, call(0)).await.expect("it lives");
    assert_eq!(positions(&after.messages), positions(&before.messages));
    assert!(after.assigned.iter().zip(&before.assigned).all(|(after, before)| after.epoch > before.epoch));
}

pub(super) async fn members_call_different_servers(world: &mut World) {
    let Some(other) = world.second().await else { return };
    let log = world.log().await;
    create(&log, 4, LONG_MS).await;
    let there = other.log(&log.namespace().name).await.expect("it is there");
    let (first, second) = (join(&log).await, join(&there).await);
    let told = heartbeat(log.groups(), &first.member, BTreeMap::new()).await.expect("it lives");
    assert_eq!(told.revoking.len(), 2, "the newcomer is to get its share: {told:?}");
    let waiting = {
        let (there, member) = (Arc::clone(&there), second.member.clone());
        tokio::spawn(async move { read(there.groups(), &member, call(LONG_MS)).await })
    };
    let released = told.revoking.iter().map(|revoking| (revoking.partition, revoking.epoch)).collect();
    let release = MemberCall { released, ..MemberCall::default() };
    log.groups().heartbeat(GROUP, &first.member, release, &CancellationToken::new()).await.expect("it lives");
    let page = tokio::time::timeout(PATIENCE, waiting).await.expect("it is told").expect("no panic");
    assert_eq!(page.expect("it lives").assigned.len(), 2);
    // Both write and checkpoint at once.
    let (mine, theirs) = (told.assigned[0], second.member.clone());
    for position in 1..=10 {
        write(&log, "a-1", "T").await;
        let here = heartbeat(log.groups(), &first.member, checkpoints(&[mine], position));
        let (here, there) = tokio::join!(here, heartbeat(there.groups(), &theirs, BTreeMap::new()));
        here.expect("the head is known through this server");
        there.expect("it lives");
    }
    other.close().await;
}

/// What a read gives from a checkpoint on.
async fn given(log: &Log, member: &Membership, checkpoint: i64) -> GroupRead<Row> {
    let mut asked = call(0);
    asked.heartbeat.checkpoints = checkpoints(&member.assigned, checkpoint);
    read(log.groups(), &member.member, asked).await.expect("it lives")
}

async fn parked(log: &Log) -> Vec<(String, i64, i64, bool)> {
    let page = ParkedPage { limit: 100, after: String::new() };
    let listed = log.groups().parked(GROUP, page).await.expect("it is there");
    listed.into_iter().map(|p| (p.stream, p.position, p.attempts, p.retry_at.is_some())).collect()
}

async fn skip(log: &Log, stream: &str, position: i64) {
    let skip = Skip { stream: stream.to_owned(), position, dry_run: false };
    log.groups().skip(GROUP, skip, None).await.expect("it is parked");
}

/// Whether the stream flows again once this was handled.
async fn flows(log: &Log, member: &Membership, stream: &str, position: i64, rev: i64) -> bool {
    let (Assigned { partition, epoch, .. }, stream) = (member.assigned[0], stream.to_owned());
    let handled = Handled { partition, epoch, stream, position, read_to: None, rev: Some(rev) };
    log.groups().handled(GROUP, &member.member, handled).await.expect("it lives").flowing
}

/// Whatever types a group reads: nobody knows the type of a message in whose place a marker stands.
pub(super) async fn a_stream_is_parked_at_a_marker(world: &mut World) {
    let log = world.log().await;
    let typed = CreateGroup { types: ["T".to_owned()].into(), ..new_group(1, LONG_MS) };
    log.groups().create(GROUP, typed).await.expect("it is new");
    let member = join(&log).await;
    for (stream, kind) in [("a-1", "T"), ("a-1", MARKER), ("a-1", "T"), ("a-2", "T"), ("b-1", MARKER), ("a-2", "U")] {
        write(&log, stream, kind).await;
    }
    let page = given(&log, &member, 0).await;
    assert_eq!((positions(&page.messages), page.up_to[&0]), (vec![1], 1), "parked by now, the first one would be lost");
    assert!(parked(&log).await.is_empty());
    let page = given(&log, &member, 1).await;
    assert_eq!((positions(&page.messages), page.up_to[&0]), (vec![4], 6), "the other stream goes on in the same call");
    let is_parked = [("a-1".to_owned(), 2, 1, false)];
    assert_eq!(parked(&log).await, is_parked);
    // No retry hands it out.
    log.groups().retry(GROUP, Retry::All).await.expect("it is there");
    assert!(given(&log, &member, 6).await.retries.is_empty());
    assert_eq!(parked(&log).await, is_parked);
    // An operator passes over it.
    skip(&log, "a-1", 2).await;
    let page = given(&log, &member, 6).await;
    assert_eq!(positions(&page.retries), [3]);
    let row: Value = serde_json::from_slice(page.retries[0].get()).expect("JSON");
    assert!(flows(&log, &member, "a-1", 3, row[10].as_i64().expect("a number")).await);
    let next = write(&log, "a-1", "T").await.first_global_position;
    assert_eq!(positions(&given(&log, &member, 6).await.messages), [next]);
}

pub(super) async fn markers_find_no_room_among_parked_streams(world: &mut World) {
    let log = world.log().await;
    create(&log, 1, LONG_MS).await;
    let member = join(&log).await;
    for (stream, kind) in [("a-1", MARKER), ("a-2", MARKER), ("a-3", MARKER), ("a-4", "T")] {
        write(&log, stream, kind).await;
    }
    let page = given(&log, &member, 0).await;
    assert_eq!((page.messages.len(), page.up_to[&0]), (0, 2), "at most two streams may be parked");
    assert_eq!(parked(&log).await.len(), 2);
    given(&log, &member, 2).await;
    let status = log.groups().status(GROUP).await.expect("it is there");
    assert_eq!((&status.partitions[0].why, status.partitions[0].lag.messages), (&Why::ParkedFull, 2));
    skip(&log, "a-1", 1).await;
    let drained = given(&log, &member, 2).await.drained.remove(0);
    assert!(flows(&log, &member, "a-1", drained.position, drained.rev).await, "nothing is left of it");
    assert_eq!(positions(&given(&log, &member, 2).await.messages), [4]);
    assert_eq!(parked(&log).await.into_iter().map(|parked| parked.1).collect::<Vec<_>>(), [2, 3]);
}

pub(super) async fn a_read_that_waits_passes_a_marker_once_what_precedes_it_is_handled(world: &mut World) {
    let log = world.log().await;
    create(&log, 1, LONG_MS).await;
    let member = join(&log).await;
    for (stream, kind) in [("a-1", "T"), ("a-1", MARKER), ("a-2", "T")] {
        write(&log, stream, kind).await;
    }
    let waiting = {
        let (log, member) = (Arc::clone(&log), member.clone());
        let asked = ReadGroup { after: checkpoints(&member.assigned, 1), ..call(LONG_MS) };
        tokio::spawn(async move { read(log.groups(), &member.member, asked).await })
    };
    heartbeat(log.groups(), &member.member, checkpoints(&member.assigned, 1)).await.expect("it lives");
    let page = tokio::time::timeout(PATIENCE, waiting).await.expect("it is woken").expect("no panic");
    assert_eq!(positions(&page.expect("it lives").messages), [3]);
}
