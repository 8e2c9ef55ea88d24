//! The server is killed and started again while workers, buffered writers and subscribers run: they go on by
//! themselves, no message is lost, and they do not all reconnect at the same moment.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eventodb_client::checkpoint::{CheckpointStore, FileCheckpoint, SqliteReadModel, StreamCheckpoint};
use eventodb_client::worker::{Checkpointed, Consumer, Handlers, StaticWorker};
use eventodb_client::{
    BufferSettings, BufferedWriter, Client, Event, Expected, Message, NewMessage, Subscribe, Written,
};
use eventodb_store::testing::{seed, tell};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::killed::all;
use crate::server::*;

const CYCLES: usize = 6;
const WRITERS: usize = 3;
const STREAMS: usize = 40;

/// The messages of a writer, by stream and number, with their positions.
type Told = Vec<(String, usize, Written)>;

/// Writes to streams of its own until it is stopped. Every write must be acknowledged in the end.
async fn write(client: Client, writer: usize, stop: CancellationToken) -> Told {
    const PENDING: usize = 2000;
    let buffer = BufferedWriter::new(&client, BufferSettings::default()).expect("good settings");
    let (mut pending, mut told) = (VecDeque::new(), Told::new());
    for number in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let stream = format!("thing-{writer}+{}", number % STREAMS);
        let message = NewMessage::new("Counted", json!({ "number": number }));
        let receipt = buffer.send(&stream, &message).await.expect("taken");
        pending.push_back((stream, number, receipt));
        if pending.len() == PENDING {
            let (stream, number, receipt) = pending.pop_front().expect("it is not empty");
            told.push((stream, number, receipt.await.expect("written in the end")));
        }
    }
    buffer.close().await;
    for (stream, number, receipt) in pending {
        told.push((stream, number, receipt.await.expect("written in the end")));
    }
    told
}

/// The global positions of the messages that a worker handled.
type Seen = Arc<Mutex<Vec<i64>>>;

fn worker<S: CheckpointStore>(client: &Client, checkpoint: S, seen: &Seen) -> StaticWorker<Checkpointed<S>> {
    let seen = seen.clone();
    let handlers = Handlers::new().otherwise(move |message| {
        seen.lock().push(message.global_position());
        std::future::ready(Ok::<_, std::io::Error>(()))
    });
    settings(StaticWorker::new(client, Checkpointed::new(handlers, checkpoint)))
}

fn settings<C: Consumer>(worker: StaticWorker<C>) -> StaticWorker<C> {
    worker.categories(["thing"]).checkpoint_every(500, Duration::from_millis(100))
}

/// A read model of one table with the global positions of all messages.
fn model(path: &PathBuf) -> SqliteReadModel {
    let create = "CREATE TABLE IF NOT EXISTS seen (position INTEGER NOT NULL)";
    rusqlite::Connection::open(path).and_then(|model| model.execute(create, [])).expect("a table");
    SqliteReadModel::new(path, "x", |model, message| {
        model.prepare_cached("INSERT INTO seen VALUES (?)")?.execute([message.global_position()]).map(drop)
    })
}

