//! Replacing what a namespace holds, where several servers use the database.

use eventodb_protocol::message::Message;
use eventodb_testing::postgres;
use uuid::Uuid;

use super::fixture::Fixture;
use super::pair::{NAME, Pair};
use crate::Error;
use crate::conformance::support::{all, global_positions, message, write, write_expecting};
use crate::error::QuotaOf;
use crate::model::{Incarnation, Size};
use crate::storage::{AppendError, Backend as _};

pub(super) const EXPIRE: &str =
    "UPDATE eventodb.namespaces SET staged_until = now() - interval '1 second' WHERE staged_until IS NOT NULL";

/// A fixture with two messages, and an incarnation that its backend has staged for their place. Nobody keeps it.
async fn staged() -> (Fixture, Incarnation) {
    let fixture = Fixture::new().await;
    fixture.write(&[("a-1", "A"), ("a-2", "A")]).await;
    let staged = fixture.backend.stage(fixture.log).await.expect("it lives");
    (fixture, staged.incarnation)
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_through_another_server_are_refused_meanwhile() {
    let pair = Pair::new().await;
    let [_, other] = pair.logs().await;
    write(&other, "a-1", "Old").await;
    let replacement = pair.servers[0].replace(NAME, None).await.expect("it lives");
    for _ in 0..2 {
        let refused = write_expecting(&other, "a-1", Default::default(), message("T")).await;
        assert!(matches!(refused, Err(Error::Replacing)), "{refused:?}");
    }
    let old = all(&other).await.remove(0);
    let records = vec![Message { id: Uuid::new_v4(), stream: "b-1".into(), global_position: 2, ..old }];
    assert!(matches!(other.import(records).await, Err(Error::Replacing)));
    assert!(other.is_being_replaced().await.expect("it answers"));
    assert!(matches!(pair.servers[1].replace(NAME, None).await, Err(Error::Replacing)));
    assert_eq!(all(&other).await.len(), 1, "it is still read");

    replacement.discard().await;
    assert_eq!(write(&other, "a-1", "T").await.first_global_position, 2);
    let [first, _] = pair.logs().await;
    assert_eq!(write(&first, "a-1", "T").await.first_global_position, 3);

    pair.servers[0].replace(NAME, None).await.expect("it lives").finish().await.expect("nothing is in the way");
    let late = write_expecting(&other, "a-1", Default::default(), message("T")).await;
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
    let other =
        pair.servers[1].authorize(&pair.token).await.expect("it answers").expect("the token stays").log().clone();
    assert_eq!(write(&other, "a-1", "New").await.first_global_position, 1);
    pair.close().await;
}

#[tokio::test]
async fn a_deletion_through_another_server_overtakes() {
    let pair = Pair::new().await;
    let replacement = pair.servers[0].replace(NAME, None).await.expect("it lives");
    pair.servers[1].delete(NAME).await.expect("it lives");
    assert!(matches!(replacement.finish().await, Err(Error::Overtaken)));
    assert!(pair.servers[1].authorize(&pair.token).await.expect("it answers").is_none());
    pair.close().await;
}

/// `ns.update` has changed the row and not committed yet when the import is whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_under_way_is_waited_for() {
    for (change, is_refusal) in [
        ("protected = true", (|error| matches!(error, Error::Protected)) as fn(&Error) -> bool),
        ("quota_messages = 0", |error| matches!(error, Error::OverQuota(QuotaOf::Messages))),
    ] {
        let pair = Pair::new().await;
        let [log, _] = pair.logs().await;
        let old = write(&log, "a-1", "Old").await.first_global_position;
        let read = all(&log).await.remove(0);
        let replacement = pair.servers[0].replace(NAME, None).await.expect("it lives");
        let record = Message { id: Uuid::new_v4(), global_position: old + 1, ..read };
        replacement.log().import(vec![record]).await.expect("it is empty");
        let updating = postgres::connect(&pair.url).await;
        let update = format!("BEGIN; UPDATE eventodb.namespaces SET {change} WHERE deleted_at IS NULL");
        updating.batch_execute(&update).await.expect("nobody has it");
        let finishing = tokio::spawn(replacement.finish());
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        let watching = postgres::connect(&pair.url).await;
        while watching.query_one(waits, &[]).await.expect("good SQL").get::<_, i64>(0) == 0 {
            assert!(!finishing.is_finished(), "it does not wait for the change");
        }
        updating.batch_execute("COMMIT").await.expect("it is open");
        let finished = finishing.await.expect("no panic");
        assert!(finished.as_ref().is_err_and(is_refusal), "{change}: {finished:?}");
        assert_eq!(global_positions(&all(&log).await), [old], "{change}");
        pair.close().await;
    }
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_leaves_the_namespace_as_it_was() {
    let (fixture, staged) = staged().await;
    fixture.backend.open(staged).await.expect("what is staged can be filled");
    let other = fixture.second().await;
    let batch = other.batch(&[("a-1", "A")]).await;
    assert!(matches!(other.append(&batch).await, Err(AppendError::Replacing)));
    other.backend.tidy().await.expect("it answers");
    fixture.backend.keep(staged).await.expect("it is kept until its time has passed");

    fixture.sql(EXPIRE).await;
    // It meets the seal, takes it away, and finds the head moved.
    assert!(matches!(other.append(&batch).await, Err(AppendError::Behind)));
    other.write(&[("a-1", "A")]).await;
    assert!(matches!(fixture.backend.keep(staged).await, Err(Error::Overtaken)));
    assert!(matches!(fixture.backend.promote(staged, Size::default()).await, Err(Error::Overtaken)));
    assert_eq!(fixture.number("SELECT count(*) FROM {log}.messages").await, 3);
    fixture.purge_all().await;
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'eventodb_%'";
    assert_eq!(fixture.number(schemas).await, 1, "what was staged is gone");
}

/// A server that tidies up finds it first, and nobody has met the seal.
#[tokio::test]
async fn what_nobody_keeps_is_dropped() {
    let (fixture, staged) = staged().await;
    fixture.backend.open(staged).await.expect("what is staged can be filled");
    fixture.sql(EXPIRE).await;
    fixture.second().await.backend.tidy().await.expect("it answers");
    fixture.purge_all().await;
    assert!(matches!(fixture.backend.promote(staged, Size::default()).await, Err(Error::Overtaken)));
    assert!(matches!(fixture.backend.open(staged).await, Err(Error::Closed)));
    let batch = fixture.batch(&[("a-1", "A")]).await;
    assert_eq!(batch.after.position, 2);
    assert!(matches!(fixture.append(&batch).await, Err(AppendError::Behind)), "behind the seal");
    fixture.write(&[("a-1", "A")]).await;
}

/// The answer to the first attempt may be lost.
#[tokio::test]
async fn a_promotion_may_be_repeated() {
    let (fixture, staged) = staged().await;
    for _ in 0..3 {
        fixture.backend.promote(staged, Size::default()).await.expect("it is promoted");
        fixture.backend.discard(staged).await.expect("it answers, and changes nothing");
    }
    let living = fixture.backend.namespace("test").await.expect("it answers").expect("it lives");
    assert_eq!(living.incarnation, staged);
    assert!(matches!(fixture.storage.head().await, Err(Error::Closed)));
    fixture.purge_all().await;
}

/// An append that was sent before the seal may reach the database after it is gone.
#[tokio::test]
async fn what_the_seal_has_refused_stays_refused() {
    let fixture = Fixture::new().await;
    fixture.write(&[("a-1", "A")]).await;
    let batch = fixture.batch(&[("a-1", "A")]).await;
    let staged = fixture.backend.stage(fixture.log).await.expect("it lives");
    fixture.backend.discard(staged.incarnation).await.expect("it answers");
    assert!(matches!(fixture.append(&batch).await, Err(AppendError::Behind)));
    assert_eq!(fixture.storage.head().await.expect("it lives").position, 1);
    fixture.write(&[("a-1", "A")]).await;
}
