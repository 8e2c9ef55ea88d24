//! `eventodb export`: writes the messages of a namespace into a file, one record per line.
//!
//! It uses only what every EventoDB server supports: `category.get` in pages by global position, up to the head at the
//! start. What it writes is of one history: see [`Pages`]. It keeps two pages in memory. Compressed output is a sequence of gzip members (RFC 1952, section 2.2), so
//! that an interrupted file can be cut after its last complete member and continued.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use eventodb_client::record::{RecordPlace, record_place, write_record};
use eventodb_client::{CategoryQuery, Client, Error, Message, Page, RetryPolicy, Timestamp};
use eventodb_protocol::typed::whole;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use indicatif::ProgressBar;
use serde_json::json;

use super::connection::Connection;
use super::{item, output, progress, time};
use crate::usage::{Exit, Refused};

/// Options of `eventodb export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to write. Standard output if left out.
    #[arg(long, short = 'o')]
    output: Option<PathBuf>,
    /// Only these categories, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = item::parse)]
    categories: Vec<String>,
    /// Only messages from this time on, inclusive: RFC 3339, or YYYY-MM-DD.
    #[arg(long, value_parser = time::parse)]
    since: Option<Timestamp>,
    /// Only messages before this time: RFC 3339, or YYYY-MM-DD.
    #[arg(long, value_parser = time::parse)]
    until: Option<Timestamp>,
    /// Compress the output. An output whose name ends with `.gz` is compressed without this flag.
    #[arg(long)]
    gzip: bool,
    /// Replace the output if it exists and is not empty.
    #[arg(long, requires = "output", conflicts_with = "resume")]
    force: bool,
    /// Continue after the last complete record of the output file, if the namespace still has it.
    #[arg(long, requires = "output")]
    resume: bool,
    /// Look where the namespace ends, wait for this many seconds, and export up to there. On a server other than this one a
    /// message may become visible below one that was seen; what does so within this time is exported too.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = whole(0.., 10_u64))]
    settle: u64,
    /// Print how many messages were exported as JSON.
    #[arg(long, requires = "output")]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Messages on a page.
const PAGE: i64 = 1000;
/// Uncompressed bytes in a gzip member. An interruption loses at most as many.
const MEMBER: usize = 4 << 20;

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let retry = RetryPolicy::default().give_up_after(Duration::from_secs(60));
    let client = args.connection.connect().await?.with_retry_policy(retry);
    let head = client.head().await?;
    tokio::time::sleep(Duration::from_secs(args.settle)).await;
    let (mut sink, last) = Sink::open(&args)?;
    let from = last.map_or(1, |last| last.global_position + 1);
    let progress = progress::messages(u64::try_from(head - from + 1).ok());
    let pages = Pages {
        client,
        categories: args.categories.clone(),
        filter_here: false,
        head,
        from,
        last,
        looks_behind: false,
    };
    let exported = export(pages, &mut sink, &args, &progress).await;
    // What was read before a failure is kept: `--resume` goes on behind it.
    sink.finish()?;
    progress.finish_and_clear();
    let exported = exported?;
    if args.json {
        return output::print_json(&json!({ "exported": exported, "head": head }));
    }
    output::warn(&progress, &format!("{exported} messages exported, up to global position {head}"));
    Ok(ExitCode::SUCCESS)
}

/// Writes the messages into `sink`, and returns how many there are.
async fn export(mut pages: Pages, sink: &mut Sink, args: &Args, progress: &ProgressBar) -> anyhow::Result<u64> {
    let (begin, mut exported) = (pages.from, 0);
    let mut fetch = pages.fetch();
    loop {
        let was_done = pages.is_done();
        let messages = pages.take(fetch).await?;
        if was_done {
            return Ok(exported);
        }
        fetch = pages.fetch();
        for message in &messages {
            if pages.has(message) && in_time(message, args)? {
                sink.record(message)?;
                exported += 1;
            }
        }
        progress.set_position(u64::try_from(pages.from - begin).unwrap_or(0));
    }
}

type Fetch = tokio::task::JoinHandle<Result<Page, Error>>;

/// Reads page by page up to the head.
///
/// A page that goes on where another one was cut begins with the last message of that one, and at the end that message is
/// read once more: so it is noticed if the messages are replaced meanwhile, or were since the output was begun.
struct Pages {
    client: Client,
    categories: Vec<String>,
    /// Whether everything is fetched and the categories are filtered here.
    filter_here: bool,
    head: i64,
    /// Everything below is read.
    from: i64,
    /// The last message that was read.
    last: Option<RecordPlace>,
    /// Whether the page in progress begins behind the last message all the same.
    looks_behind: bool,
}

