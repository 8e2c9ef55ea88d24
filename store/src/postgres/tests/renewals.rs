//! Heartbeats of many groups, stored together: what others do to one of them is no concern of the rest.

use std::time::Duration;

use eventodb_protocol::group::Fence;
use eventodb_protocol::group::reply::Heartbeat;
use eventodb_protocol::request::group::{Join, Leave, MemberCall};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

use super::fixture::settings;
use super::groups::{Fixture, new_group};
use crate::conformance::support::PATIENCE;
use crate::groups::Refusal;
use crate::postgres::Settings;
use crate::testing::seed;
use crate::{Error, Result};
use eventodb_testing::postgres;
use eventodb_testing::proxy::{Cut, Proxy};

const GROUPS: usize = 20;
/// Connections that are cut, unless `EVENTODB_TEST_ROUNDS` says how many.
const ROUNDS: usize = 20;
/// How long a statement may take.
const STATEMENT: Duration = Duration::from_secs(40);
/// The transactions that wrote the newest states of all groups.
const COMMITS: &str = "SELECT count(DISTINCT s.xmin::text) FROM {log}.group_states AS s
    WHERE s.version = (SELECT max(n.version) FROM {log}.group_states AS n WHERE n.group_name = s.group_name)";
/// The group of number 7 is changed, by whom nobody hears of.
const CHANGED: &str = "INSERT INTO {log}.group_states (group_name, version, state)
    SELECT s.group_name, s.version + 1, s.state FROM {log}.group_states AS s WHERE s.group_name = 'g7'
    ORDER BY s.version DESC LIMIT 1";

/// It is deleted.
const DELETED: &str = "DO $$ BEGIN
    PERFORM {log}.change_group_2('g7', s.version, s.stamp, s.version + 1, 0, '', 0, 0, NULL, NULL, 0, 0)
    FROM (SELECT * FROM {log}.group_states WHERE group_name = 'g7' ORDER BY version DESC LIMIT 1) AS s; END $$";

/// Groups `g0` to `g19` with one member each.
struct Many {
    fixture: Fixture,
    members: Vec<String>,
}

impl Many {
    async fn new() -> Self {
        Self::of(Fixture::new().await).await
    }

    /// Through a proxy.
    async fn through_a_proxy() -> (Self, Proxy) {
        let url = postgres::database().await;
        let proxy = Proxy::to_database(&url, seed()).await;
        let way = Settings { statement_timeout: STATEMENT, ..settings(&proxy.database_url(&url)) };
        (Self::of(Fixture::by(url, way).await).await, proxy)
    }

