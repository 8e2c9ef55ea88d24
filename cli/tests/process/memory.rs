//! The memory budget against processes that hold as many connections, bodies and replies as the server lets them.
//!
//! The bound: the server's resident memory grows by at most 1.1 times its budget. Before the test begins, honest
//! requests fill its caches, so that these do not count.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_testing::crowd::{Crowd, STREAM};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::http::Http;
use super::server::*;

/// The variable that makes this binary a process of the crowd.
const CROWD: &str = "EVENTODB_TEST_CROWD";
/// With `all` the test is as large as the machine allows.
const SIZE: &str = "EVENTODB_TEST_MEMORY";

const MIB: u64 = 1024 * 1024;
const PROCESSES: u64 = 4;

/// How much of it there is.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Of each process.
    connections: u64,
    budget: u64,
    /// How long the crowds stay.
    time: Duration,
}

const WHOLE: Size = Size { connections: 4_000, budget: 1024 * MIB, time: Duration::from_secs(90) };
const PART: Size = Size { connections: 250, budget: 128 * MIB, time: Duration::from_secs(15) };

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_below_its_budget_whatever_clients_hold() {
    let size = if std::env::var(SIZE).is_ok_and(|size| size == "all") { WHOLE } else { PART };
    if !may_open(size.connections + 200) {
        tell(&format!("not tested: {} open files are more than this system allows a process", size.connections + 200));
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(directory.path(), &["--memory-budget", &size.budget.to_string()]).await;
    let mut administrator = server.connect().await;
    let mut tokens = Vec::new();
    for hog in 0..8 {
        tokens.push(namespace(&mut administrator, &format!("hog{hog}")).await);
        let mut hog = Http::connect(&server.address, &tokens[hog]).await.expect("the server listens");
        let message = json!({ "type": "Long", "data": { "x": "x".repeat(4_000) } });
        call(&mut hog, &json!(["stream.append", STREAM, vec![message; 200]])).await;
    }
    let honest = namespace(&mut administrator, "honest").await;
    let lasting = Http::connect(&server.address, &honest).await.expect("the server listens");
    let mut writes = Honest { address: server.address.clone(), token: honest, lasting, written: 0 };
    for _ in 0..200 {
        writes.once().await;
    }
    let before = resident(server.pid);
    let crowds: Vec<Child> = (0..PROCESSES)
        .map(|number| {
            let settings = json!([server.address, tokens, size.connections, number]);
            start(&settings)
        })
        .collect();
    let (begin, mut most) = (Instant::now(), before);
    while begin.elapsed() < size.time {
        writes.once().await;
        most = most.max(resident(server.pid));
    }
    drop(crowds);
    tell(&format!(
        "{size:?}: {} MiB before, {} MiB at most, {} honest writes",
        before / MIB,
        most / MIB,
        writes.written
    ));
    assert!(most <= before + size.budget / 10 * 11, "{} MiB", most / MIB);
    server.stop().await;
}

/// An honest client: it has a token and makes small writes.
struct Honest {
    address: String,
    token: String,
    /// A connection that was opened before the crowds start.
    lasting: Http,
    written: i64,
}

/// An address that no crowd uses: connections from the crowds' addresses compete for their places.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

impl Honest {
    /// Writes over the old connection and over a new one. Both writes must be answered.
    async fn once(&mut self) {
        let first = write(self.written);
        let answered = tokio::time::timeout(PATIENCE, self.lasting.call(&first));
        let (status, reply) = answered.await.expect("an answer comes").expect("the connection stands");
        assert_eq!(status, 200, "{reply}");
        let answered = tokio::time::timeout(PATIENCE, async {
            Http::connect_from(ELSEWHERE, &self.address, &self.token).await?.call(&write(self.written + 1)).await
        });
        let (status, reply) = answered.await.expect("an answer comes").expect("the server listens");
        assert_eq!(status, 200, "{reply}");
        self.written += 2;
    }
}

/// A write that is the stream's only one at its position.
fn write(position: i64) -> Value {
    json!(["stream.write", "account-1", { "type": "T", "data": {} }, { "expectedVersion": position - 1 }])
}

/// Prints a line if the output is wanted.
fn tell(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes it");
}

async fn namespace(administrator: &mut Http, name: &str) -> String {
    let created = call(administrator, &json!(["ns.create", name])).await;
    created["token"].as_str().expect("a token").to_owned()
}

/// Memory of a process that is in RAM, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process is there");
    let pages: u64 = text.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * rustix::param::page_size() as u64
}

/// Raises the limit on open files, for this process and those that it starts.
pub(crate) fn may_open(files: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return true;
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_ok()
        && limit.maximum.is_none_or(|maximum| maximum >= files)
}

fn start(settings: &Value) -> Child {
    Command::new(std::env::current_exe().expect("this binary has a path"))
        .args([concat!(module_path!(), "::crowd").split_once("::").expect("a crate").1, "--exact", "--nocapture"])
        .env(CROWD, settings.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("this binary starts")
}

/// Runs a crowd if this binary was started as one. Otherwise it tests nothing.
#[tokio::test]
async fn crowd() {
    let Ok(settings) = std::env::var(CROWD) else { return };
    let (address, tokens, connections, number): (String, Vec<String>, u64, u64) =
        serde_json::from_str(&settings).expect("settings");
    let crowd = Crowd { address, tokens, connections, first: number * connections, open: Arc::default() };
    // It is killed.
    crowd.hold(CancellationToken::new()).await;
}
