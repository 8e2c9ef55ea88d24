//! A server on a database of its own, with writers that remember the answer to each write.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use eventodb_testing::postgres;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::super::super::http::Http;
use super::super::super::server::{BINARY, Server, TOKEN};
use super::super::case::{OTHER, create};
use super::super::ledger::{Ledger, Writers};
use super::super::patiently;

/// Pause between two checks of a condition.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A row's database and server, and the ledgers of its writers.
pub(super) struct Scene<'a> {
    pub(super) postgres: &'a postgres::Server,
    /// The database's URL for its superuser.
    pub(super) url: String,
    /// The server, until it is stopped.
    server: Option<Server>,
    pub(super) ledgers: [Ledger; 2],
    directory: TempDir,
}

/// Writers and a reader at work.
pub(super) struct Load {
    writers: Vec<Writers>,
    stop: Arc<AtomicBool>,
    reader: JoinHandle<Result<()>>,
}

impl Load {
    /// Waits until each has finished its call. Fails if a read got an answer that no fault excuses.
    pub(super) async fn stop(self) -> Result<()> {
        for writers in self.writers {
            writers.stop().await?;
        }
        self.stop.store(true, SeqCst);
        patiently("the reader ends", self.reader).await??
    }
}

impl<'a> Scene<'a> {
    /// A database with these options, a server on it, and two namespaces that have some messages.
    pub(super) async fn prepare(postgres: &'a postgres::Server, options: &str) -> Result<Self> {
        let options = format!("ENCODING 'UTF8' {options}");
        let url = postgres::create_database(&postgres.url("postgres"), &options).await;
        let ledgers = [Ledger::new("default", TOKEN), Ledger::new(OTHER.0, OTHER.1)];
        let mut scene = Self { postgres, url, server: None, ledgers, directory: tempfile::tempdir()? };
        let url = scene.url.clone();
        scene.start(&url, &[]).await?;
        create(&mut scene.connect().await, OTHER).await?;
        scene.write_all().await?;
        Ok(scene)
    }

    /// Starts a server that reaches the database at `url`. What it logs goes into a file.
    pub(super) async fn start(&mut self, url: &str, flags: &[&str]) -> Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(self.directory.path().join("log"))?;
        let mut command = Command::new(BINARY);
        command.args(["serve", "--port", "0", "--token", TOKEN, "--log-level", "warn", "--db-url", url]).args(flags);
        command.stderr(log).stdout(Stdio::piped()).kill_on_drop(true);
        let started = Server::try_launch(command).await;
        self.server = Some(started.map_err(|status| anyhow!("the server does not start: {status}"))?);
        Ok(())
    }

    pub(super) fn server(&self) -> &Server {
        self.server.as_ref().expect("nobody has told it to end")
    }

    pub(super) async fn connect(&self) -> Http {
        self.server().connect().await
    }

    /// The file for the output of strace.
    pub(super) fn trace(&self) -> std::path::PathBuf {
        self.directory.path().join("trace")
    }

    /// The last lines of the server's log.
    pub(super) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n").chars().take(4000).collect()
    }

    /// A line about the writers' results.
    pub(super) fn tally(&self) -> String {
        self.ledgers.iter().map(Ledger::tally).collect::<Vec<_>>().join("; ")
    }

    /// Writers of each namespace, and a reader, which go on until they are stopped or the server is gone.
    pub(super) fn load(&self) -> Load {
        let address = self.server().address.clone();
        let writers = self.ledgers.iter().map(|ledger| ledger.write(&address)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let reader = tokio::spawn(read_until(address, stop.clone()));
        Load { writers, stop, reader }
    }

    /// Waits until each namespace has this many more acknowledged writes, or this many more refused or unanswered ones.
    pub(super) async fn until_more(&self, acknowledged: usize, others: usize) -> Result<()> {
        let before = self.ledgers.each_ref().map(Ledger::counts);
        let are_there = |(ledger, before): (&Ledger, (usize, usize))| {
            let now = ledger.counts();
            now.0 >= before.0 + acknowledged && now.1 >= before.1 + others
        };
        patiently("the writers get on", async {
            while !self.ledgers.iter().zip(before).all(are_there) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
        .await
    }

    /// Runs SQL as the superuser and returns the first column; an error if PostgreSQL cannot be reached.
    pub(super) async fn sql(&self, text: &str) -> Result<Vec<String>> {
        sql(&self.url, text).await
    }

    /// Waits until PostgreSQL accepts sessions again.
    pub(super) fn revive(&self) {
        tokio::task::block_in_place(|| self.postgres.revive());
    }

    pub(super) async fn write_all(&self) -> Result<()> {
        for ledger in &self.ledgers {
            ledger.until_written(&self.server().address).await?;
        }
        Ok(())
    }

    async fn check(&self) -> Result<()> {
        for ledger in &self.ledgers {
            ledger.retry_unanswered(&self.server().address).await?;
            let checked = ledger.check(&self.server().address).await;
            checked.with_context(|| format!("namespace {}", ledger.namespace))?;
        }
        Ok(())
    }

    /// SIGTERM ends the server.
    pub(super) async fn stop(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        server.signal(Signal::TERM);
        let status = patiently("SIGTERM ends the server", server.child.wait()).await??;
        ensure!(status.success(), "SIGTERM ends the server with {status}");
        Ok(())
    }

    /// Checks that writes work and every acknowledged message is there, before and after a restart.
    pub(super) async fn check_afterwards(&mut self) -> Result<()> {
        if self.server.is_some() {
            self.write_all().await?;
            self.check().await?;
            self.stop().await?;
        }
        let url = self.url.clone();
        self.start(&url, &[]).await.context("restart")?;
        self.check().await.context("after a restart")?;
        self.write_all().await?;
        self.stop().await
    }
}

/// Runs SQL and returns the first column.
pub(super) async fn sql(url: &str, text: &str) -> Result<Vec<String>> {
    let (client, driver) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(driver);
    let rows = patiently(text, client.simple_query(text)).await;
    driver.abort();
    let value = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    Ok(rows??.iter().filter_map(value).collect())
}

/// Reads from the memory of the server and from its database. Each answer is the result or a refusal.
async fn read_until(address: String, stop: Arc<AtomicBool>) -> Result<()> {
    let reads =
        [json!(["category.get", "", { "batchSize": 10 }]), json!(["ns.info", "default"]), json!(["ns.streams"])];
    let mut http = Http::connect(&address, TOKEN).await?;
    for read in reads.iter().cycle() {
        if stop.load(SeqCst) {
            break;
        }
        let Ok((status, answer)) = patiently(&format!("{read} is answered"), http.call(read)).await? else {
            // A page broke off, or the server is stopping.
            let Ok(again) = Http::connect(&address, TOKEN).await else { return Ok(()) };
            http = again;
            continue;
        };
        ensure!([200, 503].contains(&status), "{read} is answered with {status} {answer}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
