//! The log of an incident: a database that is lost and comes back under load, a subscriber that takes nothing, and a
//! client with a bad token. The person on duty reads what happened, each thing once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::Arc;

use eventodb_testing::{http as plain, postgres};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpSocket;
use tokio::process::Command;
use tokio::sync::watch;

use super::http::Http;
use super::load::Load;
use super::server::*;

/// Requests with a bad token, and reads while the database is lost.
const REFUSED: usize = 30;
const FAILED: usize = 100;
/// Pokes of some 5 MB in all, more than the buffers of a connection hold.
const POKES: usize = 20_000;
/// What may be told before it is found that the database is lost, each once.
const FORERUNNERS: [&str; 5] = [
    "WARN a request failed stream.write",
    "WARN the outcome of an append is unknown",
    "WARN cannot follow the log",
    "WARN not listening for other servers' notifications; polling goes on",
    "WARN a subscription waits for the storage",
];

/// The lines of a server's log as they come.
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    length: watch::Receiver<usize>,
    reader: tokio::task::JoinHandle<()>,
}

impl Log {
    fn of(server: &mut Server) -> Self {
        let mut stderr = BufReader::new(server.child.stderr.take().expect("it is piped")).lines();
        let (lines, (told, length)) = (Arc::new(Mutex::new(Vec::new())), watch::channel(0));
        let reader = tokio::spawn({
            let lines = Arc::clone(&lines);
            async move {
                while let Some(line) = stderr.next_line().await.expect("it is text") {
                    lines.lock().push(line);
                    told.send_modify(|length| *length += 1);
                }
            }
        });
        Self { lines, length, reader }
    }

    /// Waits for a line.
    async fn has(&mut self, words: &str) {
        let is_there = |_: &usize| self.lines.lock().iter().any(|line| line.contains(words));
        let waits = tokio::time::timeout(PATIENCE, self.length.wait_for(is_there)).await;
        waits.unwrap_or_else(|_| panic!("no {words:?} in the log")).expect("the log does not end before");
    }

    /// All lines, once the server has ended.
    async fn all(self) -> Vec<String> {
        self.reader.await.expect("it does not panic");
        let lines = self.lines.lock();
        lines.clone()
    }
}

/// The value of a field of a line.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    rest.split_whitespace().next().map(|value| value.trim_matches('"'))
}

