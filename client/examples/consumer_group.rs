//! A consumer group of four processes. One is killed without warning and started again; every
//! message is handled by exactly one member, in order within its stream, and none is missed.
//!
//! The program starts itself as the members.
//!
//! To run it against the server that `EVENTODB_URL` and `EVENTODB_TOKEN` name:
//! `cargo run -p eventodb-client --example consumer_group`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use eventodb_client::checkpoint::StreamCheckpoint;
use eventodb_client::worker::{Checkpointed, Handlers, Worker};
use eventodb_client::{BufferSettings, BufferedWriter, Client, ConsumerGroup, NewMessage};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const MEMBERS: i64 = 4;
const STREAMS: i64 = 200;
const PER_STREAM: i64 = 10;

/// What the members told: by stream, which member handled which position.
type Told = HashMap<String, Vec<(i64, i64)>>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("EVENTODB_URL").context("EVENTODB_URL must name the server")?;
    let client = Client::new(&url, std::env::var("EVENTODB_TOKEN").ok().as_deref())?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [category, member] => run_member(&client, category, member.parse()?).await,
        _ => run_group(&client).await,
    }
}

/// Prints each message as `member stream position`.
async fn run_member(client: &Client, category: &str, member: i64) -> anyhow::Result<()> {
    let group = ConsumerGroup::new(member, MEMBERS).context("no such member")?;
    let handlers = Handlers::new().on("Counted", move |message| async move {
        writeln!(std::io::stdout(), "{member} {} {}", message.stream(), message.position())
    });
    let checkpoint = StreamCheckpoint::new(client, &[category], "counters", Some(group));
    Worker::new(client, Checkpointed::new(handlers, checkpoint))
        .categories([category])
        .group(group)
        .checkpoint_every(50, Duration::from_millis(200))
        .run(CancellationToken::new())
        .await?;
    Ok(())
}

async fn run_group(client: &Client) -> anyhow::Result<()> {
    let category = format!("counter{}", Uuid::now_v7().simple());
    let mut told = Told::new();
    let mut members = Vec::new();
    for member in 0..MEMBERS {
        members.push(start(&category, member)?);
    }
    write_messages(client, &category, 0..PER_STREAM / 2).await?;
    // The first member is killed while it handles, somewhere between two checkpoints.
    let (mut child, mut lines) = members.remove(0);
    while told.values().map(Vec::len).sum::<usize>() < 20 {
        note(&mut told, &lines.next_line().await?.context("the member ended")?)?;
    }
    child.kill().await?;
    println!("member 0 killed");
    while let Some(line) = lines.next_line().await? {
        note(&mut told, &line)?;
    }
    write_messages(client, &category, PER_STREAM / 2..PER_STREAM).await?;
    members.push(start(&category, 0)?);

    let mut repeated = 0;
    for (mut child, mut lines) in members {
        let mine = read_until_complete(&mut told, &mut lines).await?;
        println!("member {mine} is through");
        child.kill().await?;
    }
    for (stream, handled) in &told {
        let first = handled[0].0;
        ensure!(handled.iter().all(|(member, _)| *member == first), "{stream} was read by two members");
        let mut seen = -1;
        for (_, position) in handled {
            ensure!(*position <= seen + 1, "{stream} has a gap before {position}");
            repeated += usize::from(*position <= seen);
            seen = seen.max(*position);
        }
        ensure!(seen == PER_STREAM - 1, "{stream} ends at {seen}");
    }
    ensure!(i64::try_from(told.len())? == STREAMS, "{} streams were read", told.len());
    println!("{} messages handled, {repeated} of them again after the kill", STREAMS * PER_STREAM);
    Ok(())
}

/// Reads a member's lines until all streams that are its own were told to their end.
async fn read_until_complete(told: &mut Told, lines: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<i64> {
    loop {
        let line = lines.next_line().await?.context("a member ended")?;
        let (member, category) = note(told, &line)?;
        let group = ConsumerGroup::new(member, MEMBERS).context("no such member")?;
        let complete = |stream: &String| {
            told.get(stream).is_some_and(|handled| handled.iter().any(|(_, position)| *position == PER_STREAM - 1))
        };
        let streams = (0..STREAMS).map(|number| format!("{category}-{number}"));
        if streams.filter(|stream| group.owns(stream)).all(|stream| complete(&stream)) {
            return Ok(member);
        }
    }
}

/// Takes a line of a member into account; answers which member, and the category.
fn note(told: &mut Told, line: &str) -> anyhow::Result<(i64, String)> {
    let mut words = line.split(' ');
    let mut word = || words.next().context("a member prints three words");
    let (member, stream, position) = (word()?.parse()?, word()?.to_owned(), word()?.parse()?);
    let category = stream.split('-').next().unwrap_or_default().to_owned();
    told.entry(stream).or_default().push((member, position));
    Ok((member, category))
}

fn start(category: &str, member: i64) -> anyhow::Result<(Child, Lines<BufReader<ChildStdout>>)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([category, &member.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("the member's output")?;
    Ok((child, BufReader::new(stdout).lines()))
}

async fn write_messages(client: &Client, category: &str, numbers: std::ops::Range<i64>) -> anyhow::Result<()> {
    let writer = BufferedWriter::new(client, BufferSettings::default())?;
    let mut receipts = Vec::new();
    for number in numbers {
        for stream in 0..STREAMS {
            let message = NewMessage::new("Counted", json!({"number": number}));
            receipts.push(writer.send(&format!("{category}-{stream}"), &message).await?);
        }
    }
    writer.close().await;
    for receipt in receipts {
        receipt.await?;
    }
    Ok(())
}
