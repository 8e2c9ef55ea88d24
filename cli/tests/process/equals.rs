//! Two servers on one PostgreSQL are equals: each serves any request.

use std::time::{Duration, Instant};

use eventodb_store::testing::tell;
use eventodb_testing::postgres;
use serde_json::json;

use super::load::{Load, Told};
use super::server::*;

/// Acknowledged writes of each writer to wait for.
const ROUNDS: usize = 100;
const POKES: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_are_one_log() {
    let url = postgres::database().await;
    let servers = [Server::on_database(&url, &[]).await, Server::on_database(&url, &[]).await];
    let load = Load::default();
    let told = [Told::default(), Told::default()];
    let followers = [told[0].follow(&servers[0]), told[1].follow(&servers[1])];
    let mut writers = load.start(&servers[0], 0);
    writers.extend(load.start(&servers[1], 1));
    for _ in 0..ROUNDS {
        load.until_all_write().await;
    }
    load.stop();
    for writer in writers {
        writer.await.expect("a writer does not panic");
    }
    tell(&load.tally());
    let all = servers[0].all().await;
    assert!(all == servers[1].all().await, "both servers show the same");
    load.check(&all);
    for told in told {
        told.check(&all).await;
    }
    for server in servers {
        server.stop().await;
    }
    for follower in followers {
        follower.await.expect("a follower does not panic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_through_one_server_pokes_a_subscriber_of_the_other() {
    let url = postgres::database().await;
    let [own, other] = [Server::on_database(&url, &[]).await, Server::on_database(&url, &[]).await];
    let mut subscriber = own.connect().await;
    subscriber.subscribe(0).await.expect("the server answers");
    let mut http = other.connect().await;
    let mut times: Vec<Duration> = Vec::with_capacity(POKES);
    for at in 0..POKES {
        let place = call(&mut http, &json!(["stream.write", "s-1", { "type": "T", "data": {} }])).await;
        let answered = Instant::now();
        let pokes = subscriber.pokes().await.expect("it stays open").expect("it does not end");
        times.push(answered.elapsed());
        assert_eq!(pokes, [("s-1".to_owned(), at as i64, integer(&place["globalPosition"]))]);
    }
    times.sort_unstable();
    let (middle, late, last) = (times[POKES / 2], times[POKES * 99 / 100], times[POKES - 1]);
    tell(&format!(
        "from the reply of one server to the poke of the other: p50 {middle:?}, p99 {late:?}, longest {last:?}"
    ));
    own.stop().await;
    other.stop().await;
}
