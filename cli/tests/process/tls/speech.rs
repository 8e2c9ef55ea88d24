//! Everything that the server speaks in clear text, it speaks over TLS.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::server::{PATIENCE, integer};

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_subscriptions_work_over_tls() {
    let secured = Secured::start(&[]).await;
    let (mut writer, mut subscriber) = (secured.connect().await, secured.connect().await);
    subscriber.subscribe(0).await.expect("the server answers");
    for position in 0..3 {
        let (status, place) = writer
            .call(&json!(["stream.write", "a-1", { "type": "T", "data": {} }]))
            .await
            .expect("the server answers");
        assert_eq!((status, integer(&place["position"])), (200, position));
        let pokes = subscriber.pokes().await.expect("the stream goes on").expect("the stream goes on");
        assert_eq!(pokes, [("a-1".to_owned(), position, position + 1)]);
    }
    secured.server.stop().await;
}

/// A body, and a page, that are larger than every buffer on their way.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_long_polls_and_large_pages_work_over_tls() {
    const RECORDS: usize = 20_000;
    let secured = Secured::start(&[]).await;
    let mut http = secured.connect().await;
    let mut waiting = secured.connect().await;
    let waits = tokio::spawn(async move {
        let call = json!(["stream.get", "late-1", { "waitMs": 30_000 }]);
        waiting.call(&call).await.expect("the server answers")
    });
    import(&mut http, RECORDS).await;

    let page = http.call(&json!(["stream.get", "i-1", { "batchSize": 10_000 }])).await.expect("the server answers");
    assert_eq!(page.1.as_array().map(Vec::len), Some(10_000));
    http.call(&json!(["stream.write", "late-1", { "type": "T", "data": {} }])).await.expect("the server answers");
    let (status, page) = waits.await.expect("no panic");
    assert_eq!((status, page.as_array().map(Vec::len)), (200, Some(1)));
    secured.server.stop().await;
}

async fn http2(secured: &Secured) -> Sender {
    let stream = open(&secured.server.address, secured.authority.client(&["h2", "http/1.1"], None)).await;
    let stream = stream.expect("the server is trusted");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("the server speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

fn request(method: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(format!("https://localhost{path}"));
    let request = request.header("authorization", format!("Bearer {TOKEN}"));
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("a request")
}

/// Reads until this text came.
async fn until(body: &mut Incoming, text: &str) {
    let mut seen = String::new();
    while !seen.contains(text) {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("in time");
        let data = frame.expect("the stream goes on").expect("the stream goes on").into_data().expect("no trailers");
        seen.push_str(std::str::from_utf8(&data).expect("text"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_of_http2_has_a_hundred_subscriptions() {
    let secured = Secured::start(&[]).await;
    let mut sender = http2(&secured).await;
    let mut streams = Vec::new();
    for number in 0..100 {
        let path = format!("/subscribe?stream=a-{number}");
        let reply = sender.send_request(request("GET", &path, "")).await.expect("the server answers");
        assert_eq!(reply.status(), 200);
        let mut body = reply.into_body();
        until(&mut body, ": ready").await;
        streams.push(body);
    }
    for number in 0..100 {
        let write = json!(["stream.write", format!("a-{number}"), { "type": "T", "data": {} }]);
        let reply = sender.send_request(request("POST", "/rpc", &write.to_string())).await.expect("it answers");
        assert_eq!(reply.status(), 200);
    }
    for (number, body) in streams.iter_mut().enumerate() {
        until(body, &format!(r#""stream":"a-{number}""#)).await;
    }
    // Otherwise the server ends them one after the other.
    drop((streams, sender));
    secured.server.stop().await;
}

/// A stream that ends without a farewell of TLS may have been cut off by somebody in the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_says_farewell_on_each_connection() {
    let mut secured = Secured::start(&[]).await;
    let (mut subscriber, mut idle) = (secured.connect().await, secured.connect().await);
    subscriber.subscribe(0).await.expect("the server answers");
    idle.call(&json!(["sys.version"])).await.expect("the server answers");
    let mut sender = http2(&secured).await;
    let reply = sender.send_request(request("GET", "/subscribe?all=true", "")).await.expect("the server answers");
    let mut many = reply.into_body();
    until(&mut many, ": ready").await;

    let start = Instant::now();
    secured.server.signal(Signal::TERM);
    while subscriber.chunk().await.expect("the subscription ends cleanly").is_some() {}
    for stream in [&mut subscriber.connection.stream, &mut idle.connection.stream] {
        // rustls reports an end without close_notify as an error.
        assert_eq!(stream.read(&mut [0]).await.expect("a clean end"), 0);
    }
    while let Some(frame) = many.frame().await {
        frame.expect("the subscription ends cleanly");
    }
    assert_eq!(secured.server.ended().await.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(9), "no connection had to be cut");
}
