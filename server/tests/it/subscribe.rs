//! Event streams, byte by byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{Client, End, call, head};
use crate::events::{Events, poke};
use crate::server::{Server, fresh};

async fn write(server: &Server, token: &str, stream: &str) {
    server.rpc(token, &format!(r#"["stream.write","{stream}",{{"type":"T","data":{{}}}}]"#)).await;
}

#[tokio::test]
async fn a_stream_begins_at_once_and_goes_from_history_to_live() {
    let (server, token) = (Server::start().await, fresh());
    for stream in ["account-1", "other-1", "account-2"] {
        write(&server, &token, stream).await;
    }
    let mut events = Events::subscribe(&server, &token, "category=account").await;
    for (name, value) in
        [("content-type", "text/event-stream"), ("cache-control", "no-cache"), ("x-accel-buffering", "no")]
    {
        assert_eq!(events.head.header(name), Some(value));
    }
    let frames = events.up_to(": caught-up").await;
    let (first, second) = (poke("account-1", 0, 1), poke("account-2", 0, 3));
    assert_eq!(frames, ["retry: 1000", ": ready\nid: 0", &first, &second, ": caught-up 3\nid: 3"]);
    write(&server, &token, "account-1").await;
    assert_eq!(events.next().await, Some(poke("account-1", 1, 4)));
}

#[tokio::test]
async fn all_begins_now_and_streams_at_their_position() {
    let (server, token) = (Server::start().await, fresh());
    for _ in 0..3 {
        write(&server, &token, "a-1").await;
    }
    let mut all = Events::subscribe(&server, &token, "all=true").await;
    assert_eq!(all.up_to(": caught-up").await, ["retry: 1000", ": ready\nid: 3", ": caught-up 3\nid: 3"]);
    let mut replay = Events::subscribe(&server, &token, "all=true&position=3").await;
    assert_eq!(replay.up_to(": caught-up").await[2], poke("a-1", 2, 3));
    let mut stream = Events::subscribe(&server, &token, "stream=a-1&position=2").await;
    assert_eq!(stream.up_to(": caught-up").await[2], poke("a-1", 2, 3));
    write(&server, &token, "b-1").await;
    assert_eq!(all.next().await, Some(poke("b-1", 0, 4)));
    assert_eq!(replay.next().await, Some(poke("b-1", 0, 4)));
}

#[tokio::test]
async fn the_last_event_id_resumes() {
    let (server, token) = (Server::start().await, fresh());
    for _ in 0..3 {
        write(&server, &token, "a-1").await;
    }
    for (query, headers) in [
        ("stream=a-1&lastEventId=2", ""),
        ("stream=a-1&position=0", "Last-Event-ID: 2\r\n"),
        ("category=a&lastEventId=0", "Last-Event-ID: 2\r\n"),
        ("all=true", "Last-Event-ID: 2\r\n"),
    ] {
        let mut events = Events::subscribe_with(&server, &token, query, headers).await;
        let frames = events.up_to(": caught-up").await;
        assert_eq!(
            frames[1..],
            [": ready\nid: 2".to_owned(), poke("a-1", 2, 3), ": caught-up 3\nid: 3".to_owned()],
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_position_above_the_head_is_told() {
    let (server, token) = (Server::start().await, fresh());
    write(&server, &token, "a-1").await;
    let mut events = Events::subscribe(&server, &token, "category=a&position=9").await;
    assert_eq!(events.up_to(": ahead-of-head").await[2], ": ahead-of-head 1");
}

#[tokio::test]
async fn silence_is_broken_by_heartbeats() {
    let server = Server::start_with(|config| config.timeouts.heartbeat = Duration::from_millis(30)).await;
    let token = fresh();
    write(&server, &token, "a-1").await;
    let mut events = Events::subscribe(&server, &token, "category=a").await;
    let frames = events.up_to(": heartbeat").await;
    assert_eq!(frames.last().map(String::as_str), Some(": heartbeat 1\nid: 1"));
    // Others' messages move on what this one was served, too.
    write(&server, &token, "b-1").await;
    events.up_to(": heartbeat 2\nid: 2").await;
}

#[tokio::test]
async fn members_are_poked_about_their_streams() {
    let (server, token) = (Server::start().await, fresh());
    for id in 0..20 {
        write(&server, &token, &format!("a-{id}")).await;
    }
    let mut pokes = Vec::new();
    for member in 0..3 {
        let query = format!("category=a&consumer={member}&size=3");
        let frames = Events::subscribe(&server, &token, &query).await.up_to(": caught-up").await;
        pokes.extend(frames.into_iter().filter(|frame| frame.contains("event: poke")));
    }
    pokes.sort();
    pokes.dedup();
    assert_eq!(pokes.len(), 20);
}

#[tokio::test]
async fn several_categories_and_none() {
    let (server, token) = (Server::start().await, fresh());
    for stream in ["a-1", "b-1", "c-1"] {
        write(&server, &token, stream).await;
    }
    let frames = Events::subscribe(&server, &token, "category=a,c").await.up_to(": caught-up").await;
    assert_eq!(frames[2..4], [poke("a-1", 0, 1), poke("c-1", 0, 3)]);
    let frames = Events::subscribe(&server, &token, "category=a-1").await.up_to(": caught-up").await;
    assert_eq!(frames.len(), 3, "{frames:?}");
}

#[tokio::test]
async fn bad_queries_are_refused_as_calls_are() {
    let (server, token) = (Server::start().await, fresh());
    for query in ["", "?all=yes", "?stream=a&category=b", "?stream=%ff", "?category=a&position=x", "?category=a&size=2"]
    {
        let mut client = server.connect().await;
        let reply = client.request("GET", &format!("/subscribe{query}"), Some(&token)).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "INVALID_REQUEST"), "{query}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn a_deleted_namespace_ends_its_streams() {
    let server = Server::start().await;
    let token = eventodb_protocol::Token::generate("shop");
    let mut events = Events::subscribe(&server, token.as_str(), "all=true").await;
    events.up_to(": caught-up").await;
    server.rpc(token.as_str(), r#"["ns.delete","shop"]"#).await;
    assert!(events.rest().await.is_empty());
}

/// At once, not only when the next heartbeat fails to reach it.
#[tokio::test]
async fn who_leaves_is_forgotten() {
    let server = Server::start_with(|config| config.timeouts.heartbeat = Duration::from_secs(600)).await;
    let token = fresh();
    let mut events = Events::subscribe(&server, &token, "all=true").await;
    events.up_to(": caught-up").await;
    drop(events);
    server.has_connections(1).await;
}

#[tokio::test]
async fn a_long_history_comes_in_order_while_more_is_written() {
    let (server, token) = (Server::start().await, fresh());
    server.fill(&token, "a-1", 20_000, "{}").await;
    let mut events = Events::subscribe(&server, &token, "category=a").await;
    let writing = async {
        for _ in 0..20 {
            server.fill(&token, "a-2", 100, "{}").await;
        }
    };
    let reading = async {
        let mut next = 1;
        while next <= 22_000 {
            let frame = events.next().await.expect("the stream goes on");
            if frame.contains("event: poke") {
                assert!(frame.starts_with(&format!("id: {next}\n")), "{next}: {frame}");
                next += 1;
            }
        }
    };
    futures_util::future::join(writing, reading).await;
}

#[tokio::test]
async fn requests_before_a_subscription_on_its_connection_are_answered_first() {
    let (server, token) = (Server::start().await, fresh());
    let mut client = Client::connect(server.address).await;
    let before = call(Some(&token), r#"["stream.write","a-1",{"type":"T","data":{}}]"#).repeat(3);
    client.send(format!("{before}{}", head("GET", "/subscribe?category=a", Some(&token), ""))).await;
    for position in 0..3 {
        assert_eq!(client.reply().await.json()["position"], position);
    }
    assert_eq!(client.head().await.header("connection"), Some("close"), "it is for nothing else any more");
    let mut frames = String::new();
    while !frames.contains(": caught-up 3") {
        frames += &String::from_utf8(client.chunk().await.expect("an open stream")).expect("text");
    }
    assert!(frames.contains(&poke("a-1", 2, 3)), "{frames}");
    server.stop.soft.cancel();
    assert_eq!(client.chunked().await.1, End::Whole);
}

#[tokio::test]
async fn a_subscriber_that_keeps_sending_is_cut() {
    let (server, token) = (Server::start().await, fresh());
    let mut client = Client::connect(server.address).await;
    client.send(head("GET", "/subscribe?category=a", Some(&token), "")).await;
    assert_eq!(client.head().await.status, 200);
    client.send(vec![b'x'; 65 * 1024]).await;
    assert_eq!(client.chunked().await.1, End::CutOff);
}

/// As those behind a proxy that speaks HTTP/1.0 to its servers.
#[tokio::test]
async fn a_subscriber_of_an_earlier_http_ends_with_its_client() {
    let (server, token) = (Server::start().await, fresh());
    let mut client = Client::connect(server.address).await;
    client.send(head("GET", "/subscribe?all=true", Some(&token), "").replace("HTTP/1.1", "HTTP/1.0")).await;
    assert_eq!(client.head().await.status, 200);
    // It stays as long as its client, whatever that sends.
    client.send("x").await;
    server.fill(&token, "a-1", 1, "{}").await;
    let mut seen = String::new();
    while !seen.contains("event: poke") {
        let mut bytes = [0; 4096];
        let read = client.stream().read(&mut bytes).await.expect("an open stream");
        assert!(read > 0, "it has ended after {seen}");
        seen += std::str::from_utf8(&bytes[..read]).expect("text");
    }
    client.stream().shutdown().await.expect("it is open");
    client.rest().await;
}

#[tokio::test]
async fn who_subscribes_and_closes_that_side_gets_what_is_there() {
    let (server, token) = (Server::start().await, fresh());
    let mut client = Client::connect(server.address).await;
    client.send(head("GET", "/subscribe?all=true", Some(&token), "")).await;
    client.stream().shutdown().await.expect("it is open");
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.chunked().await.1, End::CutOff);
}
