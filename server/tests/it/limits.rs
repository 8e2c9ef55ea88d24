//! Time limits and bounds, made short.

use std::time::{Duration, Instant};

use crate::client::{Client, End, call, head};
use crate::events::Events;
use crate::server::{Server, fresh};

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_head_must_come_in_time() {
    let server = Server::start_with(|config| config.timeouts.head = SHORT).await;
    // Some begin like HTTP/2, which has time between its requests.
    for beginning in ["", "GET /health HTTP/1.1\r\nHost: localhost\r\n", "PRI / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n"] {
        let mut client = server.connect().await;
        client.send(beginning).await;
        assert!(client.rest().await.is_empty(), "{beginning}");
    }
    // Also one that comes byte by byte, and on a connection that was of use before.
    let mut client = server.connect().await;
    assert_eq!(client.request("GET", "/health", None).await.status, 200);
    let started = Instant::now();
    let mut bytes = b"GET /health HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
    let mut pause = tokio::time::interval(Duration::from_millis(5));
    while tokio::io::AsyncWriteExt::write_all(client.stream(), &[*bytes.next().expect("endless")]).await.is_ok() {
        assert!(started.elapsed() < crate::server::SOON, "the head never ends");
        pause.tick().await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let server = Server::start_with(|config| {
        config.timeouts.idle = SHORT;
        config.timeouts.head = LONG;
    })
    .await;
    let token = fresh();
    let mut events = Events::subscribe(&server, &token, "all=true").await;
    events.up_to(": caught-up").await;
    let mut waiting = server.connect().await;
    waiting.send(call(Some(&token), r#"["stream.get","a-1",{"waitMs":500}]"#)).await;
    let mut idle = server.connect().await;
    assert_eq!(idle.request("GET", "/health", None).await.status, 200);
    assert!(idle.rest().await.is_empty());
    assert_eq!(waiting.reply().await.text(), "[]");
    server.rpc(&token, r#"["stream.write","a-1",{"type":"T","data":{}}]"#).await;
    assert!(events.next().await.is_some_and(|frame| frame.contains("poke")));
}

#[tokio::test]
async fn a_slow_body_is_answered_and_the_connection_closed() {
    for total in [false, true] {
        let server = Server::start_with(|config| {
            config.timeouts.body_gap = if total { LONG } else { SHORT };
            config.timeouts.body_total = if total { SHORT } else { LONG };
        })
        .await;
        let mut client = server.connect().await;
        client.send(head("POST", "/rpc", None, "Content-Length: 100\r\n") + "[").await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.code().as_str()), (408, "INVALID_REQUEST"));
        assert_eq!(reply.header("connection"), Some("close"));
    }
}

#[tokio::test]
async fn who_takes_nothing_of_a_reply_is_cut() {
    let server = Server::start_with(|config| config.timeouts.stall = SHORT).await;
    let token = fresh();
    server.fill(&token, "a-1", 9000, &format!(r#"{{"x":"{}"}}"#, "x".repeat(5000))).await;
    let mut client = server.connect().await;
    client.send(call(Some(&token), r#"["stream.get","a-1",{"batchSize":-1}]"#)).await;
    gone(&server).await;
    client.head().await;
    assert_eq!(client.chunked().await.1, End::CutOff);
}

#[tokio::test]
async fn a_subscriber_that_takes_nothing_is_cut_and_one_that_is_slow_is_not() {
    let server = Server::start_with(|config| config.timeouts.stall = Duration::from_secs(1)).await;
    let token = fresh();
    for _ in 0..10 {
        server.fill(&token, &format!("a-{}", "x".repeat(240)), 3000, "{}").await;
    }
    let request = head("GET", "/subscribe?category=a", Some(&token), "");
    let mut slow = Client::connect_narrow(server.address).await;
    slow.send(&request).await;
    let mut slow = Events::of(slow).await;
    let mut stuck = Client::connect_narrow(server.address).await;
    stuck.send(&request).await;
    let stuck = Events::of(stuck).await;
    // Slow for much longer than the limit: some thirty pieces, each a while after the last one.
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let mut pokes = 0;
    while pokes < 30_000 {
        let frame = slow.next().await.expect("the stream goes on");
        pokes += usize::from(frame.contains("poke"));
        if pokes % 1000 == 0 {
            pace.tick().await;
        }
    }
    assert_eq!(stuck.ending().await, End::CutOff);
}

#[tokio::test]
async fn connections_beyond_the_bound_wait() {
    let server = Server::start_with(|config| config.bounds.connections = 2).await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    assert_eq!(first.request("GET", "/health", None).await.status, 200);
    assert_eq!(second.request("GET", "/health", None).await.status, 200);
    let mut third = server.connect().await;
    third.send(head("GET", "/health", None, "")).await;
    assert!(tokio::time::timeout(SHORT, third.receive()).await.is_err(), "there is no place for a third");
    drop(first);
    assert_eq!(third.reply().await.status, 200);
}

/// Waits until the connection of the test is the only one.
async fn gone(server: &Server) {
    server.has_connections(1).await;
}
