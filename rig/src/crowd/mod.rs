//! Clients that hold as much of a server as it lets them: unfinished heads, bodies and lines of imports, replies that are
//! not taken, reads that wait with long filters, bytes that come one a second.
//!
//! [`Siege`] has clients that keep a server busy instead.
//!
//! A client never sends the rest that the server waits for. A client that is refused or cut comes again a little later.

mod http2;
mod kind;
mod siege;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::kind::{KINDS, Then};
pub use self::siege::{SOURCE, Seen, Siege};
use crate::http::Connection;

/// How long a client that is refused or cut stays away.
const AWAY: Duration = Duration::from_secs(3);
/// How long a client holds its connection before it begins anew.
const HOLD: Duration = Duration::from_secs(60);
/// Between two bytes of a client that sends one after the other.
const TRICKLE: Duration = Duration::from_secs(1);
/// Between two connections of a crowd that comes.
const STEP: Duration = Duration::from_micros(500);
/// Connections from one of the loopback's addresses: well below the ports that it has.
const OF_ONE_ADDRESS: u64 = 10_000;

/// The stream that a crowd reads in each namespace. It must have long messages.
pub const STREAM: &str = "held-1";

/// A number of such clients.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Where the server listens, as `HOST:PORT`.
    pub address: String,
    /// The tokens of the clients that have one.
    pub tokens: Vec<String>,
    /// The number of clients.
    pub connections: u64,
    /// The number of the first one: crowds of different processes on one machine have different numbers.
    pub first: u64,
    /// How many of them are connected.
    pub open: Arc<AtomicU64>,
}

impl Crowd {
    /// Comes, and stays until it is told to stop.
    pub async fn hold(self, stop: CancellationToken) {
        let mut clients = JoinSet::new();
        let openings = |kind: &kind::Kind| kind.openings(&self.address, &self.tokens);
        let all: Vec<_> = KINDS.iter().map(openings).collect();
        for number in 0..self.connections {
            let at = number as usize % all.len();
            let openings = &all[at];
            let client = Client {
                address: self.address.clone(),
                number: self.first + number,
                then: KINDS[at].then,
                opening: Arc::clone(&openings[number as usize / all.len() % openings.len()]),
                open: Arc::clone(&self.open),
            };
            clients.spawn(stop.clone().run_until_cancelled_owned(client.stay()));
            tokio::time::sleep(STEP).await;
        }
        while clients.join_next().await.is_some() {}
    }
}

struct Client {
    address: String,
    number: u64,
    then: Then,
    opening: Arc<[u8]>,
    open: Arc<AtomicU64>,
}

impl Client {
    async fn stay(self) {
        let last = u8::try_from(1 + self.number / OF_ONE_ADDRESS).expect("a machine has no ports for more");
        loop {
            if let Ok(connection) = Connection::open_from(Ipv4Addr::new(127, 0, 0, last), &self.address).await {
                let _open = Open::new(&self.open);
                let _ = tokio::time::timeout(HOLD, self.hold(connection.stream)).await;
            }
            tokio::time::sleep(AWAY).await;
        }
    }

    /// Holds until the server ends the connection.
    async fn hold(&self, stream: TcpStream) {
        let (mut from, mut to) = stream.into_split();
        let send = async {
            to.write_all(&self.opening).await?;
            loop {
                match self.then {
                    Then::Wait | Then::Ignore => std::future::pending().await,
                    Then::Trickle => {
                        tokio::time::sleep(TRICKLE).await;
                        to.write_all(b" ").await?;
                    }
                    Then::Again(pause) => {
                        tokio::time::sleep(pause).await;
                        to.write_all(&self.opening).await?;
                    }
                }
            }
        };
        let receive = async {
            if matches!(self.then, Then::Ignore) {
                return std::future::pending().await;
            }
            let mut bytes = vec![0; 2048];
            while let Ok(1..) = from.read(&mut bytes).await {}
        };
        tokio::select! {
            Err::<(), std::io::Error>(_) = send => {}
            () = receive => {}
        }
    }
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
