//! `eventodb top`: what the server does now, drawn again each second.

mod view;

use std::process::ExitCode;
use std::time::Duration;

use eventodb_client::performance::{Groups, Performance, Queries};
use eventodb_client::{Client, Error};
use serde::Serialize;

use self::view::{Row, View};
use super::connection::Connection;
use super::output::{Output, finish, visible};

/// How often the view is drawn.
const REDRAW: Duration = Duration::from_secs(1);

/// How long an answer may take before the view says that there is none.
const PATIENCE: Duration = Duration::from_secs(3);

/// Options of `eventodb top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one sample as JSON, and end.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What the server tells of itself at one moment.
#[derive(Clone, Debug, Serialize)]
struct Sample {
    performance: Performance,
    queries: Queries,
    groups: Groups,
}

impl Sample {
    async fn take(client: &Client) -> Result<Self, Error> {
        let (performance, queries, groups) =
            tokio::try_join!(client.performance(), client.performance_queries(), client.performance_groups())?;
        Ok(Self { performance, queries, groups })
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut output = Output::new(args.json);
    let result = async {
        let client = args.connection.connect().await?;
        if output.is_terminal() { watch(&client, &mut output).await } else { once(&client, &mut output).await }
    };
    finish(result.await, output)
}

/// Prints one sample.
async fn once(client: &Client, output: &mut Output) -> anyhow::Result<()> {
    let sample = Sample::take(client).await?;
    let json = serde_json::to_value(&sample)?;
    output.lines(&json, || View::default().of(&sample).iter().map(|row| row.text().trim_end().to_owned()).collect())
}

/// Draws until Ctrl-C. A server that does not answer may come back.
async fn watch(client: &Client, output: &mut Output) -> anyhow::Result<()> {
    let mut view = View::default();
    let mut rows = Vec::new();
    let mut ticks = tokio::time::interval(REDRAW);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match tokio::time::timeout(PATIENCE, Sample::take(client)).await {
            Ok(Ok(sample)) => rows = view.of(&sample),
            Ok(Err(error)) if !error.is_transient() => return Err(error.into()),
            Ok(Err(_)) | Err(_) => {
                rows.drain(..1.min(rows.len()));
                rows.insert(0, Row::Text(view::STALE.to_owned()));
            }
        }
        let lines: Vec<String> = rows
            .iter()
            .map(|row| match row {
                Row::Head(text) => output.inverse(&visible(text)),
                Row::Text(text) => visible(text),
            })
            .collect();
        output.screen(&lines)?;
    }
}
