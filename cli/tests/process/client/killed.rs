//! Workers that are killed at random moments: if the position is saved in the transactions of the read model, every
//! message counts exactly once; otherwise no message is missed, and at most the messages of one checkpoint interval are
//! handled again.

use std::collections::HashMap;
use std::path::Path;

use eventodb_client::{BufferSettings, BufferedWriter, CategoryQuery, Client, Message, NewMessage};
use eventodb_store::testing::{seed, tell};
use eventodb_testing::postgres;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::worker::{Checkpoint, Settings, handled, read_journal};
use crate::server::*;

const KILLS: usize = 50;
const EVERY: usize = 700;
const STREAMS: usize = 300;

/// Writes deposits to a category.
pub(crate) async fn fill(client: &Client, category: &str, streams: usize, numbers: std::ops::Range<usize>) {
    let writer = BufferedWriter::new(client, BufferSettings::default()).expect("good settings");
    let mut receipts = Vec::new();
    for number in numbers {
        let message = NewMessage::new("Deposited", json!({ "amount": number % 97 }));
        receipts.push(writer.send(&format!("{category}-{}", number % streams), &message).await.expect("taken"));
    }
    writer.close().await;
    for receipt in receipts {
        receipt.await.expect("written");
    }
}

/// Every message of a category.
pub(crate) async fn all(client: &Client, category: &str) -> Vec<Message> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let query = CategoryQuery::new(category).from(from).limit(10_000);
        let page = client.category_get(&query).await.expect("a page");
        match page.messages.last() {
            None => return all,
            Some(last) => from = last.global_position() + 1,
        }
        all.extend(page.messages);
    }
}

/// Starts a worker repeatedly and kills it after a random number of messages. The last one ends by itself. `progress`
/// returns the number of handled messages, `total` is the number of all messages. Returns the messages that each start
/// handled.
async fn kill_at_random(total: usize, start: impl Fn() -> Child, progress: impl AsyncFn() -> usize) -> Vec<usize> {
    let mut random = StdRng::seed_from_u64(seed());
    let mut starts = Vec::new();
    for kill in 0..KILLS {
        starts.push(progress().await);
        // All kills come before nine tenths are handled.
        let left = (total * 9 / 10).saturating_sub(starts[kill]);
        let target = starts[kill] + random.random_range(0..=2 * left / (KILLS - kill));
        let mut worker = start();
        let deadline = Instant::now() + PATIENCE;
        while progress().await < target {
            assert!(Instant::now() < deadline, "the worker does not come to {target}");
            assert_eq!(worker.try_wait().expect("a child"), None, "the worker ended before {target}");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        worker.kill().await.expect("it ran");
    }
    starts.push(progress().await);
    let status = tokio::time::timeout(PATIENCE, start().wait()).await.expect("the worker ends").expect("a child");
    assert!(status.success());
    starts
}

#[tokio::test(flavor = "multi_thread")]
async fn the_read_model_counts_every_message_once() {
    const MESSAGES: usize = 100_000;
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&directory.path().join("data"), &[]).await;
    let (client, model) = (server.client(), directory.path().join("model.db"));
    fill(&client, "account", STREAMS, 0..MESSAGES).await;

    let program = super::examples::example("read_model").await;
    let start = || {
        Command::new(&program)
            .args([model.as_os_str(), "account".as_ref()])
            .env("EVENTODB_URL", server.url())
            .env("EVENTODB_TOKEN", TOKEN)
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the example starts")
    };
    let starts =
        kill_at_random(MESSAGES, start, async || table(&model).values().map(|row| row.1).sum::<i64>() as usize).await;
    let mut fold: HashMap<String, (i64, i64)> = HashMap::new();
    for message in all(&client, "account").await {
        let row = fold.entry(message.stream().to_owned()).or_default();
        row.0 += message.decode::<Value>().expect("JSON")["amount"].as_i64().expect("a number");
        row.1 += 1;
    }
    assert_eq!(fold.values().map(|row| row.1).sum::<i64>(), MESSAGES as i64);
    assert!(table(&model) == fold, "the table is not the fold over the log");
    tell(&format!("{MESSAGES} messages counted once; {KILLS} kills, at {starts:?}"));
    server.stop().await;
}

