//! The body of a reply: nothing, bytes that are known whole, or a stream of them.
//!
//! A stream that fails is cut off, never closed as if it were whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::BoxStream;
use http_body::{Frame, SizeHint};

use crate::connection::{Busy, Gauge, Listed, Vitals, Watch};

/// See the module.
#[derive(Default)]
pub(crate) struct Body {
    content: Content,
    /// The request is in progress as long as its reply's body.
    busy: Option<Busy>,
    /// It ends with its client or the server.
    is_endless: bool,
}

#[derive(Default)]
enum Content {
    #[default]
    Empty,
    Whole(Bytes),
    Stream(BoxStream<'static, Result<Bytes, Aborted>>),
    Watched(BoxStream<'static, Result<Bytes, Aborted>>, Pace),
}

/// How a client of HTTP/2 takes a streamed reply. Each has a window of its own there, so that the
/// connection's socket does not show who stands still.
struct Pace {
    gauge: Arc<Gauge>,
    _listed: Listed,
}

/// A reply could not be finished; why was logged where it happened.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the reply could not be finished")]
pub(crate) struct Aborted;

impl Body {
    /// Bytes that are known whole; the reply has a `Content-Length`.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Whole(bytes.into()), ..Self::default() }
    }

    /// Bytes that come bit by bit.
    pub(crate) fn stream(stream: impl Stream<Item = Result<Bytes, Aborted>> + Send + 'static) -> Self {
        Self { content: Content::Stream(Box::pin(stream)), ..Self::default() }
    }

    /// Bytes that come bit by bit until the client leaves, or the server ends them.
    pub(crate) fn endless(stream: impl Stream<Item = Result<Bytes, Aborted>> + Send + 'static) -> Self {
        Self { is_endless: true, ..Self::stream(stream) }
    }

    /// Whether the connection is for nothing else from now on, where it is for one reply at a time.
    pub(crate) fn is_endless(&self) -> bool {
        self.is_endless
    }

    /// Keeps the request in progress until the body is sent.
    #[must_use]
    pub(crate) fn until_sent(mut self, busy: Busy) -> Self {
        self.busy = Some(busy);
        self
    }

    /// Cuts the connection where its client takes nothing of this body.
    #[must_use]
    pub(crate) fn watched(mut self, watch: &Arc<Watch>, vitals: &Arc<Vitals>) -> Self {
        if let Content::Stream(stream) = self.content {
            self.content = if vitals.is_http2() {
                let gauge = Arc::new(Gauge::waiting());
                let listed = watch.add_stream(&gauge, vitals);
                Content::Watched(stream, Pace { gauge, _listed: listed })
            } else {
                Content::Stream(stream)
            };
        }
        self
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let frame = match &mut self.content {
            Content::Empty => None,
            Content::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                (!bytes.is_empty()).then(|| Ok(Frame::data(bytes)))
            }
            Content::Stream(stream) => ready!(stream.as_mut().poll_next(cx)).map(framed),
            Content::Watched(stream, pace) => {
                pace.gauge.advance();
                let item = ready!(stream.as_mut().poll_next(cx));
                pace.gauge.block();
                item.map(framed)
            }
        };
        if !matches!(frame, Some(Ok(_))) {
            self.content = Content::Empty;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Stream(_) | Content::Watched(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) | Content::Watched(..) => SizeHint::default(),
        }
    }
}

fn framed(item: Result<Bytes, Aborted>) -> Result<Frame<Bytes>, Aborted> {
    item.map(Frame::data)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_stream_that_fails_is_no_whole_body() {
        let body = Body::stream(stream::iter([Ok(Bytes::from_static(b"[1")), Err(Aborted)]));
        assert!(body.collect().await.is_err());
        let body = Body::stream(stream::iter([Ok(Bytes::from_static(b"[1")), Ok(Bytes::from_static(b"]"))]));
        assert_eq!(body.collect().await.expect("whole").to_bytes(), "[1]");
    }

    #[tokio::test]
    async fn known_bytes_have_a_length() {
        let body = Body::whole("null");
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(4));
        assert_eq!(body.collect().await.expect("whole").to_bytes(), "null");
    }
}