/// The global positions of the pokes of a subscriber, up to the last message.
async fn follow(client: Client) -> Vec<i64> {
    let mut told = Vec::new();
    let mut subscription = client.subscribe(Subscribe::categories(["thing", "end"]));
    loop {
        match subscription.next().await.expect("it goes on by itself") {
            Event::Poke(poke) if poke.stream == "end" => return told,
            Event::Poke(poke) => told.push(poke.global_position),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_goes_on_when_the_server_is_killed() {
    let mut random = StdRng::seed_from_u64(seed());
    let directory = tempfile::tempdir().expect("a temporary folder");
    let (data, read_model) = (directory.path().join("data"), directory.path().join("model.db"));
    let mut server = Server::start(&data, &[]).await;
    // With the default waits instead of the short ones of tests.
    let client = Client::builder(&server.url()).token(TOKEN).build().expect("a URL and a token");
    let (stop, stop_writing) = (CancellationToken::new(), CancellationToken::new());
    let (in_store, in_file) = (Seen::default(), Seen::default());
    let workers = [
        tokio::spawn(
            worker(&client, StreamCheckpoint::new(&client, &["thing"], "x", None), &in_store).run(stop.clone()),
        ),
        tokio::spawn(worker(&client, FileCheckpoint::new(directory.path().join("x")), &in_file).run(stop.clone())),
        tokio::spawn(settings(StaticWorker::new(&client, model(&read_model))).run(stop.clone())),
    ];
    let follower = tokio::spawn(follow(client.clone()));
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(client.clone(), writer, stop_writing.clone()))).collect();
    for _ in 0..CYCLES {
        // The sleep makes the moment of the kill random. Nothing depends on its length.
        tokio::time::sleep(Duration::from_millis(random.random_range(100..800))).await;
        let address = server.address.clone();
        server.kill().await;
        server = Server::start_at(&address, &data).await;
    }
    stop_writing.cancel();
    let mut told = Told::new();
    for writer in writers {
        told.extend(timeout(PATIENCE, writer).await.expect("it goes on").expect("a writer does not panic"));
    }
    client.write("end", &NewMessage::new("Ended", json!({})), Expected::NoStream).await.expect("written");

    let log = all(&client, "thing").await;
    check_writes(&log, &told);
    let log: Vec<i64> = log.iter().map(Message::global_position).collect();
    let pokes = timeout(PATIENCE, follower).await.expect("it goes on").expect("a subscriber does not panic");
    assert!(pokes == log, "the subscriber was told something else than what there is");
    let last = log.last().expect("something was written");
    let deadline = Instant::now() + PATIENCE;
    while [&in_store, &in_file].iter().any(|seen| seen.lock().last() != Some(last)) || positions(&read_model) != log {
        assert!(Instant::now() < deadline, "a worker does not come to the end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    for worker in workers {
        worker.await.expect("a worker does not panic").expect("it ends well");
    }
    let repeated = [in_store, in_file].map(|seen| check_handled(&seen.lock(), &log));
    tell(&format!("{} messages, {CYCLES} kills, repeated by workers: {repeated:?}", log.len()));
    server.stop().await;
}

/// Every message is there once, at the position that its writer got, in the order of its stream.
fn check_writes(log: &[Message], told: &Told) {
    let mut places: HashMap<i64, &Message> = log.iter().map(|message| (message.global_position(), message)).collect();
    assert_eq!(places.len(), told.len(), "each message is there once");
    let mut last: HashMap<&str, (usize, i64)> = HashMap::new();
    for (stream, number, written) in told {
        let message = places.remove(&written.global_position).expect("a message where it was told");
        assert_eq!((message.stream(), message.position()), (stream.as_str(), written.position));
        assert_eq!(message.decode::<Value>().expect("JSON")["number"], *number);
        let place = (*number, written.position);
        if let Some(before) = last.insert(stream, place) {
            assert!(before.0 < place.0 && before.1 + 1 == place.1, "{stream}: {before:?} before {place:?}");
        }
    }
}

/// Checks that every message was handled in order, except for repetitions from a saved position. Returns the number of
/// repetitions.
fn check_handled(seen: &[i64], log: &[i64]) -> usize {
    let (mut done, mut repeated) = (0, 0);
    for position in seen {
        let at = log.binary_search(position).expect("a message of the log");
        assert!(at <= done, "{position} was handled before what stands before it");
        repeated += usize::from(at < done);
        done = done.max(at + 1);
    }
    assert_eq!(done, log.len());
    repeated
}

fn positions(model: &PathBuf) -> Vec<i64> {
    let model = rusqlite::Connection::open(model).expect("a read model");
    model.busy_timeout(PATIENCE).expect("a time");
    let mut rows = model.prepare("SELECT position FROM seen ORDER BY rowid").expect("a table");
    rows.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("numbers")
}

/// All subscribers reconnect and get the next poke. The spread of their moments is printed. The test of `retry` checks
/// the spread of waits.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_subscribers_come_back() {
    const SUBSCRIBERS: usize = 50;
    /// The average number of failed connections of each subscriber before the server is back.
    const ATTEMPTS: usize = 7;
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(directory.path(), &[]).await;
    let address = server.address.clone();
    let client = Client::builder(&server.url()).token(TOKEN).build().expect("a URL and a token");
    let connected = Arc::<Mutex<Vec<Instant>>>::default();
    let subscribers: Vec<_> = (0..SUBSCRIBERS)
        .map(|_| {
            let (mut subscription, connected) = (client.subscribe(Subscribe::category("thing")), connected.clone());
            tokio::spawn(async move {
                loop {
                    match subscription.next().await.expect("it goes on by itself") {
                        Event::Connected => connected.lock().push(Instant::now()),
                        Event::Poke(poke) => return assert_eq!(poke.position, 0),
                        _ => {}
                    }
                }
            })
        })
        .collect();
    let all_connected = async |times: usize| {
        let deadline = Instant::now() + PATIENCE;
        while connected.lock().len() < times * SUBSCRIBERS {
            assert!(Instant::now() < deadline, "{} of {SUBSCRIBERS} connected", connected.lock().len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    all_connected(1).await;
    server.kill().await;

    // A listener in place of the server, which counts connections.
    let counter = TcpListener::bind(&address).await.expect("the address is free");
    let killed = Instant::now();
    let mut attempts = Vec::new();
    while attempts.len() < ATTEMPTS * SUBSCRIBERS {
        let attempt = timeout(PATIENCE, counter.accept()).await.expect("they come back").expect("a connection");
        attempts.push(killed.elapsed());
        drop(attempt);
    }
    drop(counter);
    let server = Server::start_at(&address, directory.path()).await;
    all_connected(2).await;
    client.write("thing-1", &NewMessage::new("T", json!({})), Expected::NoStream).await.expect("written");
    for subscriber in subscribers {
        timeout(PATIENCE, subscriber).await.expect("it is told").expect("a subscriber does not panic");
    }

    let back = connected.lock()[SUBSCRIBERS..].to_vec();
    let (tenths, within) = spread(&back);
    tell(&format!(
        "{} attempts within {:?}; back within {within:?}, by tenths of it: {tenths:?}",
        attempts.len(),
        attempts.last().expect("attempts"),
    ));
    server.stop().await;
}

/// How many moments are in each tenth of the time from the first to the last, and that time.
fn spread(moments: &[Instant]) -> ([usize; 10], Duration) {
    let (first, last) = (moments[0], moments[moments.len() - 1]);
    let mut tenths = [0; 10];
    for moment in moments {
        let tenth = (*moment - first).as_secs_f64() / (last - first).as_secs_f64() * 10.0;
        tenths[(tenth as usize).min(9)] += 1;
    }
    (tenths, last - first)
}
