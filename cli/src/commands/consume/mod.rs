//! `eventodb consume`: runs a command for each message, as a member of a group that the server keeps, or with a checkpoint
//! of its own.

mod child;
mod events;
pub(super) mod guard;
mod signals;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use eventodb_client::checkpoint::{CheckpointStore, FileCheckpoint, StreamCheckpoint, saved_positions};
use eventodb_client::group::reply::GroupSummary;
use eventodb_client::group::{Group as KeptGroup, Start};
use eventodb_client::worker::{Checkpointed, Context, Failing, Handlers, OnError, StaticWorker, Worker};
use eventodb_client::{Error, Message, RetryPolicy};
use eventodb_protocol::typed::whole;
use tokio_util::sync::CancellationToken;

use self::events::{Events, Told};
use self::signals::until_signalled;
use super::connection::Connection;
use super::group::{New, scope};
use super::item;
use super::notices::{Notices, say};
use super::read::Group;
use super::resize::Resized;
use crate::usage::{Exit, Refused, Usage};

/// Options of `eventodb consume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SIGTERM, SIGINT (Ctrl-C), SIGQUIT and SIGHUP let the commands that run finish. A second signal, but for SIGHUP, kills them \
with all that they have started.")]
pub(crate) struct Args {
    /// A group that the server keeps. As many processes as you like share it, and each handles a part.
    #[arg(value_name = "GROUP", required_unless_present = "name")]
    kept: Option<String>,
    /// Without GROUP: the name of the consumer, under which its checkpoint is kept. With GROUP: a name that this process
    /// always has, so that it gets its partitions back at once when it is started again.
    #[arg(long, value_parser = item::parse)]
    name: Option<String>,
    #[command(flatten)]
    new: New,
    /// With GROUP: create it if it does not exist.
    #[arg(long, requires = "kept")]
    create: bool,
    /// With GROUP: most commands that run at once. Messages of one stream are handled in order.
    #[arg(long, requires = "kept", default_value_t = 1, value_parser = whole(0.., 4_usize))]
    concurrency: usize,
    #[command(flatten)]
    group: Group,
    /// Without GROUP: the global position to begin at the first time, inclusive.
    #[arg(long, default_value_t = 0, conflicts_with = "kept", value_parser = whole(.., 1_000_i64))]
    from: i64,
    /// Without GROUP: keep the checkpoint in this file instead of in the event store.
    #[arg(long, conflicts_with = "kept")]
    checkpoint_file: Option<PathBuf>,
    /// Without GROUP: save the checkpoint after this many messages, and at the latest a second after the first of them.
    #[arg(long, default_value_t = 100, conflicts_with = "kept", value_parser = whole(0.., 100_usize))]
    checkpoint_every: usize,
    /// What to do when the command keeps failing. With GROUP: `stop`, `retry` for ever, or `park` its stream and try it
    /// again later. Without: `stop`, `skip`, or `park:STREAM`.
    #[arg(long, default_value = "stop", value_parser = parse_on_error)]
    on_error: OnFailure,
    /// Retry a failing command for this many seconds.
    #[arg(long, default_value_t = 30, value_parser = whole(0.., 30_u64))]
    retry_seconds: u64,
    /// End when there is nothing more to handle. A group that is paused then ends it with 75. Without GROUP, a checkpoint
    /// above the head of the namespace ends it with 1.
    #[arg(long)]
    until_caught_up: bool,
    /// Print a JSON object on each line about what happens: `event` is started, handled, retried, skipped, parked, failed,
    /// saved, ahead (of the head), disconnected, reconnected, lost (events that nobody read in time) or stopped. What the commands print goes
    /// to standard error.
    #[arg(long)]
    json: bool,
    /// The command and its arguments. It gets a message as one line of JSON on standard input. Exit code 0 means that
    /// it has handled the message.
    #[arg(last = true, required = true)]
    command: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

/// What to do when a command keeps failing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum OnFailure {
    Stop,
    Skip,
    Retry,
    Park,
    ParkIn(String),
}

/// The command, and who is told of what it has handled.
#[derive(Clone)]
struct Program {
    command: Arc<[String]>,
    events: Events,
}

