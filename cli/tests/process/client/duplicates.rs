//! Two workers with the same name: the second one ends with an error, the first goes on, and the saved position stays
//! right, whether there are messages to handle or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use eventodb_client::checkpoint::{
    CheckpointStore, FileCheckpoint, PostgresHandler, PostgresReadModel, PostgresUrl, SqliteReadModel, StreamCheckpoint,
};
use eventodb_client::worker::{
    Checkpointed, Consumer, HandlerError, Handlers, Lag, Observer, StaticWorker, WorkerError,
};
use eventodb_client::{Client, Message};
use eventodb_store::testing::tell;
use eventodb_testing::postgres;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::killed::fill;
use crate::server::*;

const STREAMS: usize = 20;

/// Counts the messages that a worker handles, and those of them after its saved position.
#[derive(Clone, Default)]
struct Count {
    handled: Arc<AtomicUsize>,
    saved: Arc<AtomicUsize>,
}

impl Observer for Count {
    fn handled(&self, messages: usize, _lag: Lag) {
        self.handled.fetch_add(messages, Ordering::Relaxed);
    }

    fn saved(&self, _position: i64) {
        self.saved.store(self.handled.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Count {
    async fn saves(&self, messages: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.saved.load(Ordering::Relaxed) < messages {
            assert!(Instant::now() < deadline, "the worker does not come to {messages}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn worker<C: Consumer>(client: &Client, consumer: C, count: &Count) -> StaticWorker<C> {
    StaticWorker::new(client, consumer)
        .categories(["thing"])
        .checkpoint_every(100, Duration::from_millis(50))
        .observer(count.clone())
}

fn handlers() -> Handlers {
    Handlers::new().otherwise(|_| std::future::ready(Ok::<_, HandlerError>(())))
}

/// A worker of this kind ends because its name is taken.
async fn is_told(client: &Client, second: impl Consumer) -> usize {
    let count = Count::default();
    let ended = timeout(PATIENCE, worker(client, second, &count).run(CancellationToken::new()));
    let ended = ended.await.expect("the second worker is told");
    assert!(matches!(ended, Err(WorkerError::Duplicate(_))), "{ended:?}");
    count.handled.load(Ordering::Relaxed)
}

/// `make` gives consumers that share a position.
async fn the_second_is_told<C: Consumer + 'static>(server: Server, make: impl Fn(&Client) -> C) {
    let client = server.client();
    let (count, stop) = (Count::default(), CancellationToken::new());
    let first = tokio::spawn(worker(&client, make(&client), &count).run(stop.clone()));

    fill(&client, "thing", STREAMS, 0..500).await;
    count.saves(500).await;
    let idle = is_told(&client, make(&client)).await;
    assert_eq!(idle, 0, "the second had nothing to handle");
    assert!(!first.is_finished(), "the first goes on");

    let writing = {
        let client = client.clone();
        tokio::spawn(async move { fill(&client, "thing", STREAMS, 500..20_000).await })
    };
    count.saves(1000).await;
    let busy = is_told(&client, make(&client)).await;
    writing.await.expect("written");
    count.saves(20_000).await;
    stop.cancel();
    let summary = first.await.expect("no panic").expect("the first was not disturbed");
    assert_eq!(summary.messages, 20_000);

    let count = Count::default();
    let third = worker(&client, make(&client), &count).until_caught_up().run(CancellationToken::new());
    assert_eq!(third.await.expect("the name is free").messages, 0, "the position is behind everything");
    tell(&format!("the second was told after it had handled {busy} of 20000 messages too"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_with_its_position_in_the_store() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(directory.path(), &[]).await;
    the_second_is_told(server, |client| {
        Checkpointed::new(handlers(), StreamCheckpoint::new(client, &["thing"], "x", None))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_with_its_position_in_a_file() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&directory.path().join("data"), &[]).await;
    let path = directory.path().join("position");
    the_second_is_told(server, |_| Checkpointed::new(handlers(), FileCheckpoint::new(&path))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_with_its_position_in_sqlite() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&directory.path().join("data"), &[]).await;
    let path = directory.path().join("model.db");
    the_second_is_told(server, |_| SqliteReadModel::new(&path, "x", |_, _| Ok::<_, HandlerError>(()))).await;
}

struct Nothing;

#[async_trait]
impl PostgresHandler for Nothing {
    async fn handle(&mut self, _: &tokio_postgres::Client, _: &Message) -> Result<(), HandlerError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_with_its_position_in_postgres() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(directory.path(), &[]).await;
    let database: PostgresUrl = postgres::database().await.parse().expect("a URL");
    the_second_is_told(server, |_| PostgresReadModel::new(database.clone(), "x", Nothing)).await;
}

/// Neither worker has handled a message, so that no position was saved.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_where_nothing_was_ever_written() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(directory.path(), &[]).await;
    let client = server.client();
    let make = || StreamCheckpoint::new(&client, &["thing"], "x", None);
    let stop = CancellationToken::new();
    let mut checkpoint = make();
    checkpoint.load().await.expect("loaded");
    let first = Checkpointed::new(handlers(), checkpoint);
    let first = tokio::spawn(worker(&client, first, &Count::default()).run(stop.clone()));
    assert_eq!(is_told(&client, Checkpointed::new(handlers(), make())).await, 0);
    assert!(!first.is_finished(), "the first goes on");
    stop.cancel();
    first.await.expect("no panic").expect("the first was not disturbed");
    server.stop().await;
}