fn number(line: &str, name: &str) -> usize {
    field(line, name).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// What a line says, without what differs each time.
fn kind(line: &str) -> String {
    let (_, line) = line.split_once('Z').expect("a line begins with its time");
    let words = line.split_whitespace().take_while(|word| !word.contains('='));
    let fields = ["method", "act", "outcome"].into_iter().filter_map(|name| field(line, name));
    words.chain(fields).collect::<Vec<_>>().join(" ")
}

/// Writes what is too much for a subscriber that takes nothing.
async fn fill(server: &Server) {
    let mut body = String::new();
    for at in 1..=POKES {
        let message = json!({ "id": uuid::Uuid::now_v7(), "stream": format!("big-{}", "x".repeat(240)), "type": "T", "pos": at - 1,
            "gpos": at, "data": {}, "meta": null, "time": "2026-01-01T00:00:00Z" });
        writeln!(body, "{message}").expect("a string takes it");
    }
    let mut http = server.connect().await;
    let head = plain::head("POST", "/import", Some(TOKEN), &format!("Content-Length: {}\r\n", body.len()));
    http.send(head.as_bytes()).await.expect("the server reads");
    http.send(body.as_bytes()).await.expect("the server reads");
    let mut answer = String::new();
    assert_eq!(http.connection.head().await.expect("it answers").status, 200);
    while let Some(chunk) = http.chunk().await.expect("it ends cleanly") {
        answer.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(answer.contains(r#""done":true"#), "{answer}");
}

/// A subscription of which nothing is taken as long as the result lives.
async fn subscribe_and_sleep(server: &Server) -> Http {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a number");
    let socket = socket.connect(server.address.parse().expect("an address")).await.expect("the server listens");
    let mut http = Http::over(plain::Connection::over(socket), TOKEN);
    let head = plain::head("GET", "/subscribe?category=big&position=0", Some(TOKEN), "");
    http.send(head.as_bytes()).await.expect("the server reads");
    http
}

/// A client with a token that opens nothing.
async fn knock(server: &Server) {
    let bad = format!("{}beef", &TOKEN[..TOKEN.len() - 4]);
    let mut http = Http::connect(&server.address, &bad).await.expect("the server listens");
    for _ in 0..REFUSED {
        let (status, answer) = http.call(&json!(["stream.get", "a-1"])).await.expect("the server answers");
        assert_eq!(status, 403, "{answer}");
    }
}

/// Reads that fail while the database is lost.
async fn fail(server: &Server) {
    let mut http = server.connect().await;
    for _ in 0..FAILED {
        let answered = tokio::time::timeout(PATIENCE, http.call(&json!(["stream.get", "a-1"]))).await;
        let (status, answer) = answered.expect("it does not hang").expect("the server answers");
        assert_eq!(status, 503, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_an_incident_tells_each_thing_once() {
    let database = postgres::Server::start(&[]);
    let mut command = Command::new(BINARY);
    command.args(["serve", "--port", "0", "--token", TOKEN, "--db-url", &database.url("postgres")]);
    command.args(["--stall-timeout-ms", "500", "--slow-query-threshold-ms", "60000"]);
    // On a busy machine the database is away for longer than a queue waits otherwise.
    command.args(["--max-wrong-tokens", "0", "--queue-interval-ms", "60000"]).stderr(Stdio::piped());
    let mut server = Server::launch(command).await;
    let mut log = Log::of(&mut server);

    fill(&server).await;
    let (load, sleeper) = (Load::default(), subscribe_and_sleep(&server).await);
    let writers = load.start(&server, 0);
    knock(&server).await;
    log.has("a client that takes nothing").await;
    load.until_all_write().await;

    tokio::task::block_in_place(|| database.stop("immediate"));
    log.has("the database is lost").await;
    fail(&server).await;
    tokio::task::block_in_place(|| database.start_again());
    log.has("the database is back").await;
    load.until_all_write().await;
    load.stop();
    for writer in writers {
        writer.await.expect("a writer does not panic");
    }
    drop(sleeper);
    server.signal(rustix::process::Signal::TERM);
    assert!(server.ended().await.success());
    check(&log.all().await);
}

fn check(lines: &[String]) {
    let all = lines.join("\n");
    let of = |words: &str| lines.iter().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {all}"));
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines.iter().skip_while(|line| !line.contains("INFO ready")) {
        *kinds.entry(kind(line)).or_default() += 1;
    }
    let more = "INFO audit: more ended alike stream.get AUTH_UNAUTHORIZED";
    for once in [
        "INFO ready",
        "INFO audit stream.get AUTH_UNAUTHORIZED",
        "WARN a client that takes nothing of what is sent to it is cut",
        "ERROR the database is lost",
        "INFO the database is back",
        "INFO draining",
        "INFO stopped",
    ] {
        assert_eq!(kinds.remove(once), Some(1), "{once}: {all}");
    }
    assert!(kinds.remove(more).is_some(), "{all}");
    kinds.retain(|kind, count| !(FORERUNNERS.contains(&&**kind) && *count == 1));
    // Writers that wait may be told that the database is away before the log is; that is counted.
    kinds.retain(|kind, _| kind != "WARN more requests failed alike stream.write");
    assert!(kinds.is_empty(), "{kinds:?} besides: {all}");

    let counted = lines.iter().filter(|line| kind(line) == more).map(|line| number(line, "more"));
    assert_eq!(1 + counted.sum::<usize>(), REFUSED, "{all}");
    assert!(number(of("the database is back"), "failed") >= FAILED, "{all}");
    let draining = of("draining");
    assert_eq!((number(draining, "subscriptions"), number(draining, "waiting")), (0, 0), "{all}");
    assert_eq!(field(of("takes nothing"), "namespace"), Some("default"), "{all}");
}
