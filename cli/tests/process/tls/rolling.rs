//! Two servers on one PostgreSQL behind a proxy by the recipes in `docs/OPERATIONS.md`, restarted in turn under load: no
//! request fails, no poke is lost, and subscribers do not come back all at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use eventodb_store::testing::tell;
use eventodb_testing::postgres;
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;

use super::proxies::{Proxy, caddy, nginx};
use super::*;
use crate::server::PATIENCE;

/// How many writers and subscriptions there are, as `64 500`.
const LOAD: &str = "EVENTODB_TEST_ROLLING";
const USUAL_LOAD: [usize; 2] = [8, 50];
/// How often each server is restarted.
const ROUNDS: usize = 2;
/// Writes of each writer between two restarts.
const WRITES: i64 = 20;
const FLAGS: [&str; 2] = ["--drain-grace", "1000"];
/// From one subscription's end to the next one's, on average.
const EACH: Duration = Duration::from_millis(10);
/// All of them have ended within this time.
const MOST: Duration = Duration::from_secs(5);

fn load() -> [usize; 2] {
    let Ok(text) = std::env::var(LOAD) else { return USUAL_LOAD };
    let numbers: Vec<usize> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{LOAD} is two numbers"))
}

/// What the clients of the proxy see.
struct Seen {
    /// Whether writers are to end.
    is_over: AtomicBool,
    /// Acknowledged writes of each writer.
    written: Vec<AtomicI64>,
    /// The last position of which each subscriber was poked.
    poked: Vec<AtomicI64>,
    /// When subscriptions ended.
    ends: Mutex<Vec<Instant>>,
    failures: Mutex<Vec<String>>,
}

