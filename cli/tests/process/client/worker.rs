//! A worker as a process of its own, to be killed: this test binary starts itself as one.
//!
//! Its handler records each message's global position in a journal before it returns. Messages in the journal were
//! therefore handled, even if the process is killed afterwards.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use eventodb_client::checkpoint::{
    CheckpointStore, FileCheckpoint, PostgresHandler, PostgresReadModel, StreamCheckpoint,
};
use eventodb_client::worker::{Checkpointed, Consumer, FileIds, HandlerError, Handlers, StaticWorker};
use eventodb_client::{Client, ConsumerGroup, Message};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// The variable that makes this binary a worker.
const VARIABLE: &str = "EVENTODB_TEST_WORKER";
/// Bytes of a line in a journal: a power of two, so that none lies across pages of the file. A kill may fall between
/// the pages of one write.
const LINE: usize = 16;

/// The settings of a worker.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) url: String,
    pub(super) category: String,
    pub(super) group: Option<(i64, i64)>,
    pub(super) checkpoint: Checkpoint,
    pub(super) every: usize,
    pub(super) until_caught_up: bool,
    pub(super) journal: PathBuf,
}

/// Where it saves its position.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Checkpoint {
    InTheStore,
    File(PathBuf),
    /// The same with the ids since the last checkpoint in another file.
    FileAndIds(PathBuf, PathBuf),
    /// In this database; the journal is its table `journal`.
    Postgres(String),
}

impl Settings {
    /// Starts the process.
    pub(super) fn start(&self) -> Child {
        Command::new(std::env::current_exe().expect("this binary has a path"))
            .args([concat!(module_path!(), "::process").split_once("::").expect("a crate").1, "--exact", "--nocapture"])
            .env(VARIABLE, serde_json::to_string(self).expect("settings are JSON"))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("this binary starts")
    }
}

/// Runs the worker if this binary was started as one. Otherwise it tests nothing.
#[tokio::test(flavor = "multi_thread")]
async fn process() {
    let Ok(settings) = std::env::var(VARIABLE) else { return };
    let settings: Settings = serde_json::from_str(&settings).expect("settings");
    let client = super::client(&settings.url);
    let store: Box<dyn CheckpointStore> = match &settings.checkpoint {
        Checkpoint::InTheStore => {
            Box::new(StreamCheckpoint::new(&client, &[&settings.category], "journal", settings.group()))
        }
        Checkpoint::File(path) | Checkpoint::FileAndIds(path, _) => Box::new(FileCheckpoint::new(path)),
        Checkpoint::Postgres(url) => {
            let config = url.parse().expect("a URL");
            return run(&settings, &client, PostgresReadModel::new(config, "journal", Table)).await;
        }
    };
    let mut handlers = settings.handlers();
    if let Checkpoint::FileAndIds(_, path) = &settings.checkpoint {
        handlers = handlers.deduplicated(FileIds::open(path).expect("opened"));
    }
    run(&settings, &client, Checkpointed::new(handlers, store)).await;
}

async fn run(settings: &Settings, client: &Client, consumer: impl Consumer) {
    let mut worker = StaticWorker::new(client, consumer)
        .categories([&settings.category])
        // Only the number of messages decides when the position is saved.
        .checkpoint_every(settings.every, Duration::from_secs(3600));
    if let Some(group) = settings.group() {
        worker = worker.group(group);
    }
    if settings.until_caught_up {
        worker = worker.until_caught_up();
    }
    worker.run(CancellationToken::new()).await.expect("the worker ends well");
}

impl Settings {
    fn group(&self) -> Option<ConsumerGroup> {
        self.group.map(|(member, size)| ConsumerGroup::new(member, size).expect("a member"))
    }

    fn handlers(&self) -> Handlers {
        let open = OpenOptions::new().create(true).append(true).open(&self.journal);
        let journal = std::sync::Arc::new(open.expect("the journal opens"));
        Handlers::new().otherwise(move |message| {
            let line = format!("{:>width$}\n", message.global_position(), width = LINE - 1);
            let written = (&*journal).write_all(line.as_bytes());
            std::future::ready(written)
        })
    }
}

/// Records messages in a table.
struct Table;

#[async_trait]
impl PostgresHandler for Table {
    async fn handle(&mut self, connection: &tokio_postgres::Client, message: &Message) -> Result<(), HandlerError> {
        connection.execute("INSERT INTO journal VALUES ($1)", &[&message.global_position()]).await?;
        Ok(())
    }
}

/// The number of messages in a journal.
pub(super) fn handled(journal: &Path) -> usize {
    journal.metadata().map_or(0, |metadata| usize::try_from(metadata.len()).expect("a small file") / LINE)
}

/// The global positions in a journal.
pub(super) fn read_journal(journal: &Path) -> Vec<i64> {
    let text = std::fs::read_to_string(journal).expect("a journal");
    text.lines().map(|line| line.trim().parse().expect("a position")).collect()
}
