//! `eventodb consume`: runs a command for each message, as a worker with a checkpoint.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use eventodb_client::checkpoint::{CheckpointStore, FileCheckpoint, StreamCheckpoint, saved_positions};
use eventodb_client::worker::{Checkpointed, Handlers, OnError, StaticWorker};
use eventodb_client::{Message, RetryPolicy};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::notices::Notices;
use super::output::json_line;
use super::read::Group;
use super::resize::Resized;

/// Options of `eventodb consume`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the consumer. Its checkpoint is kept under this name.
    #[arg(long)]
    name: String,
    /// Categories, separated by commas. All if left out.
    #[arg(long = "category", short = 'c', value_delimiter = ',')]
    categories: Vec<String>,
    /// Only these message types, separated by commas.
    #[arg(long = "type", short = 't', value_delimiter = ',')]
    types: Vec<String>,
    #[command(flatten)]
    group: Group,
    /// Global position to begin at the first time, inclusive.
    #[arg(long, default_value_t = 0)]
    from: i64,
    /// Keep the checkpoint in this file instead of in the event store.
    #[arg(long)]
    checkpoint_file: Option<PathBuf>,
    /// Save the checkpoint after this many messages, and at the latest a second after the first of them.
    #[arg(long, default_value_t = 100)]
    checkpoint_every: usize,
    /// What to do when the command keeps failing: `stop`, `skip`, or `park:STREAM`.
    #[arg(long, default_value = "stop", value_parser = parse_on_error)]
    on_error: OnError,
    /// Retry a failing command for this many seconds.
    #[arg(long, default_value_t = 30)]
    retry_seconds: u64,
    /// End when there is nothing more to handle.
    #[arg(long)]
    until_caught_up: bool,
    /// The command and its arguments. It gets a message as one line of JSON on standard input. Exit code 0 means that
    /// it has handled the message.
    #[arg(last = true, required = true)]
    command: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let group = args.group.member()?;
    let client = args.connection.connect().await?;
    let store: Box<dyn CheckpointStore> = match args.checkpoint_file {
        Some(path) => Box::new(FileCheckpoint::new(path)),
        None => {
            let store = StreamCheckpoint::new(&client, &args.categories, &args.name, group);
            let saved = saved_positions(&client, &args.categories, &args.name).await?;
            Box::new(Resized::new(store, &args.name, group, &saved))
        }
    };
    let command: Arc<[String]> = args.command.into();
    let handler = move |message: Message| run_command(command.clone(), message);
    let handlers = if args.types.is_empty() {
        Handlers::new().otherwise(handler)
    } else {
        args.types.iter().fold(Handlers::new(), |handlers, kind| handlers.on(kind, handler.clone()))
    };
    let mut worker = StaticWorker::new(&client, Checkpointed::new(handlers, store))
        .categories(args.categories)
        .start_at(args.from)
        .checkpoint_every(args.checkpoint_every, Duration::from_secs(1))
        .on_error(args.on_error)
        .observer(Notices::of_process())
        .retry(RetryPolicy::default().give_up_after(Duration::from_secs(args.retry_seconds)));
    if let Some(group) = group {
        worker = worker.group(group);
    }
    if args.until_caught_up {
        worker = worker.until_caught_up();
    }
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    worker.run(stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the command for one message.
async fn run_command(command: Arc<[String]>, message: Message) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut stdin = child.stdin.take().context("the command has no standard input")?;
    let line = json_line(&message) + "\n";
    // A command may succeed without reading its input.
    let _ = stdin.write_all(line.as_bytes()).await;
    drop(stdin);
    let status = child.wait().await.context("cannot wait for the command")?;
    anyhow::ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}

fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

fn parse_on_error(text: &str) -> Result<OnError, String> {
    match (text, text.strip_prefix("park:")) {
        ("stop", _) => Ok(OnError::Stop),
        ("skip", _) => Ok(OnError::Skip),
        (_, Some(stream)) if !stream.is_empty() => Ok(OnError::Park(stream.to_owned())),
        _ => Err("expected stop, skip or park:STREAM".to_owned()),
    }
}
