//! Four processes share a consumer group. One is killed without warning; the others take its partitions over, every
//! message is handled in order within its stream, and none is missed.
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
use eventodb_client::group::CreateGroup;
use eventodb_client::worker::{Context, MessageType, Worker};
use eventodb_client::{BufferSettings, BufferedWriter, Client, Message, NewMessage};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const MEMBERS: usize = 4;
const STREAMS: i64 = 200;
const PER_STREAM: i64 = 10;

/// What the members told: by stream, which member handled which number.
type Told = HashMap<String, Vec<(usize, i64)>>;

#[derive(Serialize, Deserialize)]
struct Counted {
    number: i64,
}

impl MessageType for Counted {
    const TYPE: &'static str = "Counted";
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("EVENTODB_URL").context("EVENTODB_URL must name the server")?;
    let client = Client::new(&url, std::env::var("EVENTODB_TOKEN").ok().as_deref())?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [group, member] => run_member(&client, group, member.parse()?).await,
        _ => run_group(&client).await,
    }
}

/// Prints each message as `member stream number`.
async fn run_member(client: &Client, group: &str, member: usize) -> anyhow::Result<()> {
    Worker::new(client, group)
        .on(move |message: Message<Counted>, _: Context<_>| async move {
            writeln!(std::io::stdout(), "{member} {} {}", message.stream(), message.data.number)
        })
        .run(CancellationToken::new())
        .await?;
    Ok(())
}

async fn run_group(client: &Client) -> anyhow::Result<()> {
    let category = format!("counter{}", Uuid::now_v7().simple());
    // A short session, so that the others notice soon that a member is gone.
    let create = CreateGroup { categories: vec![category.clone()], session_ms: Some(1000), ..CreateGroup::default() };
    let group = client.group(&category);
    group.create(&create).await?;
    let (lines, mut told_lines) = mpsc::channel(1000);
    let mut members = (0..MEMBERS).map(|member| start(&category, member, &lines)).collect::<Result<Vec<_>, _>>()?;
    drop(lines);

    write_messages(client, &category, 0..PER_STREAM / 2).await?;
    let mut told = Told::new();
    // A member is killed while it handles, somewhere between two checkpoints: whoever comes to 20 messages first.
    let killed = loop {
        note(&mut told, &told_lines.recv().await.context("the members ended")?)?;
        if let Some(member) = (0..MEMBERS).find(|member| handled_by(&told, *member) >= 20) {
            break member;
        }
    };
    members[killed].kill().await?;
    println!("member {killed} killed");
    write_messages(client, &category, PER_STREAM / 2..PER_STREAM).await?;
    let written = client.head().await?;
    while !group.wait(written, None, Duration::from_millis(100)).await?.reached {
        while let Ok(line) = told_lines.try_recv() {
            note(&mut told, &line)?;
        }
    }
    for child in &mut members {
        child.kill().await?;
    }
    while let Some(line) = told_lines.recv().await {
        note(&mut told, &line)?;
    }
    check(&told)
}

fn check(told: &Told) -> anyhow::Result<()> {
    let mut repeated = 0;
    for (stream, handled) in told {
        for member in 0..MEMBERS {
            let own = handled.iter().filter(|(by, _)| *by == member).map(|(_, number)| number);
            ensure!(own.is_sorted_by(|a, b| a < b), "member {member} handled {stream} out of order");
        }
        for number in 0..PER_STREAM {
            let times = handled.iter().filter(|(_, handled)| *handled == number).count();
            ensure!(times > 0, "number {number} of {stream} was missed");
            repeated += times - 1;
        }
    }
    ensure!(i64::try_from(told.len())? == STREAMS, "{} streams were read", told.len());
    for member in 0..MEMBERS {
        println!("member {member} handled {}", handled_by(told, member));
    }
    println!("{} messages handled, {repeated} of them again after the kill", STREAMS * PER_STREAM);
    Ok(())
}

fn handled_by(told: &Told, member: usize) -> usize {
    told.values().flatten().filter(|(by, _)| *by == member).count()
}

fn note(told: &mut Told, line: &str) -> anyhow::Result<()> {
    let mut words = line.split(' ');
    let mut word = || words.next().context("a member prints three words");
    let (member, stream, number) = (word()?.parse()?, word()?.to_owned(), word()?.parse()?);
    told.entry(stream).or_default().push((member, number));
    Ok(())
}

/// Starts a member whose lines go into the channel.
fn start(group: &str, member: usize, lines: &mpsc::Sender<String>) -> anyhow::Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([group, &member.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("the member's output")?;
    let lines = lines.clone();
    tokio::spawn(async move {
        let mut output = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = output.next_line().await {
            if lines.send(line).await.is_err() {
                return;
            }
        }
    });
    Ok(child)
}

async fn write_messages(client: &Client, category: &str, numbers: std::ops::Range<i64>) -> anyhow::Result<()> {
    let writer = BufferedWriter::new(client, BufferSettings::default())?;
    let mut receipts = Vec::new();
    for number in numbers {
        for stream in 0..STREAMS {
            let message = NewMessage::new(Counted::TYPE, Counted { number });
            receipts.push(writer.send(&format!("{category}-{stream}"), &message).await?);
        }
    }
    writer.close().await;
    for receipt in receipts {
        receipt.await?;
    }
    Ok(())
}
