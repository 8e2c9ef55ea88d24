//! A connection's TCP stream, which counts bytes and notes whether its client takes what is sent.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::traffic::Traffic;
use super::vitals::Vitals;

/// Bytes of pieces that are joined before they are sent: the head and the body of most replies. The kernel takes one piece in
/// less time than two, by more than the copy takes.
const SMALL: usize = 1024;

/// A TCP stream. It counts below TLS, because TLS takes bytes for which the client has no room yet.
pub(super) struct Wire {
    stream: TcpStream,
    vitals: Arc<Vitals>,
    traffic: Arc<Traffic>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, vitals: Arc<Vitals>, traffic: Arc<Traffic>) -> Self {
        Self { stream, vitals, traffic }
    }

    fn sent(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending => self.vitals.sending.block(),
            Poll::Ready(sent) => {
                self.vitals.sending.advance();
                self.traffic.add_sent(sent.as_ref().map_or(0, |bytes| *bytes));
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let received = buf.filled().len() - before;
        if received > 0 {
            self.traffic.add_received(received);
        }
        result
    }
}

impl AsyncWrite for Wire {
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
        let mut room = [0; SMALL];
        let result = match join(bytes, &mut room) {
            Some(joined) => Pin::new(&mut self.stream).poll_write(cx, joined),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bytes),
        };
        self.sent(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The pieces in one, if they fit into `room`.
fn join<'a>(pieces: &[IoSlice<'_>], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut end = 0;
    for piece in pieces {
        room.get_mut(end..end + piece.len())?.copy_from_slice(piece);
        end += piece.len();
    }
    room.get(..end)
}

/// What a connection is read from and written to: clear, or TLS. A TLS session is boxed, because it is a hundred times as
/// large as a socket. The type is not a parameter of what is above, so that HTTP is compiled once for both.
pub(super) type Transport = Either<Wire, Box<TlsStream<Wire>>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: &[&str], most: usize) -> Option<String> {
        let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece.as_bytes())).collect();
        let mut room = vec![0; most];
        join(&pieces, &mut room).map(|joined| String::from_utf8_lossy(joined).into_owned())
    }

    #[test]
    fn pieces_are_joined_if_they_fit() {
        assert_eq!(joined(&["head", "", "body"], 8).as_deref(), Some("headbody"));
        assert_eq!(joined(&["head", "body."], 8), None);
        assert_eq!(joined(&["head", "bod", "y."], 8), None);
        assert_eq!(joined(&[], 8).as_deref(), Some(""));
    }
}
