//! Two servers on one database, with one namespace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use eventodb_protocol::Token;
use eventodb_protocol::message::Message;
use eventodb_protocol::request::Read;
use tokio::sync::watch;

use super::fixture::{open_store, settings};
use crate::conformance::support::{everything, namespace, pokes, read, subscribe};
use crate::log::{Event, Log, Start};
use crate::postgres;
use crate::{EventStore, Settings};
use eventodb_testing::postgres::database;

/// The namespace's name.
pub(super) const NAME: &str = "test";

/// Two servers on one database.
pub(super) struct Pair {
    pub(super) url: String,
    pub(super) token: Token,
    pub(super) servers: [Arc<EventStore>; 2],
}

impl Pair {
    pub(super) async fn new() -> Self {
        Self::with(Settings::default(), |_| {}).await
    }

    /// Two servers with these settings, on a database of their own.
    pub(super) async fn with(store: Settings, change: impl FnOnce(&mut postgres::Settings)) -> Self {
        let url = database().await;
        let mut backend = settings(&url);
        change(&mut backend);
        Self::of(url, [backend.clone(), backend], store).await
    }

    /// Two servers that reach the database at `url` each in its way.
    pub(super) async fn of(url: String, backends: [postgres::Settings; 2], store: Settings) -> Self {
        let [first, second] = backends;
        let servers = [open_store(first, store.clone()).await, open_store(second, store).await];
        let token = Token::generate(NAME);
        servers[0].create(namespace(NAME, &token)).await.expect("the name is free");
        Self { url, token, servers }
    }

    /// The log as each of them has it.
    pub(super) async fn logs(&self) -> [Arc<Log>; 2] {
        let [first, second] = &self.servers;
        [first.log(NAME).await.expect("it lives"), second.log(NAME).await.expect("it lives")]
    }

    pub(super) async fn close(self) {
        for server in self.servers {
            server.close().await;
        }
    }
}

/// The middle, the last but one in a hundred, and the longest of some times.
pub(super) fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    format!("{} times: p50 {:?}, p99 {:?}, longest {:?}", times.len(), at(50), at(99), at(100))
}

/// Takes pokes about everything up to a global position: when each came.
pub(super) async fn take_until(log: Arc<Log>, last: watch::Receiver<i64>) -> Vec<Instant> {
    let mut subscription = subscribe(&log, everything(), Start::Global(1));
    let mut poked = Vec::new();
    let mut last = last;
    loop {
        tokio::select! {
            event = subscription.next() => {
                let Event::Pokes(frames) = event else { continue };
                for (_, _, global_position) in pokes(&frames) {
                    poked.push(Instant::now());
                    assert_eq!(global_position, poked.len() as i64, "pokes come in order, and each once");
                }
            }
            _ = last.wait_for(|last| *last > 0 && poked.len() as i64 >= *last) => return poked,
        }
    }
}

/// Reads everything from the beginning on, until `done` and nothing more is there.
pub(super) async fn tail(log: Arc<Log>, done: Arc<AtomicBool>) -> Vec<Message> {
    let mut seen: Vec<Message> = Vec::new();
    loop {
        let last_look = done.load(SeqCst);
        let wait = Duration::from_millis(20);
        let found = read(&log, Read { wait, ..Read::forward(everything(), seen.len() as i64 + 1, 100) }).await;
        if found.is_empty() && last_look {
            return seen;
        }
        for message in found {
            assert_eq!(message.global_position, seen.len() as i64 + 1, "nothing appears below what was seen");
            seen.push(message);
        }
    }
}
