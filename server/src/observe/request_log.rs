//! The log of requests: those that failed or were slow, and with a setting all of them.
//!
//! A line has the method, the status, the duration, the namespace, the token's id, the client's address, the request's id, and
//! the bytes of both bodies where they are known when the reply begins; never a token, a stream's name or data. A refusal that
//! the audit tells has no second line. In each ten seconds, the first few refused or failed requests of each kind have a line
//! each, and one line counts the others. Otherwise a client that is refused ten thousand times a second would fill the disk.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::ErrorCode;
use eventodb_store::model::TokenId;
use tokio_util::sync::CancellationToken;

use super::audit;
use super::cause::Cause;
use super::metrics::Outcome;
use super::outage::Outage;
use super::pace::{Pace, SlowOnes};
use super::record::Record;
use super::sampler::Sampler;
use crate::live::Changeable;

/// How often a line counts the requests that had no line of their own.
const TURN: Duration = Duration::from_secs(10);

/// The kind of a line. Those of one kind are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// Requests that failed, by what went wrong inside, if anything did.
    Failed { method: &'static str, status: u16, code: Option<ErrorCode>, what: Option<&'static str> },
    /// Slow requests that had no line of their own.
    Slow(&'static str),
    /// Lines of the audit. Requests that were refused their right, or were shed, have no other line: they must cost little,
    /// because anybody can send them.
    Audit { act: &'static str, code: ErrorCode },
    /// Imports whose reply had begun.
    Import { code: ErrorCode, what: Option<&'static str> },
}

/// Logs requests that were refused, failed or were slow.
#[derive(Debug)]
pub(crate) struct RequestLog {
    sampler: Sampler<Kind>,
    outage: Arc<Outage>,
    access: Pace,
    slow: SlowOnes,
}

impl RequestLog {
    pub(crate) fn new(outage: Arc<Outage>) -> Self {
        Self { sampler: Sampler::default(), outage, access: Pace::new(), slow: SlowOnes::new() }
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
                Kind::Failed { method, status, code, what } => more_requests(method, status, code, what, more),
                Kind::Slow(method) => tracing::warn!(method, more, "more requests were slow"),
                Kind::Audit { act, code } => audit::count(act, code, more),
                Kind::Import { code, what } => {
                    tracing::info!(code = code.as_str(), cause = what, more, "more imports failed alike");
                }
            }
        }
    }

    /// Logs an import that is done after its reply had begun, if it was administrative.
    pub(crate) fn import_done(&self, record: &Record) {
        self.acted(record, None);
    }

    /// Logs an import that failed after its reply had begun.
    pub(crate) fn import_failed(&self, record: &Record, code: ErrorCode, line: u64, cause: Option<&Cause>) {
        if record.act.is_none() && audit::is_refusal(code) {
            self.refused(record, code);
        }
        self.acted(record, Some(code));
        let what = cause.map(|cause| cause.what);
        if self.is_news(code, cause) && self.sampler.passes(Kind::Import { code, what }, record.client) {
            let (request_id, cause) = (&*record.id.to_string(), cause.map(Cause::to_string));
            tracing::info!(code = code.as_str(), line, request_id, cause, "an import failed");
        }
    }

    /// Logs a request that ended so, if it failed, was slow, or all requests are logged, and if it was administrative.
    /// `cause` is what went wrong inside, and `bytes_out` are those of the reply's body, where they are known.
    pub(crate) fn answered(
        &self,
        record: &Record,
        outcome: &Outcome,
        live: &Changeable,
        cause: Option<&Cause>,
        bytes_out: Option<u64>,
    ) {
        let Outcome { status, code, .. } = *outcome;
        let (method, status) = (record.method.name, status.as_u16());
        let one_in = if live.access_log.is_on { self.access.one_in(live.access_log.per_second) } else { None };
        let is_slow = outcome.own_duration() > live.slow;
        let is_told = match code {
            Some(code) if record.act.is_none() && audit::is_refusal(code) => self.refused(record, code),
            _ => self.acted(record, code),
        };
        let is_worth_it = match status {
            _ if one_in.is_some() => true,
            400..500 if is_told => false,
            500.. if is_told && code.is_some_and(audit::is_refusal) => false,
            400.. => {
                let kind = Kind::Failed { method, status, code, what: cause.map(|cause| cause.what) };
                code.is_none_or(|code| self.is_news(code, cause)) && self.sampler.passes(kind, record.client)
            }
            _ if is_slow => {
                let passes = self.slow.passes(method, record.namespace.as_deref());
                if !passes {
                    self.sampler.count(Kind::Slow(method));
                }
                passes
            }
            _ => false,
        };
        if is_worth_it {
            line(record, outcome, Line { bytes_out, is_slow, one_in, cause });
        }
    }

    /// The line of the audit about a request that was refused its right, or was shed. Returns whether it is the audit's.
    fn refused(&self, record: &Record, code: ErrorCode) -> bool {
        if self.sampler.passes(Kind::Audit { act: record.method.name, code }, record.client) {
            audit::tell(record, Some(code));
        }
        true
    }

    /// The line of the audit about a request, if it was administrative. Returns whether it was.
    fn acted(&self, record: &Record, code: Option<ErrorCode>) -> bool {
        let Some(act) = record.act.as_ref().map(|act| act.name) else { return false };
        if code.is_none_or(|code| self.sampler.passes(Kind::Audit { act, code }, record.client)) {
            audit::tell(record, code);
        }
        true
    }

    /// Whether a failure is not one of those that a lost database has, of which its return tells the number.
    fn is_news(&self, code: ErrorCode, cause: Option<&Cause>) -> bool {
        if cause.is_none_or(Cause::is_error) {
            return true;
        }
        if !self.outage.is_lost() {
            self.outage.suspect();
            return true;
        }
        code != ErrorCode::BackendUnavailable
    }
}

/// What else a line has.
struct Line<'a> {
    bytes_out: Option<u64>,
    is_slow: bool,
    /// If it is one of several requests, of how many.
    one_in: Option<u64>,
    cause: Option<&'a Cause>,
}

/// The line about a request.
fn line(record: &Record, outcome: &Outcome, line: Line<'_>) {
    let Line { bytes_out, is_slow, one_in, cause } = line;
    let is_error = cause.is_some_and(Cause::is_error);
    let cause = cause.map(Cause::to_string);
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
                cause,
                one_in,
                $what
            )
        };
    }
    match status {
        500.. if is_error => tell!(error, "a request failed"),
        500.. => tell!(warn, "a request failed"),
        400.. => tell!(info, "a request was refused"),
        _ if is_slow => tell!(warn, "a request was slow"),
        _ => tell!(info, "a request"),
    }
}

/// Counts requests that had no line.
fn more_requests(method: &'static str, status: u16, code: Option<ErrorCode>, cause: Option<&'static str>, more: u64) {
    let code = code.map(ErrorCode::as_str);
    match status {
        500.. => tracing::warn!(method, status, code, cause, more, "more requests failed alike"),
        _ => tracing::info!(method, status, code, more, "more requests were refused alike"),
    }
}
