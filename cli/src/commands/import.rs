//! `eventodb import`: writes the records of a file into a namespace, at their positions.
//!
//! The file is streamed through `POST /import`, so that memory does not grow with its size.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use eventodb_client::import::{ImportEvent, ImportInput, ImportMode, ImportProgress, PendingImport};
use eventodb_client::record::{RecordPlace, record_place};
use eventodb_client::{CategoryQuery, Client};
use eventodb_protocol::group::GroupsThen;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::{input, output, progress};
use crate::usage::Usage;
use eventodb_store::Chain;

/// Options of `eventodb import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to read. Standard input if left out.
    #[arg(long, short = 'i')]
    input: Option<PathBuf>,
    /// The input is compressed. Compressed input is also recognised without this flag.
    #[arg(long)]
    gzip: bool,
    /// Replace all messages of the namespace, in one step after the last record. Until then, and after any failure, the
    /// namespace is unchanged. Other writes to it are refused meanwhile.
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    /// What becomes of the namespace's groups. Required with --force if it has some. Groups that are kept keep their
    /// checkpoints, at most up to the last record, and their parked streams; their members join again.
    #[arg(long, requires = "force", value_parser = groups)]
    groups: Option<GroupsThen>,
    /// Replace without a question. Required with --force on a terminal.
    #[arg(long, requires = "force")]
    yes: bool,
    /// Continue after the last message that the namespace has.
    #[arg(long)]
    resume: bool,
    /// Print how many messages were imported as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    check_consent(&args, std::io::stderr().is_terminal())?;
    let client = args.connection.connect().await?;
    let (mode, json) = (mode(&args), args.json);
    let progress = progress::bytes(input::size(args.input.as_deref()));
    let pieces = input::pieces(args.input, progress.clone());
    let mut lines = Lines { first: None, pieces, skip: None, last: None, skipped: 0, skipped_lines: 0 };
    lines.look(args.force).await?;
    if args.resume {
        lines.skip = Some(newest(&client).await?);
    }
    let (input, pending) = client.import(mode).await?;
    // The reply may begin before, while or after the records are sent.
    let (sent, told) = tokio::join!(send(&mut lines, input), follow(pending, &progress));
    progress.finish_and_clear();
    let (skipped, skipped_lines) = (lines.skipped, lines.skipped_lines);
    match told? {
        Some(ImportEvent::Done { records, elapsed }) => {
            sent?;
            lines.check_end(&client).await?;
            if json {
                return output::print_json(&json!({ "imported": records, "skipped": skipped }));
            }
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

fn mode(args: &Args) -> ImportMode {
    if args.force { ImportMode::Replace { groups: args.groups } } else { ImportMode::Add }
}

fn groups(name: &str) -> Result<GroupsThen, String> {
    GroupsThen::named(name).ok_or_else(|| "it must be keep or drop".to_owned())
}

/// On a terminal `--force` needs `--yes`, so that nobody replaces a namespace by mistake.
fn check_consent(args: &Args, at_terminal: bool) -> Result<(), Usage> {
    if args.force && at_terminal && !args.yes {
        return Err(Usage::new("this replaces every message of the namespace; say --yes to do it"));
    }
    Ok(())
}

/// Sends the records. If the server takes no more, this is no failure here, because its reports say why.
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

/// Shows the reports, and returns the last one.
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
            // The reason may be local, such as an input that cannot be read. `send` then returns it.
            Err(error) => {
                output::warn(progress, &Chain(&error).to_string());
                return Ok(last);
            }
        }
    }
}

/// The newest record of the namespace.
async fn newest(client: &Client) -> anyhow::Result<Option<RecordPlace>> {
    let head = client.head().await?;
    let page = client.category_get(&CategoryQuery::all().from(head).limit(1)).await?;
    Ok(page
        .messages
        .first()
        .map(|message| RecordPlace { id: message.id(), global_position: message.global_position() }))
}

/// The input, without the records that the namespace has already.
struct Lines {
    /// The first piece, if it was taken out of `pieces` for a check.
    first: Option<Bytes>,
    pieces: mpsc::Receiver<anyhow::Result<Bytes>>,
    /// `Some` while records are skipped: up to this one, or none if the namespace is empty.
    skip: Option<Option<RecordPlace>>,
    /// The last skipped record.
    last: Option<RecordPlace>,
    skipped: u64,
    skipped_lines: u64,
}

