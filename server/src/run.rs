//! Runs a server: joins the sockets, the application and the request log.

use std::sync::Arc;

use eventodb_store::EventStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::config::Config;
use crate::http::{Server, Stop};
use crate::observe::{RequestLog, Totals};

/// Serves connections of `listener` until `stop` is cancelled and the last of them has ended. The store stays open.
/// Returns what it has done until then.
pub async fn run(listener: TcpListener, store: Arc<EventStore>, config: Config, stop: Stop) -> Totals {
    let server = Server::new(config.http_limits(), config.tls.clone());
    let live = config.live();
    let log = Arc::new(RequestLog::new(Arc::clone(&live)));
    let end = CancellationToken::new();
    let summaries = tokio::spawn({
        let (log, end) = (Arc::clone(&log), end.clone());
        async move { log.keep(end).await }
    });
    let renewals = config.tls.clone().map(|tls| tokio::spawn(tls.keep(end.clone())));
    let api = Api::new(store, config, live, log, &server);
    let state = Arc::clone(api.state());
    server.serve(listener, api, stop).await;
    end.cancel();
    if summaries.await.is_err() {
        tracing::error!("the request log's summaries failed");
    }
    if let Some(renewals) = renewals
        && renewals.await.is_err()
    {
        tracing::error!("the renewal of the TLS certificate failed");
    }
    state.totals()
}
