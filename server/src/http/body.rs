//! The body of a reply: nothing, bytes that are known whole, or a stream of them. What waits of it is counted.
//!
//! A stream that fails is cut off, never closed as if it were whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use http_body::{Frame, SizeHint};

use super::budget::{Account, Permit, SMALL};
use super::exchange::Exchange;
use super::gauge::Pending;
use super::watch::{Listed, Watch};

/// The body of a reply.
#[derive(Default)]
pub(crate) struct Body {
    content: Content,
    /// How a client of HTTP/2 takes it.
    pace: Option<Arc<Pace>>,
    /// The request is in progress as long as its reply's body.
    exchange: Option<Arc<Exchange>>,
}

#[derive(Default)]
enum Content {
    #[default]
    Empty,
    Whole(Piece),
    Stream(BoxStream<'static, Result<Piece, Aborted>>),
}

/// Bytes on their way to a client. The HTTP layer keeps them until they are on the socket, and they know their account
/// that long.
#[derive(Default)]
pub(crate) struct Piece {
    bytes: Bytes,
    /// Whether its reply's pace counts it as waiting; so it does until it is dropped.
    pace: Option<Arc<Pace>>,
    /// The memory that it takes, where that is counted.
    permit: Option<Permit>,
}

/// How a client of HTTP/2 takes a reply. Each has a window of its own there, so that the connection's socket does not
/// show who stands still. The HTTP layer may be done with the body long before the client has taken it.
struct Pace {
    pending: Arc<Pending>,
    account: Account,
    _listed: Listed,
}

/// A reply could not be finished; why was logged where it happened.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the reply could not be finished")]
pub(crate) struct Aborted;

impl Piece {
    /// Bytes whose memory is counted.
    pub(crate) fn counted(bytes: impl Into<Bytes>, permit: Option<Permit>) -> Self {
        Self { bytes: bytes.into(), pace: None, permit }
    }

    /// The same, as a part of a reply over HTTP/2.
    fn paced(mut self, pace: Option<&Arc<Pace>>) -> Self {
        if let Some(pace) = pace {
            pace.pending.add();
            self.permit.get_or_insert_with(|| pace.account.charge(self.bytes.len()));
            self.pace = Some(Arc::clone(pace));
        }
        self
    }
}

impl<T: Into<Bytes>> From<T> for Piece {
    fn from(bytes: T) -> Self {
        Self::counted(bytes, None)
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(pace) = &self.pace {
            pace.pending.advance();
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(pace) = &self.pace {
            pace.pending.remove();
        }
    }
}

impl Body {
    /// Bytes that are known whole; the reply has a `Content-Length`.
    pub(crate) fn whole(bytes: impl Into<Piece>) -> Self {
        Self { content: Content::Whole(bytes.into()), ..Self::default() }
    }

    /// Bytes that come bit by bit.
    pub(crate) fn stream<P: Into<Piece>>(stream: impl Stream<Item = Result<P, Aborted>> + Send + 'static) -> Self {
        let pieces = stream.map(|item| item.map(Into::into));
        Self { content: Content::Stream(Box::pin(pieces)), ..Self::default() }
    }

    /// Keeps the request in progress until the body is sent, counts what waits of the body, and lets the connection be
    /// cut if its client takes nothing of it.
    #[must_use]
    pub(super) fn of(mut self, exchange: Arc<Exchange>, watch: &Arc<Watch>) -> Self {
        let vitals = exchange.vitals();
        if vitals.is_http2() && !matches!(self.content, Content::Empty) {
            let pending = Arc::new(Pending::default());
            let listed = watch.add_stream(&pending, vitals);
            self.pace = Some(Arc::new(Pace { pending, account: exchange.account().clone(), _listed: listed }));
        }
        if let Content::Whole(piece) = &mut self.content
            && piece.permit.is_none()
            && piece.bytes.len() > SMALL
        {
            // What was done is done, and its caller is told, whatever memory there is.
            piece.permit = Some(exchange.account().charge(piece.bytes.len()));
        }
        self.exchange = Some(exchange);
        self
    }
}

impl http_body::Body for Body {
    type Data = Piece;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, Aborted>>> {
        let item = match &mut self.content {
            Content::Empty => None,
            Content::Whole(piece) => {
                let piece = std::mem::take(piece);
                self.content = Content::Empty;
                piece.has_remaining().then_some(Ok(piece))
            }
            Content::Stream(stream) => ready!(stream.as_mut().poll_next(cx)),
        };
        if !matches!(item, Some(Ok(_))) {
            self.content = Content::Empty;
        }
        Poll::Ready(item.map(|item| item.map(|piece| Frame::data(piece.paced(self.pace.as_ref())))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Whole(piece) => !piece.has_remaining(),
            Content::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Whole(piece) => SizeHint::with_exact(piece.remaining() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
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
