//! Read models of workers on groups, whose processes are killed while they handle: each message takes effect exactly once.

use std::process::Stdio;

use eventodb_client::Client;
use eventodb_client::group::CreateGroup;
use eventodb_client::read_model::{ReadModel, rebuild};
use eventodb_client::worker::Worker;
use eventodb_testing::postgres;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::killed::fill;
use super::tables::{Place, in_postgres, in_sqlite, session};
use crate::server::*;

/// The variable that makes this binary a worker.
const VARIABLE: &str = "EVENTODB_TEST_READ_MODEL";
const MESSAGES: usize = 1_500;
const STREAMS: usize = 50;
const KILLS: usize = 4;

/// Starts a worker that keeps the read model.
fn start(place: &Place, url: &str) -> Child {
    let test = concat!(module_path!(), "::process").split_once("::").expect("a crate").1;
    Command::new(std::env::current_exe().expect("this binary has a path"))
        .args([test, "--exact", "--nocapture"])
        .env(VARIABLE, serde_json::to_string(&(url, place)).expect("settings are JSON"))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("this binary starts")
}

async fn build_anew(place: &Place, client: &Client) {
    match place {
        Place::Sqlite(path) => rebuild(client, "g", &in_sqlite(path, "g")).await.expect("emptied"),
        Place::Postgres(url) => rebuild(client, "g", &in_postgres(url, "g").await).await.expect("emptied"),
    }
}

/// Runs the worker if this binary was started as one. Otherwise it tests nothing.
#[tokio::test(flavor = "multi_thread")]
async fn process() {
    let Ok(settings) = std::env::var(VARIABLE) else { return };
    let (url, place): (String, Place) = serde_json::from_str(&settings).expect("settings");
    let client = super::client(&url);
    match &place {
        Place::Sqlite(path) => run(&client, in_sqlite(path, "g")).await,
        Place::Postgres(url) => run(&client, in_postgres(url, "g").await).await,
    }
}

async fn run(client: &Client, model: impl ReadModel) {
    let worker = Worker::new(client, "g").name("counter").read_model(model);
    worker.run(CancellationToken::new()).await.expect("the worker ends well");
}

async fn each_message_counts_once(place: &Place, server: &Server) {
    let client = server.client();
    place.prepare().await;
    fill(&client, "thing", STREAMS, 0..MESSAGES).await;
    let create = CreateGroup { categories: vec!["thing".to_owned()], ..CreateGroup::default() };
    client.group("g").create(&create).await.expect("created");
    for kill in 1..=KILLS {
        let mut worker = start(place, &server.url());
        let deadline = Instant::now() + PATIENCE;
        // It is killed somewhere between its transaction and its checkpoint.
        while place.counted().await.1 < i64::try_from(kill * MESSAGES / (KILLS + 2)).expect("small") {
            assert!(Instant::now() < deadline, "the worker does not come to the next kill");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        worker.kill().await.expect("it ran");
    }
    let mut worker = start(place, &server.url());
    let all = (i64::try_from(STREAMS).expect("small"), i64::try_from(MESSAGES).expect("small"));
    let head = client.head().await.expect("a head");
    assert!(client.wait_for("g", head, PATIENCE).await.expect("an answer"));
    assert_eq!(place.counted().await, all);
    build_anew(place, &client).await;
    assert!(client.wait_for("g", head, PATIENCE).await.expect("an answer"));
    assert_eq!(place.counted().await, all, "the tables were built anew while the worker ran");
    worker.kill().await.expect("it ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_sqlite_each_message_counts_once() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&directory.path().join("data"), &[]).await;
    each_message_counts_once(&Place::Sqlite(directory.path().join("model.db")), &server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_postgres_each_message_counts_once() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let database = postgres::database().await;
    let server = Server::start(&directory.path().join("data"), &[]).await;
    each_message_counts_once(&Place::Postgres(database.to_string()), &server).await;
    server.stop().await;
}

/// A host stands still, or is cut off, in the middle of a transaction. PostgreSQL sees a session that says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stands_still_does_not_keep_its_stream() {
    const BLOCKED: &str = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'noted'::regclass";
    let directory = tempfile::tempdir().expect("a temporary folder");
    let database = postgres::database().await;
    let server = Server::start(&directory.path().join("data"), &[]).await;
    let (client, place) = (server.client(), Place::Postgres(database.to_string()));
    place.prepare().await;
    fill(&client, "thing", 1, 0..3).await;
    let create = CreateGroup { categories: vec!["thing".to_owned()], ..CreateGroup::default() };
    client.group("g").create(&create).await.expect("created");
    let mut other = session(&database.to_string()).await;
    let lock = other.transaction().await.expect("a transaction");
    lock.batch_execute("LOCK TABLE noted IN EXCLUSIVE MODE").await.expect("locked");
    let stopped = start(&place, &server.url());
    let deadline = Instant::now() + PATIENCE;
    while lock.query_one(BLOCKED, &[]).await.expect("a row").get::<_, i64>(0) == 0 {
        assert!(Instant::now() < deadline, "the worker handles nothing");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let pid = stopped.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).expect("it runs");
    kill_process(pid, Signal::STOP).expect("the process is there");
    lock.rollback().await.expect("unlocked");
    let _successor = start(&place, &server.url());
    let head = client.head().await.expect("a head");
    assert!(client.wait_for("g", head, PATIENCE).await.expect("an answer"), "the stream does not flow");
    assert_eq!(place.counted().await, (1, 3));
}