/// The read model: by account, the amount and the number of messages. Empty if there is none yet.
fn table(model: &Path) -> HashMap<String, (i64, i64)> {
    let read = || {
        let connection = Connection::open(model)?;
        connection.busy_timeout(PATIENCE)?;
        let mut rows = connection.prepare("SELECT account, amount, messages FROM balance")?;
        rows.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?.collect::<rusqlite::Result<_>>()
    };
    read().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_in_the_store_repeats_at_most_an_interval() {
    at_most_an_interval_again(100_000, EVERY, |_| Checkpoint::InTheStore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_in_a_file_repeats_at_most_an_interval() {
    at_most_an_interval_again(100_000, EVERY, |folder| Checkpoint::File(folder.join("position"))).await;
}

/// Only the message that the worker was handling when it was killed may be repeated.
#[tokio::test(flavor = "multi_thread")]
async fn ids_in_a_file_leave_at_most_one_message_to_repeat() {
    at_most_an_interval_again(100_000, 1, |folder| Checkpoint::FileAndIds(folder.join("position"), folder.join("ids")))
        .await;
}

/// `repeated` is how many messages a start may handle again.
async fn at_most_an_interval_again(messages: usize, repeated: usize, checkpoint: impl Fn(&Path) -> Checkpoint) {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&directory.path().join("data"), &[]).await;
    fill(&server.client(), "thing", STREAMS, 0..messages).await;
    let settings = Settings {
        url: server.url(),
        category: "thing".to_owned(),
        group: None,
        checkpoint: checkpoint(directory.path()),
        every: EVERY,
        until_caught_up: true,
        journal: directory.path().join("journal"),
    };
    let starts = kill_at_random(messages, || settings.start(), async || handled(&settings.journal)).await;

    let log: Vec<i64> = all(&server.client(), "thing").await.iter().map(Message::global_position).collect();
    assert_eq!(log.len(), messages);
    let journal = read_journal(&settings.journal);
    let (mut done, mut most) = (0, 0);
    for (at, start) in starts.iter().enumerate() {
        let run = &journal[*start..starts.get(at + 1).copied().unwrap_or(journal.len())];
        let Some(first) = run.first() else { continue };
        let first = log.binary_search(first).expect("a message of the log");
        assert!(first <= done, "missed from {done} to {first}");
        assert!(done - first <= repeated, "start {at} repeats {}", done - first);
        assert_eq!(run, &log[first..first + run.len()], "start {at} does not follow the log");
        most = most.max(done - first);
        done = done.max(first + run.len());
    }
    assert_eq!(done, messages, "the end is missing");
    tell(&format!(
        "{messages} messages, {KILLS} kills, {} repetitions, at most {most} after a kill",
        journal.len() - messages
    ));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_model_in_postgres_counts_every_message_once() {
    const MESSAGES: usize = 20_000;
    let directory = tempfile::tempdir().expect("a temporary folder");
    let database = postgres::database().await;
    postgres::run(&database, "CREATE TABLE journal (position bigint NOT NULL)").await;
    let server = Server::start(&directory.path().join("data"), &[]).await;
    fill(&server.client(), "thing", STREAMS, 0..MESSAGES).await;
    let settings = Settings {
        url: server.url(),
        category: "thing".to_owned(),
        group: None,
        checkpoint: Checkpoint::Postgres(database.clone()),
        every: 100,
        until_caught_up: true,
        journal: directory.path().join("unused"),
    };
    let connection = postgres::connect(&database).await;
    let progress = async || {
        let row = connection.query_one("SELECT count(*) FROM journal", &[]).await.expect("a count");
        usize::try_from(row.get::<_, i64>(0)).expect("a count")
    };
    let starts = kill_at_random(MESSAGES, || settings.start(), progress).await;
    let rows = connection.query("SELECT position FROM journal ORDER BY 1", &[]).await.expect("rows");
    let table: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let log: Vec<i64> = all(&server.client(), "thing").await.iter().map(Message::global_position).collect();
    assert!(table == log, "the table is not the fold over the log");
    tell(&format!("{MESSAGES} messages counted once; {KILLS} kills, at {starts:?}"));
    server.stop().await;
}
