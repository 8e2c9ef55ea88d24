//! Spans of calls: a receiver of OpenTelemetry gets those of an append under the span of its caller.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::client::{Client, head};
use crate::server::{Server, within};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const WRITE: &str = r#"["stream.write","a-1",{"type":"T","data":{}}]"#;

/// A receiver of spans.
struct Receiver(TcpListener);

/// The spans of a call, by their names.
type Spans = BTreeMap<String, Value>;

impl Receiver {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("it is bound"))
    }

    /// The spans of the next request, which is answered with this status.
    async fn next(&self, status: &str) -> Spans {
        let receives = async {
            let (mut stream, _) = self.0.accept().await.expect("the server connects");
            let (mut received, mut piece) = (Vec::new(), [0; 4096]);
            let body = loop {
                let count = stream.read(&mut piece).await.expect("it sends");
                assert!(count > 0, "a whole request");
                received.extend_from_slice(&piece[..count]);
                if let Some(body) = whole(&received) {
                    break body;
                }
            };
            let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
            stream.write_all(reply.as_bytes()).await.expect("it takes the reply");
            body
        };
        spans(&within("a request with spans", receives).await)
    }
}

/// The body of a request of which this came, if all of it came.
fn whole(received: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(received).expect("text");
    let (head, body) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("content-type: application/json"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    (body.len().to_string() == length).then(|| serde_json::from_str(body).expect("JSON"))
}

fn spans(body: &Value) -> Spans {
    let resource = &body["resourceSpans"][0];
    assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "eventodb");
    let all = resource["scopeSpans"][0]["spans"].as_array().expect("spans");
    all.iter().map(|span| (span["name"].as_str().expect("a name").to_owned(), span.clone())).collect()
}

fn nanoseconds(span: &Value, name: &str) -> u64 {
    span[name].as_str().expect("a string").parse().expect("a number")
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a Value> {
    let all = span["attributes"].as_array()?;
    all.iter().find(|attribute| attribute["key"] == key)?["value"].as_object()?.values().next()
}

/// Calls with the span of a caller.
async fn call(client: &mut Client, server: &Server, body: &str, flags: &str) -> u16 {
    let headers = format!("traceparent: 00-{TRACE}-{CALLER}-{flags}\r\nContent-Length: {}\r\n", body.len());
    client.send(head("POST", "/rpc", Some(server.token.as_str()), &headers) + body).await;
    client.reply().await.status
}

#[tokio::test]
async fn an_append_has_four_spans_under_the_span_of_its_caller() {
    let receiver = Receiver::start().await;
    let server = Server::start_with(|config| config.otlp = receiver.url().parse().ok()).await;
    let mut client = server.connect().await;
    assert_eq!(call(&mut client, &server, WRITE, "00").await, 200, "it is not sampled");
    assert_eq!(client.call(Some(server.token.as_str()), WRITE).await.status, 200);
    assert_eq!(call(&mut client, &server, WRITE, "01").await, 200);
    let spans = receiver.next("200 OK").await;
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["commit", "publish", "queue", "stream.write"]);
    let request = &spans["stream.write"];
    assert!(spans.values().all(|span| span["traceId"] == TRACE));
    assert_eq!((&request["parentSpanId"], &request["kind"]), (&CALLER.into(), &2.into()));
    assert_eq!(attribute(request, "eventodb.namespace"), Some(&"default".into()));
    assert_eq!(attribute(request, "http.response.status_code"), Some(&"200".into()));
    let mut at = nanoseconds(request, "startTimeUnixNano");
    for name in ["queue", "commit", "publish"] {
        let span = &spans[name];
        assert_eq!((&span["parentSpanId"], &span["kind"]), (&request["spanId"], &1.into()), "{name}");
        let (from, to) = (nanoseconds(span, "startTimeUnixNano"), nanoseconds(span, "endTimeUnixNano"));
        assert!(at <= from && from <= to, "{name} does not begin before the one before it ends: {spans:?}");
        at = to;
    }
    assert!(at <= nanoseconds(request, "endTimeUnixNano"));
    server.stop.soft.cancel();
    server.ended().await;
}

#[tokio::test]
async fn what_is_not_committed_has_no_span_of_a_commit() {
    let receiver = Receiver::start().await;
    let server = Server::start_with(|config| config.otlp = receiver.url().parse().ok()).await;
    let mut client = server.connect().await;
    let conflict = r#"["stream.write","a-1",{"type":"T","data":{}},{"expectedVersion":7}]"#;
    assert_eq!(call(&mut client, &server, conflict, "01").await, 409);
    // The receiver refuses them, and the next ones are sent all the same.
    let spans = receiver.next("503 Service Unavailable").await;
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["queue", "stream.write"]);
    assert_eq!(attribute(&spans["stream.write"], "error.type"), Some(&"STREAM_VERSION_CONFLICT".into()));
    assert_eq!(call(&mut client, &server, r#"["stream.get","a-1"]"#, "01").await, 200);
    // What waits at the end of a server is sent.
    server.stop.soft.cancel();
    let (spans, ()) = tokio::join!(receiver.next("200 OK"), server.ended());
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["stream.get"]);
}

#[tokio::test]
async fn a_dead_receiver_costs_the_spans_and_nothing_else() {
    // It takes connections, and never answers.
    let receiver = Receiver::start().await;
    let server = Server::start_with(|config| config.otlp = receiver.url().parse().ok()).await;
    let mut client = server.connect().await;
    for _ in 0..3_000 {
        assert_eq!(call(&mut client, &server, r#"["stream.version","a-1"]"#, "01").await, 200);
    }
    assert_eq!(call(&mut client, &server, WRITE, "01").await, 200);
    server.stop.soft.cancel();
    server.ended().await;
}
