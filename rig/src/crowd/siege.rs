//! Clients that keep a server busy rather than fill its memory: heads that come byte by byte, idle connections, a reader
//! of one byte a second, a long import, and subscribers who come and go. All come from one address.

use std::io::{Error, Result};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Open, STREAM};
use crate::http::{Connection, call, head};

/// The address that all clients come from.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How long a client that was cut stays away.
const AWAY: Duration = Duration::from_millis(200);
/// Between two bytes of a head, and of a reply that is read.
const TRICKLE: Duration = Duration::from_secs(1);
/// Between two connections of the clients that come first.
const STEP: Duration = Duration::from_micros(500);
/// Subscribers that have not left yet. Beyond it none comes.
const SUBSCRIBERS: usize = 2_000;
/// Lines of an import that are sent at once.
const LINES: u64 = 1_000;
/// Streams of an import.
const STREAMS: u64 = 100;

/// How many clients of each kind there are.
#[derive(Clone, Debug)]
pub struct Siege {
    /// Where the server listens, as `HOST:PORT`.
    pub address: String,
    /// The token of the namespace that all of them use, which has a long page in [`STREAM`].
    pub token: String,
    /// Heads that never end.
    pub heads: u64,
    /// Connections that were used once.
    pub idle: u64,
    /// Readers of a byte a second.
    pub readers: u64,
    /// Lines of the import; with 0 there is none.
    pub lines: u64,
    /// Subscribers that come, and leave once they are subscribed, in a second; with 0 there are none.
    pub subscribers: u64,
    /// What has come of them.
    pub seen: Arc<Seen>,
}

/// What has come of a siege so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Heads and idle connections that are open.
    pub open: AtomicU64,
    /// Subscriptions that were granted.
    pub subscriptions: AtomicU64,
    /// Lines that were sent.
    pub lines: AtomicU64,
}

impl Siege {
    /// Comes, and stays until it is told to stop.
    pub async fn hold(self, stop: CancellationToken) {
        let siege = Arc::new(self);
        let mut clients = JoinSet::new();
        if siege.lines > 0 {
            clients.spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&siege).import()));
        }
        if siege.subscribers > 0 {
            clients.spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&siege).subscribe()));
        }
        for _ in 0..siege.readers {
            clients.spawn(stop.clone().run_until_cancelled_owned(again(Arc::clone(&siege), Self::read_slowly)));
        }
        for number in 0..siege.heads + siege.idle {
            let siege = Arc::clone(&siege);
            if number < siege.heads {
                clients.spawn(stop.clone().run_until_cancelled_owned(again(siege, Self::trickle)));
            } else {
                clients.spawn(stop.clone().run_until_cancelled_owned(again(siege, Self::idle)));
            }
            tokio::time::sleep(STEP).await;
        }
        while clients.join_next().await.is_some() {}
    }

    async fn connect(&self) -> Result<Connection> {
        Connection::open_from(SOURCE, &self.address).await
    }

    /// Sends a head byte by byte, until the server has enough of it.
    async fn trickle(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        let _open = Open::new(&self.seen.open);
        connection.send(format!("POST /rpc HTTP/1.1\r\nHost: {}\r\nX: ", self.address)).await?;
        let (mut from, mut to) = connection.stream.split();
        let send = async {
            loop {
                tokio::time::sleep(TRICKLE).await;
                to.write_all(b"x").await?;
            }
        };
        let mut bytes = [0; 64];
        tokio::select! {
            failed = send => failed,
            end = from.read(&mut bytes) => end.map(drop),
        }
    }

    /// Makes one call, and nothing more.
    async fn idle(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        let _open = Open::new(&self.seen.open);
        connection.send(call(Some(&self.token), r#"["sys.version"]"#)).await?;
        connection.reply().await?;
        connection.stream.read(&mut [0; 64]).await.map(drop)
    }

    /// Reads a page byte by byte.
    async fn read_slowly(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        connection.send(call(Some(&self.token), &format!(r#"["stream.get","{STREAM}"]"#))).await?;
        let mut byte = [0; 1];
        while connection.stream.read(&mut byte).await? > 0 {
            tokio::time::sleep(TRICKLE).await;
        }
        Ok(())
    }

    /// Imports all lines, as fast as the server takes them, once.
    async fn import(self: Arc<Self>) {
        if self.send_lines().await.is_ok() {
            std::future::pending().await
        }
    }

    async fn send_lines(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        connection.send(head("POST", "/import", Some(&self.token), "Transfer-Encoding: chunked\r\n")).await?;
        let (mut from, mut to) = connection.stream.split();
        let send = async {
            for first in (0..self.lines).step_by(LINES as usize) {
                let lines: String = (first..self.lines.min(first + LINES)).map(line).collect();
                to.write_all(format!("{:x}\r\n{lines}\r\n", lines.len()).as_bytes()).await?;
                self.seen.lines.fetch_add(LINES, Relaxed);
            }
            to.write_all(b"0\r\n\r\n").await
        };
        // The progress is read, so that its end shows the end of the import.
        let receive = async {
            let mut bytes = vec![0; 16 * 1024];
            while from.read(&mut bytes).await? > 0 {}
            Ok(())
        };
        tokio::try_join!(send, receive).map(drop)
    }

    /// Has subscribers come at a steady rate.
    async fn subscribe(self: Arc<Self>) {
        let mut pace =
            tokio::time::interval(Duration::from_secs(1) / u32::try_from(self.subscribers).unwrap_or(u32::MAX));
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut subscribers = JoinSet::new();
        loop {
            pace.tick().await;
            while subscribers.try_join_next().is_some() {}
            if subscribers.len() < SUBSCRIBERS {
                let siege = Arc::clone(&self);
                subscribers.spawn(async move { siege.come_and_go().await });
            }
        }
    }

    /// Subscribes, and leaves. The connection is reset, because a closed one would keep its port for a minute.
    async fn come_and_go(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        connection.stream.set_zero_linger()?;
        connection.send(head("GET", "/subscribe?category=nothing", Some(&self.token), "")).await?;
        let reply = connection.head().await?;
        if reply.status != 200 {
            return Err(Error::other("it was not granted"));
        }
        connection.chunk().await?;
        self.seen.subscriptions.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// Does it over and over.
async fn again(siege: Arc<Siege>, client: impl AsyncFn(&Siege) -> Result<()>) {
    loop {
        // A client that is refused or cut comes again.
        let _ = client(&siege).await;
        tokio::time::sleep(AWAY).await;
    }
}

/// A line of an import. Its positions lie far above those of messages that were written.
fn line(number: u64) -> String {
    let (stream, position, at) = (number % STREAMS, number / STREAMS, 1_000_000 + number);
    format!(
        r#"{{"id":"00000000-0000-7000-8000-{number:012x}","stream":"import-{stream}","type":"T","pos":{position},"gpos":{at},"data":{{"n":{number}}},"meta":null,"time":"2026-01-02T03:04:05Z"}}"#
    ) + "\n"
}
