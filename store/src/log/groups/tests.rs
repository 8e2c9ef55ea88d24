//! What this server decides from memory, and when it asks the database instead.

use std::sync::Arc;

use eventodb_protocol::Token;
use eventodb_protocol::request::group::{CreateGroup, Join, MemberCall, Start};
use tokio_util::sync::CancellationToken;

use super::Groups;
use crate::conformance::support::namespace;
use crate::sqlite::{self, Location, Sqlite};
use crate::{EventStore, Settings};

const GROUP: &str = "g";

#[tokio::test]
async fn memory_is_not_asked_while_a_change_is_in_doubt() {
    let backend = Sqlite::open(Location::Memory, sqlite::Settings::default()).expect("memory is there");
    let store = EventStore::open(backend, Settings::default()).await.expect("it is new");
    store.create(namespace("test", &Token::generate("test"))).await.expect("the name is free");
    let log = store.log("test").await.expect("it was just created");
    let groups = log.groups();
    groups.create(GROUP, new_group()).await.expect("it is new");
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
