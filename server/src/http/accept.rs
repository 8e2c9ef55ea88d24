//! Takes connections in, up to the bound on open connections.
//!
//! If there is no place, a connection waits for one in a task of its own for a while. Accepting goes on meanwhile:
//! otherwise a crowd that waits would shut out every later client. The number that may wait is bounded, and one address
//! may have as many waiting connections as places in the line are left for others. A connection of an address that has as
//! many as it may is closed at once.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as Line, OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::addresses::{Network, Subnet};
use super::budget::{self, Account, Holder, Permit};
use super::connection::{self, Serving};
use super::limits::Limits;
use super::room;
use super::service::Service;
use super::tally::{Counted, Tally};

/// How long nothing is accepted after the system refused to, for want of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that may wait for a place.
const WAITING: usize = 512;
/// How long each may wait.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the log tells that connections are closed at once, or cannot be accepted.
const TELL: Duration = Duration::from_secs(10);

/// Takes connections in, within the bounds on their number.
pub(super) struct Entrance<'a, S> {
    door: Arc<Door>,
    crowds: Crowds,
    serving: &'a Arc<Serving<S>>,
    tracker: &'a TaskTracker,
    /// When the log told last that the system gives no connection.
    told: Option<Instant>,
}

impl<'a, S: Service> Entrance<'a, S> {
    /// An entrance that lets in as many as the limits say.
    pub(super) fn new(limits: &Limits, serving: &'a Arc<Serving<S>>, tracker: &'a TaskTracker) -> Self {
        let door = Arc::new(Door {
            places: Arc::new(Semaphore::new(limits.connections)),
            account: serving.budget.account(&Arc::default(), Holder::Connection),
            line: Line::default(),
            waiting: Arc::default(),
        });
        Self { door, crowds: Crowds::new(limits), serving, tracker, told: None }
    }

    /// Takes in all that come. Does not end by itself; nothing is lost if it is dropped.
    pub(super) async fn accept(&mut self, listener: &TcpListener) {
        loop {
            let (stream, peer) = self.next(listener).await;
            self.take_in(stream, peer);
        }
    }

    /// The next connection. Where the system cannot give one now, it is asked again a little later. The application could have
    /// all descriptors while nobody can ask it for anything.
    async fn next(&mut self, listener: &TcpListener) -> (TcpStream, IpAddr) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => return (stream, address.ip()),
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    if is_due(&mut self.told) {
                        tracing::warn!(%error, "no connection can be accepted");
                    }
                    tokio::join!(self.serving.service.give_up_files(), tokio::time::sleep(PAUSE));
                }
            }
        }
    }

    /// Closes the socket, and takes in those that the kernel has connected before. They would be reset with it, and
    /// their clients may have sent requests.
    pub(super) fn close(&mut self, listener: TcpListener) {
        // Without tokio, which asks the kernel only after it was told of news.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, address)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.take_in(stream, address.ip());
            }
        }
    }

    /// Tells clients to leave from now on.
    pub(super) fn show_out(&self) {
        self.serving.watch.leave();
    }

    /// Whether a connection has not sent its first request yet.
    pub(super) fn awaits_requests(&self) -> bool {
        // Some may not be in the list yet.
        self.tracker.len() > self.serving.watch.connections() || self.serving.watch.awaits_requests()
    }

    fn take_in(&mut self, stream: TcpStream, peer: IpAddr) {
        let traffic = self.serving.watch.traffic();
        traffic.accepted.add(1);
        let Some(counted) = self.crowds.admit(peer) else {
            traffic.refused_for_address.add(1);
            return;
        };
        let visitor = Visitor { stream, peer, _counted: counted };
        let serving = Arc::clone(self.serving);
        if let Some(place) = self.door.place() {
            self.tracker.spawn(visitor.serve(place, serving));
            return;
        }
        let Some(turn) = self.door.turn(peer) else {
            traffic.refused_for_line.add(1);
            tracing::debug!("a connection is closed: more wait for a place than may");
            return;
        };
        let door = Arc::clone(&self.door);
        self.tracker.spawn(async move {
            let place = room::make(&serving.watch, Subnet::of(peer), door.free());
            let place = serving.stopping.run_until_cancelled(tokio::time::timeout(PATIENCE, place)).await;
            drop(turn);
            if let Some(Ok(place)) = place {
                visitor.serve(place, serving).await;
            }
        });
    }
}

