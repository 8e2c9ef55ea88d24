//! Clients that hold as much of a server as it lets them: unfinished heads, bodies and lines of imports, replies that are
//! not taken, reads that wait with long filters, bytes that come one a second.
//!
//! A client never sends the rest that the server waits for. A client that is refused or cut comes again a little later.

mod http2;
mod kind;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::kind::{KINDS, Kind, Then};
use crate::wire::{Address, connect_from};

/// How long a client that is refused or cut stays away.
const AWAY: Duration = Duration::from_secs(3);
/// How long a client holds its connection before it begins anew.
const HOLD: Duration = Duration::from_secs(60);
/// Between two bytes of a client that sends one after the other.
const TRICKLE: Duration = Duration::from_secs(1);
/// Between two connections of a crowd that comes.
const STEP: Duration = Duration::from_micros(500);

/// A number of such clients.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Where the server listens, as `http://HOST:PORT`.
    pub url: String,
    /// The tokens of the clients that have one.
    pub tokens: Vec<String>,
    /// The number of clients.
    pub connections: u64,
    /// The number of the first one: crowds of different processes on one machine have different numbers.
    pub first: u64,
}

/// The replies that a crowd got, and its connections.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connections that were opened and not ended yet.
    open: AtomicU64,
    /// Replies, by kind and status.
    replies: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// Connections that the server ended, by kind.
    cut: Mutex<BTreeMap<&'static str, u64>>,
}

impl Seen {
    /// How many connections are open.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    fn reply(&self, kind: &Kind, status: u16) {
        *self.replies.lock().unwrap_or_else(PoisonError::into_inner).entry((kind.name, status)).or_default() += 1;
    }

    fn cut(&self, kind: &Kind) {
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner).entry(kind.name).or_default() += 1;
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} open", self.open())?;
        for ((kind, status), count) in &*self.replies.lock().unwrap_or_else(PoisonError::into_inner) {
            write!(f, "; {kind}: {count} × {status}")?;
        }
        for (kind, count) in &*self.cut.lock().unwrap_or_else(PoisonError::into_inner) {
            write!(f, "; {kind}: {count} ended")?;
        }
        Ok(())
    }
}

/// The stream that a crowd reads in each namespace. It must have long messages.
pub const STREAM: &str = kind::STREAM;

impl Crowd {
    /// Comes, and stays until it is told to stop.
    ///
    /// # Errors
    /// The URL is none.
    pub async fn hold(self, seen: Arc<Seen>, stop: CancellationToken) -> anyhow::Result<()> {
        let address = Address::new(&self.url, None)?;
        let mut clients = JoinSet::new();
        let all: Vec<_> = KINDS.iter().map(|kind| kind.openings(&address, &self.tokens)).collect();
        for number in 0..self.connections {
            let at = number as usize % all.len();
            let openings = &all[at];
            let opening = Arc::clone(&openings[number as usize / all.len() % openings.len()]);
            let client = Client {
                address: address.clone(),
                number: self.first + number,
                kind: &KINDS[at],
                opening,
                seen: Arc::clone(&seen),
            };
            clients.spawn(client.stay(stop.clone()));
            tokio::time::sleep(STEP).await;
        }
        while clients.join_next().await.is_some() {}
        Ok(())
    }
}

/// One client.
struct Client {
    address: Address,
    number: u64,
    kind: &'static Kind,
    opening: Arc<[u8]>,
    seen: Arc<Seen>,
}

impl Client {
    async fn stay(self, stop: CancellationToken) {
        loop {
            let held = async {
                if let Ok(stream) = connect_from(&self.address, self.number).await {
                    let _open = Open::new(&self.seen.open);
                    let _ = tokio::time::timeout(HOLD, self.hold(stream)).await;
                }
            };
            if stop.run_until_cancelled(held).await.is_none() {
                return;
            }
            if stop.run_until_cancelled(tokio::time::sleep(AWAY)).await.is_none() {
                return;
            }
        }
    }

    /// Holds until the server ends the connection.
    async fn hold(&self, stream: TcpStream) {
        let (mut from, mut to) = stream.into_split();
        let send = async {
            if to.write_all(&self.opening).await.is_err() {
                return;
            }
            match self.kind.then {
                Then::Wait | Then::Ignore => {}
                Then::Trickle => loop {
                    tokio::time::sleep(TRICKLE).await;
                    if to.write_all(b" ").await.is_err() {
                        return;
                    }
                },
                Then::Again(pause) => loop {
                    tokio::time::sleep(pause).await;
                    if to.write_all(&self.opening).await.is_err() {
                        return;
                    }
                },
            }
            std::future::pending().await
        };
        let receive = async {
            if matches!(self.kind.then, Then::Ignore) {
                return std::future::pending().await;
            }
            let mut bytes = vec![0; 2048];
            while let Ok(count @ 1..) = from.read(&mut bytes).await {
                if let Some(status) = status(&bytes[..count]) {
                    self.seen.reply(self.kind, status);
                }
            }
        };
        tokio::select! {
            () = send => {}
            () = receive => {}
        }
        self.seen.cut(self.kind);
    }
}

/// The status of a reply that begins here.
fn status(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A connection that counts until it is dropped.
struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
