//! `eventodb group`: consumer groups that the server keeps.

mod status;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use eventodb_client::group::{
    Adopt, CreateGroup, Group, ListPage, ResetGroup, ResetTo, Skip, Start, UpdateGroup, reply::GroupSummary,
};
use eventodb_client::{Client, Error};
use eventodb_protocol::typed::whole;
use serde::Serialize;
use serde_json::Value;

use super::connection::Connection;
use super::output::{Output, finish};
use super::{item, time};
use crate::usage::{Exit, Refused, Usage};

/// Options of `eventodb group`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the groups of the namespace.
    List,
    /// Show where a group stands, and why it does not move.
    Status {
        /// Its name.
        group: String,
        /// Show it again every second, until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// Create a group. One that exists and reads the same is left as it is.
    Create {
        /// Its name.
        group: String,
        #[command(flatten)]
        new: New,
        /// Go on where a static group was: the checkpoints of its members, in their order, separated by commas. Its size is
        /// their number. Its members must have stopped.
        #[arg(long, value_name = "POSITIONS", value_delimiter = ',', conflicts_with = "start", value_parser = whole(.., 1_000_i64))]
        adopt: Vec<i64>,
        #[command(flatten)]
        terms: Terms,
    },
    /// Change what is given here. What a group reads cannot be changed.
    Update {
        /// Its name.
        group: String,
        #[command(flatten)]
        change: Terms,
    },
    /// Let partitions begin anew. Without --yes it only tells what would happen.
    Reset {
        /// Its name.
        group: String,
        /// The new checkpoint: `beginning`, `end`, a global position, a time (RFC 3339 or YYYY-MM-DD), or `group:NAME` for
        /// where another group is.
        #[arg(long, value_parser = reset_to)]
        to: ResetTo,
        /// Only these partitions, separated by commas.
        #[arg(long, value_delimiter = ',', value_parser = whole(0.., 3_u32))]
        partitions: Vec<u32>,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
    /// Give a group another number of partitions. Its members give theirs back first.
    Resize {
        /// Its name.
        group: String,
        /// The number, 1 to 1,024.
        #[arg(value_parser = whole(0.., 16_u32))]
        partitions: u32,
    },
    /// Hand out nothing until the group is resumed.
    Pause {
        /// Its name.
        group: String,
    },
    /// Hand out messages again.
    Resume {
        /// Its name.
        group: String,
    },
    /// Delete a group. The messages stay.
    Delete {
        /// Its name.
        group: String,
        /// Delete without a question.
        #[arg(long)]
        yes: bool,
    },
    /// List parked streams.
    Parked {
        /// The group.
        group: String,
        /// Most streams to print.
        #[arg(long, default_value_t = 100, value_parser = whole(1..=1_000, 100_u32))]
        limit: u32,
        /// Only streams after this one.
        #[arg(long)]
        after: Option<String>,
    },
    /// Have a parked stream, or all, tried again at once.
    Retry {
        /// The group.
        group: String,
        /// The stream.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        stream: Option<String>,
        /// All parked streams.
        #[arg(long)]
        all: bool,
    },
    /// Take messages of a parked stream as handled. Without --yes it only tells how many.
    Skip {
        /// The group.
        group: String,
        /// The stream.
        stream: String,
        /// The global position of the last message to skip.
        #[arg(long, value_name = "POSITION", value_parser = whole(.., 1_000_i64))]
        to: i64,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
    /// Wait until the group has handled everything up to a position. It ends with 75 if it has not in time.
    Wait {
        /// The group.
        group: String,
        /// The global position; the head if left out.
        #[arg(value_parser = whole(.., 1_000_i64))]
        position: Option<i64>,
        /// Only messages of this stream.
        #[arg(long)]
        stream: Option<String>,
        /// How long, in seconds.
        #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = whole(0.., 30_u64))]
        timeout: u64,
    },
    /// List skips, resets, resizes, pauses and resumptions, newest first.
    Audit {
        /// The group.
        group: String,
        /// Most entries to print.
        #[arg(long, default_value_t = 100, value_parser = whole(1..=1_000, 100_u32))]
        limit: u32,
    },
}

/// What a group is created with, and what may be changed about it.
#[derive(Debug, clap::Args)]
struct Terms {
    /// How long a lease lasts after a call of its member, in milliseconds. A change of it ends no lease earlier.
    #[arg(long, value_name = "MS", value_parser = whole(0.., 30_000_u64))]
    session_ms: Option<u64>,
    /// How many streams may be parked at once.
    #[arg(long, value_parser = whole(0.., 1_000_u64))]
    max_parked: Option<u64>,
    /// Free text.
    #[arg(long)]
    description: Option<String>,
}

/// What a new group reads. `consume --create` shares it.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct New {
    /// Categories, separated by commas. All if left out.
    #[arg(long = "category", short = 'c', value_delimiter = ',', value_parser = item::parse)]
    pub(super) categories: Vec<String>,
    /// Only these message types, separated by commas.
    #[arg(long = "type", short = 't', value_delimiter = ',', value_parser = item::parse)]
    pub(super) types: Vec<String>,
    /// How many partitions a new group has; 16 if left out. No more members than that can be busy at once.
    #[arg(long, value_parser = whole(0.., 16_u32))]
    pub(super) partitions: Option<u32>,
    /// Where a new group begins: `beginning`, `end`, or a global position, which counts as handled.
    #[arg(long, value_parser = start)]
    pub(super) start: Option<Start>,
}

impl New {
    /// The group to be created.
    pub(super) fn group(self) -> CreateGroup {
        let Self { categories, types, partitions, start } = self;
        CreateGroup { categories, types, partitions, start, ..CreateGroup::default() }
    }
}

fn start(text: &str) -> Result<Start, String> {
    match (text, text.parse()) {
        ("beginning", _) => Ok(Start::Beginning),
        ("end", _) => Ok(Start::End),
        (_, Ok(position)) => Ok(Start::After(position)),
        _ => Err("expected beginning, end or a global position".to_owned()),
    }
}

fn reset_to(text: &str) -> Result<ResetTo, String> {
    match (text, text.strip_prefix("group:"), text.parse()) {
        ("beginning", ..) => Ok(ResetTo::Beginning),
        ("end", ..) => Ok(ResetTo::End),
        (_, Some(group), _) => Ok(ResetTo::Group(group.to_owned())),
        (_, _, Ok(position)) => Ok(ResetTo::Position(position)),
        _ => time::parse(text)
            .map(ResetTo::Time)
            .map_err(|error| format!("expected beginning, end, a global position, group:NAME, or a time: {error}")),
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut output = Output::new(args.json);
    if let Command::Delete { group, yes: false } = &args.command {
        let message = format!("this forgets what was handled in {group}; say --yes to do it");
        return Err(Usage::new(message).into());
    }
    let client = args.connection.connect().await?;
    let result = command(args.command, &client, &mut output).await;
    finish(result, output)
}

async fn command(command: Command, client: &Client, output: &mut Output) -> anyhow::Result<()> {
    match command {
        Command::List => list(client, output).await,
        Command::Status { group, watch } => status::show(&client.group(group), watch, output).await,
        Command::Create { group, new, adopt, terms } => {
            let Terms { session_ms, max_parked, description } = terms;
            let adopt = (!adopt.is_empty()).then_some(Adopt { size: adopt.len(), checkpoints: adopt });
            let create = CreateGroup { adopt, session_ms, max_parked, description, ..new.group() };
            let group = client.group(group);
            let what = match is_there(&group).await? {
                Some(true) if create.adopt.is_some() => return Err(stays(&group).into()),
                Some(true) => "was there already, and is left as it is",
                Some(false) => "is created",
                None => "exists",
            };
            tell(&group.create(&create).await?, what, output)
        }
        Command::Update { group, change } => update(&client.group(group), change, output).await,
        Command::Reset { group, to, partitions, yes } => {
            let partitions = (!partitions.is_empty()).then_some(partitions);
            reset(&client.group(group), ResetGroup { to, partitions, dry_run: !yes }, output).await
        }
        Command::Resize { group, partitions } => {
            let resized = client.group(group).resize(partitions).await?;
            let what = if resized.resizing { "waits for its members, to be resized" } else { "is resized" };
            tell(&resized, what, output)
        }
        Command::Pause { group } => tell(&client.group(group).pause().await?, "is paused", output),
        Command::Resume { group } => tell(&client.group(group).resume().await?, "hands out messages", output),
        Command::Delete { group, .. } => {
            let deleted = client.group(group).delete().await?;
            output.value(&json(&deleted)?, || format!("{} deleted", deleted.group))
        }
        Command::Parked { group, limit, after } => {
            parked(&client.group(group), &ListPage { limit: Some(limit), cursor: after }, output).await
        }
        Command::Retry { group, stream, .. } => {
            let retried = client.group(group).retry(stream.as_deref()).await?;
            output.value(&json(&retried)?, || format!("{} streams are due", retried.streams))
        }
        Command::Skip { group, stream, to, yes } => {
            let skip = Skip { stream, position: to, dry_run: !yes };
            let skipped = client.group(group).skip(&skip).await?;
            let what = if yes { "are skipped" } else { "would be skipped; say --yes to do it" };
            output.value(&json(&skipped)?, || format!("{} messages {what}", skipped.messages))
        }
        Command::Wait { group, position, stream, timeout } => {
            let position = match position {
                Some(position) => position,
                None => client.head().await?,
            };
            wait(&client.group(group), position, stream.as_deref(), Duration::from_secs(timeout), output).await
        }
        Command::Audit { group, limit } => audit(&client.group(group), limit, output).await,
    }
}

async fn update(group: &Group, change: Terms, output: &mut Output) -> anyhow::Result<()> {
    let Terms { session_ms, max_parked, description } = change;
    if session_ms.is_none() && max_parked.is_none() && description.is_none() {
        return Err(Usage::new("say what to change: --session-ms, --max-parked or --description").into());
    }
    tell(&group.update(&UpdateGroup { session_ms, max_parked, description }).await?, "is changed", output)
}

/// Whether there is such a group; `None` where the token does not allow to look.
async fn is_there(group: &Group) -> anyhow::Result<Option<bool>> {
    match group.status().await {
        Ok(_) => Ok(Some(true)),
        Err(Error::GroupNotFound { .. }) => Ok(Some(false)),
        Err(Error::Forbidden { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A group adopts checkpoints when it is made: one that is there would go on from its own.
fn stays(group: &Group) -> Refused {
    let name = group.name();
    let message =
        format!("{name} exists and adopts nothing: delete it first, or take another name; nothing was changed");
    Refused::new(Exit::Failed, anyhow::Error::msg(message))
}

fn tell(group: &GroupSummary, what: &str, output: &mut Output) -> anyhow::Result<()> {
    output.value(&json(group)?, || {
        format!("{} {what}: {}, {} partitions", group.group, scope(&group.categories), group.partition_count)
    })
}

/// The categories of a group, for people.
pub(super) fn scope(categories: &[String]) -> String {
    if categories.is_empty() { "all messages".to_owned() } else { categories.join(",") }
}

async fn list(client: &Client, output: &mut Output) -> anyhow::Result<()> {
    let list = client.groups().await?;
    let rows = list.iter().map(|group| {
        vec![
            group.group.clone(),
            scope(&group.categories),
            group.partition_count.to_string(),
            group.members.to_string(),
            if group.paused { "paused" } else { "" }.to_owned(),
            group.description.clone(),
        ]
    });
    let head = ["GROUP", "CATEGORIES", "PARTITIONS", "MEMBERS", "STATE", "DESCRIPTION"];
    output.table(&json(&list)?, &head, &rows.collect::<Vec<_>>())
}

async fn reset(group: &Group, options: ResetGroup, output: &mut Output) -> anyhow::Result<()> {
    let reset = group.reset(&options).await?;
    let rows = reset.partitions.iter().map(|each| {
        let what = if each.to < each.from { "again" } else { "skipped" };
        let messages = if each.messages == 0 { String::new() } else { format!("{} {what}", each.messages) };
        vec![each.partition.to_string(), each.from.to_string(), each.to.to_string(), messages]
    });
    output.table(&json(&reset)?, &["PARTITION", "FROM", "TO", "MESSAGES"], &rows.collect::<Vec<_>>())?;
    if options.dry_run { output.note("nothing was changed; say --yes to do it") } else { Ok(()) }
}

async fn parked(group: &Group, page: &ListPage<String>, output: &mut Output) -> anyhow::Result<()> {
    let list = group.parked(page).await?;
    let rows = list.iter().map(|each| {
        vec![
            each.stream.clone(),
            each.position.to_string(),
            each.attempts.to_string(),
            each.parked_at.to_string(),
            each.retry_at.map_or_else(|| "when an operator says so".to_owned(), |time| time.to_string()),
            each.reason.lines().next().unwrap_or_default().to_owned(),
        ]
    });
    let head = ["STREAM", "POSITION", "TRIES", "SINCE", "NEXT TRY", "REASON"];
    output.table(&json(&list)?, &head, &rows.collect::<Vec<_>>())
}

async fn wait(
    group: &Group,
    position: i64,
    stream: Option<&str>,
    limit: Duration,
    output: &mut Output,
) -> anyhow::Result<()> {
    let waited = group.wait(position, stream, limit).await?;
    if !waited.reached {
        let message = format!("{} has not handled everything up to {position}", group.name());
        return Err(Refused::new(Exit::TryAgain, anyhow::Error::msg(message)).into());
    }
    output.value(&json(&waited)?, || match waited.parked {
        0 => format!("everything up to {position} is handled"),
        parked => format!("everything up to {position} is handled, but for {parked} parked streams"),
    })
}

async fn audit(group: &Group, limit: u32, output: &mut Output) -> anyhow::Result<()> {
    let list = group.audit(&ListPage { limit: Some(limit), cursor: None }).await?;
    let rows = list.iter().map(|entry| {
        let token = entry.token_id.clone().unwrap_or_default();
        vec![entry.at.to_string(), entry.act.clone(), token, entry.details.to_string()]
    });
    output.table(&json(&list)?, &["TIME", "ACT", "TOKEN", "DETAILS"], &rows.collect::<Vec<_>>())
}

fn json(value: &impl Serialize) -> anyhow::Result<Value> {
    serde_json::to_value(value).context("cannot write the result as JSON")
}
