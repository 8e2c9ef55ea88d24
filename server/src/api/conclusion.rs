//! The end of every request: its result becomes a reply, and a line in the log where it is worth one.

use std::time::Duration;

use axum::response::Response;
use http_body::Body as _;

use crate::api::arrival::Arrival;
use crate::api::errors::Failure;
use crate::api::state::AppState;
use crate::observe::{Method, Outcome, Record};

/// Makes the reply to a request.
pub(super) fn conclude(
    state: &AppState,
    arrival: &Arrival,
    record: Record,
    result: Result<Response, Failure>,
) -> Response {
    let mut result = result.map_err(|failure| counted(state, arrival, failure));
    let code = result.as_ref().err().map(Failure::code);
    let cause = result.as_mut().err().and_then(Failure::take_cause);
    let shed = result.as_ref().err().and_then(Failure::shed);
    let response = result.unwrap_or_else(Failure::into_response);
    let (duration, wait) = (record.started.elapsed(), record.wait);
    let outcome = Outcome { status: response.status(), code, shed, duration, wait };
    let live = state.live.now();
    state.spans.finish(&record, &outcome);
    state.log.answered(&record, &outcome, &live, cause.as_deref(), response.body().size_hint().exact());
    // Every request that is answered is counted once: here, or below.
    state.finished.count(record, outcome, live.slow);
    response
}

/// The reply to a request that has no line in the log: it is refused before anything of it is looked at, or is a
/// browser's question before a request.
pub(super) fn conclude_unlogged(
    state: &AppState,
    arrival: &Arrival,
    method: Method,
    result: Result<Response, Failure>,
) -> Response {
    let code = result.as_ref().err().map(Failure::code);
    let response = result.unwrap_or_else(Failure::into_response);
    let (duration, wait) = (arrival.started.elapsed(), Duration::ZERO);
    let outcome = Outcome { status: response.status(), code, shed: None, duration, wait };
    state.finished.count(arrival.record(method), outcome, state.live.now().slow);
    response
}

/// The failure itself, or the refusal of a client that has shown too many wrong tokens.
fn counted(state: &AppState, arrival: &Arrival, failure: Failure) -> Failure {
    if !failure.is_of_wrong_token() {
        return failure;
    }
    match state.rates().count_wrong_token(arrival.client) {
        Ok(()) => failure,
        Err(limited) => failure.too_often(limited),
    }
}