const ANOTHER_FILE: &str = "the namespace has other messages than this file; it was not filled from it";

impl Lines {
    /// If every record was skipped, checks that the namespace has this file's last record, and not those of another
    /// file.
    async fn check_end(&self, client: &Client) -> anyhow::Result<()> {
        let (Some(Some(_)), Some(last)) = (self.skip, self.last) else { return Ok(()) };
        let query = CategoryQuery::all().from(last.global_position).limit(1);
        let found = client.category_get(&query).await?.messages.first().map(eventodb_client::Message::id);
        anyhow::ensure!(found == Some(last.id), ANOTHER_FILE);
        Ok(())
    }

    /// Checks the beginning of the input before the server is asked for anything: it must be readable and begin with a
    /// record. With `must_have_one` an empty input is an error, because it is more often the output of a failed command
    /// than the wish to empty a namespace.
    async fn look(&mut self, is_needed: bool) -> anyhow::Result<()> {
        let mut at = 1;
        while let Some(piece) = self.pieces.recv().await {
            let piece = piece?;
            let mut begun = self.first.take().map_or_else(Vec::new, Vec::from);
            for line in piece.split(|byte| *byte == b'\n') {
                if !line.trim_ascii().is_empty() {
                    let line = std::str::from_utf8(line).context("the input is not UTF-8")?;
                    record_place(line).with_context(|| format!("line {at} is no record"))?;
                    begun.extend_from_slice(&piece);
                    self.first = Some(begun.into());
                    return Ok(());
                }
                at += 1;
            }
            at -= 1;
            begun.extend_from_slice(&piece);
            self.first = Some(begun.into());
        }
        anyhow::ensure!(!is_needed, "the input has no record; nothing was replaced");
        Ok(())
    }

    async fn next_piece(&mut self) -> Option<anyhow::Result<Bytes>> {
        match self.first.take() {
            Some(piece) => Some(Ok(piece)),
            None => self.pieces.recv().await,
        }
    }

    async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        while let Some(piece) = self.next_piece().await {
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
                    // The namespace's newest message should be in this file. Otherwise it is another file.
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
        let pieces = mpsc::channel(1).1;
        Lines { first: None, pieces, skip: Some(Some(place)), last: None, skipped: 0, skipped_lines: 0 }
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

    /// The input made of these pieces.
    async fn of(pieces: &[&str]) -> Lines {
        let (sender, pieces_in) = mpsc::channel(pieces.len().max(1));
        for piece in pieces {
            sender.send(Ok(Bytes::from((*piece).to_owned()))).await.expect("there is room");
        }
        Lines { first: None, pieces: pieces_in, skip: None, last: None, skipped: 0, skipped_lines: 0 }
    }

    #[tokio::test]
    async fn the_first_record_is_looked_at_and_nothing_of_it_lost() {
        let (one, two) = (record(1), record(2));
        let pieces = ["\n \n", "\n", &one, &two];
        let mut lines = of(&pieces).await;
        lines.look(true).await.expect("a record");
        let mut all = Vec::new();
        while let Some(piece) = lines.next().await.expect("readable") {
            all.extend_from_slice(&piece);
        }
        assert_eq!(String::from_utf8(all).expect("UTF-8"), pieces.concat());
        let error = of(&["\n\n", "nonsense\n"]).await.look(true).await.expect_err("no record");
        assert!(error.to_string().contains("line 3"), "{error}");
    }

    #[tokio::test]
    async fn an_empty_input_replaces_nothing() {
        for pieces in [&[][..], &["\n\n"]] {
            assert!(of(pieces).await.look(true).await.is_err());
            of(pieces).await.look(false).await.expect("nothing to import is no harm");
        }
    }

    #[test]
    fn consent_is_needed_from_a_person() {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            args: Args,
        }
        let args = |given: &str| <Command as clap::Parser>::parse_from(given.split(' ')).args;
        assert!(check_consent(&args("import --force"), true).is_err());
        for (given, at_terminal) in [("import --force --yes", true), ("import --force", false), ("import", true)] {
            check_consent(&args(given), at_terminal).expect("nobody is to be asked");
        }
    }

    #[test]
    fn another_exports_file_is_refused() {
        let mut lines = lines(3);
        let other = record(3).replace("0003", "0004") + &record(5);
        assert!(lines.without_known(Bytes::from(other)).is_err());
    }
}
