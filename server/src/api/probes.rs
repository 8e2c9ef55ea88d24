//! Probes: alive, ready, which version.

use std::time::Duration;

use eventodb_protocol::{ErrorCode, VERSION};
use eventodb_store::Degraded;
use http::{Response, StatusCode};
use serde::Serialize;

use crate::api::errors::Failure;
use crate::api::reply;
use crate::api::state::State;
use crate::http::Body;

/// How long the store has to answer.
const PATIENCE: Duration = Duration::from_secs(5);
const OK: &str = r#"{"status":"ok"}"#;

/// What a probe for readiness is told where the store answers.
#[derive(Serialize)]
struct Readiness<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "<[Degraded]>::is_empty")]
    degraded: &'a [Degraded],
}

/// `GET /health` and `GET /health/live`: the process serves requests.
pub(crate) fn health() -> Response<Body> {
    reply::text(OK)
}

/// `GET /version`.
pub(crate) fn version() -> Response<Body> {
    reply::json(&serde_json::json!({ "version": VERSION }))
}

/// `GET /health/ready` and `GET /ready`: the store answers reads. With `write=true` in the query: it takes writes too.
///
/// # Errors
/// `BACKEND_UNAVAILABLE` if the store does not answer.
pub(crate) async fn ready(state: &State, query: Option<&str>) -> Result<Response<Body>, Failure> {
    match tokio::time::timeout(PATIENCE, state.store.ping()).await {
        Ok(answer) => answer?,
        Err(_) => return Err(Failure::new(ErrorCode::BackendUnavailable, "the store does not answer")),
    }
    let degraded = state.store.degraded();
    let wants_writes = query.is_some_and(|query| query.split('&').any(|option| option == "write=true"));
    let status = if wants_writes && !degraded.is_empty() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = Readiness { status: "ok", degraded: &degraded };
    Ok(reply::with_status(status, serde_json::to_vec(&body).expect("its keys are strings")))
}
