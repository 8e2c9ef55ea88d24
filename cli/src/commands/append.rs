//! `eventodb append`: appends lines of NDJSON with the buffered writer.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use eventodb_client::{BufferSettings, BufferedWriter, NewMessage, Receipt};
use eventodb_protocol::typed::whole;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::connection::Connection;
use super::{input, progress};

/// Options of `eventodb append`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to read, which may be compressed. Standard input if left out. Each line is a message:
    /// {"stream": …, "type": …, "data": {…}, "metadata": {…}, "id": …}. metadata and id may be left out. Lines of `export`
    /// and of `read --json` are taken too, without their positions and times. A line with any other member is refused.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Write every line to this stream, whatever stream it names.
    #[arg(long)]
    stream: Option<String>,
    /// Messages in a batch.
    #[arg(long, default_value_t = 500, value_parser = whole(1..=1_000, 500_u16))]
    batch: u16,
    /// Most milliseconds that a message waits for its batch to fill.
    #[arg(long, default_value_t = 100, value_parser = whole(0.., 100_u64))]
    delay_ms: u64,
    /// Batches in flight.
    #[arg(long, default_value_t = 4, value_parser = whole(1..=64, 4_u8))]
    in_flight: u8,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// One line of input. Data and metadata stay text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow, default)]
    stream: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    /// `meta` in the export format.
    #[serde(borrow, default, alias = "meta")]
    metadata: Option<&'a RawValue>,
    #[serde(default)]
    id: Option<&'a str>,
    /// What exported and printed messages have besides. The server gives new positions and times.
    #[serde(default, rename = "pos", alias = "position")]
    _position: IgnoredAny,
    #[serde(default, rename = "gpos", alias = "globalPosition")]
    _global_position: IgnoredAny,
    #[serde(default, rename = "time")]
    _time: IgnoredAny,
}

/// The results of the lines so far.
struct Tally {
    pending: VecDeque<(u64, Receipt)>,
    written: u64,
    failed: u64,
    progress: ProgressBar,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.connection.connect().await?;
    let settings = BufferSettings {
        messages: args.batch.into(),
        delay: Duration::from_millis(args.delay_ms),
        in_flight: args.in_flight.into(),
        ..BufferSettings::default()
    };
    let writer = BufferedWriter::new(&client, settings)?;
    let progress = progress::bytes(input::size(args.input.as_deref()));
    let mut tally = Tally { pending: VecDeque::new(), written: 0, failed: 0, progress: progress.clone() };
    let mut pieces = input::pieces(args.input, progress);
    let mut number = 0;
    while let Some(piece) = pieces.recv().await {
        let piece = piece?;
        let text = std::str::from_utf8(&piece).with_context(|| format!("input after line {number} is not UTF-8"))?;
        for line in text.lines() {
            number += 1;
            if line.trim().is_empty() {
                continue;
            }
            match send(&writer, line, args.stream.as_deref()).await {
                Ok(receipt) => tally.pending.push_back((number, receipt)),
                Err(error) => tally.fail(number, &error),
            }
        }
        tally.take_settled();
    }
    writer.flush().await;
    tally.finish().await;
    tally.progress.finish_and_clear();
    let mut output = super::output::Output::new(args.json);
    let value = serde_json::json!({"written": tally.written, "failed": tally.failed});
    let result = output.value(&value, || match tally.failed {
        0 => format!("{} messages written", tally.written),
        failed => format!("{} messages written, {failed} failed", tally.written),
    });
    super::output::finish(result, output)?;
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn send(writer: &BufferedWriter, line: &str, stream: Option<&str>) -> anyhow::Result<Receipt> {
    let line: Line<'_> = serde_json::from_str(line)?;
    let stream = stream.or(line.stream.as_deref()).context("the line names no stream, and neither does --stream")?;
    let mut message = NewMessage::new(line.kind.into_owned(), line.data);
    if let Some(metadata) = line.metadata {
        message = message.with_metadata(&metadata)?;
    }
    if let Some(id) = line.id {
        message = message.with_id(id.parse().context("the id is no UUID")?);
    }
    Ok(writer.send(stream, &message).await?)
}

impl Tally {
    /// Counts the settled lines, without waiting.
    fn take_settled(&mut self) {
        while let Some(result) = self.pending.front().and_then(|(_, receipt)| receipt.try_get()) {
            let (number, _) = self.pending.pop_front().expect("it was just looked at");
            self.count(number, result.map(drop).map_err(Into::into));
        }
        self.progress.set_message(format!("{} written", self.written));
    }

    /// Waits for the results of all lines.
    async fn finish(&mut self) {
        while let Some((number, receipt)) = self.pending.pop_front() {
            let result = receipt.await;
            self.count(number, result.map(drop).map_err(Into::into));
        }
    }

    fn count(&mut self, number: u64, result: anyhow::Result<()>) {
        match result {
            Ok(()) => self.written += 1,
            Err(error) => self.fail(number, &error),
        }
    }

    fn fail(&mut self, number: u64, error: &anyhow::Error) {
        const SHOWN: u64 = 20;
        self.failed += 1;
        if self.failed <= SHOWN {
            super::output::warn(&self.progress, &format!("line {number}: {error:#}"));
        } else if self.failed == SHOWN + 1 {
            super::output::warn(&self.progress, "further failures are only counted");
        }
    }
}
