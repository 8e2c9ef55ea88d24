//! A socket that keeps the signs of life of its connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::HTTP2_PREFACE;
use super::vitals::{Phase, Vitals};

/// Bytes of a refused head that are read and thrown away.
const MOST_UNWANTED: usize = 1024 * 1024;

/// See the module.
pub(super) struct Socket {
    stream: TcpStream,
    vitals: Arc<Vitals>,
    /// Bytes of a later request came before the present one was answered.
    has_early_bytes: bool,
    /// Nothing more is sent.
    is_shut: bool,
    /// Bytes of a refused head that were thrown away.
    unwanted: usize,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, vitals: Arc<Vitals>) -> Self {
        Self { stream, vitals, has_early_bytes: false, is_shut: false, unwanted: 0 }
    }

    fn received(&mut self, bytes: &[u8]) {
        match self.vitals.phase() {
            Phase::New if bytes.starts_with(HTTP2_PREFACE) => {
                self.vitals.set_http2();
                self.vitals.set_phase(Phase::Waiting);
            }
            Phase::New | Phase::Waiting if !self.vitals.is_http2() => self.vitals.set_phase(Phase::Head),
            Phase::Answering | Phase::Finishing => self.has_early_bytes = true,
            _ => {}
        }
    }

    /// The HTTP layer has handed over everything that it had to send.
    fn flushed(&mut self) {
        if self.vitals.phase() == Phase::Finishing {
            let early = std::mem::take(&mut self.has_early_bytes);
            self.vitals.set_phase(if early { Phase::Head } else { Phase::Waiting });
        }
    }

    /// Reads on after a head was refused, within the time for a head: a client that is still sending would get a reset
    /// in place of the reply.
    fn poll_rest_of_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 4096];
        while self.unwanted <= MOST_UNWANTED {
            let mut buffer = ReadBuf::new(&mut bytes);
            if ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).is_err() || buffer.filled().is_empty() {
                break;
            }
            self.unwanted += buffer.filled().len();
        }
        Poll::Ready(())
    }

    fn sent(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending => self.vitals.sending.block(),
            Poll::Ready(_) => self.vitals.sending.advance(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
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
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.sent(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.sent(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        if self.vitals.phase() == Phase::Head && !self.vitals.has_order() {
            return self.poll_rest_of_head(cx).map(Ok);
        }
        Poll::Ready(Ok(()))
    }
}
