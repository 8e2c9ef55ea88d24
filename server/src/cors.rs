//! Leave for pages of other origins to talk to the server.
//!
//! A token is sent by the page's own code and never by the browser, so every origin may.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::Body;

const ANY: HeaderValue = HeaderValue::from_static("*");
const EXPOSED: HeaderValue = HeaderValue::from_static("X-EventoDB-Head, X-EventoDB-Token, Retry-After");
const ALLOWED: HeaderValue = HeaderValue::from_static("Authorization, Content-Type, Last-Event-ID, Cache-Control");
const DAY: HeaderValue = HeaderValue::from_static("86400");

/// Lets a page of another origin read the reply.
pub(crate) fn allow(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// The answer to a browser that asks what it may send to a path with these verbs.
pub(crate) fn preflight(verbs: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    allow(headers);
    headers.insert(ALLOW, HeaderValue::from_static(verbs));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(verbs));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
    headers.insert(ACCESS_CONTROL_MAX_AGE, DAY);
    response
}
