//! A thousand waiting readers: each gets the message that it waits for. The test prints their cost in memory, and the
//! time from a commit to the reader's answer.

use std::time::Duration;

use eventodb_client::{CategoryQuery, Client, Expected, NewMessage, StreamQuery};
use eventodb_store::testing::tell;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::server::*;

const READERS: usize = 1000;
const MESSAGES: i64 = 500;

/// Resident memory of a process, in kilobytes.
fn memory(pid: u32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim_end_matches("kB").trim().parse().expect("a number")
}

/// Each reader has a connection, and so has its end in the server.
fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the maximum one may go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_waiting_readers_are_answered() {
    raise_limit();
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(directory.path(), &[]).await;
    let client = server.client();
    let waiting = Client::builder(&server.url()).token(TOKEN).connections(READERS).build().expect("a URL and a token");
    let write = async |stream: &str| {
        let message = NewMessage::new("T", json!({}));
        client.write(stream, &message, Expected::NoStream).await.expect("written").global_position
    };
    let mut last = write("first-1").await;
    let before = memory(server.pid);
    let readers: Vec<_> = (0..READERS)
        .map(|reader| {
            let (client, wait) = (waiting.clone(), Duration::from_secs(30));
            tokio::spawn(async move {
                // Half of them wait for a category, half for a stream each.
                match reader % 2 {
                    0 => client.category_get(&CategoryQuery::new("all").wait(wait)).await,
                    _ => client.get(&format!("one-{reader}"), &StreamQuery::new().wait(wait)).await,
                }
            })
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let connections = || std::fs::read_dir(format!("/proc/{}/fd", server.pid)).expect("the process is there").count();
    while connections() < READERS {
        assert!(Instant::now() < deadline, "they do not all connect");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // If a reader is not waiting yet, it finds its message at once, and the printed memory is too low.
    let with_readers = memory(server.pid);
    write("all-1").await;
    for reader in (1..READERS).step_by(2) {
        last = write(&format!("one-{reader}")).await;
    }
    for reader in readers {
        let page = timeout(PATIENCE, reader).await.expect("it is answered").expect("no panic").expect("a page");
        assert_eq!(page.messages.len(), 1);
    }
    tell(&format!("{READERS} waiting readers with their connections: {} kB", with_readers - before));
    tell(&format!("from the acknowledgement of a write to its reader: {}", delays(&client, last + 1).await));
    server.stop().await;
}

/// Writes one message after the other while a reader waits for each.
async fn delays(client: &Client, mut from: i64) -> String {
    let mut delays = Vec::new();
    for number in 0..MESSAGES {
        let reader = client.clone();
        let waiting = tokio::spawn(async move {
            let query = CategoryQuery::new("news").from(from).wait(Duration::from_secs(30));
            (reader.category_get(&query).await.expect("a page"), Instant::now())
        });
        let message = NewMessage::new("T", json!({ "number": number }));
        let written = client.write("news-1", &message, Expected::Any).await.expect("written");
        let acknowledged = Instant::now();
        let (page, read) = timeout(PATIENCE, waiting).await.expect("it is answered").expect("no panic");
        assert_eq!(page.messages[0].global_position(), written.global_position);
        delays.push(read.saturating_duration_since(acknowledged));
        from = written.global_position + 1;
    }
    delays.sort();
    let part = |percent: usize| delays[delays.len() * percent / 100];
    format!("p50 {:?}, p99 {:?}, at most {:?}", part(50), part(99), delays[delays.len() - 1])
}
