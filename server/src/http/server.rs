//! From the first connection to the last.
//!
//! A stop is soft first: the socket and idle connections close at once, so that a successor can bind the address;
//! requests in progress are answered, and the application is told to end its streams. Whatever has not
//! ended within the drain time, or at a hard stop, is cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept;
use super::budget::Budget;
use super::connection::{Protocol, Serving};
use super::limits::Limits;
use super::service::Service;
use super::tls::Tls;
use super::vitals::Order;
use super::watch::Watch;

/// How long connections that are cut have to notice: they only need to be scheduled.
const CUT_TIME: Duration = Duration::from_secs(1);

/// How a server is told to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Finish what is in progress, within the drain time.
    pub soft: CancellationToken,
    /// End at once.
    pub hard: CancellationToken,
}

/// A server that does not serve yet.
pub(crate) struct Server {
    limits: Limits,
    tls: Option<Arc<Tls>>,
    watch: Arc<Watch>,
    stopping: CancellationToken,
}

impl Server {
    /// A server that speaks TLS, if it is given.
    pub(crate) fn new(limits: Limits, tls: Option<Arc<Tls>>) -> Self {
        let watch = Arc::new(Watch::new(&limits));
        Self { limits, tls, watch, stopping: CancellationToken::new() }
    }

    /// All connections.
    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Cancelled when the server begins to stop: replies without an end are to end.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Serves the connections of `listener` until the server is told to stop.
    pub(crate) async fn serve<S: Service>(self, listener: TcpListener, service: S, stop: Stop) {
        let Self { limits, tls, watch, stopping } = self;
        let end = CancellationToken::new();
        let keeper = tokio::spawn({
            let (watch, end) = (Arc::clone(&watch), end.clone());
            async move { watch.keep(end).await }
        });
        let tracker = TaskTracker::new();
        let serving = Arc::new(Serving {
            service: Arc::new(service),
            tls,
            watch: Arc::clone(&watch),
            budget: Arc::new(Budget::new(limits.memory)),
            stopping: stopping.clone(),
            protocol: Protocol::new(&limits),
        });
        tokio::select! {
            () = accept::accept(&listener, &limits, &serving, &tracker) => {}
            () = stop.soft.cancelled() => {}
            () = stop.hard.cancelled() => {}
        }
        drop(listener);
        stopping.cancel();
        watch.give_all(Order::Drain);
        tracker.close();
        let drained = async { tokio::time::timeout(limits.drain, tracker.wait()).await.is_ok() };
        if stop.hard.run_until_cancelled(drained).await != Some(true) {
            tracing::warn!(connections = watch.connections(), "connections are cut");
            watch.give_all(Order::Cut);
            let _ = tokio::time::timeout(CUT_TIME, tracker.wait()).await;
        }
        end.cancel();
        if keeper.await.is_err() {
            tracing::error!("the keeper of time limits failed");
        }
    }
}
