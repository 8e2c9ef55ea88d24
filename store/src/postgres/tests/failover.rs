//! A log that went back: a failover lost its newest batches, or a backup was restored. Also one that
//! only seems to, as the batch that a server knows was deleted for its age.

use std::sync::Arc;

use eventodb_protocol::Token;
use eventodb_protocol::group::reply::Assigned;
use eventodb_protocol::message::Expected;
use eventodb_protocol::request::Read;
use eventodb_protocol::request::group::{CreateGroup, Join, MemberCall, Presented};

use super::fixture::{open_store, settings};
use super::groups::new_group;
use crate::conformance::support::{PATIENCE, all, everything, message, namespace, subscribe, write, write_expecting};
use crate::log::{Event, Log, Start};
use crate::{Error, EventStore, Settings};
use eventodb_testing::postgres;
use tokio_util::sync::CancellationToken;

/// How many messages were written before the failover, and how many of them it kept.
const WRITTEN: i64 = 5;
const KEPT: i64 = 3;

/// A server that knew the log before a failover that lost the end of it, and one that came after.
struct Failover {
    url: String,
    before: Arc<EventStore>,
    after: Arc<EventStore>,
}

impl Failover {
    /// The servers, and the log as the first of them has it open.
    async fn new() -> (Self, Arc<Log>) {
        Self::after(async |_| {}).await
    }

    /// The same, with something that is done before the failover and not lost.
    async fn after(done: impl AsyncFnOnce(&Log)) -> (Self, Arc<Log>) {
        let url = postgres::database().await;
        let before = open_store(settings(&url), Settings::default()).await;
        before.create(namespace("test", &Token::generate("test"))).await.expect("the name is free");
        let log = before.log("test").await.expect("it was just created");
        for at in 0..WRITTEN {
            write(&log, "a-1", &format!("old {at}")).await;
        }
        done(&log).await;
        let schema = format!("eventodb_{}", log.namespace().incarnation.0);
        postgres::run(
            &url,
            &format!(
                "DELETE FROM {schema}.messages WHERE global_position > {KEPT}; \
                 DELETE FROM {schema}.batches WHERE seq > {KEPT}"
            ),
        )
        .await;
        let after = open_store(settings(&url), Settings::default()).await;
        (Self { url, before, after }, log)
    }

    /// Writes as many messages through the server that came after.
    async fn write(&self, count: i64) {
        let log = self.after.log("test").await.expect("it lives");
        for at in 0..count {
            write(&log, "a-1", &format!("new {at}")).await;
        }
    }

    /// What each of the servers has, read through a log that it opens anew where it closed its own.
    async fn check(&self, written: i64) {
        let mut expected: Vec<String> = (0..KEPT).map(|at| format!("old {at}")).collect();
        expected.extend((0..written).map(|at| format!("new {at}")));
        for server in [&self.before, &self.after] {
            let kinds: Vec<String> =
                all(&server.log("test").await.expect("it lives")).await.iter().map(|m| (*m.kind).to_owned()).collect();
            assert_eq!(kinds, expected);
        }
    }

    async fn close(self) {
        self.before.close().await;
        self.after.close().await;
    }
}

/// Fewer messages than were lost, as many, and more.
const AFTERWARDS: [i64; 4] = [0, 1, WRITTEN - KEPT, WRITTEN];

#[tokio::test]
async fn what_was_lost_is_not_read() {
    for written in AFTERWARDS {
        let (servers, log) = Failover::new().await;
        servers.write(written).await;
        let read = log.read(Read::forward(everything(), 1, 100)).await;
        assert!(matches!(read, Err(Error::Closed)), "{written}");
        servers.check(written).await;
        servers.close().await;
    }
}

#[tokio::test]
async fn nothing_is_decided_on_what_was_lost() {
    let expectations = [Expected::Version(WRITTEN - 1), Expected::Version(0), Expected::Any];
    for (written, expected) in AFTERWARDS.into_iter().flat_map(|written| expectations.map(|e| (written, e))) {
        let (servers, log) = Failover::new().await;
        servers.write(written).await;
        let refused = write_expecting(&log, "a-1", expected, message("lost")).await;
        assert!(matches!(refused, Err(Error::Closed)), "{written} {expected:?} {refused:?}");
        servers.check(written).await;
        let log = servers.before.log("test").await.expect("it lives");
        let next = write_expecting(&log, "a-1", Expected::Any, message("next")).await.expect("nothing is in the way");
        assert_eq!(next.first_global_position, KEPT + written + 1);
        servers.close().await;
    }
}

