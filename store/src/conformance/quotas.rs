//! Quotas: what a namespace may hold.

use std::sync::Arc;

use eventodb_protocol::Timestamp;
use eventodb_protocol::message::{Expected, NewMessage};
use eventodb_protocol::reply::Quota;
use futures_util::future::join_all;
use uuid::Uuid;

use super::appends::record;
use super::support::{World, append, entry, message, write};
use crate::error::{Error, QuotaOf, Result};
use crate::log::Log;
use crate::model::NamespaceUpdate;

const NAME: &str = "quota";

async fn log(world: &World, messages: Option<i64>, bytes: Option<i64>) -> Arc<Log> {
    set(world, messages, bytes).await;
    world.store.log(NAME).await.expect("it lives")
}

async fn set(world: &World, messages: Option<i64>, bytes: Option<i64>) {
    let quota = Some(Quota { messages, bytes });
    world.store.update(NAME, &NamespaceUpdate { quota, ..NamespaceUpdate::default() }).await.expect("it lives");
}

/// Appends this number of messages at once.
async fn several(log: &Log, stream: &str, count: usize) -> Result<()> {
    let messages = (0..count).map(|_| message("T")).collect();
    log.append(append(vec![entry(stream, Expected::Any, messages)])).await.map(drop)
}

fn is_over<T>(result: &Result<T>, of: QuotaOf) -> bool {
    matches!(result, Err(Error::OverQuota(over)) if *over == of)
}

async fn count(log: &Log) -> u64 {
    log.counts().await.expect("the storage answers").messages
}

pub(super) async fn messages_are_bounded_exactly(world: &mut World) {
    world.create(NAME).await;
    let log = log(world, Some(10), None).await;
    several(&log, "a-1", 2).await.expect("there is room");
    several(&log, "a-2", 2).await.expect("there is room");
    several(&log, "a-3", 3).await.expect("there is room");
    assert!(is_over(&several(&log, "a-1", 4).await, QuotaOf::Messages), "all or nothing");
    several(&log, "a-1", 2).await.expect("there is room for two");
    let id = Uuid::new_v4();
    let last = || append(vec![entry("b-1", Expected::Any, vec![NewMessage { id: Some(id), ..message("T") }])]);
    let written = log.append(last()).await.expect("there is room for one");
    assert!(is_over(&several(&log, "a-1", 1).await, QuotaOf::Messages));
    assert!(is_over(&log.import(vec![record("i-1", 0, 50, Timestamp::default())]).await, QuotaOf::Messages));
    assert_eq!(log.append(last()).await.expect("it was written before"), written);
    let expecting = log.append(append(vec![entry("a-1", Expected::NoStream, vec![message("T")])])).await;
    assert!(matches!(expecting, Err(Error::VersionConflict(_))), "it would not be written with room either");
    assert_eq!(count(&log).await, 10);
    if world.reopen().await {
        let log = world.store.log(NAME).await.expect("it lives");
        assert!(is_over(&several(&log, "a-1", 1).await, QuotaOf::Messages), "after a restart");
    }
    let log = world.store.log(NAME).await.expect("it lives");
    set(world, Some(11), None).await;
    several(&log, "a-1", 1).await.expect("there is more room");
    assert!(is_over(&several(&log, "a-1", 1).await, QuotaOf::Messages));
    set(world, Some(5), None).await;
    assert!(is_over(&several(&log, "a-1", 1).await, QuotaOf::Messages), "what is there stays");
    set(world, None, None).await;
    several(&log, "a-1", 3).await.expect("there is no quota");
    assert_eq!(count(&log).await, 14);
}

pub(super) async fn parallel_appends_fill_a_quota_and_no_more(world: &mut World) {
    world.create(NAME).await;
    let log = log(world, Some(25), None).await;
    for (written, most) in [(25, 25), (8, 33)] {
        set(world, Some(most), None).await;
        let streams: Vec<_> = (0..60).map(|n| format!("a-{n}")).collect();
        let results = join_all(streams.iter().map(|stream| several(&log, stream, 1))).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), written);
        assert!(results.iter().all(|result| result.is_ok() || is_over(result, QuotaOf::Messages)));
        assert_eq!(count(&log).await, most as u64);
    }
}

pub(super) async fn positions_that_an_import_leaves_out_count_for_nothing(world: &mut World) {
    world.create(NAME).await;
    let log = log(world, Some(5), None).await;
    let records = [(0, 1_000), (1, 5_000)].map(|(position, at)| record("i-1", position, at, Timestamp::default()));
    log.import(records.into()).await.expect("there is room");
    several(&log, "a-1", 2).await.expect("there is room");
    write(&log, "a-1", "T").await;
    assert!(is_over(&several(&log, "a-1", 1).await, QuotaOf::Messages));
    assert_eq!(count(&log).await, 5);
}

pub(super) async fn bytes_are_bounded(world: &mut World) {
    const QUOTA: i64 = 4 << 20;
    const LARGE: usize = 200_000;
    world.create(NAME).await;
    let log = log(world, None, Some(QUOTA)).await;
    // Text that does not compress.
    let mut seed = 1_u64;
    let mut text = || {
        let next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (seed >> 59) as u8 % 26)
        };
        std::iter::repeat_with(next).take(LARGE).collect::<String>()
    };
    let mut accepted = 0;
    let refused = loop {
        let large = NewMessage { data: format!(r#"{{"x":"{}"}}"#, text()).into(), ..message("T") };
        match log.append(append(vec![entry("a-1", Expected::Any, vec![large])])).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted <= 3 * QUOTA as usize / LARGE, "there is no end");
    };
    assert!(matches!(refused, Error::OverQuota(QuotaOf::Bytes)), "{refused}");
    assert!(accepted >= QUOTA as usize / LARGE / 3, "{accepted}");
    set(world, None, Some(10 * QUOTA)).await;
    several(&log, "a-1", 1).await.expect("there is more room");
    set(world, None, Some(LARGE as i64)).await;
    if world.reopen().await {
        let log = world.store.log(NAME).await.expect("it lives");
        assert!(is_over(&several(&log, "a-1", 1).await, QuotaOf::Bytes), "after a restart");
    }
}
