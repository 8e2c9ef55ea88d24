//! Probes: alive, ready, which version.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use eventodb_protocol::reply::{DegradedReason, Readiness};
use eventodb_protocol::{ErrorCode, VERSION};
use eventodb_store::Degraded;
use http::StatusCode;
use http::header::RETRY_AFTER;

use crate::api::arrival::Arrival;
use crate::api::conclusion::conclude;
use crate::api::errors::{Failure, retry_after};
use crate::api::methods::method;
use crate::api::query::Query;
use crate::api::reply;
use crate::api::state::AppState;
use crate::observe::Method;

/// How long the store has to answer.
const PATIENCE: Duration = Duration::from_secs(5);
const NO_ANSWER: &str = "the store does not answer; the server's log says why";
const OK: &str = r#"{"status":"ok"}"#;

/// `GET /health` and `GET /health/live`: the process serves requests.
pub(super) async fn health(name: Method, State(state): State<Arc<AppState>>, arrival: Arrival) -> Response {
    probe(name, &state, &arrival, async { Ok(reply::text(OK)) }).await
}

/// `GET /version`.
pub(super) async fn version(State(state): State<Arc<AppState>>, arrival: Arrival) -> Response {
    let version = async { Ok(reply::json(&serde_json::json!({ "version": VERSION }))) };
    probe(const { method("/version") }, &state, &arrival, version).await
}

/// `GET /health/ready` and `GET /ready`: the store answers reads. With `write=true` in the query: it takes writes too.
pub(super) async fn ready(
    name: Method,
    State(state): State<Arc<AppState>>,
    arrival: Arrival,
    RawQuery(query): RawQuery,
) -> Response {
    probe(name, &state, &arrival, readiness(&state, query.as_deref())).await
}

/// # Errors
/// `BACKEND_UNAVAILABLE` if the store does not answer, or the server is about to stop; `INVALID_REQUEST`.
async fn readiness(state: &AppState, query: Option<&str>) -> Result<Response, Failure> {
    let wants_writes = match Query::parse(query, &["write"])?.get("write") {
        None | Some("false" | "0") => false,
        Some("true" | "1") => true,
        Some(_) => return Err(Failure::invalid("write must be true or false")),
    };
    if state.watch.is_leaving() {
        return Err(Failure::stopping());
    }
    match tokio::time::timeout(PATIENCE, state.store.ping()).await {
        Ok(answer) => answer.map_err(|error| Failure::from(error).in_words(NO_ANSWER))?,
        Err(_) => return Err(Failure::new(ErrorCode::BackendUnavailable, NO_ANSWER)),
    }
    let mut degraded = state.store.degraded();
    if state.live.now().read_only {
        degraded.push(Degraded::new("READ_ONLY", "the server is in read-only mode: writes are refused"));
    }
    let is_refused = wants_writes && !degraded.is_empty();
    let status = if is_refused { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let reason = |Degraded { code, message }: Degraded| DegradedReason { code: code.to_owned(), message };
    let body = Readiness { status: "ok".to_owned(), degraded: degraded.into_iter().map(reason).collect() };
    let mut response = reply::with_status(status, serde_json::to_vec(&body).expect("its keys are strings"));
    if is_refused {
        response.headers_mut().insert(RETRY_AFTER, retry_after());
    }
    Ok(response)
}

/// Answers a probe, if there is memory for it.
async fn probe(
    name: Method,
    state: &AppState,
    arrival: &Arrival,
    answer: impl Future<Output = Result<Response, Failure>>,
) -> Response {
    let result = match arrival.exchange.admit() {
        Ok(()) => answer.await,
        Err(exhausted) => Err(exhausted.into()),
    };
    conclude(state, arrival, arrival.record(name), result)
}
