//! What this server decides from memory, and when it asks the database instead.

use std::sync::Arc;

use eventodb_protocol::Token;
use eventodb_protocol::request::group::{CreateGroup, Join, MemberCall, Start};
use tokio_util::sync::CancellationToken;

use super::{GIVE_WAY, Groups};
use crate::conformance::support::{PATIENCE, namespace};
use crate::log::Log;
use crate::sqlite::{self, Location, Sqlite};
use crate::storage::groups::GroupTag;
use crate::{EventStore, Settings};

const GROUP: &str = "g";

#[tokio::test]
async fn memory_is_not_asked_while_a_change_is_in_doubt() {
    let (store, log) = with_group().await;
    let groups = log.groups();
    let member = groups.join(GROUP, Join::default()).await.expect("there is room").member;

    assert!(is_remembered(groups, &member));
    assert!(!is_remembered(groups, "somebody"), "why a membership ended is stored");
    groups.slot_of(GROUP).known.doubt();
    assert!(!is_remembered(groups, &member), "it may have ended");
    groups.heartbeat(GROUP, &member, MemberCall::default(), &CancellationToken::new()).await.expect("it lives");
    assert!(is_remembered(groups, &member), "the database was asked");
    groups.slot_of(GROUP).known.forget();
    assert!(!is_remembered(groups, &member));
    store.close().await;
}

#[tokio::test]
async fn a_heartbeat_with_news_waits_for_no_other() {
    let (store, log) = with_group().await;
    let (groups, stop) = (log.groups(), CancellationToken::new());
    let slot = groups.slot_of(GROUP);
    let first = groups.join(GROUP, Join::default()).await.expect("there is room").member;
    assert!(!groups.has_news(&slot, &first), "it was told what it got");
    assert!(groups.has_news(&slot, "somebody"), "that it is no member");
    groups.join(GROUP, Join::default()).await.expect("there is room");
    assert!(groups.has_news(&slot, &first), "a partition is asked back");
    groups.heartbeat(GROUP, &first, MemberCall::default(), &stop).await.expect("it lives");
    assert!(!groups.has_news(&slot, &first));
    slot.known.forget();
    assert!(groups.has_news(&slot, &first), "nobody knows");
    store.close().await;
}

/// Any role of a shared database can say that it wants a group.
#[tokio::test]
async fn false_hints_that_a_group_is_wanted_hold_nobody_up() {
    let (store, log) = with_group().await;
    let (groups, stop) = (log.groups(), CancellationToken::new());
    let member = groups.join(GROUP, Join::default()).await.expect("there is room").member;
    // If it gave way to each, nobody would be so patient.
    let hints = 2 * PATIENCE.as_millis() / GIVE_WAY.as_millis();
    for _ in 0..hints {
        groups.give_way(GroupTag::of(GROUP));
    }
    // What was begun for the hints comes first.
    for _ in 0..hints {
        tokio::task::yield_now().await;
    }
    let call = groups.heartbeat(GROUP, &member, MemberCall::default(), &stop);
    tokio::time::timeout(PATIENCE, call).await.expect("it is heard").expect("it lives");
    store.close().await;
}

#[tokio::test]
async fn a_group_gives_way_once_at_a_time() {
    let (store, log) = with_group().await;
    let known = Arc::clone(&log.groups().slot_of(GROUP).known);
    let gives_way = known.begin_to_give_way();
    assert!(gives_way.is_some());
    assert!(known.begin_to_give_way().is_none());
    drop(gives_way);
    assert!(known.begin_to_give_way().is_some());
    store.close().await;
}

/// A log with a group.
async fn with_group() -> (Arc<EventStore>, Arc<Log>) {
    let backend = Sqlite::open(Location::Memory, sqlite::Settings::default()).expect("memory is there");
    let store = EventStore::open(backend, Settings::default()).await.expect("it is new");
    store.create(namespace("test", &Token::generate("test"))).await.expect("the name is free");
    let log = store.log("test").await.expect("it was just created");
    log.groups().create(GROUP, new_group()).await.expect("it is new");
    (store, log)
}

/// Whether memory can decide a call of this member.
fn is_remembered(groups: &Groups, member: &str) -> bool {
    let named = [Arc::from(member)];
    groups.decider.base.groups.remember(&groups.slot_of(GROUP).known, &named, 0).is_some()
}

fn new_group() -> CreateGroup {
    CreateGroup {
        categories: [].into(),
        types: [].into(),
        partitions: 3,
        start: Start::After(0),
        session_ms: 600_000,
        max_parked: 1_000,
        description: String::new(),
    }
}
