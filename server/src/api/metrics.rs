//! `GET /metrics`: all figures at this moment, as text for Prometheus. Nothing is asked of the database.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use eventodb_protocol::{DEFAULT_NAMESPACE, ErrorCode, Right, VERSION};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http::request::Parts;

use crate::api::arrival::Arrival;
use crate::api::auth::{Caller, Credentials};
use crate::api::conclusion::conclude;
use crate::api::errors::Failure;
use crate::api::methods::method;
use crate::api::query::Query;
use crate::api::reply;
use crate::api::state::AppState;
use crate::http::Exchange;
use crate::observe::Record;
use crate::observe::metrics::table::{
    BUILD_INFO, CONNECTIONS, CONNECTIONS_ACCEPTED, CONNECTIONS_REFUSED, DURABILITY_INFO, ERRORS, MEMORY_BUDGET,
    MEMORY_TAKEN, RECEIVED, REQUEST_DURATION, REQUESTS, SENT, SHED,
};
use crate::observe::metrics::{self, Text, process};

/// The right that a scrape needs, in `default` and for all categories.
pub(super) const RIGHT: Right = Right::Read;

/// Answers with all metrics.
pub(super) async fn answer(State(state): State<Arc<AppState>>, arrival: Arrival, request: Parts) -> Response {
    let mut record = arrival.record(const { method("/metrics") });
    let result = scrape(&state, &arrival.exchange, &request, &mut record).await;
    conclude(&state, &arrival, &record, result)
}

async fn scrape(
    state: &AppState,
    exchange: &Exchange,
    request: &Parts,
    record: &mut Record,
) -> Result<Response, Failure> {
    // In test mode everybody may do everything, and asking for a scrape creates no namespace.
    if !state.config.metrics_public && !state.is_test_mode() {
        let query = Query::parse(request.uri.query(), &["token"])?;
        let credentials = Credentials::of(&request.headers, &query);
        let caller = Caller::with(RIGHT, state, &credentials, record).await?;
        if **caller.namespace() != *DEFAULT_NAMESPACE {
            let message = format!("only a token of {DEFAULT_NAMESPACE} may see the metrics");
            return Err(Failure::new(ErrorCode::AuthUnauthorized, message));
        }
        caller.check_everywhere(RIGHT)?;
        exchange.belongs_to(caller.namespace())?;
    }
    exchange.admit()?;
    let mut text = Text::default();
    write_requests(&mut text, state);
    write_connections(&mut text, state);
    write_server(&mut text, state);
    process::write(&mut text);
    let mut response = reply::text(text.finish());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    Ok(response)
}

fn write_requests(text: &mut Text, state: &AppState) {
    let mut series = text.series(REQUESTS);
    state.requests.statuses().for_each(|(method, status, count)| series.put(&[method, status], count));
    let mut series = text.series(REQUEST_DURATION);
    state.requests.durations().for_each(|(method, duration)| series.put_distribution(&[method], &duration));
    text.each(ERRORS, state.requests.errors().filter(|(_, count)| *count > 0));
    text.each(SHED, state.requests.shed());
}

fn write_connections(text: &mut Text, state: &AppState) {
    let traffic = state.watch.traffic();
    text.one(CONNECTIONS, state.watch.connections());
    text.one(CONNECTIONS_ACCEPTED, traffic.accepted.get());
    let refused = [("address", &traffic.refused_for_address), ("line", &traffic.refused_for_line)];
    text.each(CONNECTIONS_REFUSED, refused.map(|(reason, count)| (reason, count.get())));
    text.one(RECEIVED, traffic.received.get());
    text.one(SENT, traffic.sent.get());
    text.one(MEMORY_BUDGET, state.budget.whole());
    text.each(MEMORY_TAKEN, state.budget.shares());
}

fn write_server(text: &mut Text, state: &AppState) {
    text.series(BUILD_INFO).put(&[VERSION], 1_u64);
    let fsync = if state.store.is_durable() { "on" } else { "off" };
    text.series(DURABILITY_INFO).put(&[fsync, state.store.backend_kind()], 1_u64);
}
