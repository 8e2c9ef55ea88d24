//! Spans of calls for OpenTelemetry: the call, and of an append its wait in the queue, its commit, and how it became visible.
//!
//! Only calls are traced whose `traceparent` says that they are sampled: whoever calls decides. What was traced waits in a
//! bounded queue, from which one task sends it by OTLP. If nobody takes it, spans are dropped, and nothing waits for them.

mod encoding;
mod sender;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime};

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::encoding::{Ended, Span};
use self::sender::Sender;
use super::metrics::Outcome;
use super::record::Record;
use super::trace::Trace;
use crate::otlp::OtlpEndpoint;

/// Calls whose spans wait to be sent.
const WAITING: usize = 2048;

/// Takes the spans of calls, if they are sent somewhere.
pub(crate) struct Spans(Option<Taking>);

struct Taking {
    ended: mpsc::Sender<Ended>,
    /// The other end, until [`Spans::keep`] has it.
    waiting: Mutex<Option<mpsc::Receiver<Ended>>>,
    endpoint: OtlpEndpoint,
    dropped: AtomicU64,
}

impl Spans {
    /// Sends spans there, if anywhere.
    pub(crate) fn new(endpoint: Option<OtlpEndpoint>) -> Self {
        Self(endpoint.map(|endpoint| {
            let (ended, waiting) = mpsc::channel(WAITING);
            Taking { ended, waiting: Mutex::new(Some(waiting)), endpoint, dropped: AtomicU64::new(0) }
        }))
    }

    /// Begins to trace a call, if its caller does and spans are sent.
    pub(crate) fn begin(&self, headers: &HeaderMap) -> Option<Trace> {
        self.0.as_ref()?;
        Trace::of(headers)
    }

    /// A call has ended.
    pub(crate) fn finish(&self, record: &Record, outcome: &Outcome) {
        let (Some(taking), Some(trace)) = (&self.0, &record.trace) else { return };
        let ended = Ended {
            parent: trace.parent(),
            method: record.method.name,
            namespace: record.namespace.clone(),
            request_id: record.id.clone(),
            status: outcome.status.as_u16(),
            code: outcome.code,
            call: Span { from: record.started, to: Instant::now() },
            times: trace.times(),
            clock: (Instant::now(), SystemTime::now()),
        };
        if let Err(error) = taking.ended.try_send(ended) {
            taking.dropped.fetch_add(error.into_inner().spans(), Relaxed);
        }
    }

    /// Sends spans until the end, and then those that wait.
    pub(crate) async fn keep(&self, end: CancellationToken) {
        let Some(taking) = &self.0 else { return };
        let Some(waiting) = taking.waiting.lock().take() else { return };
        Sender::new(&taking.endpoint, &taking.dropped).run(waiting, end).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::StatusCode;
    use tokio::net::TcpListener;

    use super::*;
    use crate::http::RequestId;
    use crate::observe::Method;

    const MORE: u64 = 10;

    /// Spans of more calls than may wait.
    fn too_many(endpoint: &str) -> Spans {
        let spans = Spans::new(Some(endpoint.parse().expect("a URL")));
        let mut headers = HeaderMap::new();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert("traceparent", parent.parse().expect("ASCII"));
        for number in 0..WAITING as u64 + MORE {
            let method = Method::new("stream.get", 0);
            let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let mut record = Record::new(RequestId::Own(number), client, method, Instant::now());
            record.trace = spans.begin(&headers);
            let duration = record.started.elapsed();
            let outcome = Outcome { status: StatusCode::OK, code: None, shed: None, duration, wait: duration };
            spans.finish(&record, &outcome);
        }
        spans
    }

    fn dropped(spans: &Spans) -> u64 {
        spans.0.as_ref().expect("they are sent").dropped.load(Relaxed)
    }

    /// How many are dropped of those that wait, at the end of a server.
    async fn dropped_by(address: &str) -> u64 {
        let spans = too_many(&format!("http://{address}"));
        assert_eq!(dropped(&spans), MORE, "nothing waits for room");
        let end = CancellationToken::new();
        end.cancel();
        spans.keep(end).await;
        dropped(&spans) - MORE
    }

    #[tokio::test]
    async fn a_receiver_that_is_away_costs_the_spans() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        drop(listener);
        assert_eq!(dropped_by(&address).await, WAITING as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_does_not_answer_costs_the_spans() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        assert_eq!(dropped_by(&address).await, WAITING as u64);
    }

    #[test]
    fn what_the_caller_does_not_sample_is_not_traced() {
        let spans = Spans::new(Some("http://127.0.0.1:1".parse().expect("a URL")));
        let mut headers = HeaderMap::new();
        assert!(spans.begin(&headers).is_none());
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        headers.insert("traceparent", parent.parse().expect("ASCII"));
        assert!(spans.begin(&headers).is_none());
    }
}
