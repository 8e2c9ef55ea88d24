//! `eventodb ns`: namespaces.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use eventodb_client::{Client, CreateNamespace, StreamsQuery, UpdateNamespace};
use eventodb_protocol::DEFAULT_NAMESPACE;
use eventodb_protocol::reply::{NamespaceInfo, Quota};
use eventodb_protocol::typed::whole;
use serde::Serialize;
use serde_json::Value;

use super::connection::Connection;
use super::output::{Output, finish};
use crate::usage::Usage;

/// Options of `eventodb ns`.
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
    /// Create a namespace and print its token. Needs the administrator's token.
    Create {
        /// Its name.
        name: String,
        /// Free text.
        #[arg(long)]
        description: Option<String>,
        /// Token for the namespace. The server generates one if left out.
        #[arg(long)]
        with_token: Option<String>,
    },
    /// Delete a namespace with everything in it.
    Delete {
        /// Its name.
        name: String,
        /// Delete without a question.
        #[arg(long)]
        yes: bool,
    },
    /// List all namespaces. Needs the administrator's token.
    List,
    /// Show the counts and times of a namespace, and its bounds.
    Info {
        /// Its name. That of the token if left out.
        name: Option<String>,
    },
    /// Change what is given here, and show the namespace.
    Update {
        /// Its name. That of the token if left out.
        name: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// List the namespace's streams.
    Streams {
        /// Only names that begin with this.
        #[arg(long)]
        prefix: Option<String>,
        /// Most streams to print.
        #[arg(long, default_value_t = 100, value_parser = whole(0.., 100_u32))]
        limit: u32,
        /// Only names after this one.
        #[arg(long)]
        after: Option<String>,
    },
    /// List the namespace's categories.
    Categories,
}

/// What is changed about a namespace. What is left out stays as it is.
#[derive(Debug, clap::Args)]
struct Change {
    /// Free text.
    #[arg(long)]
    description: Option<String>,
    /// Whether it can be neither deleted nor replaced by an import.
    #[arg(long, value_name = "BOOL")]
    protected: Option<bool>,
    /// Most messages that it may hold, or `none`. Needs the administrator's token.
    #[arg(long, value_name = "COUNT", value_parser = bound)]
    quota_messages: Option<Most>,
    /// Most bytes that it may take in the database, with indexes, or `none`. Needs the administrator's token.
    #[arg(long, value_name = "BYTES", value_parser = bound)]
    quota_bytes: Option<Most>,
}

/// A bound, which may be none.
#[derive(Clone, Copy, Debug)]
struct Most(Option<i64>);