impl Pages {
    /// Begins to read a page. Meanwhile the page before it is written.
    fn fetch(&self) -> Fetch {
        let query = match &self.categories[..] {
            [] => CategoryQuery::all(),
            _ if self.filter_here => CategoryQuery::all(),
            categories => CategoryQuery::any_of(categories),
        };
        let from = self.known().map_or(self.from, |last| last.global_position);
        let limit = if self.is_done() { 1 } else { PAGE };
        let (query, client) = (query.from(from).limit(limit), self.client.clone());
        tokio::spawn(async move { client.category_get(&query).await })
    }

    /// The message with which the next page has to begin.
    fn known(&self) -> Option<RecordPlace> {
        let goes_on = |last: &RecordPlace| last.global_position + 1 == self.from && !self.looks_behind;
        self.last.filter(|last| self.is_done() || goes_on(last))
    }

    /// Whether everything is read. The page in progress only shows that the last message is still there.
    fn is_done(&self) -> bool {
        self.from > self.head
    }

    /// The messages that the page in progress brings, up to the head.
    async fn take(&mut self, mut fetch: Fetch) -> anyhow::Result<Vec<Message>> {
        let mut page = loop {
            match fetch.await.context("reading a page failed")? {
                Err(Error::InvalidRequest { .. }) if self.categories.len() > 1 && !self.filter_here => {
                    // This server takes only one category at a time.
                    self.filter_here = true;
                    fetch = self.fetch();
                }
                page => break page?,
            }
        };
        let known = self.known();
        if let Some(known) = known {
            anyhow::ensure!(page.messages.first().map(place_of) == Some(known), replaced(known, &self.categories));
            page.messages.remove(0);
        }
        let next = page.next().filter(|next| *next > self.from);
        // Nothing follows the known message, or what follows is damaged: only a read that begins behind it tells.
        self.looks_behind = next.is_none() && known.is_some();
        self.from = next.unwrap_or(if self.looks_behind { self.from } else { self.head + 1 });
        page.messages.retain(|message| message.global_position() <= self.head);
        self.last = page.messages.last().map(place_of).or(self.last);
        Ok(page.messages)
    }

    fn has(&self, message: &Message) -> bool {
        !self.filter_here || self.categories.iter().any(|category| category == message.category())
    }
}

fn place_of(message: &Message) -> RecordPlace {
    RecordPlace { id: message.id(), global_position: message.global_position() }
}

fn replaced(known: RecordPlace, categories: &[String]) -> String {
    let at = known.global_position;
    let same = if categories.is_empty() { "" } else { ". To resume, name the same --categories as before" };
    format!(
        "the message exported from global position {at} is not there any more: the namespace was restored or replaced, and \
         the output would mix two histories. Export anew, to another file or with --force{same}"
    )
}

fn in_time(message: &Message, args: &Args) -> anyhow::Result<bool> {
    if args.since.is_none() && args.until.is_none() {
        return Ok(true);
    }
    let time = message.time()?;
    Ok(args.since.is_none_or(|since| time >= since) && args.until.is_none_or(|until| time < until))
}

/// The output.
struct Sink {
    out: Out,
    gzip: bool,
    buffer: Vec<u8>,
}

enum Out {
    File(File),
    Stdout(std::io::Stdout),
}

impl Sink {
    /// Opens the output. With `resume` it also returns the place of the last complete record.
    fn open(args: &Args) -> anyhow::Result<(Self, Option<RecordPlace>)> {
        let resume = args.resume;
        let gzip =
            args.gzip || args.output.as_deref().is_some_and(|path| path.extension().is_some_and(|end| end == "gz"));
        let sink = |out| Self { out, gzip, buffer: Vec::new() };
        let Some(path) = &args.output else { return Ok((sink(Out::Stdout(std::io::stdout())), None)) };
        if !resume && !args.force && path.metadata().is_ok_and(|file| file.is_file() && file.len() > 0) {
            let error = anyhow!("{} exists: name another file, or say --force or --resume", path.display());
            return Err(Refused::new(Exit::CannotCreate, error).into());
        }
        let mut options = OpenOptions::new();
        // Only the owner may read the file, because only holders of the token may read the messages.
        let open = options.create(true).read(true).write(true).truncate(!resume).mode(0o600).open(path);
        let mut file = open.map_err(|error| {
            Refused::because(Exit::CannotCreate, format!("cannot open the output {}", path.display()), error)
        })?;
        let mut last = None;
        if resume {
            let (kept, line) =
                whole_part(&mut file, gzip).with_context(|| format!("cannot read {}", path.display()))?;
            last = line.map(|line| record_place(&line)).transpose().context("the output's last line")?;
            file.set_len(kept).context("cannot cut the output")?;
            file.seek(SeekFrom::Start(kept)).context("cannot go on with the output")?;
        }
        Ok((sink(Out::File(file)), last))
    }

