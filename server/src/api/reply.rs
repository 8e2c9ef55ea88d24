//! Replies as the protocol wants them: JSON with nothing around it, or a stream of events.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const NO: HeaderValue = HeaderValue::from_static("no");
/// Tells nginx not to hold back events.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Marks a reply that goes on until the client leaves or the server ends it.
#[derive(Clone)]
pub(super) struct Endless;

/// A reply could not be finished; why was logged where it happened.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the reply could not be finished")]
pub(super) struct Aborted;

/// A result.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Response {
    text(serde_json::to_vec(value).expect("replies have string keys only"))
}

/// A result that is JSON text already.
pub(super) fn text(json: impl Into<Body>) -> Response {
    with_status(StatusCode::OK, json)
}

/// JSON text with a status.
pub(super) fn with_status(status: StatusCode, json: impl Into<Body>) -> Response {
    typed(status, JSON, json.into())
}

/// JSON text that comes bit by bit. If the stream fails the reply is cut off, never closed as if it were whole.
pub(super) fn streamed(json: impl Stream<Item = Result<Bytes, Aborted>> + Send + 'static) -> Response {
    typed(StatusCode::OK, JSON, Body::from_stream(json))
}

/// A stream of events that ends by itself.
pub(super) fn events(events: impl Stream<Item = Result<Bytes, Aborted>> + Send + 'static) -> Response {
    let mut response = typed(StatusCode::OK, EVENT_STREAM, Body::from_stream(events));
    response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
    response.headers_mut().insert(X_ACCEL_BUFFERING, NO);
    response
}

fn typed(status: StatusCode, content_type: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
