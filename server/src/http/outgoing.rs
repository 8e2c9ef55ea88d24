//! The body of a reply on its way out. Bytes that wait are counted, and the watch sees whether the client takes them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::budget::{Account, Permit, SMALL};
use super::exchange::Exchange;
use super::gauge::Pending;
use super::watch::{Listed, Watch};

/// The body of an application's reply, as its connection sends it.
pub(super) struct Outgoing<B> {
    body: B,
    /// How a client of HTTP/2 takes it.
    pace: Option<Arc<Pace>>,
    /// The request is in progress as long as its reply's body.
    exchange: Arc<Exchange>,
}

/// Bytes on their way to a client. hyper keeps them until they are on the socket, and their memory is counted that long.
#[derive(Default)]
pub(super) struct Piece {
    bytes: Bytes,
    /// The reply's pace, which counts the piece as waiting until it is dropped.
    pace: Option<Arc<Pace>>,
    _permit: Option<Permit>,
}

/// How a client of HTTP/2 takes a reply. Each reply has a window of its own there, so that the connection's socket does
/// not show which one stands still. hyper may be done with the body long before the client has taken it.
struct Pace {
    pending: Arc<Pending>,
    account: Account,
    _listed: Listed,
}

impl<B: Body<Data = Bytes>> Outgoing<B> {
    /// A reply to this request.
    pub(super) fn new(body: B, exchange: Arc<Exchange>, watch: &Arc<Watch>) -> Self {
        let is_paced = exchange.is_http2() && !body.is_end_stream();
        let pace = is_paced.then(|| {
            let pending = Arc::new(Pending::default());
            let listed = watch.add_stream(&pending, exchange.vitals());
            Arc::new(Pace { pending, account: exchange.account().clone(), _listed: listed })
        });
        Self { body, pace, exchange }
    }

    /// Counts bytes until they are sent, also if no memory is left: the work is done, and its caller must hear of it. Over
    /// HTTP/1 a small piece is covered by the connection's own memory.
    fn piece(&self, bytes: Bytes) -> Piece {
        match &self.pace {
            Some(pace) => {
                pace.pending.add();
                Piece { _permit: Some(pace.account.charge(bytes.len())), pace: Some(Arc::clone(pace)), bytes }
            }
            None => {
                let permit = (bytes.len() > SMALL).then(|| self.exchange.account().charge(bytes.len()));
                Piece { bytes, pace: None, _permit: permit }
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Outgoing<B> {
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| self.piece(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, pace: None, _permit: None }
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;

    use futures_util::stream;
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::super::budget::{Budget, Holder};
    use super::super::limits::Limits;
    use super::super::request_id::RequestId;
    use super::super::vitals::Vitals;
    use super::*;

    const WHOLE: usize = 1 << 20;

    struct Connection {
        budget: Arc<Budget>,
        vitals: Arc<Vitals>,
        watch: Arc<Watch>,
    }

    impl Connection {
        fn new() -> Self {
            let budget = Arc::new(Budget::new(WHOLE));
            let vitals = Arc::new(Vitals::new(&budget, None));
            Self { budget, vitals, watch: Arc::new(Watch::new(&Limits::default())) }
        }

        fn reply<B: Body<Data = Bytes>>(&self, body: B) -> Outgoing<B> {
            Outgoing::new(body, Exchange::begin(&self.vitals, RequestId::new()), &self.watch)
        }

        /// Whether anything is taken of the budget: one namespace alone gets half of it.
        fn counts_something(&self) -> bool {
            self.budget.account(&Arc::default(), Holder::Namespace("a".into())).take(WHOLE / 3).is_err()
        }
    }

    #[tokio::test]
    async fn a_stream_that_fails_is_no_whole_body() {
        let connection = Connection::new();
        let piece = || Ok(Frame::data(Bytes::from_static(b"[1")));
        let fails = StreamBody::new(stream::iter([piece(), Err(io::ErrorKind::Other)]));
        assert!(connection.reply(fails).collect().await.is_err());
        let whole = StreamBody::new(stream::iter([piece(), piece()]));
        assert_eq!(connection.reply(whole).collect().await.expect("whole").to_bytes(), "[1[1");
    }

    #[tokio::test]
    async fn known_bytes_have_a_length() {
        let body = Connection::new().reply(Full::new(Bytes::from_static(b"null")));
        assert_eq!(body.size_hint().exact(), Some(4));
        assert_eq!(body.collect().await.expect("whole").to_bytes(), "null");
    }

    #[tokio::test]
    async fn a_large_piece_is_counted_until_it_is_sent() {
        let connection = Connection::new();
        let piece: Result<_, Infallible> = Ok(Frame::data(Bytes::from(vec![b'x'; WHOLE / 2])));
        let mut body = connection.reply(StreamBody::new(stream::iter([piece])));
        assert!(!connection.counts_something());
        let sending = body.frame().await.expect("a frame").expect("a frame").into_data().ok();
        drop(body);
        assert!(connection.counts_something(), "hyper has it");
        drop(sending);
        assert!(!connection.counts_something());
    }

    #[tokio::test]
    async fn a_small_piece_counts_and_waits_over_http2_only() {
        for is_http2 in [false, true] {
            let connection = Connection::new();
            if is_http2 {
                connection.vitals.set_http2();
            }
            let mut body = connection.reply(Full::new(Bytes::from_static(b"null")));
            let sending = body.frame().await.expect("a frame").expect("a frame").into_data().ok();
            let waits = body.pace.as_ref().is_some_and(|pace| pace.pending.blocked_at().is_some());
            let is_counted = sending.is_some_and(|piece| piece._permit.is_some());
            assert_eq!((waits, is_counted), (is_http2, is_http2));
        }
    }
}
