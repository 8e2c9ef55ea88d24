//! Runs a server: joins the sockets, the application and the log.

use std::sync::Arc;
use std::time::Duration;

use eventodb_store::EventStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, AppState};
use crate::config::Config;
use crate::http::{Server, Stop};
use crate::observe::{Outage, RequestLog, Totals};

/// Serves connections of `listener` until `stop` is cancelled and the last of them has ended. The store stays open.
/// Returns what it has done until then.
pub async fn run(listener: TcpListener, store: Arc<EventStore>, config: Config, stop: Stop) -> Totals {
    let server = Server::new(config.http_limits(), config.tls.clone());
    let live = config.live();
    live.begin();
    let outage = Arc::new(Outage::default());
    let log = Arc::new(RequestLog::new(Arc::clone(&outage)));
    let end = CancellationToken::new();
    let summaries = tokio::spawn({
        let (log, end) = (Arc::clone(&log), end.clone());
        async move { log.keep(end).await }
    });
    let renewals = config.tls.clone().map(|tls| tokio::spawn(tls.keep(end.clone())));
    let api = Api::new(Arc::clone(&store), config, live, log, &server);
    let state = Arc::clone(api.state());
    let watch = tokio::spawn({
        let (state, end) = (Arc::clone(&state), end.clone());
        async move {
            end.run_until_cancelled(outage.watch(&store, || state.totals().failed)).await;
        }
    });
    let spans = tokio::spawn({
        let (state, end) = (Arc::clone(&state), end.clone());
        async move { state.spans.keep(end).await }
    });
    let soft = stop.soft.clone();
    told_of_its_end(server.serve(listener, api, stop), soft, &state).await;
    end.cancel();
    if summaries.await.is_err() {
        tracing::error!("the request log's summaries failed");
    }
    if watch.await.is_err() {
        tracing::error!("the watch over the database failed");
    }
    if spans.await.is_err() {
        tracing::error!("sending spans failed");
    }
    if let Some(renewals) = renewals
        && renewals.await.is_err()
    {
        tracing::error!("the renewal of the TLS certificate failed");
    }
    state.totals()
}

/// Waits for the end of a server, and logs what there is to end as soon as it is told to stop.
async fn told_of_its_end(serving: impl Future<Output = ()>, soft: CancellationToken, state: &AppState) {
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        biased;
        () = soft.cancelled() => tell_draining(state),
        () = &mut serving => return,
    }
    serving.await;
}

fn tell_draining(state: &AppState) {
    let (connections, (subscriptions, waiting)) = (state.watch.connections(), state.places.taken());
    let timeouts = &state.config.timeouts;
    // JSON has no number for the wider ones.
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (grace_ms, timeout_ms) = (ms(timeouts.grace), ms(timeouts.drain));
    tracing::info!(connections, subscriptions, waiting, grace_ms, timeout_ms, "draining");
}
