//! The way of a request: `POST /rpc` straight to its method, the rest to its path.
//!
//! Calls are what the server is measured by, so between hyper and a method there is nothing that
//! costs: no layers, no boxed bodies, no look at headers that the call does not need. Only what answers is
//! boxed: a connection has room for it as long as it lasts, also while a subscriber waits.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;

use crate::body::Body;
use crate::connection::Busy;
use crate::error::Failure;
use crate::observe::Record;
use crate::state::State;
use crate::{cors, routes, rpc};

const CALLS: &str = "/rpc";

/// Answers a request. `busy` is held until the reply is sent.
pub(crate) async fn answer(
    state: Arc<State>,
    busy: Busy,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let started = Instant::now();
    let (readers, version) = (cors::Readers::of(&request, &state.config), request.version());
    let is_call = request.uri().path() == CALLS && request.method() == Method::POST;
    let answer = async {
        if state.watch.is_draining() {
            return Failure::stopping().closing().into_response();
        }
        if let Some(failure) = host_failure(&request) {
            return failure.closing().into_response();
        }
        if state.is_test_mode()
            && let Err(failure) = routes::check_sender(&state, &request)
        {
            return routes::refuse(&state, request, failure, Record::new("unknown sender", started));
        }
        if is_call {
            return Box::pin(rpc::answer(&state, &busy, request, started)).await;
        }
        Box::pin(routes::answer(&state, &busy, request, started)).await
    };
    let mut response = AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
        // The panic hook has logged what happened; other requests are not concerned.
        Record::new("unknown", started).finish(&state, Err(Failure::panicked()))
    });
    readers.tell(response.headers_mut());
    if version == Version::HTTP_2 {
        response.headers_mut().remove(CONNECTION);
    } else if version == Version::HTTP_10 || response.body().is_endless() {
        response.headers_mut().entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| body.watched(&state.watch, &busy).until_sent(busy)))
}

/// A request over HTTP/1.1 has one `Host` (RFC 9112, section 3.2).
fn host_failure<B>(request: &Request<B>) -> Option<Failure> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let is_missing = first.is_none() && request.version() == Version::HTTP_11;
    (is_missing || second.is_some()).then(|| Failure::invalid("a request over HTTP/1.1 has the header Host, once"))
}
