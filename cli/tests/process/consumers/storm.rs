//! The hard test: members are killed, stopped for twice a session, and told to end; servers and PostgreSQL are killed; the
//! group is resized twice and reset once, while messages are written.
//!
//! Through a sink that refuses the epochs of former owners every stream is handled in order and without a gap. With the
//! atomic form, and with a read model, each message has exactly one result.

use std::collections::HashMap;
use std::time::Duration;

use eventodb_client::group::{Epoch, ResetGroup, ResetTo};
use eventodb_client::{BufferSettings, BufferedWriter, Client, NewMessage};
use eventodb_store::testing::{seed, tell};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::super::client::killed::all;
use super::cluster::Cluster;
use super::crew::Crew;
use super::member::{RESULTS, Work};
use super::sink::Sink;
use super::*;

/// How long processes are disturbed.
const SECONDS: &str = "EVENTODB_TEST_GROUPS_SECONDS";
const USUAL_SECONDS: u64 = 30;
const SECONDS_BEHIND_A_POOLER: &str = "EVENTODB_TEST_GROUPS_POOLER_SECONDS";
const MEMBERS: usize = 8;
const STREAMS: usize = 10_000;
/// The same in CI where each message is a commit of its own.
const STREAMS_OF_COMMITS: usize = 1_000;
/// Messages that are written each second, beside the first ones of all streams: as many as disturbed members handle, so
/// that the group is near the head all the time.
const RATE: usize = 50;
/// One message in so many fails at its first try, and its stream is parked.
const FAILING: i64 = 199;

/// All forms at once: their members and servers wait for most of the time.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_file() {
    let seconds = given(SECONDS, USUAL_SECONDS);
    tokio::join!(
        async { through_a_sink(Cluster::on_a_file().await, seconds).await },
        async { exactly_once(Cluster::on_a_file().await, Work::Append, seconds).await },
        async { in_tables(Cluster::on_a_file().await, seconds).await },
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_two_servers() {
    let seconds = given(SECONDS, USUAL_SECONDS);
    tokio::join!(
        async { through_a_sink(Cluster::on_postgres().await, seconds).await },
        async { exactly_once(Cluster::on_postgres().await, Work::Append, seconds).await },
        async { in_tables(Cluster::on_postgres().await, seconds).await },
    );
}

/// Only as a long form.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler() {
    let seconds = given(SECONDS_BEHIND_A_POOLER, 0);
    if seconds > 0 {
        through_a_sink(Cluster::behind_a_pooler().await, seconds).await;
    }
}

async fn through_a_sink(cluster: Cluster, seconds: u64) {
    let sink = Sink::start().await;
    let mut storm = Storm::new(cluster, Work::Sink(sink.address.clone()), STREAMS, seconds).await;
    let reset = storm.rage(true).await.expect("it was reset");
    storm.calm(&format!("{} taken", sink.count())).await;
    let taken = sink.take_all();
    assert!(taken.broken.is_empty(), "{} times: {:?}", taken.broken.len(), &taken.broken[..taken.broken.len().min(5)]);
    // What a process had in hand when it was stopped or killed, or when the group was reset.
    let is_late = |line: &super::sink::Line| storm.crew.disturbed.contains(&line.member) || line.epoch < reset;
    let others: Vec<_> = taken.refused.iter().filter(|line| !is_late(line)).collect();
    assert!(others.is_empty(), "refused although nothing befell the member: {others:?}");
    let written = storm.written().await;
    for (stream, count) in &written {
        let came = &taken.streams[stream];
        let again: Vec<i64> = came.iter().filter(|(epoch, _)| *epoch >= reset).map(|(_, number)| *number).collect();
        assert_eq!(again.first(), Some(&0), "{stream} does not begin anew after the reset");
        assert_eq!(came.last().map(|(_, number)| number + 1), Some(*count), "{stream} is not handled to its end");
    }
    let total: i64 = written.values().sum();
    tell(&format!(
        "{total} messages of {} streams, {} taken over the reset, {} late ones refused",
        written.len(),
        taken.count,
        taken.refused.len()
    ));
    storm.end().await;
}

/// With read models.
async fn in_tables(cluster: Cluster, seconds: u64) {
    let place = cluster.place();
    place.prepare().await;
    exactly_once(cluster, Work::Table(place), seconds).await;
}

async fn exactly_once(cluster: Cluster, work: Work, seconds: u64) {
    let streams = if seconds > USUAL_SECONDS { STREAMS } else { STREAMS_OF_COMMITS };
    let mut storm = Storm::new(cluster, work.clone(), streams, seconds).await;
    storm.rage(false).await;
    storm.calm("").await;
    let results = match work {
        Work::Table(place) => place.noted().await,
        _ => storm.appended().await,
    };
    let written = storm.written().await;
    for (stream, count) in &written {
        let expected: Vec<i64> = (0..*count).collect();
        assert_eq!(results.get(stream), Some(&expected), "the results of {stream}");
    }
    assert_eq!(results.len(), written.len());
    tell(&format!("{} messages of {} streams have one result each", written.values().sum::<i64>(), written.len()));
    storm.end().await;
}

/// Everything that a run disturbs.
struct Storm {
    cluster: Cluster,
    crew: Crew,
    random: StdRng,
    duration: Duration,
    streams: usize,
    servers_killed: usize,
    databases_crashed: usize,
}

