//! The log of requests: those that failed or were slow, and with a setting all of them.
//!
//! A line has the method, the status, the duration, the namespace and the request's id; never a token, a stream's name
//! or data. In each ten seconds, the first few refused or failed requests of each kind have a line each, and one line
//! counts the others. Otherwise a client that is refused ten thousand times a second would fill the disk.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::ErrorCode;
use tokio_util::sync::CancellationToken;

use super::audit;
use super::cause::Cause;
use super::metrics::Outcome;
use super::record::Record;
use super::sampler::Sampler;
use crate::http::RequestId;
use crate::live::{Changeable, Live};

/// How often a line counts the requests that had no line of their own.
const TURN: Duration = Duration::from_secs(10);

/// The kind of a refusal or failure. Those of one kind are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// Requests.
    Request { method: &'static str, status: u16, code: Option<ErrorCode> },
    /// Requests that were refused their right, or were shed. They have a line of the audit, too, but only one count: they
    /// must cost little, because anybody can send them.
    Refusal { method: &'static str, status: u16, code: ErrorCode },
    /// Lines of the audit without one of the request log beside them.
    Act { act: &'static str, code: ErrorCode },
    /// Imports whose reply had begun.
    Import(ErrorCode),
    /// Causes inside the server.
    Inside(&'static str),
}

/// Logs requests that were refused, failed or were slow.
#[derive(Debug)]
pub(crate) struct RequestLog {
    sampler: Sampler<Kind>,
    /// Which requests are slow, and whether every request has a line.
    live: Arc<Live>,
}

impl RequestLog {
    pub(crate) fn new(live: Arc<Live>) -> Self {
        Self { sampler: Sampler::default(), live }
    }

    /// Logs every ten seconds, and at the end, how many requests had no line of their own.
    pub(crate) async fn keep(&self, end: CancellationToken) {
        while end.run_until_cancelled(tokio::time::sleep(TURN)).await.is_some() {
            self.turn();
        }
        self.turn();
    }

    fn turn(&self) {
        for (kind, more) in self.sampler.turn() {
            match kind {
                Kind::Request { method, status, code } => more_requests(method, status, code, more),
                Kind::Refusal { method, status, code } => {
                    audit::count(method, code, more);
                    if !self.live.now().access_log.is_on {
                        more_requests(method, status, Some(code), more);
                    }
                }
                Kind::Act { act, code } => audit::count(act, code, more),
                Kind::Import(code) => tracing::info!(code = code.as_str(), more, "more imports failed alike"),
                Kind::Inside(what) => tracing::warn!(what, more, "more failed alike inside"),
            }
        }
    }

    /// Logs an import that is done after its reply had begun, if it was administrative.
    pub(crate) fn import_done(&self, record: &Record) {
        self.acted(record, None);
    }

    /// Logs an import that failed after its reply had begun.
    pub(crate) fn import_failed(&self, record: &Record, code: ErrorCode, line: u64, cause: Option<&Cause>) {
        let is_refused = record.act.is_none() && audit::is_refusal(code);
        if is_refused && self.sampler.passes(Kind::Act { act: record.method.name, code }) {
            audit::tell(record, Some(code));
        }
        self.acted(record, Some(code));
        if let Some(cause) = cause {
            self.cause(&record.id, cause);
        }
        if self.sampler.passes(Kind::Import(code)) {
            let request_id = &*record.id.to_string();
            tracing::info!(code = code.as_str(), line, request_id, "an import failed");
        }
    }

    /// Logs a request that ended so, if it failed, was slow, or all requests are logged, and if it was administrative.
    pub(crate) fn answered(&self, record: &Record, outcome: &Outcome) {
        let Outcome { status, code, duration, .. } = *outcome;
        let (method, status) = (record.method.name, status.as_u16());
        let live = self.live.now();
        let has_all = live.access_log.is_on;
        if let (None, Some(code)) = (&record.act, code.filter(|code| audit::is_refusal(*code))) {
            let passes = self.sampler.passes(Kind::Refusal { method, status, code });
            if passes {
                audit::tell(record, Some(code));
            }
            if passes || has_all {
                line(record, status, Some(code), duration, &live);
            }
            return;
        }
        self.acted(record, code);
        if has_all || status < 400 || self.sampler.passes(Kind::Request { method, status, code }) {
            line(record, status, code, duration, &live);
        }
    }

    /// The line of the audit about a request, if it was administrative.
    fn acted(&self, record: &Record, code: Option<ErrorCode>) {
        let Some(act) = record.act.as_ref().map(|act| act.name) else { return };
        if code.is_none_or(|code| self.sampler.passes(Kind::Act { act, code })) {
            audit::tell(record, code);
        }
    }

    /// Logs the cause of a failure inside the server, which the request of this id met.
    pub(crate) fn cause(&self, id: &RequestId, cause: &Cause) {
        if self.sampler.passes(Kind::Inside(cause.what)) {
            cause.tell(id);
        }
    }
}

/// The line about a request, if it failed, was slow, or all requests are logged.
fn line(record: &Record, status: u16, code: Option<ErrorCode>, duration: Duration, live: &Changeable) {
    let is_slow = duration.saturating_sub(record.wait) > live.slow;
    if status < 400 && !is_slow && !live.access_log.is_on {
        return;
    }
    let (method, namespace) = (record.method.name, record.namespace.as_deref());
    let (code, duration_ms) = (code.map(ErrorCode::as_str), (duration.as_secs_f64() * 1e6).round() / 1e3);
    let request_id = &*record.id.to_string();
    match status {
        500.. => tracing::warn!(method, status, duration_ms, namespace, code, request_id, "a request failed"),
        400.. => tracing::info!(method, status, duration_ms, namespace, code, request_id, "a request was refused"),
        _ if is_slow => tracing::warn!(method, status, duration_ms, namespace, request_id, "a request was slow"),
        _ => tracing::info!(method, status, duration_ms, namespace, request_id, "a request"),
    }
}

/// Counts requests that had no line.
fn more_requests(method: &'static str, status: u16, code: Option<ErrorCode>, more: u64) {
    let code = code.map(ErrorCode::as_str);
    match status {
        500.. => tracing::warn!(method, status, code, more, "more requests failed alike"),
        _ => tracing::info!(method, status, code, more, "more requests were refused alike"),
    }
}
