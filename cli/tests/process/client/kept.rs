//! Workers on groups that the server keeps.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventodb_client::group::{CreateGroup, ListPage};
use eventodb_client::worker::{Failing, Worker, WorkerError};
use eventodb_client::{Client, Error, Expected, NewMessage, RetryPolicy};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::killed::fill;
use crate::server::*;

/// What was handled, in this order: stream and global position.
type Handled = Arc<Mutex<Vec<(String, i64)>>>;

struct Given {
    server: Server,
    client: Client,
    handled: Handled,
    _directory: tempfile::TempDir,
}

impl Given {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let server = Server::start(&directory.path().join("data"), &[]).await;
        let client = server.client();
        Self { server, client, handled: Handled::default(), _directory: directory }
    }

    /// The group `g` over `thing`.
    async fn group(&self, partitions: u32, session_ms: u64) {
        let create = CreateGroup {
            categories: vec!["thing".to_owned()],
            partitions: Some(partitions),
            session_ms: Some(session_ms),
            ..CreateGroup::default()
        };
        self.client.group("g").create(&create).await.expect("created");
    }

    async fn write(&self, stream: &str, kind: &str) {
        let message = NewMessage::new(kind, json!({}));
        self.client.write(stream, &message, Expected::Any).await.expect("written");
    }

    /// A worker that notes what it handles.
    fn worker(&self) -> Worker {
        let handled = self.handled.clone();
        Worker::new(&self.client, "g").otherwise(move |message, _| {
            handled.lock().push((message.stream().to_owned(), message.global_position()));
            std::future::ready(Ok::<_, std::io::Error>(()))
        })
    }

    fn positions(&self) -> Vec<i64> {
        self.handled.lock().iter().map(|(_, position)| *position).collect()
    }
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A worker that runs, and what stops it.
struct Run {
    stop: CancellationToken,
    task: JoinHandle<Result<eventodb_client::worker::GroupSummary, WorkerError>>,
}

fn start(worker: Worker) -> Run {
    let stop = CancellationToken::new();
    Run { task: tokio::spawn(worker.run(stop.clone())), stop }
}

impl Run {
    async fn stop(self) {
        self.stop.cancel();
        self.ended().await.expect("it ends well");
    }

