//! SIGKILL of the server at random moments during parallel writes, on each backend.

use std::time::{Duration, Instant};

use eventodb_store::testing::{seed, tell};
use eventodb_testing::postgres;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::load::{Load, Told};
use super::server::*;

const CYCLES: u64 = 20;

/// Kills a server and starts the next on the same storage, repeatedly.
async fn kill_again_and_again(start: impl AsyncFn() -> Server) {
    let mut random = StdRng::seed_from_u64(seed());
    let (load, told) = (Load::default(), Told::default());
    for cycle in 0..CYCLES {
        let started = Instant::now();
        let server = start().await;
        let ready = started.elapsed();
        load.retry_unanswered(&server).await;
        let answered = started.elapsed();
        let follower = told.follow(&server);
        let writers = load.start(&server, cycle);
        // The sleep makes the moment of the kill random. Nothing depends on its length.
        tokio::time::sleep(Duration::from_millis(random.random_range(5..400))).await;
        server.kill().await;
        for writer in writers {
            writer.await.expect("a writer does not panic");
        }
        follower.await.expect("a follower does not panic");
        tell(&format!(
            "cycle {cycle}: listening after {ready:?}, what was unanswered is written after {answered:?}; {}",
            load.tally()
        ));
    }
    let server = start().await;
    load.retry_unanswered(&server).await;
    let all = server.all().await;
    load.check(&all);
    let follower = told.follow(&server);
    told.check(&all).await;
    server.stop().await;
    follower.await.expect("a follower does not panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_server_is_killed() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    kill_again_and_again(async || Server::start(directory.path(), &[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_a_server_on_postgresql_is_killed() {
    let url = postgres::database().await;
    kill_again_and_again(async || Server::on_database(&url, &[]).await).await;
}

/// A server that was killed before anything was indexed reads the rest of the log at its next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_with_its_indexer_far_behind_starts_soon() {
    const APPENDS: i64 = 90;
    const MESSAGES: i64 = 500;
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(directory.path(), &["--index-batch", "1000000"]).await;
    let mut http = server.connect().await;
    for append in 0..APPENDS {
        let message = json!({ "type": "T", "data": { "append": append } });
        let messages = vec![message; MESSAGES as usize];
        call(&mut http, &json!(["stream.append", format!("s-{append}"), messages])).await;
    }
    server.kill().await;
    let started = Instant::now();
    let server = Server::start(directory.path(), &[]).await;
    let listening = started.elapsed();
    let mut http = server.connect().await;
    for append in [0, APPENDS - 1] {
        let version = call(&mut http, &json!(["stream.version", format!("s-{append}")])).await;
        assert_eq!(version, json!(MESSAGES - 1));
    }
    let answered = started.elapsed();
    tell(&format!(
        "{} messages behind: listening after {listening:?}, answering after {answered:?}",
        APPENDS * MESSAGES
    ));
    let place = call(&mut http, &json!(["stream.write", "s-0", { "type": "T", "data": {} }])).await;
    assert_eq!(place, json!({ "position": MESSAGES, "globalPosition": APPENDS * MESSAGES + 1 }));
    server.stop().await;
}