impl Storm {
    async fn new(cluster: Cluster, work: Work, streams: usize, seconds: u64) -> Self {
        let duration = Duration::from_secs(seconds);
        create_group(&cluster.client(0), 16, SESSION).await;
        let crew = Crew::start(&cluster, MEMBERS, work, FAILING);
        let random = StdRng::seed_from_u64(seed());
        Self { cluster, crew, random, duration, streams, servers_killed: 0, databases_crashed: 0 }
    }

    /// Disturbs everything for a while. Returns the first epoch since the reset.
    async fn rage(&mut self, with_reset: bool) -> Option<Epoch> {
        let stop = CancellationToken::new();
        let writer = write(self.cluster.client(0), self.streams, RATE, self.most(), stop.clone());
        let begun = Instant::now();
        let mut acts = vec![(1, Act::Resize(5)), (2, Act::Resize(32))];
        if with_reset {
            acts.push((3, Act::Reset));
        }
        let mut reset = None;
        for (at, act) in acts {
            self.disturb_until(begun + self.duration * at / 4).await;
            match act {
                Act::Resize(partitions) => {
                    self.cluster.client(1).group(GROUP).resize(partitions).await.expect("resized");
                }
                Act::Reset => reset = Some(self.reset().await),
            }
        }
        self.disturb_until(begun + self.duration).await;
        stop.cancel();
        writer.await.expect("the writer does not panic");
        reset
    }

    /// Messages that are written at most, so that a slow machine has not more to do than a fast one.
    fn most(&self) -> usize {
        self.streams + RATE * usize::try_from(self.duration.as_secs()).expect("it is little")
    }

    async fn disturb_until(&mut self, end: Instant) {
        while Instant::now() < end {
            // Time passes on purpose: between two disturbances everybody works.
            tokio::time::sleep(Duration::from_millis(self.random.random_range(20..300))).await;
            self.crew.tend(&self.cluster, Instant::now());
            match self.random.random_range(0..10) {
                0 => {
                    let server = self.random.random_range(0..self.cluster.size());
                    self.cluster.replace(server).await;
                    self.servers_killed += 1;
                }
                1 if self.random.random_range(0..2) == 0 => {
                    self.databases_crashed += usize::from(self.cluster.crash_database());
                }
                _ => self.crew.disturb(&self.cluster, &mut self.random).await,
            }
        }
    }

    /// Lets the group begin anew. Returns the lowest epoch since.
    async fn reset(&mut self) -> Epoch {
        let group = self.cluster.client(0).group(GROUP);
        let reset = ResetGroup { to: ResetTo::Beginning, partitions: None, dry_run: false };
        // A resize may be under way.
        until("the reset", async || group.reset(&reset).await.is_ok()).await;
        let status = group.status().await.expect("a status");
        status.partitions.iter().map(|each| each.epoch).min().expect("partitions")
    }

    /// Waits until everything is handled and nothing is parked.
    async fn calm(&mut self, so_far: &str) {
        self.crew.rest(&self.cluster).await;
        let client = self.cluster.client(0);
        let (head, group) = (client.head().await.expect("a head"), client.group(GROUP));
        tell(&format!(
            "{:?}, {} servers and {} databases killed; up to {head}; {so_far}",
            self.crew.told, self.servers_killed, self.databases_crashed
        ));
        let handled = until_handled(&group, head);
        tokio::pin!(handled);
        while tokio::time::timeout(SESSION, &mut handled).await.is_err() {
            self.crew.tend(&self.cluster, Instant::now());
        }
    }

    /// How many messages each stream has.
    async fn written(&self) -> HashMap<String, i64> {
        let mut streams = HashMap::new();
        for message in all(&self.cluster.client(0), CATEGORY).await {
            *streams.entry(message.stream().to_owned()).or_insert(0) += 1;
        }
        streams
    }

    /// The results that were appended, by the stream that they are of.
    async fn appended(&self) -> HashMap<String, Vec<i64>> {
        let mut results: HashMap<String, Vec<i64>> = HashMap::new();
        for result in all(&self.cluster.client(0), RESULTS).await {
            let of = result.decode::<Value>().expect("JSON")["of"].as_i64().expect("a number");
            results.entry(result.stream().replacen(RESULTS, CATEGORY, 1)).or_default().push(of);
        }
        results
    }

    async fn end(self) {
        self.crew.terminate().await;
        self.cluster.stop().await;
    }
}

/// What is done to the group.
enum Act {
    Resize(u32),
    Reset,
}

/// Writes to all streams in turn, until it is stopped, or has written this many messages.
pub(super) fn write(
    client: Client,
    streams: usize,
    rate: usize,
    most: usize,
    stop: CancellationToken,
) -> JoinHandle<()> {
    const EACH: Duration = Duration::from_millis(20);
    tokio::spawn(async move {
        let writer = BufferedWriter::new(&client, BufferSettings::default()).expect("good settings");
        let mut numbers = 0..most;
        let mut receipts = Vec::new();
        let per_turn = rate * usize::try_from(EACH.as_millis()).expect("it is short") / 1000;
        let mut turns = tokio::time::interval(EACH);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            turns.tick().await;
            // The first turn writes to every stream.
            let count = if receipts.is_empty() { streams } else { per_turn };
            for number in numbers.by_ref().take(count) {
                let message = NewMessage::new("Counted", json!({}));
                let stream = format!("{CATEGORY}-{}", number % streams);
                receipts.push(writer.send(&stream, &message).await.expect("taken"));
            }
        }
        writer.close().await;
        for receipt in receipts {
            receipt.await.expect("written");
        }
    })
}