impl Program {
    async fn handle(&self, message: &Message, ending: impl Future<Output = ()>) -> anyhow::Result<()> {
        child::run(&self.command, self.events.output_of_commands(), message, ending).await?;
        self.events.handled(message);
        Ok(())
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match &args.kept {
        Some(group) => {
            let group = group.clone();
            run_member(args, group).await
        }
        None => run_static(args).await,
    }
}

/// Consumes as a member of a group that the server keeps.
async fn run_member(args: Args, name: String) -> anyhow::Result<ExitCode> {
    if args.group.member()?.is_some() {
        return Err(
            Usage::new("--member and --size divide a category without GROUP; the server divides a group").into()
        );
    }
    let failing = match args.on_error {
        OnFailure::Stop => Failing::Stop,
        OnFailure::Retry => Failing::Retry,
        OnFailure::Park => Failing::default(),
        OnFailure::Skip | OnFailure::ParkIn(_) => {
            return Err(Usage::new("with GROUP, --on-error takes stop, retry or park").into());
        }
    };
    if !args.create && (args.new.partitions.is_some() || args.new.start.is_some()) {
        return Err(Usage::new("--partitions and --start are about a new group: they need --create").into());
    }
    let client = args.connection.connect().await?;
    find_or_create(&client.group(&name), args.new, args.create).await?;
    let events = Events::new(args.json);
    events.started("group", &name);
    let program = Program { command: args.command.into(), events: events.clone() };
    let mut worker = Worker::new(&client, name)
        .otherwise(move |message: Message, context: Context<_>| {
            let program = program.clone();
            async move { program.handle(&message, context.ending()).await }
        })
        .concurrency(args.concurrency)
        .failing(failing)
        .observer(Told { notices: Notices::of_process(), events: events.clone() })
        .retry(RetryPolicy::default().give_up_after(Duration::from_secs(args.retry_seconds)));
    if let Some(name) = args.name {
        worker = worker.name(name);
    }
    if args.until_caught_up {
        worker = worker.until_caught_up();
    }
    let stop = CancellationToken::new();
    let ended = until_signalled(worker.run(stop.clone()), stop).await;
    events.stopped(&ended);
    ended
}

/// Makes sure that the group exists. A new group says where it begins, and how much that is.
async fn find_or_create(group: &KeptGroup, new: New, create: bool) -> anyhow::Result<()> {
    match group.status().await {
        Ok(status) => return check(&status.summary, &new),
        Err(Error::GroupNotFound { .. }) if create => {}
        Err(Error::GroupNotFound { .. }) => {
            let message = format!("there is no group {}; --create makes it", group.name());
            return Err(Refused::new(Exit::Failed, anyhow::Error::msg(message)).into());
        }
        // A consumer needs the right `consume` alone. Whoever creates a group learns what one that exists reads.
        Err(Error::Forbidden { .. }) if create => {
            let summary = group.create(&new.group()).await?;
            say(&format!("group {}: {}", group.name(), scope(&summary.categories)));
            return Ok(());
        }
        Err(Error::Forbidden { .. }) => {
            if !(new.categories.is_empty() && new.types.is_empty()) {
                say(
                    "the token has not the right to read: what the group reads is not compared with --category and --type",
                );
            }
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    let from = match new.start {
        None | Some(Start::Beginning) => "from the beginning".to_owned(),
        Some(Start::End) => "from the end".to_owned(),
        Some(Start::After(position)) => format!("after position {position}"),
    };
    group.create(&new.group()).await?;
    let status = group.status().await?;
    let messages: usize = status.partitions.iter().map(|partition| partition.lag.messages).sum();
    let more = if status.partitions.iter().any(|partition| partition.lag.at_least) { "more than " } else { "" };
    say(&format!(
        "group {} created: {}, {from}, {more}{messages} messages wait",
        group.name(),
        scope(&status.summary.categories)
    ));
    Ok(())
}

/// A group that exists reads what it was created for.
fn check(group: &GroupSummary, new: &New) -> anyhow::Result<()> {
    let differs = |named: &[String], of_group: &[String]| {
        let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<String>>();
        !named.is_empty() && set(named) != set(of_group)
    };
    if differs(&new.categories, &group.categories) || differs(&new.types, &group.types) {
        let types = if group.types.is_empty() { "all types".to_owned() } else { group.types.join(",") };
        let message = format!("group {} reads {}, {types}", group.group, scope(&group.categories));
        return Err(Usage::new(message).into());
    }
    Ok(())
}

/// Consumes with a checkpoint of its own.
async fn run_static(args: Args) -> anyhow::Result<ExitCode> {
    let name = args.name.unwrap_or_default();
    let on_error = match args.on_error {
        OnFailure::Stop => OnError::Stop,
        OnFailure::Skip => OnError::Skip,
        OnFailure::ParkIn(stream) => OnError::Park(stream),
        OnFailure::Retry | OnFailure::Park => {
            return Err(Usage::new("without GROUP, --on-error takes stop, skip or park:STREAM").into());
        }
    };
    let group = args.group.member()?;
    let New { categories, types, partitions, start } = args.new;
    if partitions.is_some() || start.is_some() {
        return Err(Usage::new("--partitions and --start are about a group that the server keeps: name it").into());
    }
    let client = args.connection.connect().await?;
    let store: Box<dyn CheckpointStore> = match args.checkpoint_file {
        Some(path) => Box::new(FileCheckpoint::new(path)),
        None => {
            let store = StreamCheckpoint::new(&client, &categories, &name, group);
            let saved = saved_positions(&client, &categories, &name).await?;
            Box::new(Resized::new(store, &name, group, &saved))
        }
    };
    let events = Events::new(args.json);
    events.started("name", &name);
    let program = Program { command: args.command.into(), events: events.clone() };
    let handler = move |message: Message| {
        let program = program.clone();
        async move { program.handle(&message, std::future::pending()).await }
    };
    let handlers = if types.is_empty() {
        Handlers::new().otherwise(handler)
    } else {
        types.iter().fold(Handlers::new(), |handlers, kind| handlers.on(kind, handler.clone()))
    };
    let mut worker = StaticWorker::new(&client, Checkpointed::new(handlers, store))
        .categories(categories)
        .start_at(args.from)
        .checkpoint_every(args.checkpoint_every, Duration::from_secs(1))
        .on_error(on_error)
        .observer(Told { notices: Notices::of_process(), events: events.clone() })
        .retry(RetryPolicy::default().give_up_after(Duration::from_secs(args.retry_seconds)));
    if let Some(group) = group {
        worker = worker.group(group);
    }
    if args.until_caught_up {
        worker = worker.until_caught_up();
    }
    let stop = CancellationToken::new();
    let ended = until_signalled(worker.run(stop.clone()), stop).await;
    events.stopped(&ended);
    ended
}

fn parse_on_error(text: &str) -> Result<OnFailure, String> {
    match (text, text.strip_prefix("park:")) {
        ("stop", _) => Ok(OnFailure::Stop),
        ("skip", _) => Ok(OnFailure::Skip),
        ("retry", _) => Ok(OnFailure::Retry),
        ("park", _) => Ok(OnFailure::Park),
        (_, Some(stream)) if !stream.is_empty() => Ok(OnFailure::ParkIn(stream.to_owned())),
        _ => Err("expected stop, retry, park, skip or park:STREAM".to_owned()),
    }
}
