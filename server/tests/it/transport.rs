//! HTTP itself: verbs, paths, versions, connections.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::client::{call, head};
use crate::server::{Server, fresh, within};

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

#[tokio::test]
async fn probes() {
    let server = Server::start_production().await;
    let mut client = server.connect().await;
    let version = format!(r#"{{"version":"{}"}}"#, env!("CARGO_PKG_VERSION"));
    for (path, text) in [("/health", r#"{"status":"ok"}"#), ("/ready", r#"{"status":"ok"}"#), ("/version", &version)] {
        let reply = client.request("GET", path, None).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, text));
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let head = client.request("HEAD", path, None).await;
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), Some(text.len().to_string().as_str()));
    }
    server.store.close().await;
}

#[tokio::test]
async fn unknown_paths_and_wrong_verbs() {
    let server = Server::start().await;
    for path in ["/", "/rpc/", "/nowhere", "/Health", "/%00", "/subscribe/x"] {
        for verb in ["GET", "POST", "DELETE", "OPTIONS"] {
            let reply = server.connect().await.request(verb, path, None).await;
            assert_eq!((reply.status, reply.code().as_str()), (404, "NOT_FOUND"), "{verb} {path}");
        }
    }
    for (path, verb, allow) in [
        ("/rpc", "GET", "POST, OPTIONS"),
        ("/rpc", "HEAD", "POST, OPTIONS"),
        ("/import", "PUT", "POST, OPTIONS"),
        ("/subscribe", "POST", "GET, OPTIONS"),
        ("/subscribe?all=true", "HEAD", "GET, OPTIONS"),
        ("/health", "POST", "GET, HEAD, OPTIONS"),
        ("/version", "PATCH", "GET, HEAD, OPTIONS"),
    ] {
        let reply = server.connect().await.request(verb, path, None).await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{verb} {path}");
        if verb != "HEAD" {
            assert_eq!(reply.code(), "INVALID_REQUEST");
        }
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_call() {
    let server = Server::start_production().await;
    let mut client = server.connect().await;
    let asked = "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n";
    client.send(head("OPTIONS", "/rpc", None, asked)).await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    assert!(reply.header("access-control-allow-methods").is_some_and(|verbs| verbs.contains("POST")));
    assert!(reply.header("access-control-allow-headers").is_some_and(|names| names.contains("Authorization")));
    client.send(head("GET", "/health", None, "Origin: https://app.example\r\n")).await;
    let reply = client.reply().await;
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    assert!(reply.header("access-control-expose-headers").is_some_and(|names| names.contains("X-EventoDB-Head")));
    assert_eq!(client.request("GET", "/health", None).await.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn calls_may_be_pipelined() {
    let (server, token) = (Server::start().await, fresh());
    let mut client = server.connect().await;
    let write = call(Some(&token), r#"["stream.write","a-1",{"type":"T","data":{}}]"#);
    client.send(write.repeat(50)).await;
    for position in 0..50 {
        let expected = format!(r#"{{"position":{position},"globalPosition":{}}}"#, position + 1);
        assert_eq!(client.reply().await.text(), expected);
    }
}

#[tokio::test]
async fn who_has_asked_all_may_close_that_side() {
    let (server, token) = (Server::start().await, fresh());
    server.fill(&token, "a-1", 9000, &format!(r#"{{"x":"{}"}}"#, "x".repeat(5000))).await;
    for body in [
        r#"["stream.write","b-1",{"type":"T","data":{}}]"#,
        r#"["stream.get","a-1",{"batchSize":-1}]"#,
        r#"["stream.get","c-1",{"waitMs":300}]"#,
        "[",
    ] {
        let mut client = server.connect().await;
        client.send(call(Some(&token), body)).await;
        client.stream().shutdown().await.expect("one side closes");
        let reply = client.reply().await;
        assert!(reply.status == 200 || body == "[", "{}", reply.text());
        assert!(client.rest().await.is_empty(), "the connection ends after the reply");
    }
    let mut client = server.connect().await;
    client.send(head("GET", "/subscribe", Some(&token), "")).await;
    client.stream().shutdown().await.expect("one side closes");
    assert_eq!(client.reply().await.code(), "INVALID_REQUEST");
}

#[tokio::test]
async fn a_reply_outlives_what_is_sent_behind_its_request() {
    let (server, token) = (Server::start().await, fresh());
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let mut client = server.connect().await;
        let body = r#"["stream.get","c-1",{"waitMs":400}]"#;
        let more = format!("Connection: close\r\nContent-Length: {}\r\n", body.len());
        client.send(head("POST", "/rpc", Some(&token), &more).replace("HTTP/1.1", version) + body).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send("\r\nGET /").await;
        // The server has closed the connection by then. A reset would have thrown away what was not read.
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(client.reply().await.text(), "[]");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_harms_nobody() {
    let (server, token) = (Server::start().await, fresh());
    let mut client = server.connect().await;
    client.send(head("POST", "/rpc", Some(&token), "Content-Length: 100\r\n") + "[\"stream").await;
    client.stream().shutdown().await.expect("one side closes");
    assert_eq!(client.reply().await.code(), "INVALID_REQUEST");
    client.rest().await;
    server.rpc(&token, r#"["sys.version"]"#).await;
}

#[tokio::test]
async fn older_clients_are_served() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send("GET /health HTTP/1.0\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!(reply.text(), r#"{"status":"ok"}"#);
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn leave_to_send_is_given() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let body = r#"["sys.version"]"#;
    client
        .send(head("POST", "/rpc", None, &format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len())))
        .await;
    assert_eq!(client.head().await.status, 100);
    client.send(body).await;
    assert_eq!(client.reply().await.status, 200);
}

/// An HTTP/2 connection, which is driven by a task of its own.
async fn http2(server: &Server) -> (Sender, JoinHandle<hyper::Result<()>>) {
    http2_over(TcpStream::connect(server.address).await.expect("the server listens")).await
}

async fn http2_over<S>(stream: S) -> (Sender, JoinHandle<hyper::Result<()>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(65_535)
        .handshake(TokioIo::new(stream))
        .await
        .expect("HTTP/2");
    (sender, tokio::spawn(connection))
}

#[tokio::test]
async fn http2_is_served_on_the_same_port() {
    let (server, token) = (Server::start().await, fresh());
    let (mut sender, connection) = http2(&server).await;
    let request = |body: String| {
        let request = http::Request::post("http://localhost/rpc").header("Authorization", format!("Bearer {token}"));
        request.body(Full::new(Bytes::from(body))).expect("a request")
    };
    let large = format!(r#"["stream.write","a-1",{{"type":"T","data":{{"x":"{}"}}}}]"#, "x".repeat(900_000));
    for position in 0..3 {
        let reply = sender.send_request(request(large.clone())).await.expect("a reply");
        assert_eq!(reply.status(), 200);
        let body = reply.into_body().collect().await.expect("a body").to_bytes();
        assert!(body.starts_with(format!("{{\"position\":{position},").as_bytes()));
    }
    let reply = sender.send_request(request(r#"["stream.get","a-1"]"#.to_owned())).await.expect("a reply");
    assert_eq!(reply.headers()["x-eventodb-head"], "3");
    let body = reply.into_body().collect().await.expect("a body").to_bytes();
    assert!(body.len() > 2_700_000);
    let too_large = request(" ".repeat(17 * 1024 * 1024));
    let reply = sender.send_request(too_large).await.expect("a reply");
    assert_eq!(reply.status(), 413);
    drop(sender);
    connection.await.expect("no panic").expect("a clean end");
}

fn subscribe(token: &str, query: &str) -> http::Request<Full<Bytes>> {
    let request = http::Request::get(format!("http://localhost/subscribe?{query}"));
    request.header("Authorization", format!("Bearer {token}")).body(Full::default()).expect("a request")
}

#[tokio::test]
async fn subscriptions_share_an_http2_connection_and_end_with_the_server() {
    let (server, token) = (Server::start().await, fresh());
    let (mut sender, connection) = http2(&server).await;
    let mut first = sender.send_request(subscribe(&token, "category=a")).await.expect("a reply").into_body();
    let mut second = sender.send_request(subscribe(&token, "category=b")).await.expect("a reply").into_body();
    server.rpc(&token, r#"["stream.write","a-1",{"type":"T","data":{}}]"#).await;
    server.rpc(&token, r#"["stream.write","b-1",{"type":"T","data":{}}]"#).await;
    for (body, id) in [(&mut first, "id: 1\nevent: poke"), (&mut second, "id: 2\nevent: poke")] {
        let mut text = String::new();
        while !text.contains(id) {
            let frame = within("a frame", body.frame()).await.expect("the stream goes on").expect("a frame");
            text.push_str(std::str::from_utf8(frame.data_ref().expect("data")).expect("UTF-8"));
        }
    }
    server.stop.soft.cancel();
    first.collect().await.expect("a clean end");
    second.collect().await.expect("a clean end");
    within("the connection's end", connection).await.expect("no panic").expect("a clean end");
    server.ended().await;
}

/// The first bytes say which HTTP it is.
#[tokio::test]
async fn an_http2_connection_may_begin_byte_by_byte() {
    let (server, token) = (Server::start().await, fresh());
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let mut socket = TcpStream::connect(server.address).await.expect("the server listens");
    tokio::spawn(async move {
        let first = far.read_u8().await.expect("the client begins");
        socket.write_u8(first).await.expect("the server listens");
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::io::copy_bidirectional(&mut far, &mut socket).await
    });
    let (mut sender, _connection) = http2_over(near).await;
    for category in ["a", "b"] {
        // What is sent while the first one is open reaches the server, too.
        let query = format!("category={category}");
        let reply = within("a reply", sender.send_request(subscribe(&token, &query))).await.expect("a reply");
        let mut body = reply.into_body();
        within("a frame", body.frame()).await.expect("the stream goes on").expect("a frame");
        tokio::spawn(async move { body.collect().await });
    }
}

/// With HTTP/2 a reply may stand still though its connection does not.
#[tokio::test]
async fn an_http2_reply_of_which_nothing_is_taken_is_cut() {
    let server = Server::start_with(|config| config.timeouts.stall = Duration::from_millis(300)).await;
    let token = fresh();
    server.fill(&token, &format!("a-{}", "x".repeat(200)), 3000, "{}").await;
    let (mut sender, connection) = http2(&server).await;
    let stuck = sender.send_request(subscribe(&token, "category=a")).await.expect("a reply").into_body();
    assert!(within("the connection's end", connection).await.expect("no panic").is_err());
    assert!(stuck.collect().await.is_err());
}

fn call_over_http2(token: &str, body: &str) -> http::Request<Full<Bytes>> {
    let request = http::Request::post("http://localhost/rpc").header("Authorization", format!("Bearer {token}"));
    request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request")
}

/// Sends a call, and takes it back after this number of turns of the runtime. Returns once the server knows.
async fn send_and_take_back(sender: &mut Sender, token: &str, body: &str, turns: usize) {
    let turned = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = sender.send_request(call_over_http2(token, body)) => {}
        () = turned => {}
    }
    sender.send_request(call_over_http2(token, r#"["sys.version"]"#)).await.expect("a reply");
}

#[tokio::test]
async fn an_administrative_act_comes_to_its_end_although_its_client_takes_the_request_back() {
    let server = Server::start_production().await;
    let admin = server.token.as_str();
    let (mut sender, _connection) = http2(&server).await;
    let mut revoked = 0;
    for turns in 0..60 {
        let made = server.call(admin, r#"["token.create",{"rights":["read"]}]"#).await.json();
        let (token, id) = (made["token"].as_str().expect("a token"), made["id"].as_str().expect("an id"));
        server.rpc(token, r#"["stream.version","a-1"]"#).await;
        // The name may be written with escapes.
        let method = if turns % 2 == 0 { "token.revoke" } else { "token\\u002erevoke" };
        send_and_take_back(&mut sender, admin, &format!(r#"["{method}","{id}"]"#), turns).await;
        // Either it was never begun, or it is whole.
        let is_whole = async {
            loop {
                let is_open = server.call(token, r#"["stream.version","a-1"]"#).await.status == 200;
                if server.rpc(admin, r#"["token.list"]"#).await.contains(id) == is_open {
                    return !is_open;
                }
            }
        };
        revoked += usize::from(within("the end of the token", is_whole).await);
    }
    assert!(revoked > 0);
    let metrics = server.connect().await.request("GET", "/metrics", Some(admin)).await.text();
    let counted = metrics.lines().filter(|line| line.starts_with(r#"eventodb_requests_total{method="token.revoke""#));
    let counted: usize = counted.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum();
    assert!(counted >= revoked, "{counted} of {revoked} were counted");
}