    async fn of(fixture: Fixture) -> Self {
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

    /// The bytes of requests and of replies that heartbeats of all take.
    async fn bytes(&self, proxy: &Proxy) -> (usize, usize) {
        // The first ones prepare statements.
        self.all_live().await;
        let before = proxy.passed();
        self.all_live().await;
        let after = proxy.passed();
        (after.0 - before.0, after.1 - before.1)
    }

    async fn all_live(&self) {
        for reply in self.heartbeats().await {
            reply.expect("it lives");
        }
    }

    /// One heartbeat of each member, all at once. At most one has no answer before a statement would be given up: a call
    /// that went by itself, as the batch before was slow, may have met the connection.
    async fn all_but_one_live(&self) {
        let within = async |number| tokio::time::timeout(STATEMENT / 2, self.heartbeat(number)).await;
        let replies = join_all((0..GROUPS).map(within)).await;
        let without: Vec<_> = replies.into_iter().filter(|reply| !matches!(reply, Ok(Ok(_)))).collect();
        assert!(without.len() <= 1, "{without:?}");
    }

    /// Returns once every member has an answer, at the latest when the statement is given up that holds one up.
    async fn until_all_live(&self) {
        let all = async { while self.heartbeats().await.iter().any(Result::is_err) {} };
        tokio::time::timeout(PATIENCE, all).await.expect("nobody is held up for ever");
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

/// Nobody but the members of a group waits for somebody who changes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_being_changed_costs_the_others_nothing() {
    let many = Many::new().await;
    let other = postgres::connect(&many.fixture.url).await;
    other.batch_execute(&many.fixture.text(&format!("BEGIN; {CHANGED}"))).await.expect("good SQL");
    let others = join_all((0..GROUPS).filter(|&number| number != 7).map(|number| many.heartbeat(number)));
    let of_others = async {
        for reply in others.await {
            reply.expect("it lives");
        }
        many.fixture.until_somebody_waits().await;
        other.batch_execute("COMMIT").await.expect("it goes on");
    };
    let (reply, ()) = tokio::join!(many.heartbeat(7), of_others);
    reply.expect("it lives");
    many.end().await;
}

/// After its first write the function cannot say that it has lost a race: it fails, and the whole statement with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_deleted_meanwhile_costs_the_others_nothing() {
    let many = Many::new().await;
    let other = postgres::connect(&many.fixture.url).await;
    other.batch_execute(&many.fixture.text(&format!("BEGIN; {DELETED}"))).await.expect("good SQL");
    let deleted = async {
        many.fixture.until_somebody_waits().await;
        other.batch_execute("COMMIT").await.expect("it goes on");
    };
    let (replies, ()) = tokio::join!(many.heartbeats(), deleted);
    for (number, reply) in replies.into_iter().enumerate() {
        match reply {
            Err(Error::GroupNotFound) => assert_eq!(number, 7),
            reply => assert!(reply.is_ok() && number != 7, "g{number}: {reply:?}"),
        }
    }
    many.end().await;
}

#[tokio::test]
async fn a_decision_that_panics_costs_the_other_groups_nothing() {
    let many = Many::new().await;
    let panics = many.fixture.groups().panics_soon("g7", &many.members[7]);
    let (panicked, replies) = tokio::join!(panics, many.heartbeats());
    assert!(matches!(panicked, Err(Error::Unknown(_))), "{panicked:?}");
    for (number, reply) in replies.into_iter().enumerate() {
        // The group's other call is decided together with the one that panics.
        assert!(reply.is_ok() || number == 7, "g{number}: {reply:?}");
    }
    many.heartbeat(7).await.expect("it lives");
    many.end().await;
}

fn rounds() -> usize {
    std::env::var("EVENTODB_TEST_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"))
}

/// The members of a batch never learn of it: they are decided about again by themselves. A call that went by itself, as
/// the batch before was slow, may have no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_under_heartbeats_costs_one_reply_at_most() {
    let (many, proxy) = Many::through_a_proxy().await;
    let mut random = StdRng::seed_from_u64(seed());
    let (requests, replies) = many.bytes(&proxy).await;
    for round in 0..rounds() {
        proxy.cut_at(match round % 2 {
            0 => Cut::Request(random.random_range(0..requests)),
            _ => Cut::Reply(random.random_range(0..replies)),
        });
        while !proxy.has_cut() {
            let failed: Vec<_> = many.heartbeats().await.into_iter().filter_map(Result::err).collect();
            assert!(matches!(failed[..], [] | [Error::Unknown(_)]), "{failed:?}");
        }
    }
    many.all_live().await;
    many.end().await;
}

/// Neither those that were asked about through it, nor those that come behind them.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_stands_still_under_heartbeats_holds_nobody_up() {
    let (many, proxy) = Many::through_a_proxy().await;
    let (requests, replies) = many.bytes(&proxy).await;
    // In the question, in its answer, in what is stored, and in the answer to that.
    for place in [Cut::Request(0), Cut::Reply(0), Cut::Request(requests * 3 / 4), Cut::Reply(replies - 1)] {
        proxy.stall_at(place);
        while !proxy.has_cut() {
            many.all_but_one_live().await;
        }
        many.until_all_live().await;
    }
    many.end().await;
}
