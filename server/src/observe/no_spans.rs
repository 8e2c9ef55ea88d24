//! Without the feature `otel` there are no spans, and nothing is done for them.

use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use super::metrics::Outcome;
use super::record::Record;
use super::trace::Trace;
use crate::otlp::OtlpEndpoint;

/// There are no spans.
pub(crate) struct Spans;

impl Spans {
    pub(crate) fn new(_: Option<OtlpEndpoint>) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) fn begin(&self, _: &HeaderMap) -> Option<Trace> {
        None
    }

    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) fn finish(&self, _: &Record, _: &Outcome) {}

    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(crate) async fn keep(&self, _: CancellationToken) {}
}
