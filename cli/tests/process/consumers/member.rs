//! A member of the group as a process of its own, to be killed and stopped: this test binary starts itself as one.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use eventodb_client::read_model::ReadModel;
use eventodb_client::worker::{Atomic, Context, Failing, GroupSummary, HandlerError, Mode, Worker, WorkerError};
use eventodb_client::{AppendMany, Client, Expected, Message, NewMessage, RetryPolicy};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::super::client::tables::{Place, in_postgres, in_sqlite};
use super::sink::{Line, Mouth};
use super::{GROUP, PATIENCE};

/// The variable that makes this binary a member.
const VARIABLE: &str = "EVENTODB_TEST_MEMBER";
/// How a member ends whose name another one took.
const REPLACED: i32 = 3;
/// The category of what members of the atomic form write.
pub(super) const RESULTS: &str = "result";

/// The settings of a member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Which process it is.
    pub(super) number: usize,
    pub(super) url: String,
    pub(super) name: Option<String>,
    pub(super) work: Work,
    /// One message in so many fails at its first try; none if it is 0.
    pub(super) failing: i64,
}

/// What its handler does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Work {
    /// Writes to the sink at this address.
    Sink(String),
    /// Appends a result in the commit of the checkpoint.
    Append,
    /// Changes a read model in one transaction with the position.
    Table(Place),
}

/// A process that is a member, or was.
pub(super) struct Process {
    pub(super) settings: Settings,
    child: Child,
}

impl Process {
    pub(super) fn start(settings: Settings) -> Self {
        let child = Command::new(std::env::current_exe().expect("this binary has a path"))
            .args([concat!(module_path!(), "::process").split_once("::").expect("a crate").1, "--exact", "--nocapture"])
            .env(VARIABLE, serde_json::to_string(&settings).expect("settings are JSON"))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("this binary starts");
        Self { settings, child }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).expect("it runs");
        kill_process(pid, signal).expect("the process is there");
    }

    pub(super) async fn kill(mut self) {
        self.child.kill().await.expect("it ran");
    }

    /// Stops it as a service manager does.
    pub(super) async fn terminate(mut self) {
        self.signal(Signal::TERM);
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("a child");
        // One that has only just begun does not listen to signals yet, and has not joined.
        let is_unborn = status.signal() == Some(Signal::TERM.as_raw());
        assert!(status.success() || is_unborn, "member {} ends with {status}", self.settings.number);
    }

    /// Whether it ended because another member took its name. It must not have ended for another reason.
    pub(super) fn is_replaced(&mut self) -> bool {
        let Some(status) = self.child.try_wait().expect("a child") else { return false };
        assert_eq!(status.code(), Some(REPLACED), "member {} ended", self.settings.number);
        true
    }
}

/// Runs the member if this binary was started as one. Otherwise it tests nothing.
#[tokio::test(flavor = "multi_thread")]
async fn process() {
    let Ok(settings) = std::env::var(VARIABLE) else { return };
    let settings: Settings = serde_json::from_str(&settings).expect("settings");
    let stop = CancellationToken::new();
    let mut terminated = signal(SignalKind::terminate()).expect("signals are there");
    let stopping = stop.clone();
    tokio::spawn(async move {
        terminated.recv().await;
        stopping.cancel();
    });
    let client = super::super::client::client(&settings.url);
    let summary = match settings.work.clone() {
        Work::Sink(address) => run_on_sink(&client, &settings, &address, stop).await,
        Work::Append => {
            let failing = settings.failing;
            let worker = configured(Worker::atomic(&client, GROUP), &settings);
            worker.otherwise(move |message, context| append(message, context, failing)).run(stop).await
        }
        // A file takes one transaction at a time; more handlers of a process would wait for each other.
        Work::Table(Place::Sqlite(path)) => run_on_tables(&client, &settings, in_sqlite(&path, GROUP), 1, stop).await,
        Work::Table(Place::Postgres(url)) => {
            run_on_tables(&client, &settings, in_postgres(&url, GROUP).await, 4, stop).await
        }
    };
    match summary {
        Ok(_) => {}
        Err(WorkerError::Duplicate(_)) => std::process::exit(REPLACED),
        Err(error) => panic!("member {}: {error}: {error:?}", settings.number),
    }
}

fn configured<M: Mode>(worker: Worker<M>, settings: &Settings) -> Worker<M> {
    let (first, longest) = (Duration::from_millis(50), Duration::from_millis(400));
    let worker = worker
        .retry(RetryPolicy::none())
        .failing(Failing::Park { first, longest, tries: u32::MAX })
        .checkpoint_every(Duration::from_millis(200));
    match &settings.name {
        Some(name) => worker.name(name),
        None => worker,
    }
}

async fn run_on_sink(
    client: &Client,
    settings: &Settings,
    address: &str,
    stop: CancellationToken,
) -> Result<GroupSummary, WorkerError> {
    let mouth = Arc::new(Mouth::open(address).await.expect("the sink is there"));
    let (member, failing) = (settings.number, settings.failing);
    let worker = configured(Worker::new(client, GROUP), settings);
    worker
        .otherwise(move |message: Message, context: Context<_>| {
            let mouth = Arc::clone(&mouth);
            async move {
                fail(&message, context.attempt(), failing)?;
                let (stream, number) = (message.stream().to_owned(), message.position());
                let line = Line { member, epoch: context.epoch(), stream, number };
                // What was begun is finished, also if the partition is given up meanwhile. A line that is refused counts as
                // handled here: the checkpoint of a former owner must change nothing.
                tokio::spawn(async move { mouth.write(&line).await }).await??;
                Ok::<_, HandlerError>(())
            }
        })
        .run(stop)
        .await
}

async fn run_on_tables(
    client: &Client,
    settings: &Settings,
    model: impl ReadModel,
    handlers: usize,
    stop: CancellationToken,
) -> Result<GroupSummary, WorkerError> {
    let (model, failing) = (Arc::new(model), settings.failing);
    let worker = configured(Worker::new(client, GROUP), settings).concurrency(handlers);
    worker
        .otherwise(move |message: Message, context: Context<_>| {
            let model = Arc::clone(&model);
            async move {
                fail(&message, context.attempt(), failing)?;
                model.handle(context.epoch(), &message).await
            }
        })
        .run(stop)
        .await
}

/// Appends the result of a message, and its checkpoint with it.
async fn append(message: Message, context: Context<Atomic>, failing: i64) -> Result<(), HandlerError> {
    fail(&message, context.attempt(), failing)?;
    let result = NewMessage::new("Result", json!({ "of": message.position() }));
    let stream = message.stream().replacen(super::CATEGORY, RESULTS, 1);
    let append = AppendMany::new().entry(&stream, Expected::Any, &[result])?;
    context.commit_with(append).await?;
    Ok(())
}

/// Some messages fail at their first try.
fn fail(message: &Message, attempt: i64, one_in: i64) -> Result<(), HandlerError> {
    let is_chosen = one_in > 0 && message.global_position() % one_in == 0;
    if is_chosen && attempt == 1 { Err("this one fails first".into()) } else { Ok(()) }
}
