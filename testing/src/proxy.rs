//! A proxy that holds back, delays or cuts what goes through it, and forges PostgreSQL's answers.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::forgery::Forgery;

/// The directions in which everything is held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// From the client to the server.
    pub requests: bool,
    /// From the server to the client.
    pub replies: bool,
}

/// The place at which a connection is cut, or stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// After the server was sent this many bytes of requests, when another one comes.
    Request(usize),
    /// After the client was sent this many bytes of replies, when another one comes.
    Reply(usize),
}

/// Faults that meet a piece by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// The probability that the connection is cut before the piece passes.
    pub cut: f64,
    /// The probability that the piece is delayed.
    pub delay: f64,
    /// The longest delay.
    pub longest: Duration,
    /// The shortest delay.
    pub shortest: Duration,
    /// The probability that PostgreSQL's report that a statement is done becomes an error, although it is done.
    pub forge: f64,
    /// The SQLSTATEs of these errors.
    pub states: &'static [&'static str],
}

/// A proxy on a port of its own.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    hold: watch::Sender<Hold>,
    cut_all: watch::Sender<u64>,
    /// One permit for each piece that was held back.
    held: Arc<Semaphore>,
    chance: Arc<Mutex<Chance>>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// A proxy in front of the server at `HOST:PORT`.
    ///
    /// # Panics
    /// The address has another form, or there is no free port.
    pub async fn start(server: &str) -> Self {
        Self::seeded(server, 0, None).await
    }

    /// A proxy in front of the server of the database at `url`, whose faults are drawn from a seed.
    ///
    /// # Panics
    /// The URL names no user, host and database, or there is no free port.
    pub async fn to_database(url: &str, seed: u64) -> Self {
        let place = url.rsplit_once('@').and_then(|(_, place)| place.split_once('/')).expect("a good URL").0;
        Self::seeded(place, seed, Some(Forgery::default())).await
    }

    async fn seeded(server: &str, seed: u64, forgery: Option<Forgery>) -> Self {
        let target = server.parse().expect("tests name a server by its address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (hold, holds) = watch::channel(Hold::default());
        let (cut_all, cuts) = watch::channel(0);
        let held = Arc::new(Semaphore::new(0));
        let chance = Arc::new(Mutex::new(Chance::new(seed)));
        let way = Way { holds, held: Arc::clone(&held), chance: Arc::clone(&chance), forgery };
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, target, way.clone(), cuts.clone()));
            }
        });
        Self { address, hold, cut_all, held, chance, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// The address of the proxy, `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The URL of a database through the proxy.
    ///
    /// # Panics
    /// The URL names no user, host and database.
    pub fn database_url(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").expect("a good URL");
        let (account, place) = rest.rsplit_once('@').expect("it names a user");
        let (_, database) = place.split_once('/').expect("it names a database");
        format!("{scheme}://{account}@{}/{database}?application_name=relayed", self.address)
    }

    /// Holds back from now on; the count of pieces that were held back begins anew.
    pub fn hold(&self, hold: Hold) {
        self.held.forget_permits(usize::MAX);
        self.hold.send_replace(hold);
    }

    /// Waits until a piece was held back.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub async fn until_held(&self) {
        self.held.acquire().await.expect("it is never closed").forget();
    }

    /// Lets faults happen from now on.
    pub fn faults(&self, faults: Faults) {
        self.chance.lock().faults = faults;
    }

    /// The numbers of connections that were cut and of pieces that were delayed by chance.
    pub fn fallen(&self) -> (usize, usize) {
        let chance = self.chance.lock();
        (chance.cuts, chance.delays)
    }

    /// The number of reports of PostgreSQL that were made errors.
    pub fn forged(&self) -> usize {
        self.chance.lock().forgeries
    }

    /// Cuts all connections.
    pub fn cut_all(&self) {
        self.cut_all.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts the next connection that comes to this place, once.
    ///
    /// # Panics
    /// An earlier cut has not happened.
    pub fn cut_at(&self, cut: Cut) {
        self.chance.lock().end_at(cut, false);
    }

    /// Whether the cut at a place has happened.
    pub fn has_cut(&self) -> bool {
        self.chance.lock().cut_at.is_none()
    }

    /// Lets the next connection that comes to this place stand still there, once: it passes nothing more in this
    /// direction, and is not closed.
    ///
    /// # Panics
    /// An earlier cut has not happened.
    pub fn stall_at(&self, place: Cut) {
        self.chance.lock().end_at(place, true);
    }

    /// The numbers of bytes of requests and of replies that went through so far.
    pub fn passed(&self) -> (usize, usize) {
        let chance = self.chance.lock();
        (chance.requests, chance.replies)
    }
}

