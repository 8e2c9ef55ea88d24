//! How long a partition is without an owner when members leave, are killed, or are restarted one after the other by name.
//!
//! The times are printed, not asserted: on a machine that is busy with other tests they say nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use eventodb_client::Client;
use eventodb_store::testing::tell;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::crew::Crew;
use super::local::{Journal, Run, write};
use super::member::Work;
use super::sink::{Moment, Sink};
use super::*;

const PARTITIONS: u32 = 8;
/// A lease that nobody waits for.
const LONG_SESSION: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_is_followed_at_once() {
    for cluster in [Cluster::on_a_file().await, Cluster::on_postgres().await] {
        let (client, journal) = (cluster.client(0), Journal::default());
        create_group(&client, 1, LONG_SESSION).await;
        let load = Load::start(&client, 1, Duration::from_millis(2));
        let (mut owner, mut gaps) = (Run::start(journal.worker(&client, GROUP, 0)), Vec::new());
        let first = |worker| journal.all().iter().find(|handled| handled.worker == worker).map(|handled| handled.at);
        for round in 1..=rounds(3) {
            until("the owner", async || first(round - 1).is_some()).await;
            let next = Run::start(journal.worker(&cluster.client(round), GROUP, round));
            let group = client.group(GROUP);
            until("a second member", async || group.status().await.expect("a status").members.len() == 2).await;
            let left = Instant::now();
            std::mem::replace(&mut owner, next).stop().await;
            until("the next owner", async || first(round).is_some()).await;
            gaps.push(first(round).expect("it has begun").saturating_duration_since(left));
        }
        load.stop().await;
        owner.stop().await;
        for (stream, numbers) in journal.by_stream() {
            assert!(numbers.iter().copied().eq(0..numbers.len() as i64), "{stream} is handled out of order or twice");
        }
        told("a member leaves until the next one handles", gaps);
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_partitions_of_a_killed_member_move_when_its_lease_ends() {
    for cluster in [Cluster::on_a_file().await, Cluster::on_postgres().await] {
        let (client, sink) = (cluster.client(0), Sink::timed(PARTITIONS).await);
        create_group(&client, PARTITIONS, SESSION).await;
        let mut crew = Crew::start(&cluster, 2, Work::Sink(sink.address.clone()), 0);
        let load = Load::start(&client, 64, Duration::from_millis(1));
        let mut gaps = Vec::new();
        for _ in 0..rounds(1) {
            until_shared(&client, 2).await;
            let of_all = |since: Instant| {
                let taken = sink.taken();
                taken
                    .moments
                    .iter()
                    .filter(|moment| moment.at > since)
                    .map(|moment| moment.partition)
                    .collect::<HashSet<_>>()
            };
            let shared = Instant::now();
            until("messages of all", async || of_all(shared).len() == PARTITIONS as usize).await;
            let killed = crew.kill(&cluster, 0, None).await;
            let begun = Instant::now();
            until("other owners", async || of_all(begun).len() == PARTITIONS as usize).await;
            let moments = sink.taken().moments.clone();
            gaps.push(longest(&moments, |before, after| before.member == killed && after.member != killed));
        }
        load.stop().await;
        told("the last message of a killed member until the next of its partition, with a session of 1 s", gaps);
        assert!(sink.taken().broken.is_empty(), "{:?}", sink.taken().broken);
        crew.terminate().await;
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_restarted_one_by_one_handle_nothing_twice() {
    for cluster in [Cluster::on_a_file().await, Cluster::on_postgres().await] {
        let (client, sink) = (cluster.client(0), Sink::timed(PARTITIONS).await);
        create_group(&client, PARTITIONS, LONG_SESSION).await;
        let members = if rounds(0) > 0 { 8 } else { 3 };
        let mut crew = Crew::start(&cluster, members, Work::Sink(sink.address.clone()), 0);
        until_shared(&client, members).await;
        let load = Load::start(&client, 64, Duration::from_millis(1));
        let mut gaps = Vec::new();
        for round in 0..members.max(rounds(0)) {
            let from = sink.taken().moments.len();
            crew.restart(&cluster, round % members).await;
            until_shared(&client, members).await;
            let moments = sink.taken().moments[from..].to_vec();
            gaps.push(longest(&moments, |_, _| true));
        }
        let head = load.stop().await;
        until_handled(&client.group(GROUP), head).await;
        told("between two messages of a partition while a member is restarted by name", gaps);
        let taken = sink.take_all();
        assert!(taken.refused.is_empty() && taken.broken.is_empty(), "{:?} {:?}", taken.refused, taken.broken);
        for (stream, came) in &taken.streams {
            let numbers = came.iter().map(|(_, number)| *number);
            assert!(numbers.eq(0..came.len() as i64), "{stream} is handled out of order or twice");
        }
        crew.terminate().await;
        cluster.stop().await;
    }
}

/// The longest time between two messages of one partition that are next to each other and meant.
fn longest(moments: &[Moment], is_meant: impl Fn(&Moment, &Moment) -> bool) -> Duration {
    let (mut before, mut longest) = (HashMap::<u32, Moment>::new(), Duration::ZERO);
    for moment in moments {
        if let Some(before) = before.insert(moment.partition, *moment)
            && is_meant(&before, moment)
        {
            longest = longest.max(moment.at - before.at);
        }
    }
    longest
}

/// Prints times.
pub(super) fn told(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    tell(&format!("{what}: p50 {:?}, p99 {:?}, max {:?} of {}", at(50), at(99), at(100), times.len()));
}

/// One message at a time, to each stream in turn.
pub(super) struct Load {
    stop: CancellationToken,
    task: JoinHandle<i64>,
}

impl Load {
    pub(super) fn start(client: &Client, streams: usize, each: Duration) -> Self {
        let (stop, client) = (CancellationToken::new(), client.clone());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut turns = tokio::time::interval(each);
            let mut last = 0;
            for number in 0.. {
                turns.tick().await;
                if stopped.is_cancelled() {
                    break;
                }
                last = write(&client, &(number % streams).to_string()).await;
            }
            last
        });
        Self { stop, task }
    }

    /// Returns the position of the last message.
    pub(super) async fn stop(self) -> i64 {
        self.stop.cancel();
        self.task.await.expect("it does not panic")
    }
}
