//! The memory budget, and what strangers may take of it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::client::{Client, call, head};
use crate::server::{Server, fresh, within};

const VERSION: &str = r#"["sys.version"]"#;
const MIB: usize = 1024 * 1024;

fn post(token: Option<&str>, headers: &str) -> String {
    head("POST", "/rpc", token, headers)
}

#[tokio::test]
async fn a_large_body_without_a_valid_token_is_refused_from_its_head() {
    let server = Server::start_production().await;
    let wrong = fresh();
    for (token, status) in [(None, 401), (Some("nonsense"), 401), (Some(wrong.as_str()), 403)] {
        for headers in [
            "Content-Length: 5000\r\n",
            "Content-Length: 99999999\r\n",
            "Content-Length: 5000\r\nExpect: 100-continue\r\n",
        ] {
            let mut client = server.connect().await;
            client.send(post(token, headers)).await;
            let reply = client.reply().await;
            assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{headers}");
        }
        let mut client = server.connect().await;
        client.send(post(token, "Transfer-Encoding: chunked\r\n")).await;
        client.send(format!("1388\r\n{}\r\n", " ".repeat(5000))).await;
        assert_eq!(client.reply().await.status, status, "as soon as it is too long");
    }
}

#[tokio::test]
async fn a_client_that_is_still_sending_sees_why_it_is_refused() {
    let server = Server::start_production().await;
    for _ in 0..20 {
        let mut client = server.connect().await;
        client.send(call(None, &" ".repeat(400_000))).await;
        assert_eq!(client.reply().await.status, 401);
    }
}