/// What a piece meets on its way.
#[derive(Clone)]
struct Way {
    holds: watch::Receiver<Hold>,
    held: Arc<Semaphore>,
    chance: Arc<Mutex<Chance>>,
    /// The replies of one connection, where they are PostgreSQL's.
    forgery: Option<Forgery>,
}

/// The faults to come, and counts of what went through.
#[derive(Debug)]
struct Chance {
    faults: Faults,
    random: StdRng,
    cuts: usize,
    delays: usize,
    forgeries: usize,
    /// The cut to come, with the bytes that are left until then.
    cut_at: Option<Cut>,
    /// Whether the connection stands still there instead.
    is_stall: bool,
    requests: usize,
    replies: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Replies,
}

/// Passes bytes on in both directions until both have ended, or one is cut.
async fn relay(mut client: TcpStream, target: SocketAddr, way: Way, mut cuts: watch::Receiver<u64>) {
    cuts.mark_unchanged();
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let both = async {
        tokio::try_join!(
            way.clone().pass(Direction::Requests, from_client, to_server),
            way.clone().pass(Direction::Replies, from_server, to_client),
        )
    };
    tokio::select! {
        _ = both => {}
        _ = cuts.changed() => {}
    }
}

impl Way {
    /// Passes on what is read, once it is not held back. Bytes that were sent before their sender closed its side pass, too.
    async fn pass(
        mut self,
        direction: Direction,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let is_held = |hold: &Hold| if direction == Direction::Requests { hold.requests } else { hold.replies };
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if is_held(&self.holds.borrow()) {
                self.held.add_permits(1);
            }
            if self.holds.wait_for(|hold| !is_held(hold)).await.is_err() {
                break;
            }
            let delay = self.chance.lock().draw()?;
            tokio::time::sleep(delay).await;
            let piece = match &mut self.forgery {
                Some(forgery) if direction == Direction::Replies => {
                    Cow::Owned(forgery.pass(&buffer[..count], || self.chance.lock().forge()))
                }
                _ => Cow::Borrowed(&buffer[..count]),
            };
            let (through, is_stall) = self.chance.lock().count(direction, piece.len());
            if to.write_all(&piece[..through]).await.is_err() {
                break;
            }
            if through < piece.len() {
                if is_stall {
                    std::future::pending::<()>().await;
                }
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        _ = to.shutdown().await;
        Ok(())
    }
}

impl Chance {
    fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self {
            faults: Faults::default(),
            random,
            cuts: 0,
            delays: 0,
            forgeries: 0,
            cut_at: None,
            is_stall: false,
            requests: 0,
            replies: 0,
        }
    }

    /// How long the next piece is delayed; an error if its connection is cut instead.
    fn draw(&mut self) -> io::Result<Duration> {
        let Faults { cut, delay, shortest, longest, .. } = self.faults;
        if self.random.random_bool(cut) {
            self.cuts += 1;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if !self.random.random_bool(delay) {
            return Ok(Duration::ZERO);
        }
        self.delays += 1;
        Ok(self.random.random_range(shortest..=longest))
    }

    /// The SQLSTATE of the error that takes the place of the next report, if one does.
    fn forge(&mut self) -> Option<&'static str> {
        let Faults { forge, states, .. } = self.faults;
        if !self.random.random_bool(forge) {
            return None;
        }
        self.forgeries += 1;
        states.get(self.random.random_range(0..states.len())).copied()
    }

    /// Lets the next connection that comes to this place end there, or stand still.
    fn end_at(&mut self, place: Cut, is_stall: bool) {
        let before = self.cut_at.replace(place);
        assert_eq!(before, None, "the cut before did not happen");
        self.is_stall = is_stall;
    }

    /// How many of these bytes pass before the cut to come; all of them if there is none in this direction. Also whether the
    /// connection stands still there.
    fn count(&mut self, direction: Direction, bytes: usize) -> (usize, bool) {
        let through = match (self.cut_at, direction) {
            (Some(Cut::Request(left)), Direction::Requests) | (Some(Cut::Reply(left)), Direction::Replies) => {
                let next = if direction == Direction::Requests { Cut::Request } else { Cut::Reply };
                self.cut_at = left.checked_sub(bytes).map(next);
                left.min(bytes)
            }
            _ => bytes,
        };
        match direction {
            Direction::Requests => self.requests += through,
            Direction::Replies => self.replies += through,
        }
        (through, self.is_stall)
    }
}
