//! `eventodb import`: records of a file into a namespace, at their positions.
//!
//! The file is streamed through `POST /import`; memory does not grow with it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use eventodb_client::import::{ImportEvent, ImportInput, ImportProgress, PendingImport};
use eventodb_client::record::{RecordPlace, record_place};
use eventodb_client::{CategoryQuery, Client};
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::{input, output, progress};

/// Options of `eventodb import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to read; standard input without it.
    #[arg(long, short = 'i')]
    input: Option<PathBuf>,
    /// The input is compressed. Compressed input is recognised without it too.
    #[arg(long)]
    gzip: bool,
    /// Empty the namespace first.
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    /// Go on behind what the namespace has already.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.connection.client()?;
    let progress = progress::bytes(input::size(args.input.as_deref()));
    let pieces = input::pieces(args.input, progress.clone());
    let mut lines = Lines { pieces, skip: None, last: None, skipped: 0, skipped_lines: 0 };
    if args.resume {
        lines.skip = Some(newest(&client).await?);
    }
    let (input, pending) = client.import(args.force).await?;
    // The reply may begin before, while or after the records are sent.
    let (sent, told) = tokio::join!(send(&mut lines, input), follow(pending, &progress));
    progress.finish_and_clear();
    let (skipped, skipped_lines) = (lines.skipped, lines.skipped_lines);
    match told? {
        Some(ImportEvent::Done { records, elapsed }) => {
            sent?;
            lines.check_end(&client).await?;
            let skipped = if skipped > 0 { format!(", {skipped} were there") } else { String::new() };
            output::warn(&progress, &format!("{records} messages imported in {elapsed}{skipped}"));
            Ok(ExitCode::SUCCESS)
        }
        Some(ImportEvent::Failed { code, message, line }) => {
            let line = line.map(|line| format!(" at line {}", line + skipped_lines)).unwrap_or_default();
            output::warn(&progress, &format!("{code}{line}: {message}"));
            Ok(ExitCode::FAILURE)
        }
        _ => {
            sent?;
            bail!("the import was cut off; go on with --resume")
        }
    }
}

/// Sends the records. What the server has against them it tells in its reports, so that a server
/// that takes no more is no failure here.
async fn send(lines: &mut Lines, mut input: ImportInput) -> anyhow::Result<()> {
    loop {
        match lines.next().await {
            Ok(Some(piece)) => {
                if input.send(piece).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) => {
                input.finish();
                return Ok(());
            }
            Err(error) => {
                input.abort();
                return Err(error);
            }
        }
    }
}

/// Shows the reports; answers the last one.
async fn follow(pending: PendingImport, progress: &ProgressBar) -> anyhow::Result<Option<ImportEvent>> {
    let mut reports: ImportProgress = pending.accepted().await?;
    let mut last = None;
    loop {
        match reports.next().await {
            Ok(Some(event)) => {
                if let ImportEvent::Imported { records, .. } = event {
                    progress.set_message(format!("{records} imported"));
                }
                let end = !matches!(event, ImportEvent::Imported { .. });
                last = Some(event);
                if end {
                    return Ok(last);
                }
            }
            Ok(None) => return Ok(last),
            // The reason may be a local one, which is told instead.
            Err(error) => {
                output::warn(progress, &error.to_string());
                return Ok(last);
            }
        }
    }
}

/// The newest record that the namespace has.
async fn newest(client: &Client) -> anyhow::Result<Option<RecordPlace>> {
    let head = client.head().await?;
    let page = client.category_get(&CategoryQuery::all().from(head).limit(1)).await?;
    Ok(page
        .messages
        .first()
        .map(|message| RecordPlace { id: message.id(), global_position: message.global_position() }))
}

/// The input, without the records that are there already.
struct Lines {
    pieces: mpsc::Receiver<anyhow::Result<Bytes>>,
    /// `Some` while records are still to be left out: up to this one, or none.
    skip: Option<Option<RecordPlace>>,
    /// The last record that was left out.
    last: Option<RecordPlace>,
    skipped: u64,
    skipped_lines: u64,
}

const ANOTHER_FILE: &str = "the namespace has other messages than this file; it was not filled from it";

impl Lines {
    /// Where the whole file was there already: whether it was this file.
    async fn check_end(&self, client: &Client) -> anyhow::Result<()> {
        let (Some(Some(_)), Some(last)) = (self.skip, self.last) else { return Ok(()) };
        let query = CategoryQuery::all().from(last.global_position).limit(1);
        let found = client.category_get(&query).await?.messages.first().map(eventodb_client::Message::id);
        anyhow::ensure!(found == Some(last.id), ANOTHER_FILE);
        Ok(())
    }

    async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        while let Some(piece) = self.pieces.recv().await {
            let piece = self.without_known(piece?)?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    fn without_known(&mut self, piece: Bytes) -> anyhow::Result<Bytes> {
        let Some(Some(newest)) = self.skip else { return Ok(piece) };
        let mut at = 0;
        while at < piece.len() {
            let end = piece[at..].iter().position(|byte| *byte == b'\n').map_or(piece.len(), |end| at + end + 1);
            let line = std::str::from_utf8(&piece[at..end]).context("the input is not UTF-8")?;
            if !line.trim().is_empty() {
                let place = record_place(line).with_context(|| format!("line {}", self.skipped_lines + 1))?;
                if place.global_position > newest.global_position {
                    // The newest message came out of this file, unless it is another one.
                    anyhow::ensure!(self.last == Some(newest), ANOTHER_FILE);
                    self.skip = None;
                    return Ok(piece.slice(at..));
                }
                self.last = Some(place);
                self.skipped += 1;
            }
            self.skipped_lines += 1;
            at = end;
        }
        Ok(Bytes::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(position: u128) -> String {
        format!("{{\"id\":\"{}\",\"gpos\":{position}}}\n", uuid::Uuid::from_u128(position))
    }

    fn lines(newest: u128) -> Lines {
        let place = RecordPlace { id: uuid::Uuid::from_u128(newest), global_position: newest as i64 };
        Lines { pieces: mpsc::channel(1).1, skip: Some(Some(place)), last: None, skipped: 0, skipped_lines: 0 }
    }

    #[test]
    fn known_records_are_left_out() {
        let mut lines = lines(3);
        let piece = |positions: std::ops::Range<u128>| Bytes::from(positions.map(record).collect::<String>());
        assert_eq!(lines.without_known(piece(1..3)).expect("records"), Bytes::new());
        assert_eq!(lines.without_known(piece(3..6)).expect("records"), piece(4..6));
        assert_eq!(lines.without_known(piece(6..8)).expect("records"), piece(6..8));
        assert_eq!((lines.skipped, lines.skipped_lines), (3, 3));
    }

    #[test]
    fn another_exports_file_is_refused() {
        let mut lines = lines(3);
        let other = record(3).replace("0003", "0004") + &record(5);
        assert!(lines.without_known(Bytes::from(other)).is_err());
    }
}
