//! From the first connection to the last.
//!
//! A stop is soft first: the socket and idle connections close at once, so that a successor can bind
//! the address; requests in progress are answered, subscriptions end, and new work is refused. What
//! has not ended within the drain time, or by a hard stop, is cut.

use std::sync::Arc;
use std::time::Duration;

use eventodb_store::EventStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept;
use crate::config::Config;
use crate::connection::Order;
use crate::state::State;

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
        () = accept::accept(&listener, &state, &tracker) => {}
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
