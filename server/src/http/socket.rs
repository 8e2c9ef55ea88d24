//! A socket that keeps the signs of life of its connection.

use std::io::{self, Cursor, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_write_buf;

use super::budget::{HEAD, Permit};
use super::request_id::RequestId;
use super::unwanted::Unwanted;
use super::vitals::{Order, Phase, Vitals};
use super::wire::Transport;

/// What an HTTP/2 connection begins with (RFC 9113, 3.4). A shorter beginning may be that of a head of HTTP/1.
pub(super) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a refused head, or behind the last request, that are read and thrown away.
const MOST_OF_HEAD: usize = 1024 * 1024;
/// Bytes that a client may send while it is subscribed. Some may have been on their way before.
const MOST_OF_SUBSCRIBER: usize = 64 * 1024;

/// A connection's socket.
pub(super) struct Socket {
    transport: Transport,
    vitals: Arc<Vitals>,
    /// Whether the connection speaks HTTP/2 if it begins so.
    may_be_http2: bool,
    /// Nothing more is sent.
    is_shut: bool,
    /// hyper's reply to a malformed head, with an id, while it is being sent.
    refusal: Option<Cursor<Vec<u8>>>,
    /// The rest of a refused head, what comes behind the last request, or what a subscriber sends.
    unwanted: Unwanted,
    /// Bytes of the head that is arriving.
    head: usize,
    /// Bytes of a head for which there is memory.
    most_head: usize,
    /// Memory for more of a head, which is waited for.
    room: Option<BoxFuture<'static, Permit>>,
}

/// Memory for a head is taken in steps of this many bytes.
const HEAD_STEP: usize = 8 * 1024;
/// What hyper's replies to malformed heads begin with.
const REFUSAL: &[u8] = b"HTTP/1.1 4";
/// Bytes of the HTTP layer's buffer for each byte of a head: it grows to twice its size.
const BUFFERED: usize = 2;

impl Socket {
    pub(super) fn new(transport: Transport, vitals: Arc<Vitals>, may_be_http2: bool) -> Self {
        Self {
            transport,
            vitals,
            may_be_http2,
            is_shut: false,
            refusal: None,
            unwanted: Unwanted::default(),
            head: 0,
            most_head: HEAD,
            room: None,
        }
    }

    /// Waits until there is memory for more of a head that is longer than the connection is counted with. The connection
    /// keeps this memory, because hyper keeps its buffer.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.head >= self.most_head {
            let more = match &mut self.room {
                Some(room) => ready!(room.as_mut().poll(cx)),
                None => match self.vitals.grow_head(BUFFERED * HEAD_STEP) {
                    Ok(()) => {
                        self.most_head += HEAD_STEP;
                        continue;
                    }
                    Err(account) => {
                        self.room = Some(Box::pin(async move { account.wait(BUFFERED * HEAD_STEP).await }));
                        continue;
                    }
                },
            };
            self.room = None;
            self.vitals.add_head(more);
            self.most_head += HEAD_STEP;
        }
        Poll::Ready(())
    }

    fn received(&mut self, bytes: &[u8]) {
        match self.vitals.phase() {
            Phase::New | Phase::Waiting => self.head = bytes.len(),
            Phase::Head => self.head += bytes.len(),
            _ => self.head = 0,
        }
        match self.vitals.phase() {
            Phase::New if self.may_be_http2 && bytes.starts_with(HTTP2_PREFACE) => {
                self.vitals.set_http2();
                self.vitals.set_phase(Phase::Waiting);
            }
            Phase::New | Phase::Waiting if !self.vitals.is_http2() => self.vitals.set_phase(Phase::Head),
            _ => {}
        }
    }

    /// Whether hyper sends a reply of its own. It does so only to a head that it cannot read, and while no request is in
    /// progress.
    fn is_refusal(&self, bytes: &[u8]) -> bool {
        self.vitals.phase() == Phase::Head && !self.vitals.is_http2() && bytes.starts_with(REFUSAL)
    }

    /// Sends hyper's own reply, with an id.
    fn poll_refuse(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let refusal = self.refusal.get_or_insert_with(|| Cursor::new(identified(bytes)));
        while refusal.has_remaining() {
            if ready!(poll_write_buf(Pin::new(&mut self.transport), cx, refusal))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        self.refusal = None;
        Poll::Ready(Ok(bytes.len()))
    }

    /// Waits until a subscriber is gone, or has sent too much. Its connection closes behind the reply, so that nobody wants
    /// what it sends.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.unwanted.poll_rest(&mut self.transport, MOST_OF_SUBSCRIBER, cx)
    }

    /// Everything that the HTTP layer had to send is on the socket.
    fn flushed(&mut self) {
        if self.vitals.phase() == Phase::Finishing {
            self.vitals.set_phase(Phase::Waiting);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.vitals.phase() == Phase::Head {
            ready!(self.poll_room(cx));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.transport).poll_read(cx, buf))?;
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            self.received(bytes);
        } else if !self.vitals.shows_end() && self.vitals.hide_end() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_refusal(bytes) {
            return self.poll_refuse(cx, bytes);
        }
        Pin::new(&mut self.transport).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = bytes.first().filter(|first| self.is_refusal(first)) {
            return self.poll_refuse(cx, first);
        }
        Pin::new(&mut self.transport).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS keeps bytes that the client does not take.
        ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
        // hyper does not look for the end of a client while it replies.
        if self.vitals.is_streaming() && self.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(Pin::new(&mut self.transport).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        // What a client has sent beyond its request would make a reset of the end, which may overtake the reply.
        let Self { transport, unwanted, .. } = &mut *self;
        let before = unwanted.seen();
        let rest = unwanted.poll_rest(transport, MOST_OF_HEAD, cx);
        if unwanted.seen() > before && self.vitals.phase() == Phase::Waiting {
            self.vitals.set_phase(Phase::Head);
        }
        if self.vitals.phase() == Phase::Head && self.vitals.told() == Order::None {
            // It may be sending still. The time for a head bounds this.
            return rest.map(Ok);
        }
        Poll::Ready(Ok(()))
    }
}

/// A reply that hyper made, with an id behind its first line.
fn identified(reply: &[u8]) -> Vec<u8> {
    let id = RequestId::new();
    tracing::debug!(request_id = &*id.to_string(), "a request with a malformed head is refused");
    let first = reply.iter().position(|&byte| byte == b'\n').map_or(reply.len(), |end| end + 1);
    [&reply[..first], id.line().as_bytes(), &reply[first..]].concat()
}
