//! Probes: alive, ready, which version.

use std::time::Duration;

use eventodb_schema::{ErrorCode, VERSION};
use http::Response;

use crate::body::Body;
use crate::error::Failure;
use crate::reply;
use crate::state::State;

/// How long the store has to answer.
const PATIENCE: Duration = Duration::from_secs(5);
const OK: &str = r#"{"status":"ok"}"#;

/// `GET /health`: the process serves requests.
pub(crate) fn health() -> Response<Body> {
    reply::text(OK)
}

/// `GET /version`.
pub(crate) fn version() -> Response<Body> {
    reply::json(&serde_json::json!({ "version": VERSION }))
}

/// `GET /ready`: the store answers too.
///
/// # Errors
/// `BACKEND_UNAVAILABLE` where it does not.
pub(crate) async fn ready(state: &State) -> Result<Response<Body>, Failure> {
    match tokio::time::timeout(PATIENCE, state.store.ping()).await {
        Ok(answer) => answer?,
        Err(_) => return Err(Failure::new(ErrorCode::BackendUnavailable, "the store does not answer")),
    }
    Ok(reply::text(OK))
}
