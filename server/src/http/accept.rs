//! Takes connections in, up to the bound on open connections.
//!
//! If there is no place, a connection waits for one in a task of its own for a while. Accepting goes on meanwhile:
//! otherwise a crowd that waits would shut out every later client. The number that may wait is bounded, and one address
//! may have as many waiting connections as places in the line are left for others.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as Line, OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::budget::{self, Account, Holder, Permit};
use super::connection::{self, Serving};
use super::room;
use super::service::Service;

/// How long nothing is accepted after the system refused to, for want of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that may wait for a place.
const WAITING: usize = 512;
/// How long each may wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes connections in, at most `connections` at once. Does not end by itself.
pub(super) async fn accept<S: Service>(
    listener: &TcpListener,
    connections: usize,
    serving: &Arc<Serving<S>>,
    tracker: &TaskTracker,
) {
    let door = Arc::new(Door {
        places: Arc::new(Semaphore::new(connections)),
        account: serving.budget.account(&Arc::default(), Holder::Connection),
        line: Line::default(),
        waiting: Waiting::default(),
    });
    loop {
        let (stream, address) = next(listener).await;
        let serving = Arc::clone(serving);
        if let Some(place) = door.place() {
            tracker.spawn(serve(stream, address, place, serving));
            continue;
        }
        let Some(turn) = door.waiting.turn(address) else {
            tracing::debug!("a connection is closed: more wait for a place than may");
            continue;
        };
        let door = Arc::clone(&door);
        tracker.spawn(async move {
            let place = tokio::time::timeout(PATIENCE, room::make(&serving.watch, address, door.free()));
            let place = serving.stopping.run_until_cancelled(place).await;
            door.waiting.give_up(turn);
            if let Some(Ok(place)) = place {
                serve(stream, address, place, serving).await;
            }
        });
    }
}

async fn serve<S: Service>(stream: TcpStream, address: IpAddr, place: Place, serving: Arc<Serving<S>>) {
    let Place { memory, _connection } = place;
    connection::serve(stream, address, memory, serving).await;
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
    waiting: Waiting,
}

impl Door {
    /// A place, if there is one.
    fn place(&self) -> Option<Place> {
        let _first = self.line.try_lock().ok()?;
        let connection = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { memory: self.account.take(budget::CONNECTION).ok()?, _connection: connection })
    }

    /// A place, once there is one.
    async fn free(&self) -> Place {
        let _first = self.line.lock().await;
        let connection = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        Place { memory: self.account.wait(budget::CONNECTION).await, _connection: connection }
    }
}

/// How many of each address wait for a place.
#[derive(Default)]
struct Waiting(Mutex<HashMap<IpAddr, usize>>);

impl Waiting {
    /// Lets one of this address wait, if fewer of it do than are left for others.
    fn turn(&self, address: IpAddr) -> Option<IpAddr> {
        let mut waiting = self.0.lock();
        let left = WAITING.saturating_sub(waiting.values().sum());
        let own = waiting.entry(address).or_default();
        if *own >= left {
            return None;
        }
        *own += 1;
        Some(address)
    }

    /// One of this address waits no more.
    fn give_up(&self, address: IpAddr) {
        let mut waiting = self.0.lock();
        if let Some(own) = waiting.get_mut(&address) {
            *own -= 1;
            if *own == 0 {
                waiting.remove(&address);
            }
        }
    }
}

/// The next connection. Where the system cannot give one now, it is asked again a little later.
async fn next(listener: &TcpListener) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address.ip()),
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
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
    fn a_crowd_of_one_address_leaves_turns_for_others() {
        let waiting = Waiting::default();
        let [crowd, other] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let turns = std::iter::from_fn(|| waiting.turn(crowd)).count();
        assert_eq!(turns, WAITING / 2);
        assert!(waiting.turn(other).is_some());
        waiting.give_up(other);
        (0..turns).for_each(|_| waiting.give_up(crowd));
        assert!(waiting.0.lock().is_empty());
    }
}
