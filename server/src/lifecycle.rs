//! From the first connection to the last.
//!
//! A stop is soft first: the socket and idle connections close at once, so that a successor can bind
//! the address; requests in progress are answered, subscriptions end, and new work is refused. What
//! has not ended within the drain time, or by a hard stop, is cut.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use eventodb_store::EventStore;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::{self, Holder, Permit};
use crate::config::Config;
use crate::connection::{self, Order, Protocol};
use crate::state::State;

/// How long nothing is accepted after the system refused to, for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that are cut need no time but for being scheduled.
const CUT_TIME: Duration = Duration::from_secs(1);

/// How a server is told to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Finish what is in progress, within the drain time.
    pub soft: CancellationToken,
    /// End at once.
    pub hard: CancellationToken,
}

/// Serves connections of `listener` until it is told to stop. The store is left open.
pub async fn run(listener: TcpListener, store: Arc<EventStore>, config: Config, stop: Stop) {
    let drain = config.timeouts.drain;
    let state = Arc::new(State::new(store, config, stop.soft.child_token()));
    let tracker = TaskTracker::new();
    let end = CancellationToken::new();
    let watch = Arc::clone(&state.watch);
    let log = Arc::clone(&state.log);
    let keeper = tokio::spawn({
        let end = end.clone();
        async move { tokio::join!(watch.keep(end.clone()), log.keep(end)) }
    });

    let told = async {
        tokio::select! {
            () = stop.soft.cancelled() => {}
            () = stop.hard.cancelled() => {}
        }
    };
    tokio::select! {
        () = accept(&listener, &state, &tracker) => {}
        () = told => {}
    }
    drop(listener);

    state.stopping.cancel();
    state.watch.give_all(Order::Drain);
    tracker.close();
    let drained = async { tokio::time::timeout(drain, tracker.wait()).await.is_ok() };
    if stop.hard.run_until_cancelled(drained).await != Some(true) {
        tracing::warn!(connections = state.watch.connections(), "connections are cut");
        state.watch.give_all(Order::Cut);
        let _ = tokio::time::timeout(CUT_TIME, tracker.wait()).await;
    }
    end.cancel();
    if keeper.await.is_err() {
        tracing::error!("the keeper of time limits failed");
    }
}

/// Takes connections in, as many at once as there may be. Does not end by itself.
async fn accept(listener: &TcpListener, state: &Arc<State>, tracker: &TaskTracker) {
    let places = Arc::new(Semaphore::new(state.config.bounds.connections));
    let protocol = Arc::new(Protocol::new(&state.config.bounds));
    loop {
        let (stream, address) = next(listener).await;
        let place = place(&places, state).await;
        let (state, protocol) = (Arc::clone(state), Arc::clone(&protocol));
        tracker.spawn(async move {
            let Place { memory, _connection } = place;
            connection::serve(stream, address, memory, &protocol, state).await;
        });
    }
}

/// What a connection needs to be served.
struct Place {
    memory: Permit,
    _connection: OwnedSemaphorePermit,
}

/// A place for one more connection. Where there is none, one without a token makes room.
async fn place(places: &Arc<Semaphore>, state: &State) -> Place {
    let account = state.budget.account(&Arc::default(), Holder::Connection);
    let free = async {
        let connection = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
        Place { memory: account.wait(budget::CONNECTION).await, _connection: connection }
    };
    connection::make_room(&state.watch, free).await
}

/// The next connection. Where the system cannot give one now, it is asked again a little later.
async fn next(listener: &TcpListener) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address.ip()),
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the connection went away before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
