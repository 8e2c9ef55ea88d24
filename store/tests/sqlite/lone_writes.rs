//! Appends that are alone are committed on the caller's thread, others on the writers': the log is the same.

use std::sync::Arc;
use std::time::Duration;

use eventodb_schema::message::{Expected, NewMessage};
use eventodb_schema::request::{Append, AppendEntry};
use eventodb_schema::{Filter, Scope};
use eventodb_store::Log;
use eventodb_store::backend::sqlite::Settings;
use eventodb_store::log::{Event, Start, Subscribe};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::support::*;

const ROUNDS: usize = 3;
const LONE: usize = 60;
const WRITERS: usize = 16;
const EACH: usize = 15;

/// Appends to a stream of its own, one after the other; returns the global positions.
async fn write(log: Arc<Log>, stream: String, count: usize) -> Vec<i64> {
    let mut positions = Vec::new();
    for at in 0..count as i64 {
        let message = NewMessage { id: None, kind: "T".into(), data: "{}".into(), metadata: None };
        let expected = if at == 0 { Expected::NoStream } else { Expected::Version(at - 1) };
        let entry = AppendEntry { stream: stream.as_str().into(), expected, messages: vec![message] };
        let append = Append { entries: vec![entry], checks: Vec::new() };
        let written = timeout(PATIENCE, log.append(append)).await.expect("it is answered");
        let written = written.expect("the version is right")[0];
        assert_eq!(written.first_position, at);
        assert!(log.head() >= written.first_global_position, "what is acknowledged is visible");
        positions.push(written.first_global_position);
    }
    positions
}

/// Follows the log until `last`; returns how many pokes came.
async fn follow(log: Arc<Log>, last: i64) -> usize {
    let filter = Filter::new(Scope::All);
    let heartbeat = Duration::from_secs(600);
    let mut subscription = log.subscribe(Subscribe { filter, start: Start::Global(1), coalesce: None, heartbeat });
    let mut pokes = 0;
    while subscription.position() < last {
        if let Event::Pokes(frames) = timeout(PATIENCE, subscription.next()).await.expect("it is poked") {
            pokes += String::from_utf8_lossy(&frames).matches("event: poke").count();
        }
    }
    pokes
}

/// Lone appends and many at once take turns, with subscribers beside them.
async fn lone_and_many(settings: Settings) {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let store = open(directory.path(), settings).await;
    create(&store, NAME).await;
    let log = log(&store, NAME).await;
    let all = ROUNDS * (LONE + WRITERS * EACH);
    let followers: Vec<_> = (0..4).map(|_| tokio::spawn(follow(log.clone(), all as i64))).collect();
    let mut positions = Vec::new();
    for round in 0..ROUNDS {
        // As a task, so that it runs on one of the runtime's workers.
        let lone = tokio::spawn(write(log.clone(), format!("a-{round}"), LONE));
        positions.extend(lone.await.expect("no panic"));
        let mut many = JoinSet::new();
        for writer in 0..WRITERS {
            many.spawn(write(log.clone(), format!("b-{round}x{writer}"), EACH));
        }
        positions.extend(many.join_all().await.into_iter().flatten());
    }
    positions.sort_unstable();
    assert!(positions.iter().copied().eq(1..=all as i64), "positions are dense: {positions:?}");
    for follower in followers {
        assert_eq!(follower.await.expect("no panic"), all);
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lone_appends_and_many_at_once_make_one_log() {
    lone_and_many(Settings::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn they_do_where_appends_wait_for_the_indexer() {
    lone_and_many(tiny()).await;
}
