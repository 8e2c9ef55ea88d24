//! The ceiling of PostgreSQL: one connection that inserts batches into the server's own tables, a commit each.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use eventodb_schema::POSTGRES_LOG;
use tokio_postgres::{Client, Statement};

use super::rows::Rows;
use crate::host::Database;
use crate::load::Loaded;
use crate::measure::{Gauge, Measured};

/// A log in a database of its own.
#[derive(Debug)]
pub(crate) struct Postgres {
    database: Database,
    client: Client,
    insert: Statement,
    rows: Rows,
}

/// The schema that the log is in.
const SCHEMA: &str = "ceiling";
/// Messages in a commit while the log is filled.
const FILL: u64 = 1_000;

impl Postgres {
    /// A log with `preload` messages in place.
    pub(crate) async fn new(database: Database, rows: Rows, preload: u64, gauge: &Gauge) -> anyhow::Result<Self> {
        let client = database.connect().await?;
        client.batch_execute(&format!("CREATE SCHEMA {SCHEMA}")).await?;
        for step in POSTGRES_LOG {
            client.batch_execute(&step.sql.replace("{log}", SCHEMA)).await?;
        }
        let insert = client.prepare(&include_str!("postgres/insert.sql").replace("{log}", SCHEMA)).await?;
        let mut ceiling = Self { database, client, insert, rows };
        while ceiling.rows.written() < preload {
            let placed = ceiling.rows.written();
            gauge.go_on(|| format!("messages were put in place: {placed} of {preload}"))?;
            ceiling.commit(FILL).await?;
        }
        Ok(ceiling)
    }

    /// Commits batches of `batch` messages for this long.
    pub(crate) async fn run(&mut self, batch: u64, duration: Duration, gauge: &Gauge) -> anyhow::Result<Loaded> {
        let mut measured = Measured::default();
        let begin = Instant::now();
        while begin.elapsed() < duration && !gauge.is_stopped() {
            let took = self.commit(batch).await?;
            measured.answer(took, begin.elapsed(), batch);
        }
        Ok(Loaded { measured, elapsed: begin.elapsed(), ..Loaded::default() })
    }

    /// Inserts a batch; returns how long the database took.
    async fn commit(&mut self, batch: u64) -> anyhow::Result<Duration> {
        let rows = self.rows.batch(batch);
        let global_positions: Vec<i64> = rows.iter().map(|row| row.global_position).collect();
        let streams: Vec<&str> = rows.iter().map(|row| &*row.stream).collect();
        let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
        let categories: Vec<String> = rows.iter().map(|row| self.rows.category(row.category)).collect();
        let hashes: Vec<i64> = rows.iter().map(|row| row.stream_hash).collect();
        let ids: Vec<uuid::Uuid> = rows.iter().map(|row| row.id).collect();
        let data = vec![self.rows.data.as_str(); rows.len()];
        let sent = Instant::now();
        let written = self
            .client
            .execute(&self.insert, &[&global_positions, &streams, &positions, &categories, &hashes, &ids, &data])
            .await
            .context("the raw insert failed")?;
        let took = sent.elapsed();
        anyhow::ensure!(written == batch, "{written} of {batch} rows were inserted");
        Ok(took)
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        drop(self.client);
        self.database.drop().await
    }
}
