//! `eventodb tail`: prints messages as they are written, like `tail -f`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use eventodb_client::{Client, Error, RetryPolicy, Timestamp};
use eventodb_protocol::typed::whole;
use tokio::time::Instant;

use super::connection::Connection;
use super::output::{Output, finish};
use super::read::{Place, What};
use super::time;

/// Options of `eventodb tail`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    what: What,
    /// Print this many of the newest stored messages first.
    #[arg(long, short = 'n', default_value_t = 10, conflicts_with = "from", value_parser = whole(0..=10_000, 10_i64))]
    lines: i64,
    /// Begin at this position instead, inclusive. With a stream a position in the stream, otherwise a global position.
    #[arg(long, value_parser = whole(.., 1_000_i64))]
    from: Option<i64>,
    /// Begin at the first message at or after this time instead: RFC 3339, or YYYY-MM-DD.
    #[arg(long, conflicts_with_all = ["from", "lines"], value_parser = time::parse)]
    since: Option<Timestamp>,
    /// Print JSON lines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut output = Output::new(args.json);
    let result = tokio::select! {
        result = follow(&args, &mut output) => result,
        result = tokio::signal::ctrl_c() => result.context("cannot wait for Ctrl-C"),
    };
    finish(result, output)
}

async fn follow(args: &Args, output: &mut Output) -> anyhow::Result<()> {
    /// Least time between two reads from a server that does not support waiting.
    const PAUSE: Duration = Duration::from_secs(1);
    args.what.check()?;
    let client = args.connection.connect().await?;
    let mut from = match (args.from, args.since) {
        (None, None) => Some(print_last(args, &client, output).await?),
        (from, _) => from,
    };
    // An unreachable server is an error up to here. From here on the command waits for it.
    let client = client.with_retry_policy(RetryPolicy::forever());
    loop {
        let asked = Instant::now();
        let wait = Duration::from_secs(20);
        let place = Place { from, since: args.since, limit: 1000, wait, ..Place::default() };
        let page = args.what.page(&client, place).await?;
        for message in &page.messages {
            output.message(message)?;
        }
        output.flush()?;
        from = args.what.after(&page, false).max(from);
        if page.messages.is_empty() && asked.elapsed() < PAUSE {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Prints the newest messages, and returns the position after them.
async fn print_last(args: &Args, client: &Client, output: &mut Output) -> anyhow::Result<i64> {
    let end = match &args.what.stream {
        Some(stream) => client.stream_version(stream).await?.map_or(0, |version| version + 1),
        None => client.head().await? + 1,
    };
    if args.lines == 0 || end == 0 {
        return Ok(end);
    }
    let place = Place { from: Some(end - 1), limit: args.lines, backward: true, ..Place::default() };
    match args.what.page(client, place).await {
        Ok(page) => {
            for message in page.messages.iter().rev() {
                output.message(message)?;
            }
            output.flush()?;
        }
        // A server without backward reads: the stored messages are not printed.
        Err(error) if matches!(error.downcast_ref(), Some(Error::InvalidRequest { .. })) => {}
        Err(error) => return Err(error),
    }
    Ok(end)
}
