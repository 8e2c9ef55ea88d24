//! Heartbeats of many groups, stored together: what others do to one of them is no concern of the rest.

use std::sync::Arc;

use eventodb_protocol::group::Fence;
use eventodb_protocol::group::reply::Heartbeat;
use eventodb_protocol::request::group::{Join, Leave, MemberCall};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::groups::{Fixture, new_group};
use crate::groups::Refusal;
use crate::{Error, Result};
use eventodb_testing::postgres;

const GROUPS: usize = 20;
/// The transactions that wrote the newest states of all groups.
const COMMITS: &str = "SELECT count(DISTINCT s.xmin::text) FROM {log}.group_states AS s
    WHERE s.version = (SELECT max(n.version) FROM {log}.group_states AS n WHERE n.group_name = s.group_name)";
/// The group of number 7 is changed, by whom nobody hears of.
const CHANGED: &str = "INSERT INTO {log}.group_states (group_name, version, state)
    SELECT s.group_name, s.version + 1, s.state FROM {log}.group_states AS s WHERE s.group_name = 'g7'
    ORDER BY s.version DESC LIMIT 1";

/// Groups `g0` to `g19` with one member each.
struct Many {
    fixture: Fixture,
    members: Vec<String>,
}

impl Many {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let mut members = Vec::new();
        for number in 0..GROUPS {
            let name = format!("g{number}");
            fixture.groups().create(&*name, new_group()).await.expect("it is new");
            members.push(fixture.groups().join(&*name, Join::default()).await.expect("there is room").member);
        }
        // The group of the fixture has nobody, and would be a commit of its own.
        fixture.groups().delete("g").await.expect("it is there");
        Self { fixture, members }
    }

    async fn heartbeat(&self, number: usize) -> Result<Heartbeat> {
        let (groups, stop) = (self.fixture.groups(), CancellationToken::new());
        groups.heartbeat(&*format!("g{number}"), &self.members[number], MemberCall::default(), &stop).await
    }

    /// One heartbeat of each member, all at once.
    async fn heartbeats(&self) -> Vec<Result<Heartbeat>> {
        join_all((0..GROUPS).map(|number| self.heartbeat(number))).await
    }

    async fn end(self) {
        self.fixture.store.close().await;
    }
}

#[tokio::test]
async fn heartbeats_of_many_groups_are_one_commit() {
    let many = Many::new().await;
    assert_eq!(many.fixture.number(COMMITS).await, 20);
    for reply in many.heartbeats().await {
        assert_eq!(reply.expect("it lives").membership.assigned.len(), 3);
    }
    assert_eq!(many.fixture.number(COMMITS).await, 1);
    many.end().await;
}

#[tokio::test]
async fn a_group_that_another_server_changed_is_decided_by_itself() {
    let many = Many::new().await;
    let (store, log) = many.fixture.second().await;
    log.groups().join("g3", Join::default()).await.expect("there is room");
    log.groups().leave("g5", &many.members[5], Leave::default()).await.expect("it is there");
    log.groups().delete("g7").await.expect("it is there");
    let replies = many.heartbeats().await;
    for (number, reply) in replies.iter().enumerate() {
        match (number, reply) {
            (3, Ok(reply)) => assert_eq!(reply.membership.revoking.len(), 1),
            (5, Err(Error::Group(Refusal::Fenced { reason: Fence::Unknown, .. }))) => {}
            (7, Err(Error::GroupNotFound)) => {}
            (_, Ok(reply)) if ![5, 7].contains(&number) => assert!(reply.membership.revoking.is_empty()),
            (_, reply) => panic!("g{number}: {reply:?}"),
        }
    }
    store.close().await;
    many.end().await;
}

/// The commit waits for somebody who changes one of the groups, and then leaves that one alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_changed_meanwhile_costs_the_others_nothing() {
    let many = Arc::new(Many::new().await);
    let other = postgres::connect(&many.fixture.url).await;
    other.batch_execute(&many.fixture.text(&format!("BEGIN; {CHANGED}"))).await.expect("good SQL");
    let beating = tokio::spawn({
        let many = Arc::clone(&many);
        async move { many.heartbeats().await }
    });
    many.fixture.until_somebody_waits().await;
    other.batch_execute("COMMIT").await.expect("it goes on");
    for reply in beating.await.expect("no panic") {
        reply.expect("it lives");
    }
    assert_eq!(many.fixture.number(COMMITS).await, 2, "only that one was decided again");
    Arc::into_inner(many).expect("nobody else has it").end().await;
}
