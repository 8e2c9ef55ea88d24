//! From the first connection to the last.
//!
//! A stop is soft first. With a grace, the server goes on for that time, tells clients to leave (each reply closes its
//! connection), and the application tells probes that it is not ready. Then the socket and idle connections close, so
//! that a successor can bind the address; requests in progress are answered, and the application is told to end its
//! streams. Whatever has not ended within the drain time, or at a hard stop, is cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::Entrance;
use super::budget::Budget;
use super::connection::{Protocol, Serving};
use super::limits::Limits;
use super::service::Service;
use super::tls::Tls;
use super::vitals::Order;
use super::watch::Watch;

/// How long connections that are cut have to notice: they only need to be scheduled.
const CUT_TIME: Duration = Duration::from_secs(1);
/// How long a connection that was made before the socket closed has, after a grace, to send its first request.
const LAST_CALL: Duration = Duration::from_millis(500);
/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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
    budget: Arc<Budget>,
    acts: TaskTracker,
    stopping: CancellationToken,
}

impl Server {
    /// A server that speaks TLS, if it is given.
    pub(crate) fn new(limits: Limits, tls: Option<Arc<Tls>>) -> Self {
        let watch = Arc::new(Watch::new(&limits));
        let budget = Arc::new(Budget::new(limits.memory));
        Self { limits, tls, watch, budget, acts: TaskTracker::new(), stopping: CancellationToken::new() }
    }

    /// All connections.
    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// The memory of what waits for clients.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Tasks of the application that go on although their clients may be gone. At a stop they have the drain time, as
    /// connections have.
    pub(crate) fn acts(&self) -> &TaskTracker {
        &self.acts
    }

    /// Cancelled when the server begins to stop: replies without an end are to end.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Serves the connections of `listener` until the server is told to stop.
    pub(crate) async fn serve<S: Service>(self, listener: TcpListener, service: S, stop: Stop) {
        let Self { limits, tls, watch, budget, acts, stopping } = self;
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
            budget,
            stopping: stopping.clone(),
            protocol: Protocol::new(&limits),
        });
        let mut entrance = Entrance::new(&limits, &serving, &tracker);
        tokio::select! {
            () = entrance.accept(&listener) => {}
            () = stop.soft.cancelled() => {}
            () = stop.hard.cancelled() => {}
        }
        if limits.grace.is_zero() {
            drop(listener);
        } else {
            let grace = see_out(&mut entrance, listener, limits.grace);
            // The socket is dropped with it at a hard stop.
            stop.hard.run_until_cancelled(grace).await;
        }
        stopping.cancel();
        watch.give_all(Order::Drain);
        tracker.close();
        acts.close();
        let all = async { tokio::join!(tracker.wait(), acts.wait()) };
        let drained = async { tokio::time::timeout(limits.drain, all).await.is_ok() };
        if stop.hard.run_until_cancelled(drained).await != Some(true) {
            tracing::warn!(connections = watch.connections(), acts = acts.len(), "connections are cut");
            watch.give_all(Order::Cut);
            let _ = tokio::time::timeout(CUT_TIME, tracker.wait()).await;
        }
        end.cancel();
        if keeper.await.is_err() {
            tracing::error!("the keeper of time limits failed");
        }
    }
}

/// Goes on for the grace, while clients are told to leave, and then closes the socket so that no request is lost.
async fn see_out<S: Service>(entrance: &mut Entrance<'_, S>, listener: TcpListener, grace: Duration) {
    entrance.show_out();
    let _ = tokio::time::timeout(grace, entrance.accept(&listener)).await;
    entrance.close(listener);
    let last_call = async {
        while entrance.awaits_requests() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let _ = tokio::time::timeout(LAST_CALL, last_call).await;
}
