//! `eventodb status`: whether a server is up, what it is, and whether it takes writes.
//!
//! A person reads the table, a program the JSON, and a health check the exit code alone.

use std::process::ExitCode;
use std::time::Duration;

use eventodb_client::{Client, DegradedReason, Error};
use serde::Serialize;

use super::connection::Connection;
use super::output::{Output, finish};
use crate::usage::{Exit, exit_code};
use eventodb_store::Chain;

/// Time limit of `--live`.
const LIVE: Duration = Duration::from_secs(5);
/// Groups whose lag is asked for. Each takes a call.
const GROUPS: usize = 20;

/// Options of `eventodb status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes of this command: 0 the server answers and takes writes, 1 writes are refused or soon will be, 69 there is no \
server or it answers no reads. With --live, for health checks: 0 the process serves requests, 1 it does not.")]
pub(crate) struct Args {
    /// Only ask whether the process serves requests (`/health/live`), for 5 s at most, and print nothing if it does. For the health
    /// check of a container: a lost database must not restart a server.
    #[arg(long, conflicts_with = "json")]
    live: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What a server tells of itself and of the token's namespace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    url: String,
    /// Whether a server answers.
    up: bool,
    /// Whether it answers reads.
    ready: bool,
    version: Option<String>,
    backend: Option<String>,
    connections: Option<u64>,
    /// Why it refuses writes, or soon will.
    degraded: Vec<DegradedReason>,
    namespace: Option<String>,
    /// The global position of the namespace's last message. `None` if the token may not read it.
    head: Option<i64>,
    /// The groups of the namespace, at most [`GROUPS`]. `None` if the token may not list them.
    groups: Option<Vec<Lagging>>,
    /// Why it is not up, or not ready.
    error: Option<String>,
}

/// How far a group is behind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Lagging {
    group: String,
    /// Messages that are neither handled nor parked.
    messages: usize,
    /// Whether there are more.
    at_least: bool,
    /// Streams that are parked.
    parked: usize,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.live {
        return live(&args.connection).await;
    }
    let mut output = Output::new(args.json);
    let (status, exit) = Status::take(&args.connection).await?;
    let printed = output.lines(&serde_json::to_value(&status)?, || status.lines());
    finish(printed, output).map(|_| ExitCode::from(exit))
}

/// Docker knows 0 and 1 only.
async fn live(connection: &Connection) -> anyhow::Result<ExitCode> {
    let Err(error) = connection.check_liveness(LIVE).await else { return Ok(ExitCode::SUCCESS) };
    if exit_code(&error) == Exit::Usage as u8 {
        return Err(error);
    }
    super::notices::say(&Chain(&*error).to_string());
    Ok(ExitCode::from(Exit::Failed as u8))
}

impl Status {
    /// Asks the server; also returns the exit code.
    ///
    /// # Errors
    /// The URL or the token cannot be used.
    async fn take(connection: &Connection) -> anyhow::Result<(Self, u8)> {
        let mut status = Self {
            url: connection.url()?,
            up: false,
            ready: false,
            version: None,
            backend: None,
            connections: None,
            degraded: Vec::new(),
            namespace: connection.namespace()?,
            head: None,
            groups: None,
            error: None,
        };
        let outcome = status.ask(connection).await;
        let exit = match outcome {
            Ok(()) if status.degraded.is_empty() => 0,
            Ok(()) => Exit::Failed as u8,
            Err(error) if exit_code(&error) == Exit::Usage as u8 => return Err(error),
            Err(error) => {
                status.error = Some(Chain(&*error).to_string());
                Exit::Unavailable as u8
            }
        };
        Ok((status, exit))
    }

    async fn ask(&mut self, connection: &Connection) -> anyhow::Result<()> {
        let client = connection.connect().await?;
        self.version = Some(client.server_version().await?);
        self.up = true;
        let health = client.server_health().await?;
        (self.backend, self.connections) = (Some(health.backend), Some(health.connections));
        self.degraded = client.server_readiness().await?.degraded;
        self.ready = true;
        self.head = if_allowed(client.head().await)?;
        self.groups = if_allowed(lags(&client).await)?;
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![line(if self.up { "up" } else { "DOWN" }, &self.url)];
        let mut tell = |name: &str, value: Option<String>| lines.extend(value.map(|value| line(name, &value)));
        tell("version", self.version.clone());
        tell("backend", self.backend.clone());
        tell("connections", self.connections.map(|count| count.to_string()));
        tell("error", self.error.clone());
        tell("writes", (self.ready && self.degraded.is_empty()).then(|| "taken".to_owned()));
        for DegradedReason { code, message } in &self.degraded {
            tell("DEGRADED", Some(format!("{code}: {message}")));
        }
        tell("namespace", self.namespace.clone());
        tell("head", self.head.map(|head| head.to_string()));
        for Lagging { group, messages, at_least, parked } in self.groups.iter().flatten() {
            let more = if *at_least { "+" } else { "" };
            let parked = if *parked == 0 { String::new() } else { format!(", {parked} streams parked") };
            tell("group", Some(format!("{group}: {messages}{more} messages behind{parked}")));
        }
        let tells_little = self.ready && self.head.is_none();
        tell("note", tells_little.then(|| "with a token that may read, the head and the groups are shown".to_owned()));
        lines
    }
}

fn line(name: &str, value: &str) -> String {
    format!("{name:<12}{}", super::output::one_line(value))
}

/// `None` if the token does not allow the call.
fn if_allowed<T>(outcome: Result<T, Error>) -> Result<Option<T>, Error> {
    match outcome {
        Err(Error::Unauthenticated { .. } | Error::Forbidden { .. } | Error::NotSupported { .. }) => Ok(None),
        outcome => outcome.map(Some),
    }
}

async fn lags(client: &Client) -> Result<Vec<Lagging>, Error> {
    let mut lags = Vec::new();
    for listed in client.groups().await?.into_iter().take(GROUPS) {
        let status = match client.group(&listed.group).status().await {
            Err(Error::GroupNotFound { .. }) => continue,
            outcome => outcome?,
        };
        lags.push(Lagging {
            messages: status.partitions.iter().map(|partition| partition.lag.messages).sum(),
            at_least: status.partitions.iter().any(|partition| partition.lag.at_least),
            parked: status.partitions.iter().map(|partition| partition.parked.streams).sum(),
            group: listed.group,
        });
    }
    Ok(lags)
}