fn bound(text: &str) -> Result<Most, String> {
    match text {
        "none" => Ok(Most(None)),
        text => whole(0.., 1_000_000)(text).map(|most| Most(Some(most))).map_err(|error| format!("{error}, or none")),
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut output = Output::new(args.json);
    if let Command::Delete { name, yes: false } = &args.command {
        return Err(Usage::new(format!("this deletes every message of {name}; say --yes to do it")).into());
    }
    let client = args.connection.connect().await?;
    let own = args.connection.namespace()?.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let result = command(args.command, own, &client, &mut output).await;
    finish(result, output)
}

/// Runs a command with a token of the namespace `own`.
async fn command(command: Command, own: String, client: &Client, output: &mut Output) -> anyhow::Result<()> {
    match command {
        Command::Create { name, description, with_token } => {
            let options = CreateNamespace { description, token: with_token, metadata: None };
            let created = client.create_namespace(&name, &options).await?;
            output.lines(&json(&created)?, || {
                vec![format!("{} created", created.namespace), format!("token: {}", created.token)]
            })
        }
        Command::Delete { name, .. } => {
            let deleted = client.delete_namespace(&name).await?;
            output.value(&json(&deleted)?, || {
                format!("{} deleted with {} messages", deleted.namespace, deleted.messages_deleted)
            })
        }
        Command::List => {
            let list = client.namespaces().await?;
            let rows = list.iter().map(|entry| {
                let (count, created) = (entry.message_count.to_string(), entry.created_at.to_string());
                vec![entry.namespace.clone(), count, created, entry.description.clone()]
            });
            output.table(&json(&list)?, &["NAMESPACE", "MESSAGES", "CREATED", "DESCRIPTION"], &rows.collect::<Vec<_>>())
        }
        Command::Info { name } => tell(&client.namespace_info(&name.unwrap_or(own)).await?, output),
        Command::Update { name, change } => tell(&update(client, &name.unwrap_or(own), change).await?, output),
        Command::Streams { prefix, limit, after } => streams(client, output, prefix, limit, after).await,
        Command::Categories => {
            let list = client.categories().await?;
            let rows = list.iter().map(|entry| {
                vec![entry.category.clone(), entry.stream_count.to_string(), entry.message_count.to_string()]
            });
            output.table(&json(&list)?, &["CATEGORY", "STREAMS", "MESSAGES"], &rows.collect::<Vec<_>>())
        }
    }
}

/// Changes a namespace. The server takes a quota as a whole: a bound that is not given is asked for.
async fn update(client: &Client, name: &str, change: Change) -> anyhow::Result<NamespaceInfo> {
    let Change { description, protected, quota_messages, quota_bytes } = change;
    if description.is_none() && protected.is_none() && quota_messages.is_none() && quota_bytes.is_none() {
        let message = "say what to change: --description, --protected, --quota-messages or --quota-bytes";
        return Err(Usage::new(message).into());
    }
    let quota = match (quota_messages, quota_bytes) {
        (None, None) => None,
        (Some(Most(messages)), Some(Most(bytes))) => Some(Quota { messages, bytes }),
        (messages, bytes) => {
            let now = client.namespace_info(name).await?.quota;
            let or = |most: Option<Most>, now| most.map_or(now, |Most(most)| most);
            Some(Quota { messages: or(messages, now.messages), bytes: or(bytes, now.bytes) })
        }
    };
    Ok(client.update_namespace(name, &UpdateNamespace { description, protected, quota }).await?)
}

fn tell(info: &NamespaceInfo, output: &mut Output) -> anyhow::Result<()> {
    output.lines(&json(info)?, || {
        let last = info.last_activity.map_or_else(|| "never".to_owned(), |time| time.to_string());
        let bound = |most: Option<i64>| most.map_or_else(|| "none".to_owned(), |most| most.to_string());
        vec![
            format!("namespace:     {}", info.namespace),
            format!("description:   {}", info.description),
            format!("created:       {}", info.created_at),
            format!("messages:      {}", info.message_count),
            format!("streams:       {}", info.stream_count),
            format!("last activity: {last}"),
            format!("protected:     {}", if info.protected { "yes" } else { "no" }),
            format!("most messages: {}", bound(info.quota.messages)),
            format!("most bytes:    {}", bound(info.quota.bytes)),
        ]
    })
}

/// Lists streams page by page.
async fn streams(
    client: &Client,
    output: &mut Output,
    prefix: Option<String>,
    limit: u32,
    after: Option<String>,
) -> anyhow::Result<()> {
    const PAGE: u32 = 1000;
    let (mut list, mut cursor) = (Vec::new(), after);
    loop {
        let wanted = limit.saturating_sub(u32::try_from(list.len()).context("too many streams")?).min(PAGE);
        if wanted == 0 {
            break;
        }
        let query = StreamsQuery { prefix: prefix.clone(), limit: Some(wanted), cursor: cursor.take() };
        let page = client.streams(&query).await?;
        let last_page = page.len() < wanted as usize;
        cursor = page.last().map(|entry| entry.stream.clone());
        list.extend(page);
        if last_page {
            break;
        }
    }
    let rows: Vec<_> = list
        .iter()
        .map(|entry| vec![entry.stream.clone(), entry.version.to_string(), entry.last_activity.to_string()])
        .collect();
    output.table(&json(&list)?, &["STREAM", "VERSION", "LAST ACTIVITY"], &rows)
}

fn json(value: &impl Serialize) -> anyhow::Result<Value> {
    serde_json::to_value(value).context("cannot write the result as JSON")
}