    fn record(&mut self, message: &Message) -> anyhow::Result<()> {
        write_record(&mut self.buffer, message);
        if self.buffer.len() >= MEMBER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.gzip {
            let mut member = GzEncoder::new(Vec::with_capacity(self.buffer.len() / 4), Compression::default());
            member.write_all(&self.buffer)?;
            let member = member.finish()?;
            self.out.write_all(&member).context("cannot write the output")?;
        } else {
            let records = std::str::from_utf8(&self.buffer).context("a record is not UTF-8")?;
            let is_terminal = matches!(&self.out, Out::Stdout(out) if out.is_terminal());
            let records = output::json_for(is_terminal, records);
            self.out.write_all(records.as_bytes()).context("cannot write the output")?;
        }
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.flush()?;
        match self.out {
            // A pipe or a device cannot be synced.
            Out::File(file) if !file.metadata().is_ok_and(|metadata| metadata.is_file()) => Ok(()),
            Out::File(file) => file.sync_all().context("cannot write the output"),
            Out::Stdout(mut out) => out.flush().context("cannot write the output"),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(out) => out.flush(),
        }
    }
}

/// The length of the complete part of a file, and its last line.
fn whole_part(file: &mut File, gzip: bool) -> anyhow::Result<(u64, Option<String>)> {
    file.rewind()?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let (kept, line) = if gzip { whole_members(&mut reader)? } else { whole_lines(&mut reader)? };
    Ok((kept, line.map(String::from_utf8).transpose().context("the output is not UTF-8")?))
}

fn whole_lines(reader: &mut BufReader<&mut File>) -> anyhow::Result<(u64, Option<Vec<u8>>)> {
    let mut lines = LastLine::default();
    lines.read(reader)?;
    Ok((lines.end, lines.last))
}

/// Complete members end at the end of a line. Everything after the last complete member is cut.
fn whole_members(reader: &mut BufReader<&mut File>) -> anyhow::Result<(u64, Option<Vec<u8>>)> {
    let (mut kept, mut last) = (0, None);
    while !reader.fill_buf()?.is_empty() {
        let mut lines = LastLine::default();
        if lines.read(&mut GzDecoder::new(&mut *reader)).is_err() {
            break;
        }
        if !lines.partial.is_empty() {
            bail!("the output was not written by this command: a part of it ends within a line");
        }
        kept = reader.stream_position()?;
        last = lines.last.or(last);
    }
    Ok((kept, last))
}

/// Finds the last complete line of its input.
#[derive(Default)]
struct LastLine {
    last: Option<Vec<u8>>,
    partial: Vec<u8>,
    /// Bytes up to the end of the last complete line.
    end: u64,
}

impl LastLine {
    fn read(&mut self, reader: &mut impl Read) -> std::io::Result<()> {
        let mut reader = BufReader::with_capacity(1 << 18, reader);
        loop {
            self.partial.clear();
            let read = reader.read_until(b'\n', &mut self.partial)?;
            if self.partial.last() != Some(&b'\n') {
                return Ok(());
            }
            self.end += read as u64;
            let line = self.last.get_or_insert_default();
            std::mem::swap(line, &mut self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Vec<u8> {
        let mut member = GzEncoder::new(Vec::new(), Compression::default());
        member.write_all(text.as_bytes()).expect("written");
        member.finish().expect("written")
    }

    fn whole(bytes: &[u8], gzip: bool) -> (u64, Option<String>) {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        whole_part(&mut file, gzip).expect("readable")
    }

    #[test]
    fn a_partial_line_is_cut() {
        assert_eq!(whole(b"", false), (0, None));
        assert_eq!(whole(b"one", false), (0, None));
        assert_eq!(whole(b"one\ntwo\nthr", false), (8, Some("two\n".into())));
    }

    #[test]
    fn a_partial_member_is_cut_wherever_it_ends() {
        let (first, second) = (member("one\ntwo\n"), member("three\nfour\n"));
        let both = [&first[..], &second].concat();
        for end in first.len()..both.len() {
            assert_eq!(whole(&both[..end], true), (first.len() as u64, Some("two\n".into())), "cut at {end}");
        }
        assert_eq!(whole(&both, true), (both.len() as u64, Some("four\n".into())));
    }
}
