//! A poison message at a random moment of its stream: it is parked and tried again with backoff, then by an operator once
//! the handler is mended, while the stream grows. Its stream is handled in order, nothing is doubled or passed over, and it
//! flows again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use eventodb_client::worker::{Failing, Worker};
use eventodb_client::{Client, Expected, Message, NewMessage, RetryPolicy};
use eventodb_store::testing::{seed, tell};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::local::{Journal, Run, write};
use super::*;

/// Rounds that run at the same time, each with a stream of its own.
const AT_ONCE: usize = 25;
const PARTITIONS: u32 = 4;
const POISON: &str = "Poison";

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_stream_is_handled_in_order_and_flows_on_a_file() {
    poison(Cluster::on_a_file().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_stream_is_handled_in_order_and_flows_on_two_servers() {
    poison(Cluster::on_postgres().await).await;
}

/// Streams whose poison is handled by now.
type Mended = Arc<Mutex<HashSet<String>>>;

async fn poison(cluster: Cluster) {
    let (client, journal, mended) = (cluster.client(0), Journal::default(), Mended::default());
    create_group(&client, PARTITIONS, SESSION).await;
    let runs: Vec<Run> = (0..2).map(|at| Run::start(worker(&cluster.client(at), &journal, &mended, at))).collect();
    let mut random = StdRng::seed_from_u64(seed());
    let rounds = rounds(50);
    let (mut streams, mut count) = (JoinSet::new(), 0);
    for round in 0..rounds {
        if streams.len() >= AT_ONCE {
            count += streams.join_next().await.expect("there are some").expect("a round does not panic");
        }
        let random = StdRng::seed_from_u64(random.random());
        streams.spawn(grow(cluster.client(round), round, random, Arc::clone(&mended)));
    }
    while let Some(written) = streams.join_next().await {
        count += written.expect("a round does not panic");
    }
    let (head, group) = (client.head().await.expect("a head"), client.group(GROUP));
    // The handlers are mended, but one that ran meanwhile may have parked its stream after the last try.
    until_handled_with(&group, head, async || {
        group.retry(None).await.expect("a reply");
    })
    .await;
    for run in runs {
        run.stop().await;
    }
    let streams = journal.by_stream();
    assert_eq!((streams.len(), journal.all().len()), (rounds, count), "streams and messages");
    for (stream, numbers) in streams {
        assert!(numbers.iter().copied().eq(0..numbers.len() as i64), "{stream}: {numbers:?}");
    }
    tell(&format!("{rounds} poisoned streams, {count} messages handled once and in order"));
    cluster.stop().await;
}

fn worker(client: &Client, journal: &Journal, mended: &Mended, number: usize) -> Worker {
    let (failing, mended) = (journal.clone(), Arc::clone(mended));
    let waits = Failing::Park { first: Duration::from_millis(10), longest: Duration::from_millis(80), tries: 4 };
    journal.worker(client, GROUP, number).retry(RetryPolicy::none()).failing(waits).on_type(
        POISON,
        move |message: Message, _| {
            let is_mended = mended.lock().contains(message.stream());
            if is_mended {
                failing.note(number, &message);
            }
            std::future::ready(if is_mended { Ok(()) } else { Err(std::io::Error::other("poison")) })
        },
    )
}

/// Writes to a stream of its own, in which one message is poison, and mends it at a random moment. Returns how many
/// messages it wrote.
async fn grow(client: Client, round: usize, mut random: StdRng, mended: Mended) -> usize {
    let (name, count) = (round.to_string(), random.random_range(4..16));
    let stream = format!("{CATEGORY}-{name}");
    let (poisoned, mends) = (random.random_range(0..count), random.random_range(0..count));
    for number in 0..count {
        if number == mends {
            mended.lock().insert(stream.clone());
            // What the operator does. The stream may not be parked yet, not any more, or still be tried with backoff.
            client.group(GROUP).retry(Some(&stream)).await.expect("a reply");
        }
        if number == poisoned {
            let message = NewMessage::new(POISON, json!({}));
            client.write(&stream, &message, Expected::Any).await.expect("written");
        } else {
            write(&client, &name).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..12))).await;
    }
    count
}
