//! A rolling upgrade: two servers on one PostgreSQL are replaced by those of this version one after the other, and back
//! again, while 16 writers, 50 subscribers and members of groups go on.
//!
//! `EVENTODB_TEST_OLDER` names the program of an earlier version, `EVENTODB_TEST_OLDER_GROUPS` one that knows consumer
//! groups. `ops/package/check-upgrade` builds both and runs the tests that need them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use eventodb_store::testing::tell;
use eventodb_testing::postgres;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::consumers::members::Members;
use super::http::Http;
use super::server::*;

const WRITERS: usize = 16;
const SUBSCRIBERS: usize = 50;
/// Acknowledged writes of each writer from one step to the next.
const WRITES: usize = 50;
/// How much later each attempt to start is killed than the one before.
const LATER: Duration = Duration::from_millis(7);

/// Two servers of whatever versions, each at an address that it keeps.
struct Pair {
    database: postgres::Server,
    addresses: [String; 2],
    servers: [Option<Server>; 2],
}

impl Pair {
    async fn start(program: &OsString) -> Self {
        let database = postgres::Server::start(&["fsync=off"]);
        let mut servers = [None, None];
        for server in &mut servers {
            let mut command = Command::new(program);
            command.args(Server::arguments_on("0", &database.url("postgres")));
            *server = Some(Server::launch(command).await);
        }
        let addresses = servers.each_ref().map(|server| server.as_ref().expect("it has started").address.clone());
        Self { database, addresses, servers }
    }

    fn command(&self, number: usize, program: &OsString) -> Command {
        let port = self.addresses[number].rsplit_once(':').expect("an address has a port").1;
        let mut command = Command::new(program);
        command.args(Server::arguments_on(port, &self.database.url("postgres")));
        command
    }

    /// Stops a server as a service manager does, and starts another program in its place.
    async fn replace(&mut self, number: usize, program: &OsString) {
        self.stop(number).await;
        self.servers[number] = Some(Server::launch(self.command(number, program)).await);
    }

    async fn stop(&mut self, number: usize) {
        self.servers[number].take().expect("it runs").stop().await;
    }

    /// Starts a program and kills it, later each time, until it listens before it would be killed. So it is killed at
    /// each stage of its migration. Returns how often it was killed.
    async fn start_and_kill(&mut self, number: usize, program: &OsString) -> u32 {
        self.stop(number).await;
        let mut killed = 0;
        loop {
            let mut command = self.command(number, program);
            let child = command.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
            match tokio::time::timeout(LATER * killed, Server::listening(child)).await {
                Ok(server) => {
                    self.servers[number] = Some(server.expect("it listens"));
                    return killed;
                }
                Err(_) => killed += 1,
            }
        }
    }

    /// All that there is, and the end of both servers.
    async fn end(mut self) -> Vec<Value> {
        let all = self.servers[0].as_ref().expect("it runs").all().await;
        for number in 0..2 {
            self.stop(number).await;
        }
        all
    }
}

/// What the writers and the subscribers know. They change the server when theirs fails.
struct Load {
    addresses: [String; 2],
    is_over: AtomicBool,
    /// By mark, the global position of each acknowledged write.
    acknowledged: Mutex<HashMap<String, i64>>,
    by_writer: [AtomicUsize; WRITERS],
    /// The longest time from one acknowledged write of a writer to its next one.
    longest: Mutex<Duration>,
    failed: AtomicUsize,
    /// Up to where each subscriber was told.
    told: [AtomicI64; SUBSCRIBERS],
}

impl Load {
    fn start(addresses: [String; 2]) -> (Arc<Self>, Vec<JoinHandle<()>>) {
        let load = Arc::new(Self {
            addresses,
            is_over: AtomicBool::default(),
            acknowledged: Mutex::default(),
            by_writer: std::array::from_fn(|_| AtomicUsize::default()),
            longest: Mutex::default(),
            failed: AtomicUsize::default(),
            told: std::array::from_fn(|_| AtomicI64::default()),
        });
        let writers = (0..WRITERS).map(|writer| tokio::spawn(Arc::clone(&load).write(writer)));
        let subscribers = (0..SUBSCRIBERS).map(|subscriber| tokio::spawn(Arc::clone(&load).follow(subscriber)));
        let tasks = writers.chain(subscribers).collect();
        (load, tasks)
    }

    async fn write(self: Arc<Self>, writer: usize) {
        let (mut http, mut server, mut last) = (None, writer, Instant::now());
        for number in 0.. {
            if self.is_over.load(SeqCst) {
                return;
            }
            let (mark, stream) = (format!("{writer}/{number}"), format!("s-{}", (writer + number) % 40));
            let options = json!({ "id": Uuid::new_v4().to_string() });
            let write = json!(["stream.write", stream, { "type": "T", "data": { "mark": mark } }, options]);
            let place = self.write_until_acknowledged(&mut http, &mut server, &write).await;
            let took = std::mem::replace(&mut last, Instant::now()).elapsed();
            let mut longest = self.longest.lock();
            *longest = took.max(*longest);
            self.acknowledged.lock().insert(mark, integer(&place["globalPosition"]));
            self.by_writer[writer].fetch_add(1, SeqCst);
        }
    }