#[tokio::test]
async fn subscriptions_end_when_the_log_went_back() {
    for written in AFTERWARDS {
        let (servers, log) = Failover::new().await;
        let mut subscription = subscribe(&log, everything(), Start::Now);
        servers.write(written).await;
        let ended = async { while subscription.next().await != Event::Closed {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("it ends");
        servers.check(written).await;
        servers.close().await;
    }
}

/// Its database is the same one, as in a virtual machine that was set back while it ran.
#[tokio::test]
async fn a_server_that_sees_the_log_go_back_ends_the_epochs_of_its_groups() {
    let mut joined = None;
    let (servers, log) = Failover::after(async |log| {
        let new = CreateGroup { categories: [].into(), ..new_group() };
        log.groups().create("g", new).await.expect("it is new");
        joined = Some(log.groups().join("g", Join::default()).await.expect("there is room"));
    })
    .await;
    let joined = joined.expect("it has joined");
    servers.write(WRITTEN).await;
    let read = log.read(Read::forward(everything(), 1, 100)).await;
    assert!(matches!(read, Err(Error::Closed)));
    for server in [&servers.after, &servers.before] {
        let log = server.log("test").await.expect("it lives");
        let checkpoints = joined.assigned.iter();
        let checkpoints = checkpoints.map(|a| (a.partition, Presented { epoch: a.epoch, position: WRITTEN })).collect();
        let call = MemberCall { checkpoints, ..MemberCall::default() };
        let told =
            log.groups().heartbeat("g", &joined.member, call, &CancellationToken::new()).await.expect("it lives");
        assert_eq!(told.fenced.len(), joined.assigned.len(), "{told:?}");
        assert!(told.membership.assigned.iter().all(|assigned| assigned.checkpoint == 0), "{told:?}");
    }
    servers.close().await;
}

#[tokio::test]
async fn a_group_that_cannot_be_read_keeps_no_server_at_what_was_lost() {
    let (servers, log) = Failover::after(async |log| {
        for name in ["damaged", "whole"] {
            let new = CreateGroup { categories: [].into(), ..new_group() };
            log.groups().create(name, new).await.expect("it is new");
        }
    })
    .await;
    let joined = log.groups().join("whole", Join::default()).await.expect("there is room");
    let schema = format!("eventodb_{}", log.namespace().incarnation.0);
    let damage = format!("UPDATE {schema}.group_states SET state = '{{}}' WHERE group_name = 'damaged'");
    postgres::run(&servers.url, &damage).await;
    servers.write(WRITTEN).await;
    let read = log.read(Read::forward(everything(), 1, 100)).await;
    assert!(matches!(read, Err(Error::Closed)), "{read:?}");
    let log = servers.before.log("test").await.expect("it lives");
    let call = log.groups().heartbeat("whole", &joined.member, MemberCall::default(), &CancellationToken::new()).await;
    let epochs = |assigned: &[Assigned]| assigned.iter().map(|of| of.epoch).max();
    assert!(
        epochs(&call.expect("it lives").membership.assigned) > epochs(&joined.assigned),
        "the other one begins anew"
    );
    servers.check(WRITTEN).await;
    servers.close().await;
}

#[tokio::test]
async fn a_batch_deleted_for_its_age_is_no_failover() {
    let url = postgres::database().await;
    // Nothing is heard of each other until it is asked for.
    let patient = Settings { poll_interval: PATIENCE, ..Settings::default() };
    let backend = crate::postgres::Settings { prepare: false, ..settings(&url) };
    let first = open_store(backend.clone(), patient.clone()).await;
    first.create(namespace("test", &Token::generate("test"))).await.expect("the name is free");
    let log = first.log("test").await.expect("it was just created");
    write(&log, "a-1", "T").await;
    let second = open_store(backend, patient).await;
    let other = second.log("test").await.expect("it lives");
    for _ in 0..2 {
        write(&other, "a-1", "T").await;
    }
    let schema = format!("eventodb_{}", log.namespace().incarnation.0);
    postgres::run(&url, &format!("DELETE FROM {schema}.batches WHERE seq < 3")).await;
    assert_eq!(all(&log).await, all(&other).await);
    let next = write_expecting(&log, "a-1", Expected::Version(2), message("T")).await.expect("it is so");
    assert_eq!(next.first_global_position, 4);
    first.close().await;
    second.close().await;
}
