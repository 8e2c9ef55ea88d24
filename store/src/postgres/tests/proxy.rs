//! A relay between a server and PostgreSQL that holds back, delays or cuts off what goes through.

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

/// What the relay does with what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) requests: bool,
    pub(super) replies: bool,
}

/// What happens to a piece that comes through, by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Faults {
    /// How likely its connection is cut before it passes.
    pub(super) cut: f64,
    /// How likely it is delayed.
    pub(super) delay: f64,
    /// For how long, at most.
    pub(super) longest: Duration,
    /// For how long, at least.
    pub(super) shortest: Duration,
}

/// Listens on a port of its own and relays to PostgreSQL.
pub(super) struct Proxy {
    address: SocketAddr,
    hold: watch::Sender<Hold>,
    cut: watch::Sender<u64>,
    /// One permit for each piece that was held back.
    held: Arc<Semaphore>,
    chance: Arc<Mutex<Chance>>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Relays to the server of the database at `url`.
    pub(super) async fn start(url: &str) -> Self {
        Self::seeded(url, 0).await
    }

    /// One whose faults are drawn from a seed.
    pub(super) async fn seeded(url: &str, seed: u64) -> Self {
        let place = url.rsplit_once('@').and_then(|(_, place)| place.split_once('/')).expect("a good URL").0;
        let target = place.parse().expect("the tests' server is named by its address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let (hold, holds) = watch::channel(Hold::default());
        let (cut, cuts) = watch::channel(0);
        let held = Arc::new(Semaphore::new(0));
        let random = StdRng::seed_from_u64(seed);
        let chance = Arc::new(Mutex::new(Chance { faults: Faults::default(), random, cuts: 0, delays: 0 }));
        let way = Way { holds, held: Arc::clone(&held), chance: Arc::clone(&chance) };
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, target, way.clone(), cuts.clone()));
            }
        });
        Self { address, hold, cut, held, chance, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// From now on.
    pub(super) fn faults(&self, faults: Faults) {
        self.chance.lock().faults = faults;
    }

    /// How many connections were cut and how many pieces delayed by chance.
    pub(super) fn fallen(&self) -> (usize, usize) {
        let chance = self.chance.lock();
        (chance.cuts, chance.delays)
    }

    /// The same URL through the relay.
    pub(super) fn url(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").expect("a good URL");
        let (account, place) = rest.rsplit_once('@').expect("it names a user");
        let (_, database) = place.split_once('/').expect("it names a database");
        format!("{scheme}://{account}@{}/{database}?application_name=relayed", self.address)
    }

    /// From now on; what was held back before no longer counts.
    pub(super) fn hold(&self, hold: Hold) {
        self.held.forget_permits(usize::MAX);
        self.hold.send_replace(hold);
    }

    /// Waits until something was held back.
    pub(super) async fn until_held(&self) {
        self.held.acquire().await.expect("it is never closed").forget();
    }

    /// Cuts all connections that there are.
    pub(super) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

/// What a piece meets on its way.
#[derive(Clone)]
struct Way {
    holds: watch::Receiver<Hold>,
    held: Arc<Semaphore>,
    chance: Arc<Mutex<Chance>>,
}

/// Which pieces meet a fault.
struct Chance {
    faults: Faults,
    random: StdRng,
    cuts: usize,
    delays: usize,
}

async fn relay(mut client: TcpStream, target: SocketAddr, way: Way, mut cuts: watch::Receiver<u64>) {
    cuts.mark_unchanged();
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let both = async {
        tokio::try_join!(
            way.clone().pump(from_client, to_server, |hold| hold.requests),
            way.clone().pump(from_server, to_client, |hold| hold.replies),
        )
    };
    tokio::select! {
        _ = both => {}
        _ = cuts.changed() => {}
    }
}

/// The connection is cut, in both directions.
struct Cut;

impl Way {
    /// Passes on what is read, once it is not held back; also what was sent before the sender went away.
    async fn pump(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        is_held: impl Fn(&Hold) -> bool,
    ) -> Result<(), Cut> {
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
            if to.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        _ = to.shutdown().await;
        Ok(())
    }
}

impl Chance {
    /// For how long the next piece is delayed.
    fn draw(&mut self) -> Result<Duration, Cut> {
        let Faults { cut, delay, shortest, longest } = self.faults;
        if self.random.random_bool(cut) {
            self.cuts += 1;
            return Err(Cut);
        }
        if !self.random.random_bool(delay) {
            return Ok(Duration::ZERO);
        }
        self.delays += 1;
        Ok(self.random.random_range(shortest..=longest))
    }
}