    /// Repeats a write, which has an id, at one server and then the other.
    async fn write_until_acknowledged(&self, http: &mut Option<Http>, server: &mut usize, write: &Value) -> Value {
        loop {
            if http.is_none() {
                *http = Http::connect(&self.addresses[*server % 2], TOKEN).await.ok();
            }
            let answer = match http {
                Some(http) => http.call(write).await.ok(),
                None => None,
            };
            match answer {
                Some((200, place)) => return place,
                Some((503 | 504, _)) => {}
                Some((status, error)) => panic!("{status} {error}"),
                None => (*http, *server) = (None, *server + 1),
            }
            self.failed.fetch_add(1, SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Follows the whole log, by whichever server answers: each message is told once, in order.
    async fn follow(self: Arc<Self>, subscriber: usize) {
        let told = &self.told[subscriber];
        for server in subscriber.. {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let Ok(mut http) = Http::connect(&self.addresses[server % 2], TOKEN).await else { continue };
            if http.subscribe(told.load(SeqCst)).await.is_err() {
                continue;
            }
            while let Ok(Some(pokes)) = http.pokes().await {
                for (_, _, position) in pokes {
                    assert_eq!(position, told.load(SeqCst) + 1, "subscriber {subscriber} misses messages");
                    told.store(position, SeqCst);
                }
            }
        }
    }

    /// Waits until each writer has been acknowledged some times more.
    async fn goes_on(&self) {
        let before = self.by_writer.each_ref().map(|count| count.load(SeqCst));
        let deadline = Instant::now() + PATIENCE;
        while self.by_writer.iter().zip(before).any(|(count, before)| count.load(SeqCst) < before + WRITES) {
            assert!(Instant::now() < deadline, "a writer stands still");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends the writers, and waits until every subscriber has been told of everything.
    async fn end(&self, tasks: Vec<JoinHandle<()>>) {
        self.is_over.store(true, SeqCst);
        let mut tasks = tasks.into_iter();
        for writer in tasks.by_ref().take(WRITERS) {
            writer.await.expect("a writer does not panic");
        }
        let (head, deadline) = (self.head(), Instant::now() + PATIENCE);
        while self.told.iter().any(|told| told.load(SeqCst) < head) {
            assert!(Instant::now() < deadline, "a subscriber does not reach the head");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for subscriber in tasks {
            assert!(!subscriber.is_finished(), "a subscriber has panicked");
            subscriber.abort();
        }
    }

    fn head(&self) -> i64 {
        self.acknowledged.lock().values().copied().max().unwrap_or_default()
    }

    /// Compares what there is with what was acknowledged: all of it, each once, at its place.
    fn check(&self, all: &[Value]) {
        let mut acknowledged = self.acknowledged.lock().clone();
        for (at, message) in all.iter().enumerate() {
            let position = integer(&message[4]);
            assert_eq!(position, at as i64 + 1, "global positions are dense");
            let mark = message[5]["mark"].as_str().expect("each has a mark");
            assert_eq!(acknowledged.remove(mark), Some(position), "{mark}");
        }
        assert!(acknowledged.is_empty(), "acknowledged writes are lost: {acknowledged:?}");
    }

    fn told(&self, killed: u32) {
        let (writes, failed) = (self.acknowledged.lock().len(), self.failed.load(SeqCst));
        let longest = *self.longest.lock();
        tell(&format!(
            "{writes} writes, each there once; {failed} attempts failed and were repeated; a writer waited {longest:?} at \
             most; the first new server was killed {killed} times while it started"
        ));
    }
}

/// A session of a server of the first version is on the database, as far as can be told.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_server_does_not_know_is_not_made_beside_it() {
    let database = postgres::Server::start(&["fsync=off"]);
    let url = database.url("postgres");
    let server = Server::on_database(&url, &[]).await;
    let mut http = server.connect().await;
    let older = postgres::connect(&url).await;
    let name = async |name: &str| {
        older.batch_execute(&format!("SET application_name = '{name}'")).await.expect("good SQL");
    };
    let calls = [json!(["group.create", "g"]), json!(["token.create", { "rights": ["read"], "description": "one" }])];
    name("eventodb").await;
    for call in &calls {
        let (status, error) = http.call(call).await.expect("the server answers");
        assert_eq!((status, &error["error"]["code"]), (503, &json!("BACKEND_UNAVAILABLE")), "{error}");
        assert!(error["error"]["message"].as_str().is_some_and(|text| text.contains("before 0.2.0")), "{error}");
    }
    name(&format!("eventodb {}", eventodb_protocol::VERSION)).await;
    for made in &calls {
        call(&mut http, made).await;
    }
    // A group that is there may be named again beside an older server.
    name("eventodb").await;
    call(&mut http, &calls[0]).await;
    server.stop().await;
}

/// The earlier program that a variable names.
fn earlier(variable: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} must name an earlier program"))
}

/// Up and back and up again, under load.
async fn roll(older: &OsString, has_groups: bool) {
    let new = OsString::from(BINARY);
    let mut pair = Pair::start(older).await;
    let (load, tasks) = Load::start(pair.addresses.clone());
    let members = match has_groups {
        true => Some(Members::start(&pair.addresses).await),
        false => None,
    };
    load.goes_on().await;
    let killed = pair.start_and_kill(0, &new).await;
    load.goes_on().await;
    for (number, program) in [(1, &new), (0, older), (1, older), (1, &new), (0, &new)] {
        pair.replace(number, program).await;
        load.goes_on().await;
    }
    load.end(tasks).await;
    if let Some(members) = members {
        members.end(load.head()).await;
    }
    load.check(&pair.end().await);
    load.told(killed);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an earlier program: ops/package/check-upgrade"]
async fn from_the_first_version_and_back() {
    roll(&earlier("EVENTODB_TEST_OLDER"), false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an earlier program: ops/package/check-upgrade"]
async fn from_a_version_with_groups_and_back() {
    roll(&earlier("EVENTODB_TEST_OLDER_GROUPS"), true).await;
}
