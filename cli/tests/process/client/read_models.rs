//! Read models of workers on groups, whose processes are killed while they handle: each message takes effect exactly once.

use std::path::PathBuf;
use std::process::Stdio;

use async_trait::async_trait;
use eventodb_client::group::CreateGroup;
use eventodb_client::read_model::{
    PostgresProjection, PostgresTables, ReadModel, SqliteProjection, SqliteTables, rebuild,
};
use eventodb_client::worker::{HandlerError, Worker};
use eventodb_client::{Client, Message};
use eventodb_testing::postgres;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;

use super::killed::fill;
use crate::server::*;

/// The variable that makes this binary a worker.
const VARIABLE: &str = "EVENTODB_TEST_READ_MODEL";
const MESSAGES: usize = 1_500;
const STREAMS: usize = 50;
const KILLS: usize = 4;
const SCHEMA: &str = "CREATE TABLE counted (stream text PRIMARY KEY, messages bigint NOT NULL)";
const COUNT: &str = "INSERT INTO counted VALUES ($1, 1)
    ON CONFLICT (stream) DO UPDATE SET messages = counted.messages + 1";
const CLEAR: &str = "DELETE FROM counted";
const TOTAL: &str = "SELECT count(*), CAST(coalesce(sum(messages), 0) AS bigint) FROM counted";

/// Counts the messages of each stream.
struct Counts;

impl SqliteProjection for Counts {
    fn apply(&self, transaction: &rusqlite::Transaction<'_>, message: &Message) -> Result<(), HandlerError> {
        transaction.prepare_cached(COUNT)?.execute([message.stream()])?;
        Ok(())
    }

    fn clear(&self, transaction: &rusqlite::Transaction<'_>) -> Result<(), HandlerError> {
        transaction.execute(CLEAR, [])?;
        Ok(())
    }
}

#[async_trait]
impl PostgresProjection for Counts {
    async fn apply(&self, by: &tokio_postgres::Transaction<'_>, message: &Message) -> Result<(), HandlerError> {
        by.execute(COUNT, &[&message.stream()]).await?;
        Ok(())
    }

    async fn clear(&self, by: &tokio_postgres::Transaction<'_>) -> Result<(), HandlerError> {
        by.execute(CLEAR, &[]).await?;
        Ok(())
    }
}

/// Where the read model is.
#[derive(Clone, Serialize, Deserialize)]
enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Place {
    async fn postgres(url: &str) -> PostgresTables<Counts> {
        let manager = deadpool_postgres::Manager::new(url.parse().expect("a URL"), NoTls);
        let pool = deadpool_postgres::Pool::builder(manager).max_size(4).build().expect("a pool");
        PostgresTables::open(pool, "g", Counts).await.expect("a database")
    }

    /// Makes the table.
    async fn prepare(&self) {
        match self {
            Self::Sqlite(path) => {
                rusqlite::Connection::open(path).and_then(|db| db.execute(SCHEMA, [])).expect("made");
            }
            Self::Postgres(url) => session(url).await.batch_execute(SCHEMA).await.expect("made"),
        }
    }

    /// How many streams and how many messages were counted.
    async fn counted(&self) -> (i64, i64) {
        match self {
            Self::Sqlite(path) => {
                let database = rusqlite::Connection::open(path).expect("a database");
                database.busy_timeout(PATIENCE).expect("a time");
                database.query_row(TOTAL, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("a row")
            }
            Self::Postgres(url) => {
                let row = session(url).await.query_one(TOTAL, &[]).await.expect("a row");
                (row.get(0), row.get(1))
            }
        }
    }

    fn start(&self, url: &str) -> Child {
        let test = concat!(module_path!(), "::process").split_once("::").expect("a crate").1;
        Command::new(std::env::current_exe().expect("this binary has a path"))
            .args([test, "--exact", "--nocapture"])
            .env(VARIABLE, serde_json::to_string(&(url, self)).expect("settings are JSON"))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("this binary starts")
    }

    async fn rebuild(&self, client: &Client) {
        match self {
            Self::Sqlite(path) => {
                let model = SqliteTables::open(path, "g", Counts).expect("a database");
                rebuild(client, "g", &model).await.expect("emptied");
            }
            Self::Postgres(url) => rebuild(client, "g", &Self::postgres(url).await).await.expect("emptied"),
        }
    }
}

async fn session(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a database");
    tokio::spawn(connection);
    client
}

/// Runs the worker if this binary was started as one. Otherwise it tests nothing.
#[tokio::test(flavor = "multi_thread")]
async fn process() {
    let Ok(settings) = std::env::var(VARIABLE) else { return };
    let (url, place): (String, Place) = serde_json::from_str(&settings).expect("settings");
    let client = super::client(&url);
    match &place {
        Place::Sqlite(path) => run(&client, SqliteTables::open(path, "g", Counts).expect("a database")).await,
        Place::Postgres(url) => run(&client, Place::postgres(url).await).await,
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
        let mut worker = place.start(&server.url());
        let deadline = Instant::now() + PATIENCE;
        // It is killed somewhere between its transaction and its checkpoint.
        while place.counted().await.1 < i64::try_from(kill * MESSAGES / (KILLS + 2)).expect("small") {
            assert!(Instant::now() < deadline, "the worker does not come to the next kill");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        worker.kill().await.expect("it ran");
    }
    let mut worker = place.start(&server.url());
    let all = (i64::try_from(STREAMS).expect("small"), i64::try_from(MESSAGES).expect("small"));
    let head = client.head().await.expect("a head");
    assert!(client.wait_for("g", head, PATIENCE).await.expect("an answer"));
    assert_eq!(place.counted().await, all);
    place.rebuild(&client).await;
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
