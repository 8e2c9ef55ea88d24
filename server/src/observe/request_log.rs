//! The log of requests: those that failed or were slow, and with a setting all of them.
//!
//! A line has the method, the status, the duration, the namespace, the token's id, the client's address, the request's id, and
//! the bytes of both bodies where they are known when the reply begins; never a token, a stream's name or data. In each ten seconds, the first few refused or failed requests of each kind have a line each, and one line
//! counts the others. Otherwise a client that is refused ten thousand times a second would fill the disk.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::ErrorCode;
use eventodb_store::model::TokenId;
use tokio_util::sync::CancellationToken;

use super::audit;
use super::cause::Cause;
use super::metrics::Outcome;
use super::pace::{Pace, SlowOnes};
use super::record::Record;
use super::sampler::Sampler;
use crate::http::RequestId;
use crate::live::Live;

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
    access: Pace,
    slow: SlowOnes,
}

impl RequestLog {
    pub(crate) fn new(live: Arc<Live>) -> Self {
        Self { sampler: Sampler::default(), live, access: Pace::new(), slow: SlowOnes::new() }
    }

    /// Logs every ten seconds, and at the end, how many requests had no line of their own.
    pub(crate) async fn keep(&self, end: CancellationToken) {
        while end.run_until_cancelled(tokio::time::sleep(TURN)).await.is_some() {
            self.turn();
        }
        self.turn();
    }

    fn turn(&self) {
        match self.slow.held_back() {
            0 => {}
            more => tracing::warn!(more, "more requests were slow"),
        }
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
    /// `bytes_out` are those of the reply's body, where they are known.
    pub(crate) fn answered(&self, record: &Record, outcome: &Outcome, bytes_out: Option<u64>) {
        let Outcome { status, code, duration, .. } = *outcome;
        let (method, status, live) = (record.method.name, status.as_u16(), self.live.now());
        let one_in = if live.access_log.is_on { self.access.one_in(live.access_log.per_second) } else { None };
        let is_slow = duration.saturating_sub(record.wait) > live.slow;
        let is_worth_it = match code.filter(|code| record.act.is_none() && audit::is_refusal(*code)) {
            Some(code) => {
                let passes = self.sampler.passes(Kind::Refusal { method, status, code });
                if passes {
                    audit::tell(record, Some(code));
                }
                passes
            }
            None => {
                self.acted(record, code);
                match status {
                    400.. => one_in.is_none() && self.sampler.passes(Kind::Request { method, status, code }),
                    _ => is_slow && self.slow.passes(method, record.namespace.as_deref()),
                }
            }
        };
        if is_worth_it || one_in.is_some() {
            line(record, outcome, Line { bytes_out, is_slow, one_in });
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

/// What else a line has.
struct Line {
    bytes_out: Option<u64>,
    is_slow: bool,
    /// If it is one of several requests, of how many.
    one_in: Option<u64>,
}

/// The line about a request.
fn line(record: &Record, outcome: &Outcome, line: Line) {
    let Line { bytes_out, is_slow, one_in } = line;
    let (method, status) = (record.method.name, outcome.status.as_u16());
    let (code, duration_ms) =
        (outcome.code.map(ErrorCode::as_str), (outcome.duration.as_secs_f64() * 1e6).round() / 1e3);
    let (namespace, bytes_in) = (record.namespace.as_deref(), record.bytes_in);
    let one_in = one_in.filter(|one_in| *one_in > 1);
    let (address, request_id) = (&*record.client.to_string(), &*record.id.to_string());
    let token_id = record.token_id.map(|TokenId(id)| id.to_string());
    let token_id = token_id.as_deref();
    macro_rules! tell {
        ($level:ident, $what:literal) => {
            tracing::$level!(
                method,
                status,
                duration_ms,
                namespace,
                token_id,
                address,
                request_id,
                bytes_in,
                bytes_out,
                code,
                one_in,
                $what
            )
        };
    }
    match status {
        500.. => tell!(warn, "a request failed"),
        400.. => tell!(info, "a request was refused"),
        _ if is_slow => tell!(warn, "a request was slow"),
        _ => tell!(info, "a request"),
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