    async fn ended(self) -> Result<eventodb_client::worker::GroupSummary, WorkerError> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends").expect("it does not panic")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_message_stops_its_stream_only_and_flows_after_the_fix() {
    let given = Given::new().await;
    given.group(1, 30_000).await;
    for (stream, kind) in [("thing-1", "Bad"), ("thing-2", "Good"), ("thing-1", "Good"), ("thing-2", "Good")] {
        given.write(stream, kind).await;
    }
    let is_fixed = Arc::new(AtomicBool::new(false));
    let (fixed, handled) = (is_fixed.clone(), given.handled.clone());
    let failing = Failing::Park { first: Duration::from_millis(1), longest: Duration::from_millis(2), tries: 3 };
    let worker = given.worker().retry(RetryPolicy::none()).failing(failing).on_type("Bad", move |message, _| {
        let is_fixed = fixed.load(Ordering::Relaxed);
        if is_fixed {
            handled.lock().push((message.stream().to_owned(), message.global_position()));
        }
        std::future::ready(if is_fixed { Ok(()) } else { Err(std::io::Error::other("poison")) })
    });
    let run = start(worker);
    let group = given.client.group("g");
    until("the third try", async || {
        let parked = group.parked(&ListPage::default()).await.expect("a list");
        parked.first().is_some_and(|parked| parked.attempts == 3 && parked.retry_at.is_none())
    })
    .await;
    assert_eq!(given.positions(), [2, 4], "the other stream went on");
    given.write("thing-1", "Good").await;
    let waited = group.wait(5, None, PATIENCE).await.expect("an answer");
    assert_eq!((waited.reached, waited.parked), (true, 1));
    is_fixed.store(true, Ordering::Relaxed);
    assert_eq!(group.retry(None).await.expect("made due").streams, 1);
    until("the end of the park", async || group.parked(&ListPage::default()).await.expect("a list").is_empty()).await;
    given.write("thing-1", "Good").await;
    assert!(given.client.wait_for("g", 6, PATIENCE).await.expect("an answer"));
    assert_eq!(given.positions(), [2, 4, 1, 3, 5, 6], "in order, none twice");
    run.stop().await;
    given.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_handler_keeps_its_lease() {
    let given = Given::new().await;
    given.group(1, 1000).await;
    given.write("thing-1", "Slow").await;
    let handled = given.handled.clone();
    let slow = given.worker().on_type("Slow", move |message, _| {
        let handled = handled.clone();
        async move {
            // Longer than two sessions. That nothing else happens meanwhile is what is tested.
            tokio::time::sleep(Duration::from_millis(2500)).await;
            handled.lock().push((message.stream().to_owned(), message.global_position()));
            Ok::<_, std::io::Error>(())
        }
    });
    let run = start(slow);
    let group = given.client.group("g");
    until("the first member", async || !group.status().await.expect("a status").members.is_empty()).await;
    let standby = start(given.worker());
    assert!(given.client.wait_for("g", 1, PATIENCE).await.expect("an answer"));
    assert_eq!(given.positions(), [1], "handled once");
    run.stop().await;
    standby.stop().await;
    given.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workers_of_one_name_the_younger_one_goes_on() {
    let given = Given::new().await;
    given.group(2, 30_000).await;
    let older = start(given.worker().name("host"));
    let group = given.client.group("g");
    until("the first member", async || !group.status().await.expect("a status").members.is_empty()).await;
    let younger = start(given.worker().name("host"));
    assert!(matches!(older.ended().await, Err(WorkerError::Duplicate(_))));
    given.write("thing-1", "Good").await;
    assert!(given.client.wait_for("g", 1, PATIENCE).await.expect("an answer"));
    younger.stop().await;
    given.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_group_is_deleted_ends() {
    let given = Given::new().await;
    given.group(2, 30_000).await;
    let run = start(given.worker());
    let group = given.client.group("g");
    until("the member", async || !group.status().await.expect("a status").members.is_empty()).await;
    group.delete().await.expect("deleted");
    assert!(matches!(run.ended().await, Err(WorkerError::Client(Error::GroupNotFound { .. }))));
    given.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_restarted_one_by_one_handle_nothing_twice() {
    const WORKERS: usize = 4;
    const MESSAGES: usize = 6000;
    let given = Given::new().await;
    given.group(16, 30_000).await;
    let worker = |number: usize| given.worker().name(format!("host-{number}"));
    let mut runs: Vec<Run> = (0..WORKERS).map(|number| start(worker(number))).collect();
    let (client, writing) = (given.client.clone(), MESSAGES / (2 * WORKERS));
    for number in 0..WORKERS {
        let at = 2 * number * writing;
        fill(&client, "thing", 300, at..at + writing).await;
        runs.remove(0).stop().await;
        fill(&client, "thing", 300, at + writing..at + 2 * writing).await;
        runs.push(start(worker(number)));
    }
    let head = client.head().await.expect("a head");
    assert!(client.wait_for("g", head, PATIENCE).await.expect("an answer"));
    for run in runs {
        run.stop().await;
    }
    let handled = given.handled.lock().clone();
    let mut last: HashMap<&str, i64> = HashMap::new();
    for (stream, position) in handled.iter() {
        let before = last.insert(stream, *position).unwrap_or(0);
        assert!(before < *position, "{stream}: {position} came after {before}");
    }
    assert_eq!(handled.len(), handled.iter().collect::<HashSet<_>>().len());
    assert_eq!(i64::try_from(handled.len()).ok(), Some(head), "none is missing");
    given.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_gives_up_leaves_the_message_for_the_next() {
    let given = Given::new().await;
    given.group(1, 30_000).await;
    for kind in ["Good", "Bad", "Good"] {
        given.write("thing-1", kind).await;
    }
    let stopping = given.worker().retry(RetryPolicy::none()).failing(Failing::Stop);
    let stopping = stopping.on_type("Bad", |_, _| std::future::ready(Err::<(), _>(std::io::Error::other("bad"))));
    let error = start(stopping).ended().await.expect_err("it stops");
    assert!(matches!(error, WorkerError::Handler { global_position: 2, .. }), "{error}");
    assert_eq!(given.positions(), [1]);
    let summary = start(given.worker().until_caught_up()).ended().await.expect("it ends");
    assert_eq!((summary.messages, given.positions()), (2, vec![1, 2, 3]));
    given.server.stop().await;
}
