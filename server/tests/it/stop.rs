//! Stopping: what is in progress ends well, and in time.

use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::client::{Client, End, call, head};
use crate::events::Events;
use crate::server::{Server, fresh, within};

#[tokio::test]
async fn an_idle_server_ends_at_once_and_frees_its_address() {
    let server = Server::start_with(|config| {
        let timeouts = &mut config.timeouts;
        (timeouts.drain, timeouts.head) = (Duration::from_secs(600), Duration::from_secs(600));
    })
    .await;
    let mut used = server.connect().await;
    assert_eq!(used.request("GET", "/health", None).await.status, 200);
    let unused = server.connect().await;
    // Both are accepted once this later one is.
    server.connect().await.request("GET", "/health", None).await;
    let address = server.address;
    server.stop.soft.cancel();
    server.ended().await;
    assert!(used.rest().await.is_empty());
    assert!(unused.rest().await.is_empty());
    TcpListener::bind(address).await.expect("the address is free");
}

#[tokio::test]
async fn subscriptions_end_cleanly() {
    let server = Server::start().await;
    let token = fresh();
    let mut events = Events::subscribe(&server, &token, "all=true").await;
    events.up_to(": caught-up").await;
    server.stop.soft.cancel();
    let frames = events.rest().await;
    assert!(matches!(&frames[..], [retry] if retry.starts_with("retry: ")), "{frames:?}");
    server.ended().await;
}

#[tokio::test]
async fn during_the_grace_requests_are_answered_and_clients_are_sent_elsewhere() {
    let server = Server::start_with(|config| config.timeouts.grace = Duration::from_secs(600)).await;
    let mut used = server.connect().await;
    let ready = used.request("GET", "/ready", None).await;
    assert_eq!((ready.status, ready.header("connection")), (200, None));
    server.stop.soft.cancel();
    within("the server is not ready", async {
        while server.connect().await.request("GET", "/ready", None).await.status != 503 {}
    })
    .await;
    for path in ["/health", "/health/live"] {
        let reply = server.connect().await.request("GET", path, None).await;
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "{path}");
    }
    let reply = used.request("GET", "/health", None).await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert!(used.rest().await.is_empty());
    let mut events = Events::subscribe(&server, &fresh(), "all=true").await;
    events.up_to(": caught-up").await;
    server.stop.hard.cancel();
    server.ended().await;
}

#[tokio::test]
async fn after_the_grace_the_server_stops() {
    let server = Server::start_with(|config| config.timeouts.grace = Duration::from_millis(100)).await;
    let mut events = Events::subscribe(&server, &fresh(), "all=true").await;
    events.up_to(": caught-up").await;
    let (started, address) = (Instant::now(), server.address);
    server.stop.soft.cancel();
    assert_eq!(events.rest().await.len(), 1);
    server.ended().await;
    assert!(started.elapsed() >= Duration::from_millis(100));
    TcpListener::bind(address).await.expect("the address is free");
}

#[tokio::test]
async fn writes_that_have_begun_are_answered() {
    let server = Server::start().await;
    let token = fresh();
    let body = r#"["stream.write","a-1",{"type":"T","data":{}}]"#;
    server.rpc(&token, body).await;
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..20 {
        let mut client = server.connect().await;
        client.send(head("POST", "/rpc", Some(&token), &format!("Content-Length: {}\r\n", body.len()))).await;
        clients.push(client);
    }
    begun(&server, 20).await;
    server.stop.soft.cancel();
    for client in &mut clients {
        client.send(body).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("connection"), Some("close"));
    }
    let store = server.store.clone();
    server.ended().await;
    let namespace = token.parse::<eventodb_protocol::Token>().expect("a token").namespace().to_owned();
    assert_eq!(store.log(&namespace).await.expect("a log").version("a-1").await.expect("a version"), Some(20));
    store.close().await;
}

/// Waits until so many requests have begun: each is on a connection whose turn came.
async fn begun(server: &Server, count: usize) {
    server.has_connections(count + 1).await;
}

#[tokio::test]
async fn a_request_that_was_not_sent_yet_is_refused() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let request = call(None, r#"["sys.version"]"#);
    let (beginning, rest) = request.split_at(20);
    client.send(beginning).await;
    // The server reads the beginning before it answers somebody who comes later.
    server.connect().await.request("GET", "/health", None).await;
    server.stop.soft.cancel();
    within("the socket's end", async {
        while tokio::net::TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.send(rest).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "BACKEND_UNAVAILABLE"));
    assert!(client.rest().await.is_empty());
    server.ended().await;
}

#[tokio::test]
async fn a_waiting_read_is_answered() {
    let server = Server::start_with(|config| config.timeouts.drain = Duration::from_secs(600)).await;
    let token = fresh();
    server.rpc(&token, r#"["stream.version","a-1"]"#).await;
    let mut waiting = server.connect().await;
    waiting.send(call(Some(&token), r#"["stream.get","a-1",{"waitMs":30000}]"#)).await;
    begun(&server, 1).await;
    server.stop.soft.cancel();
    // Sooner than its own wait is over.
    assert_eq!(waiting.reply().await.text(), "[]");
    server.ended().await;
}

#[tokio::test]
async fn who_does_not_end_is_cut_after_the_drain_time() {
    let server = Server::start_with(|config| config.timeouts.drain = Duration::from_millis(100)).await;
    let mut client = server.connect().await;
    client.send(head("POST", "/rpc", None, "Content-Length: 100\r\n") + "[").await;
    begun(&server, 1).await;
    server.stop.soft.cancel();
    assert!(client.rest().await.is_empty());
    server.ended().await;
}

#[tokio::test]
async fn a_hard_stop_ends_at_once() {
    let server = Server::start_with(|config| config.timeouts.drain = Duration::from_secs(600)).await;
    let token = fresh();
    let events = Events::subscribe(&server, &token, "all=true").await;
    let mut client = server.connect().await;
    client.send(head("POST", "/rpc", None, "Content-Length: 100\r\n") + "[").await;
    begun(&server, 2).await;
    server.stop.soft.cancel();
    assert_eq!(events.ending().await, End::Whole);
    server.stop.hard.cancel();
    assert!(client.rest().await.is_empty());
    server.ended().await;
}

#[tokio::test]
async fn an_import_ends_with_what_it_has() {
    let server = Server::start().await;
    let token = fresh();
    let mut client = server.connect().await;
    client.send(head("POST", "/import", Some(&token), "Transfer-Encoding: chunked\r\n")).await;
    let mut events = Events::of(client).await;
    server.stop.soft.cancel();
    let frames = events.rest().await;
    assert!(frames[0].contains("IMPORT_FAILED"), "{frames:?}");
    server.ended().await;
}
