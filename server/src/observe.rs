//! The log of requests: those that failed or were slow, and with a setting all of them.
//!
//! A line has the method, the status, the duration and the namespace; never a token, a stream's name
//! or data. Of requests that were refused or failed, the first few of each kind have a line in each ten seconds, and the
//! others one together: whoever can be refused ten thousand times a second would fill the disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_protocol::ErrorCode;
use http::{Response, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::error::{Cause, Failure};
use crate::sampler::Sampler;
use crate::state::State;

/// How often those that had no line of their own are told of.
const TURN: Duration = Duration::from_secs(10);

/// What refusals and failures have in common that are told of together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// Requests.
    Request { method: &'static str, status: u16, code: Option<&'static str> },
    /// Imports whose reply had begun.
    Import(&'static str),
    /// What failed inside.
    Inside(&'static str),
}

/// Tells of what was refused and what failed.
#[derive(Debug, Default)]
pub(crate) struct Log(Sampler<Kind>);

impl Log {
    /// Tells from time to time, and at the end, how many had no line of their own.
    pub(crate) async fn keep(&self, end: CancellationToken) {
        while end.run_until_cancelled(tokio::time::sleep(TURN)).await.is_some() {
            self.turn();
        }
        self.turn();
    }

    fn turn(&self) {
        for (kind, more) in self.0.turn() {
            match kind {
                Kind::Request { method, status, code } if status >= 500 => {
                    tracing::warn!(method, status, code, more, "more requests failed alike");
                }
                Kind::Request { method, status, code } => {
                    tracing::info!(method, status, code, more, "more requests were refused alike");
                }
                Kind::Import(code) => tracing::info!(code, more, "more imports failed alike"),
                Kind::Inside(what) => tracing::warn!(what, more, "more failed alike inside"),
            }
        }
    }

    /// Tells of an import that failed after its reply had begun.
    pub(crate) fn import_failed(&self, code: ErrorCode, line: u64, cause: Option<&Cause>) {
        if let Some(cause) = cause {
            self.cause(cause);
        }
        if self.0.passes(Kind::Import(code.as_str())) {
            tracing::info!(code = code.as_str(), line, "an import failed");
        }
    }

    fn cause(&self, cause: &Cause) {
        if self.0.passes(Kind::Inside(cause.what)) {
            cause.tell();
        }
    }
}

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
        if let Some(cause) = result.as_ref().err().and_then(Failure::cause) {
            state.log.cause(cause);
        }
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
        let is_sampled = status >= 400 && !state.config.access_log;
        if is_sampled && !state.log.0.passes(Kind::Request { method, status, code }) {
            return;
        }
        match status {
            500.. => tracing::warn!(method, status, duration_ms, namespace, code, "a request failed"),
            400.. => tracing::info!(method, status, duration_ms, namespace, code, "a request was refused"),
            _ if is_slow => tracing::warn!(method, status, duration_ms, namespace, "a request was slow"),
            _ => tracing::info!(method, status, duration_ms, namespace, "a request"),
        }
    }
}
