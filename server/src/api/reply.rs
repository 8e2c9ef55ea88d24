//! Replies as the protocol wants them: JSON with nothing around it.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::http::{Body, Piece};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const NO: HeaderValue = HeaderValue::from_static("no");
/// Tells nginx not to hold back events.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A result.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Response<Body> {
    text(serde_json::to_vec(value).expect("replies have string keys only"))
}

/// A result that is JSON text already.
pub(crate) fn text(json: impl Into<Piece>) -> Response<Body> {
    with_status(StatusCode::OK, json)
}

/// JSON text with a status.
pub(crate) fn with_status(status: StatusCode, json: impl Into<Piece>) -> Response<Body> {
    typed(status, JSON, Body::whole(json))
}

/// JSON text that comes bit by bit.
pub(crate) fn streamed(body: Body) -> Response<Body> {
    typed(StatusCode::OK, JSON, body)
}

/// A stream of events.
pub(crate) fn events(body: Body) -> Response<Body> {
    let mut response = typed(StatusCode::OK, EVENT_STREAM, body);
    response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
    response.headers_mut().insert(X_ACCEL_BUFFERING, NO);
    response
}

fn typed(status: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
