//! Spans as OTLP has them in JSON.
//!
//! The form is that of `ExportTraceServiceRequest` of the OpenTelemetry protocol 1.x: names in camel case, ids in
//! hexadecimal digits, 64-bit numbers as strings.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use eventodb_protocol::ErrorCode;
use eventodb_store::log::Times;
use serde_json::{Value, json};

use super::super::trace::Parent;
use crate::http::RequestId;

/// `SPAN_KIND_INTERNAL` and `SPAN_KIND_SERVER`.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// A call that has ended, with what its spans are made of.
pub(super) struct Ended {
    pub(super) parent: Parent,
    pub(super) method: &'static str,
    pub(super) namespace: Option<Arc<str>>,
    pub(super) request_id: RequestId,
    pub(super) status: u16,
    pub(super) code: Option<ErrorCode>,
    pub(super) call: Span,
    /// The stages of its append, if it is one.
    pub(super) times: Times,
    /// The same moment by both clocks.
    pub(super) clock: (Instant, SystemTime),
}

/// From when until when something lasted.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) from: Instant,
    pub(super) to: Instant,
}

impl Ended {
    /// The stages that the append passed.
    fn stages(&self) -> impl Iterator<Item = (&'static str, Span)> {
        let Times { queued, taken, committed, published } = self.times;
        let stages = [("queue", queued, taken), ("commit", taken, committed), ("publish", committed, published)];
        stages.into_iter().filter_map(|(name, from, to)| Some((name, Span { from: from?, to: to? })))
    }

    /// How many spans it has.
    pub(super) fn spans(&self) -> u64 {
        1 + self.stages().count() as u64
    }

    fn append_to(&self, spans: &mut Vec<Value>) {
        let own = rand::random_range(1..=u64::MAX);
        let mut call = self.span(own, self.parent.span, self.method, SERVER, self.call);
        call["attributes"] = self.attributes();
        if self.status >= 500 {
            call["status"] = json!({ "code": ERROR });
        }
        spans.push(call);
        spans.extend(self.stages().map(|(name, span)| {
            let id = rand::random_range(1..=u64::MAX);
            self.span(id, own, name, INTERNAL, span)
        }));
    }

    fn span(&self, id: u64, parent: u64, name: &str, kind: u8, span: Span) -> Value {
        json!({
            "traceId": format!("{:032x}", self.parent.trace),
            "spanId": format!("{id:016x}"),
            "parentSpanId": format!("{parent:016x}"),
            "name": name,
            "kind": kind,
            "startTimeUnixNano": self.nanoseconds(span.from),
            "endTimeUnixNano": self.nanoseconds(span.to),
        })
    }

    fn attributes(&self) -> Value {
        let text = |key: &str, value: String| json!({ "key": key, "value": { "stringValue": value } });
        let mut all = vec![
            text("rpc.method", self.method.to_owned()),
            json!({ "key": "http.response.status_code", "value": { "intValue": self.status.to_string() } }),
            text("eventodb.request_id", self.request_id.to_string()),
        ];
        all.extend(self.namespace.as_ref().map(|namespace| text("eventodb.namespace", namespace.to_string())));
        all.extend(self.code.map(|code| text("error.type", code.as_str().to_owned())));
        all.into()
    }

    /// The nanoseconds since 1970 of a moment.
    fn nanoseconds(&self, at: Instant) -> String {
        let (now, time) = self.clock;
        let then = match now.checked_duration_since(at) {
            Some(ago) => time.checked_sub(ago),
            None => time.checked_add(at.duration_since(now)),
        };
        let since = then.and_then(|then| then.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        since.as_nanos().to_string()
    }
}

/// The body of a request with the spans of these calls.
pub(super) fn body(calls: &[Ended]) -> Vec<u8> {
    let mut spans = Vec::new();
    for call in calls {
        call.append_to(&mut spans);
    }
    let resource = json!({ "attributes": [
        { "key": "service.name", "value": { "stringValue": "eventodb" } },
        { "key": "service.version", "value": { "stringValue": eventodb_protocol::VERSION } },
    ] });
    let scope = json!({ "scope": { "name": "eventodb" }, "spans": spans });
    let body = json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [scope] }] });
    serde_json::to_vec(&body).expect("it has string keys only")
}