impl Seen {
    fn new([writers, subscribers]: [usize; 2]) -> Self {
        let counters = |count| (0..count).map(|_| AtomicI64::new(0)).collect();
        Self {
            is_over: AtomicBool::new(false),
            written: counters(writers),
            poked: counters(subscribers),
            ends: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    fn failed(&self, what: String) {
        self.failures.lock().push(what);
    }

    fn all_written(&self) -> i64 {
        self.written.iter().map(|written| written.load(SeqCst)).sum()
    }

    /// Writes one message after the other.
    async fn write(&self, writer: usize, proxy: &Proxy) {
        let write = json!(["stream.write", format!("w-{writer}"), { "type": "T", "data": {} }]).to_string();
        let request = eventodb_testing::http::call(Some(TOKEN), &write);
        let mut http = proxy.connect().await;
        while !self.is_over.load(SeqCst) {
            let answered = async {
                http.send(request.as_bytes()).await?;
                http.connection.reply().await
            };
            let closes = match answered.await {
                Ok(reply) if reply.status == 200 => {
                    self.written[writer].fetch_add(1, SeqCst);
                    // nginx closes a connection after a thousand requests.
                    reply.header("connection") == Some("close")
                }
                other => {
                    self.failed(format!("a write: {:?}", other.map(|reply| (reply.status, reply.text()))));
                    true
                }
            };
            if closes {
                http = proxy.connect().await;
            }
        }
    }

    /// Subscribes again and again, each time after what came before.
    async fn subscribe(&self, subscriber: usize, proxy: &Proxy) {
        let poked = &self.poked[subscriber];
        loop {
            let mut http = proxy.connect().await;
            let path = format!("/subscribe?all=true&position=1&token={TOKEN}");
            // A browser tells the page that it comes from, which may have been asked for with a token too.
            let last = format!("Last-Event-ID: {}\r\nReferer: https://localhost{path}\r\n", poked.load(SeqCst));
            let head = eventodb_testing::http::head("GET", &path, None, &last);
            let begun = async {
                http.send(head.as_bytes()).await?;
                http.connection.head().await
            };
            match begun.await {
                Ok(head) if head.status == 200 => {}
                other => {
                    self.failed(format!("a subscription: {:?}", other.map(|head| head.status)));
                    continue;
                }
            }
            if let Err(error) = self.follow(poked, &mut http).await {
                self.failed(format!("a subscription broke off: {error}"));
            }
            self.ends.lock().push(Instant::now());
        }
    }

    /// Takes pokes until the subscription ends.
    async fn follow(&self, poked: &AtomicI64, http: &mut Http<TlsStream<TcpStream>>) -> Result<()> {
        while let Some(pokes) = http.pokes().await? {
            for (_, _, position) in pokes {
                let before = poked.swap(position, SeqCst);
                if position != before + 1 {
                    self.failed(format!("a poke: {position} after {before}"));
                }
            }
        }
        Ok(())
    }

    /// Waits until each writer has written some more.
    async fn until_all_write(&self) {
        let wanted: Vec<i64> = self.written.iter().map(|written| written.load(SeqCst) + WRITES).collect();
        until("all write", || {
            self.written.iter().zip(&wanted).all(|(written, wanted)| written.load(SeqCst) >= *wanted)
        })
        .await;
    }

    /// Waits until every subscriber was poked of all that was written.
    async fn until_all_poked(&self) {
        let all = self.all_written();
        until("all are poked", || self.poked.iter().all(|poked| poked.load(SeqCst) >= all)).await;
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the proxy passes writes on to this server. As long as it does not, it needs the other one.
async fn until_used(server: &Server) {
    let mut http = server.connect().await;
    let request = eventodb_testing::http::head("GET", "/metrics", Some(TOKEN), "");
    let deadline = Instant::now() + PATIENCE;
    loop {
        http.send(request.as_bytes()).await.expect("it runs");
        let metrics = http.connection.reply().await.expect("it answers").text();
        if metrics.contains(r#"eventodb_requests_total{method="stream.write",status="200"}"#) {
            return;
        }
        assert!(Instant::now() < deadline, "the proxy does not use it again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Restarts the server. The subscriptions on it must end over some time.
async fn restart(server: Server, url: &str, seen: &Seen) -> Server {
    seen.ends.lock().clear();
    let (_, port) = server.address.rsplit_once(':').expect("an address has a port");
    let port = port.to_owned();
    server.stop().await;
    let successor = Server::on_database_at(&port, url, &FLAGS).await;
    until_used(&successor).await;
    let ends = seen.ends.lock().clone();
    if let (Some(first), Some(last)) = (ends.iter().min(), ends.iter().max())
        && ends.len() >= 10
    {
        let time = *last - *first;
        tell(&format!("{} subscriptions ended over {time:?}", ends.len()));
        let spread = MOST.min(EACH * u32::try_from(ends.len()).expect("it is not so many"));
        assert!(time >= spread / 3, "{} subscriptions ended over {time:?} only", ends.len());
    }
    successor
}

/// Restarts the servers behind a proxy in turn, while clients use it.
async fn roll(url: &str, mut servers: [Server; 2], proxy: Proxy) {
    let load = load();
    let (proxy, seen) = (Arc::new(proxy), Arc::new(Seen::new(load)));
    let (mut writers, mut subscribers) = (JoinSet::new(), JoinSet::new());
    for subscriber in 0..load[1] {
        let (seen, proxy) = (Arc::clone(&seen), Arc::clone(&proxy));
        subscribers.spawn(async move { seen.subscribe(subscriber, &proxy).await });
    }
    for writer in 0..load[0] {
        let (seen, proxy) = (Arc::clone(&seen), Arc::clone(&proxy));
        writers.spawn(async move { seen.write(writer, &proxy).await });
    }
    seen.until_all_write().await;
    seen.until_all_poked().await;
    for _ in 0..ROUNDS {
        let [first, second] = servers;
        let first = restart(first, url, &seen).await;
        seen.until_all_write().await;
        let second = restart(second, url, &seen).await;
        seen.until_all_write().await;
        servers = [first, second];
    }
    seen.is_over.store(true, SeqCst);
    writers.join_all().await;
    seen.until_all_poked().await;
    subscribers.shutdown().await;
    tell(&format!("{} writes, {} subscribers, 4 restarts", seen.all_written(), load[1]));
    let failures = seen.failures.lock().clone();
    assert!(failures.is_empty(), "{} failures: {:#?}", failures.len(), &failures[..failures.len().min(20)]);
    for server in servers {
        server.stop().await;
    }
    proxy.has_logged_no_token("/subscribe").await;
}

async fn two_servers() -> (String, [Server; 2]) {
    let url = postgres::database().await;
    let servers = [Server::on_database(&url, &FLAGS).await, Server::on_database(&url, &FLAGS).await];
    (url, servers)
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_behind_nginx_are_restarted_in_turn_without_a_failed_request() {
    let Some(nginx) = nginx() else { return };
    let (url, servers) = two_servers().await;
    let proxy = Proxy::of_nginx(&nginx, servers.each_ref().map(|server| &*server.address)).await;
    roll(&url, servers, proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_behind_caddy_are_restarted_in_turn_without_a_failed_request() {
    let Some(caddy) = caddy() else { return };
    let (url, servers) = two_servers().await;
    let proxy = Proxy::of_caddy(&caddy, servers.each_ref().map(|server| &*server.address)).await;
    roll(&url, servers, proxy).await;
}