#[tokio::test]
async fn a_small_body_without_a_token_may_come_in_pieces() {
    let server = Server::start_production().await;
    let mut client = server.connect().await;
    let length = format!("Content-Length: {}\r\n", VERSION.len());
    client.send(post(None, &length) + &VERSION[..5]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.send(&VERSION[5..]).await;
    assert_eq!(client.reply().await.status, 200);
}

#[tokio::test]
async fn strangers_take_no_memory_from_those_with_a_token() {
    let server = Server::start_with(|config| {
        config.mode = eventodb_server::Mode::Production;
        config.bounds.memory = 16 * MIB;
    })
    .await;
    let token = server.token.to_string();
    let mut strangers = Vec::new();
    for _ in 0..200 {
        let mut client = server.connect().await;
        client.send(post(None, "Content-Length: 4096\r\n") + &" ".repeat(4000)).await;
        strangers.push(client);
    }
    let data = "x".repeat(900_000);
    let write = format!(r#"["stream.write","a-1",{{"type":"T","data":{{"x":"{data}"}}}}]"#);
    assert_eq!(server.call(&token, &write).await.status, 200);
}

#[tokio::test]
async fn the_memory_for_bodies_is_bounded_and_a_namespace_has_a_share() {
    let server = Server::start_with(|config| config.bounds.memory = 16 * MIB).await;
    let (greedy, modest) = (fresh(), fresh());
    let mut hogs = Vec::new();
    let refused = loop {
        let mut hog = server.connect().await;
        hog.send(post(Some(&greedy), "Content-Length: 2000000\r\n") + &" ".repeat(1_900_000)).await;
        if let Ok(reply) = tokio::time::timeout(Duration::from_millis(200), hog.head()).await {
            break reply;
        }
        hogs.push(hog);
        assert!(hogs.len() < 10, "ten of them are more than the budget");
    };
    assert_eq!(refused.status, 503);
    assert!((1..=3).contains(&refused.retry_after()), "{refused:?}");
    assert!(!hogs.is_empty());
    let body = format!("{VERSION}{}", " ".repeat(500_000));
    assert_eq!(server.call(&modest, &body).await.status, 200, "another namespace has a share of its own");
    assert_eq!(server.call(&greedy, VERSION).await.status, 200, "small ones pass");
    drop(hogs);
    let body = format!("{VERSION}{}", " ".repeat(1_900_000));
    within("the memory to be given back", async { while server.call(&greedy, &body).await.status != 200 {} }).await;
}

/// Sends the head of an import and the beginning of a line.
async fn unfinished_line(server: &Server, token: &str, bytes: usize) -> Client {
    let mut client = server.connect().await;
    client.send(head("POST", "/import", Some(token), "Content-Length: 15000000\r\n") + &"x".repeat(bytes)).await;
    client
}

#[tokio::test]
async fn unfinished_lines_of_imports_are_counted() {
    let server = Server::start_with(|config| {
        config.bounds.memory = 16 * MIB;
        config.timeouts.body_gap = Duration::from_secs(1);
    })
    .await;
    let (greedy, modest) = (fresh(), fresh());
    let mut hogs = Vec::new();
    for _ in 0..8 {
        hogs.push(unfinished_line(&server, &greedy, 2 * MIB).await);
    }
    let refused = within("an import for which there is no memory", async {
        loop {
            let mut client = unfinished_line(&server, &greedy, 1000).await;
            let reply = client.head().await;
            if reply.status != 200 {
                break reply;
            }
            hogs.push(client);
        }
    })
    .await;
    assert_eq!(refused.status, 503);
    assert!((1..=3).contains(&refused.retry_after()), "{refused:?}");
    let body = format!("{VERSION}{}", " ".repeat(500_000));
    assert_eq!(server.call(&modest, &body).await.status, 200, "another namespace has a share of its own");
    let mut failed = 0;
    for hog in hogs {
        let text = String::from_utf8(hog.rest().await).expect("text");
        assert!(text.contains(r#"{"error":"IMPORT_FAILED""#) || text.contains("OVERLOADED"), "{text}");
        failed += usize::from(text.contains("the memory for what waits is used up"));
    }
    assert!(failed > 0, "those that had no memory for more");
    within("the memory to be given back", async { while server.call(&greedy, &body).await.status != 200 {} }).await;
}

#[tokio::test]
async fn an_import_goes_on_in_smaller_batches_where_memory_is_short() {
    let server = Server::start_with(|config| config.bounds.memory = 3 * MIB).await;
    let token = fresh();
    let data = "x".repeat(20_000);
    let line = |n: i64| {
        let id = uuid::Uuid::new_v4();
        format!(
            r#"{{"id":"{id}","stream":"a-1","type":"T","pos":{n},"gpos":{},"data":{{"x":"{data}"}},"meta":null,"time":"2026-01-02T03:04:05Z"}}"#,
            n + 1
        ) + "\n"
    };
    let body: String = (0..200).map(line).collect();
    let mut client = server.connect().await;
    client.send(head("POST", "/import", Some(&token), &format!("Content-Length: {}\r\n", body.len())) + &body).await;
    assert_eq!(client.head().await.status, 200);
    let (events, _) = client.chunked().await;
    let events = String::from_utf8(events).expect("text");
    assert!(events.contains(r#"{"done":true,"imported":200,"#), "{events}");
    assert!(events.matches(r#""gpos""#).count() > 1, "{events}");
}

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;
type Connection = tokio::task::JoinHandle<hyper::Result<()>>;

async fn http2(server: &Server, window: u32) -> (Sender, Connection) {
    let stream = tokio::net::TcpStream::connect(server.address).await.expect("the server listens");
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
        .expect("HTTP/2");
    (sender, tokio::spawn(connection))
}

fn request(token: Option<&str>, body: String) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::post("http://localhost/rpc");
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    request.body(Full::new(Bytes::from(body))).expect("a request")
}

#[tokio::test]
async fn a_large_body_without_a_token_is_refused_over_http2_too() {
    let server = Server::start_production().await;
    let (mut sender, _connection) = http2(&server, 65_535).await;
    let reply = within("a reply", sender.send_request(request(None, " ".repeat(5000)))).await.expect("a reply");
    assert_eq!(reply.status(), 401);
    let reply = within("a reply", sender.send_request(request(None, VERSION.to_owned()))).await.expect("a reply");
    assert_eq!(reply.status(), 200, "small ones are for sys.*");
    let token = server.token.to_string();
    let large = format!("{VERSION}{}", " ".repeat(5000));
    let reply = within("a reply", sender.send_request(request(Some(&token), large))).await.expect("a reply");
    assert_eq!(reply.status(), 200);
}

/// The HTTP layer is done with a body that is known whole as soon as it has it.
#[tokio::test]
async fn a_whole_http2_reply_of_which_nothing_is_taken_is_cut() {
    let server = Server::start_with(|config| config.timeouts.stall = Duration::from_millis(300)).await;
    let token = fresh();
    server.fill(&token, "a-1", 100, r#"{"x":"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"}"#).await;
    for window in [0, 1] {
        let (mut sender, connection) = http2(&server, window).await;
        let get = request(Some(&token), r#"["stream.get","a-1"]"#.to_owned());
        let stuck = sender.send_request(get).await.expect("a head");
        assert_eq!(stuck.status(), 200);
        assert!(within("the connection's end", connection).await.expect("no panic").is_err(), "window {window}");
        drop(stuck);
    }
}

#[tokio::test]
async fn unfinished_bodies_over_http2_are_counted() {
    let server = Server::start_with(|config| config.bounds.memory = 16 * MIB).await;
    let token = fresh();
    let (mut sender, _connection) = http2(&server, 65_535).await;
    let body = format!("{VERSION}{}", " ".repeat(3 * MIB));
    let reply = within("a reply", sender.send_request(request(Some(&token), body))).await.expect("a reply");
    assert_eq!(reply.status(), 503);
    let body = reply.into_body().collect().await.expect("a body").to_bytes();
    assert!(body.starts_with(br#"{"error":{"code":"OVERLOADED""#));
}

#[tokio::test]
async fn idle_connections_make_room_for_those_that_come() {
    let server = Server::start_with(|config| config.bounds.connections = 8).await;
    let token = fresh();
    let mut known = server.connect().await;
    assert_eq!(known.call(Some(&token), r#"["stream.version","a-1"]"#).await.status, 200);
    // They have sent a request, so that the limit for a head does not end them.
    let mut idle = Vec::new();
    for _ in 0..7 {
        let mut client = server.connect().await;
        assert_eq!(client.request("GET", "/health", None).await.status, 200);
        idle.push(client);
    }
    for _ in 0..3 {
        assert_eq!(server.call(&token, r#"["stream.version","a-1"]"#).await.status, 200);
    }
    assert_eq!(known.call(Some(&token), r#"["stream.version","a-1"]"#).await.status, 200, "it has shown its token");
}

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
    let server = Server::start().await;
    for hosts in ["", "Host: a\r\nHost: b\r\n"] {
        let mut client = server.connect().await;
        client.send(format!("GET /health HTTP/1.1\r\n{hosts}\r\n")).await;
        assert_eq!(client.reply().await.status, 400);
    }
    let mut client = server.connect().await;
    client.send("GET /health HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 200, "HTTP/1.0 knows no Host");
}

#[tokio::test]
async fn a_head_above_its_bound_is_refused_and_the_client_sees_it() {
    let server = Server::start().await;
    for size in [70_000, 200_000] {
        let mut client = server.connect().await;
        client.send(format!("GET /health HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(size))).await;
        assert_eq!(client.head().await.status, 431, "{size}");
    }
}