/// A connection that came in.
struct Visitor {
    stream: TcpStream,
    peer: IpAddr,
    _counted: Counted<Subnet>,
}

impl Visitor {
    async fn serve<S: Service>(self, place: Place, serving: Arc<Serving<S>>) {
        let Self { stream, peer, _counted } = self;
        let Place { memory, _connection } = place;
        connection::serve(stream, peer, memory, serving).await;
    }
}

/// The connections of each address, those that wait included.
struct Crowds {
    all: Arc<Tally<Subnet>>,
    most: usize,
    /// Their connections are those of many clients.
    proxies: Arc<[Network]>,
    /// When the log told last that connections are closed.
    told: Option<Instant>,
}

impl Crowds {
    fn new(limits: &Limits) -> Self {
        let Limits { connections_per_address: most, ref proxies, .. } = *limits;
        Self { all: Arc::default(), most, proxies: Arc::clone(proxies), told: None }
    }

    /// Counts a connection of a peer. `None` if its address has as many as it may.
    fn admit(&mut self, peer: IpAddr) -> Option<Counted<Subnet>> {
        let is_proxy = self.proxies.iter().any(|network| network.contains(peer));
        let most = if is_proxy { usize::MAX } else { self.most };
        let counted = self.all.add(Subnet::of(peer), |_| most);
        if counted.is_none() && is_due(&mut self.told) {
            tracing::warn!(address = %peer, most, "connections beyond --max-connections-per-address are closed");
        }
        counted
    }
}

/// What a connection needs to be served.
struct Place {
    memory: Permit,
    _connection: OwnedSemaphorePermit,
}

/// Where connections come in.
struct Door {
    places: Arc<Semaphore>,
    account: Account,
    /// Connections that wait take places in the order in which they came, and before any newer connection.
    line: Line<()>,
    /// How many of each address wait for a place.
    waiting: Arc<Tally<Subnet>>,
}

impl Door {
    /// A place, if there is one.
    fn place(&self) -> Option<Place> {
        let _first = self.line.try_lock().ok()?;
        let connection = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { memory: self.account.take(budget::CONNECTION).ok()?, _connection: connection })
    }

    /// Lets a connection of a peer wait, if fewer of its address do than are left for others.
    fn turn(&self, peer: IpAddr) -> Option<Counted<Subnet>> {
        self.waiting.add(Subnet::of(peer), |all| WAITING.saturating_sub(all))
    }

    /// A place, once there is one.
    async fn free(&self) -> Place {
        let _first = self.line.lock().await;
        let connection = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        Place { memory: self.account.wait(budget::CONNECTION).await, _connection: connection }
    }
}

/// Whether the log may tell it again. It was told now, if so.
fn is_due(told: &mut Option<Instant>) -> bool {
    let is_due = told.is_none_or(|told| told.elapsed() >= TELL);
    if is_due {
        *told = Some(Instant::now());
    }
    is_due
}

/// Whether the connection went away before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_as_many_connections_as_it_may_and_a_proxy_more() {
        let proxies: Arc<[Network]> = Arc::new(["10.0.0.9".parse().expect("an address")]);
        let mut crowds = Crowds::new(&Limits { connections_per_address: 2, proxies, ..Limits::default() });
        let [client, other, proxy] = [1, 2, 9].map(|last| IpAddr::from([10, 0, 0, last]));
        let held: Vec<_> = std::iter::from_fn(|| crowds.admit(client)).collect();
        assert_eq!(held.len(), 2);
        assert!(crowds.admit(other).is_some());
        let of_proxy: Vec<_> = (0..100).map_while(|_| crowds.admit(proxy)).collect();
        assert_eq!(of_proxy.len(), 100);
        drop(held);
        assert!(crowds.admit(client).is_some(), "they have ended");
    }

    #[test]
    fn an_ipv6_client_has_one_count_whichever_of_its_addresses_it_uses() {
        let mut crowds = Crowds::new(&Limits { connections_per_address: 2, ..Limits::default() });
        let address = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        let held: Vec<_> = (0..10).map_while(|host| crowds.admit(address(1, host))).collect();
        assert_eq!(held.len(), 2);
        assert!(crowds.admit(address(2, 0)).is_some());
    }
}
