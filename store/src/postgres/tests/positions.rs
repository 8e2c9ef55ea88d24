//! Positions that no log of this version has: in a table that an earlier one left, and in a false notification.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::message::Expected;

use super::fixture::{open_store, settings};
use super::pair::Pair;
use crate::conformance::support::{
    PATIENCE, all, everything, global_positions, message, subscribe, take, write, write_expecting,
};
use crate::log::{Log, Start};
use crate::{Error, Settings};
use eventodb_testing::postgres;

/// What an import at the highest 64-bit number and a write after it once left behind.
const WRAPPED: &str = "
    INSERT INTO {log}.messages
    SELECT at, stream, position, starts_stream, category, stream_hash, type, correlation, gen_random_uuid(), time, metadata, data
    FROM {log}.messages, (VALUES (9223372036854775807, 'b-1'), (-9223372036854775808, 'c-1')) AS wrapped(at, name)
    WHERE global_position = 1;
";

async fn settled(log: &Arc<Log>) {
    let settled = async {
        while log.writer.is_behind() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("a false hint is looked at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_positions_wrapped_around_is_read_and_not_written() {
    let pair = Pair::new().await;
    let [log, _] = pair.logs().await;
    write(&log, "a-1", "T").await;
    let schema = format!("eventodb_{}", log.namespace().incarnation.0);
    let insert = WRAPPED.replace("at, stream,", "at, name,");
    let batches = "
        INSERT INTO {log}.batches SELECT 2, gen_random_uuid(), 9223372036854775807, 2, 2, time FROM {log}.batches WHERE seq = 1;
        INSERT INTO {log}.batches SELECT 3, gen_random_uuid(), -9223372036854775808, 3, 3, time FROM {log}.batches WHERE seq = 1";
    postgres::run(&pair.url, &(insert + batches).replace("{log}", &schema)).await;
    // One that was open all the time, and one that opens it now.
    let third = open_store(settings(&pair.url), Settings::default()).await;
    for log in [log, third.log(super::pair::NAME).await.expect("it lives")] {
        let refused = write_expecting(&log, "a-1", Expected::Any, message("T")).await;
        assert!(matches!(refused, Err(Error::Full(None))), "{refused:?}");
        assert_eq!(global_positions(&all(&log).await), [1, i64::MAX]);
        let mut subscription = subscribe(&log, everything(), Start::Global(1));
        assert_eq!(take(&mut subscription, 2).await[1].2, i64::MAX);
        settled(&log).await;
    }
    let ending = async {
        third.close().await;
        pair.close().await;
    };
    tokio::time::timeout(PATIENCE, ending).await.expect("servers end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_notification_is_looked_at_once() {
    let pair = Pair::new().await;
    let [log, other] = pair.logs().await;
    write(&log, "a-1", "T").await;
    let payload = format!("somebody {} {}", log.namespace().incarnation.0, i64::MAX);
    let session = postgres::connect(&pair.url).await;
    // Until it is heard: a server that has just come up may not listen yet.
    let heard = async {
        while !log.writer.is_behind() {
            session.execute("SELECT pg_notify('eventodb', $1)", &[&payload]).await.expect("any role may");
            tokio::task::yield_now().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), heard).await;
    settled(&log).await;
    settled(&other).await;
    write(&other, "a-1", "T").await;
    assert_eq!(global_positions(&all(&log).await), [1, 2]);
    tokio::time::timeout(PATIENCE, pair.close()).await.expect("servers end");
}
