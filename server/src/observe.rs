//! The log of requests: those that failed or were slow, and with a setting all of them.
//!
//! A line has the method, the status, the duration and the namespace; never a token, a stream's name
//! or data.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_schema::ErrorCode;
use http::{Response, StatusCode};

use crate::body::Body;
use crate::error::Failure;
use crate::state::State;

/// What is told of a request.
pub(crate) struct Record {
    /// The name of the call, or the path.
    pub(crate) method: &'static str,
    /// The namespace, once it is known.
    pub(crate) namespace: Option<Arc<str>>,
    /// How long the request asked to wait.
    pub(crate) wait: Duration,
    pub(crate) started: Instant,
}

impl Record {
    pub(crate) fn new(method: &'static str, started: Instant) -> Self {
        Self { method, namespace: None, wait: Duration::ZERO, started }
    }

    /// Makes the reply, and tells of the request if it is worth it.
    pub(crate) fn finish(&self, state: &State, result: Result<Response<Body>, Failure>) -> Response<Body> {
        let code = result.as_ref().err().map(Failure::code);
        let response = result.unwrap_or_else(Failure::into_response);
        self.tell(state, response.status(), code);
        response
    }

    fn tell(&self, state: &State, status: StatusCode, code: Option<ErrorCode>) {
        let duration = self.started.elapsed();
        let is_slow = duration.saturating_sub(self.wait) > state.config.timeouts.slow_request;
        if status.as_u16() < 400 && !is_slow && !state.config.access_log {
            return;
        }
        let (method, namespace, status) = (self.method, self.namespace.as_deref(), status.as_u16());
        let (code, duration_ms) = (code.map(ErrorCode::as_str), (duration.as_secs_f64() * 1e6).round() / 1e3);
        match status {
            500.. => tracing::warn!(method, status, duration_ms, namespace, code, "a request failed"),
            400.. => tracing::info!(method, status, duration_ms, namespace, code, "a request was refused"),
            _ if is_slow => tracing::warn!(method, status, duration_ms, namespace, "a request was slow"),
            _ => tracing::info!(method, status, duration_ms, namespace, "a request"),
        }
    }
}
