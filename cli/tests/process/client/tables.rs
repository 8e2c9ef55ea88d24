//! A read model of tests, in SQLite or PostgreSQL: it notes each message.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use eventodb_client::Message;
use eventodb_client::read_model::{PostgresProjection, PostgresTables, SqliteProjection, SqliteTables};
use eventodb_client::worker::HandlerError;
use rusqlite::ErrorCode;
use serde::{Deserialize, Serialize};
use tokio_postgres::NoTls;

use crate::server::PATIENCE;

const IN_SQLITE: &str = "CREATE TABLE noted (place integer PRIMARY KEY, stream text NOT NULL, number bigint NOT NULL)";
const IN_POSTGRES: &str = "CREATE TABLE noted (place bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    stream text NOT NULL, number bigint NOT NULL)";
const NOTE: &str = "INSERT INTO noted (stream, number) VALUES ($1, $2)";
const CLEAR: &str = "DELETE FROM noted";
const COUNT: &str = "SELECT count(DISTINCT stream), count(*) FROM noted";
const ALL: &str = "SELECT stream, number FROM noted ORDER BY place";

/// Notes each message: its stream, and its place in it.
pub(crate) struct Noted;

impl SqliteProjection for Noted {
    fn apply(&self, transaction: &rusqlite::Transaction<'_>, message: &Message) -> Result<(), HandlerError> {
        transaction.prepare_cached(NOTE)?.execute((message.stream(), message.position()))?;
        Ok(())
    }

    fn clear(&self, transaction: &rusqlite::Transaction<'_>) -> Result<(), HandlerError> {
        transaction.execute(CLEAR, [])?;
        Ok(())
    }
}

#[async_trait]
impl PostgresProjection for Noted {
    async fn apply(&self, by: &tokio_postgres::Transaction<'_>, message: &Message) -> Result<(), HandlerError> {
        by.execute(NOTE, &[&message.stream(), &message.position()]).await?;
        Ok(())
    }

    async fn clear(&self, by: &tokio_postgres::Transaction<'_>) -> Result<(), HandlerError> {
        by.execute(CLEAR, &[]).await?;
        Ok(())
    }
}

/// Where the read model is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Place {
    /// A file.
    Sqlite(PathBuf),
    /// The URL of a database.
    Postgres(String),
}

impl Place {
    /// Makes the table.
    pub(crate) async fn prepare(&self) {
        match self {
            Self::Sqlite(path) => {
                rusqlite::Connection::open(path).and_then(|db| db.execute(IN_SQLITE, [])).expect("made");
            }
            Self::Postgres(url) => session(url).await.batch_execute(IN_POSTGRES).await.expect("made"),
        }
    }

    /// How many streams and how many messages were noted.
    pub(crate) async fn counted(&self) -> (i64, i64) {
        match self {
            Self::Sqlite(path) => {
                sqlite_file(path).query_row(COUNT, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("a row")
            }
            Self::Postgres(url) => {
                let row = session(url).await.query_one(COUNT, &[]).await.expect("a row");
                (row.get(0), row.get(1))
            }
        }
    }

    /// The places of the messages that were noted of each stream, in the order in which they were.
    pub(crate) async fn noted(&self) -> HashMap<String, Vec<i64>> {
        let all: Vec<(String, i64)> = match self {
            Self::Sqlite(path) => {
                let database = sqlite_file(path);
                let mut rows = database.prepare(ALL).expect("a statement");
                let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
                rows.collect::<rusqlite::Result<_>>().expect("rows")
            }
            Self::Postgres(url) => {
                let rows = session(url).await.query(ALL, &[]).await.expect("rows");
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            }
        };
        let mut streams: HashMap<String, Vec<i64>> = HashMap::new();
        for (stream, number) in all {
            streams.entry(stream).or_default().push(number);
        }
        streams
    }
}

/// The read model of a group in a file. Many processes that write to it may keep it from another one for long.
pub(crate) fn in_sqlite(path: &Path, group: &str) -> SqliteTables<Noted> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match SqliteTables::open(path, group, Noted) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < deadline => {}
            opened => return opened.expect("a database"),
        }
    }
}

/// The read model of a group in a database, which may be away for a while.
pub(crate) async fn in_postgres(url: &str, group: &str) -> PostgresTables<Noted> {
    let manager = deadpool_postgres::Manager::new(url.parse().expect("a URL"), NoTls);
    let pool = deadpool_postgres::Pool::builder(manager).max_size(4).build().expect("a pool");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match PostgresTables::open(pool.clone(), group, Noted).await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
            // Much shorter than the tests' patience: a stopped process keeps the rows that it has locked.
            opened => return opened.expect("a database").idle_limit(Duration::from_secs(2)),
        }
    }
}

fn sqlite_file(path: &Path) -> rusqlite::Connection {
    let database = rusqlite::Connection::open(path).expect("a database");
    database.busy_timeout(PATIENCE).expect("a time");
    database
}

pub(crate) async fn session(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a database");
    tokio::spawn(connection);
    client
}
