//! A group that is resized, or takes over a static group, at random moments while messages are written: without a failure
//! each message is handled exactly once, in order within its stream.

use std::time::Duration;

use eventodb_client::group::{Adopt, CreateGroup, partition_of};
use eventodb_store::testing::{seed, tell};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

use super::super::client::killed::all;
use super::cluster::Cluster;
use super::local::{Journal, Run};
use super::storm::write;
use super::*;

const MEMBERS: usize = 3;
const STREAMS: usize = 100;
/// Messages that are written each second.
const RATE: usize = 500;
/// Messages that are written in a round, at most.
const PER_ROUND: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_resized_handles_each_message_once_on_a_file() {
    resize(Cluster::on_a_file().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_resized_handles_each_message_once_on_two_servers() {
    resize(Cluster::on_postgres().await).await;
}

async fn resize(cluster: Cluster) {
    let (client, journal) = (cluster.client(0), Journal::default());
    create_group(&client, 4, SESSION * 30).await;
    let runs: Vec<Run> = (0..MEMBERS).map(|at| Run::start(journal.worker(&cluster.client(at), GROUP, at))).collect();
    let stop = CancellationToken::new();
    let writer = write(client.clone(), STREAMS, RATE, rounds(8) * PER_ROUND, stop.clone());
    let mut random = StdRng::seed_from_u64(seed());
    for round in 0..rounds(8) {
        // Time passes on purpose: the moment is random.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
        let group = cluster.client(round).group(GROUP);
        // It refuses a ninth partition count that is not carried over to the end yet.
        until("the resize", async || group.resize(few_or_many(round)).await.is_ok()).await;
    }
    stop.cancel();
    writer.await.expect("the writer does not panic");
    let (head, group) = (client.head().await.expect("a head"), client.group(GROUP));
    until_handled(&group, head).await;
    for run in runs {
        run.stop().await;
    }
    for (stream, numbers) in journal.by_stream() {
        assert!(numbers.iter().copied().eq(0..numbers.len() as i64), "{stream}: {numbers:?}");
    }
    let written = all(&client, CATEGORY).await.len();
    assert_eq!(journal.all().len(), written);
    tell(&format!("{} resizes, {written} messages handled once and in order", rounds(8)));
    cluster.stop().await;
}

/// Few and many in turn.
fn few_or_many(round: usize) -> u32 {
    [1, 16, 5, 32, 3, 7, 2, 12, 64, 4][round % 10]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_exactly_where_a_static_group_was_on_a_file() {
    adopt(Cluster::on_a_file().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_exactly_where_a_static_group_was_on_two_servers() {
    adopt(Cluster::on_postgres().await).await;
}

async fn adopt(cluster: Cluster) {
    let client = cluster.client(0);
    let stop = CancellationToken::new();
    let writer = write(client.clone(), STREAMS, RATE, rounds(8) * PER_ROUND, stop.clone());
    let mut random = StdRng::seed_from_u64(seed());
    for round in 0..rounds(4) {
        let head = client.head().await.expect("a head");
        let size = random.random_range(1..=9);
        let checkpoints: Vec<i64> = (0..size).map(|_| random.random_range(0..=head)).collect();
        adopt_at(&cluster, round, &checkpoints, random.random_range(1..=12)).await;
    }
    stop.cancel();
    writer.await.expect("the writer does not panic");
    tell(&format!("{} static groups taken over", rounds(4)));
    cluster.stop().await;
}

/// A new group takes over a static one whose members stand at these checkpoints.
async fn adopt_at(cluster: &Cluster, round: usize, checkpoints: &[i64], partitions: u32) {
    let (client, name, journal) = (cluster.client(round), format!("adopted{round}"), Journal::default());
    let size = checkpoints.len();
    let create = CreateGroup {
        categories: vec![CATEGORY.to_owned()],
        partitions: Some(partitions),
        adopt: Some(Adopt { size, checkpoints: checkpoints.to_vec() }),
        ..CreateGroup::default()
    };
    client.group(&name).create(&create).await.expect("created");
    let runs: Vec<Run> = (0..2).map(|at| Run::start(journal.worker(&cluster.client(at), &name, at))).collect();
    let head = client.head().await.expect("a head");
    let group = client.group(&name);
    until_handled(&group, head).await;
    for run in runs {
        run.stop().await;
    }
    let log = all(&client, CATEGORY).await;
    let is_left = |stream: &str, position: i64| {
        let member = partition_of(stream, u32::try_from(size).expect("it is little"));
        position > checkpoints[member as usize]
    };
    let mut wanted: Vec<i64> = log
        .iter()
        .filter(|message| is_left(message.stream(), message.global_position()))
        .map(eventodb_client::Message::global_position)
        .filter(|position| *position <= head)
        .collect();
    let mut handled: Vec<i64> =
        journal.all().iter().map(|each| each.position).filter(|position| *position <= head).collect();
    wanted.sort_unstable();
    handled.sort_unstable();
    assert!(handled == wanted, "round {round}: {} were handled and not {}", handled.len(), wanted.len());
}
