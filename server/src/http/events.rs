//! A connection that has become an event stream, and is nothing else until it ends.
//!
//! An idle subscriber costs the memory that its connection keeps. hyper keeps two buffers of 8 KiB for requests and
//! replies, and a subscriber's connection carries no more of either. So with HTTP/1.1 hyper is let go once a subscription
//! has begun. What is left to do is to send chunks, and to notice that the client has left.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use http::Response;
use http_body::Body;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_write_buf;

use super::drive::drive;
use super::outgoing::{Outgoing, Piece};
use super::socket::Socket;
use super::vitals::Vitals;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const LINE_END: &[u8] = b"\r\n";
/// The chunk that says that nothing was cut off (RFC 9112, section 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Sends a reply of which only the head is known, until it or the connection ends.
///
/// # Errors
/// Whatever the socket says, or [`io::ErrorKind::ConnectionAborted`] where the body failed: it is cut then, not
/// closed as if it were whole.
pub(super) async fn send<B>(socket: Socket, response: Response<Outgoing<B>>, vitals: &Vitals) -> io::Result<()>
where
    B: Body<Data = Bytes, Error: Into<AnyError>> + Unpin,
{
    let piece = Some(head(&response));
    let mut reply = Reply { socket, piece, body: response.into_body(), is_over: false };
    // The application ends the body when the server stops.
    drive(vitals, &mut reply, |_| {}, Reply::poll).await.unwrap_or(Ok(()))
}

/// Bytes that go out together: a chunk's length, what is in it, and the end of its line.
type Chunk = Chain<Chain<Bytes, Piece>, &'static [u8]>;

struct Reply<B> {
    socket: Socket,
    /// What is being sent.
    piece: Option<Chunk>,
    body: Outgoing<B>,
    /// The piece is the last one.
    is_over: bool,
}

impl<B: Body<Data = Bytes, Error: Into<AnyError>> + Unpin> Reply<B> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_send(cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.socket.poll_gone(cx).map(Ok),
        }
    }

    /// Sends all that is there.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while let Some(piece) = &mut self.piece {
                let sent = ready!(poll_write_buf(Pin::new(&mut self.socket), cx, piece))?;
                if !piece.has_remaining() {
                    self.piece = None;
                } else if sent == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
            }
            // TLS keeps bytes that the client does not take.
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            if self.is_over {
                return Pin::new(&mut self.socket).poll_shutdown(cx);
            }
            self.piece = Some(match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => chunk(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, error))),
                None => {
                    self.is_over = true;
                    Bytes::new().chain(Piece::default()).chain(LAST_CHUNK)
                }
            });
        }
    }
}

fn chunk(data: Piece) -> Chunk {
    if !data.has_remaining() {
        // A chunk without anything would be the last one.
        return Bytes::new().chain(data).chain(&[]);
    }
    Bytes::from(format!("{:x}\r\n", data.remaining())).chain(data).chain(LINE_END)
}

/// The status line and the header fields (RFC 9112, sections 4 and 5).
fn head<B>(response: &Response<B>) -> Chunk {
    let mut head = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), LINE_END] {
            head.extend_from_slice(part);
        }
    }
    let date = httpdate::HttpDate::from(SystemTime::now());
    head.extend_from_slice(format!("transfer-encoding: chunked\r\ndate: {date}\r\n\r\n").as_bytes());
    Bytes::from(head).chain(Piece::default()).chain(&[])
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;

    use super::*;

    fn text(mut piece: Chunk) -> String {
        String::from_utf8(piece.copy_to_bytes(piece.remaining()).to_vec()).expect("text")
    }

    #[test]
    fn a_head_has_what_the_reply_has_and_how_long_it_is() {
        let mut response = Response::new(());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        let head = text(head(&response));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"), "{head}");
        assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
        assert!(head.contains("\r\ndate: ") && head.ends_with(" GMT\r\n\r\n"), "{head}");
    }

    #[test]
    fn chunks_tell_their_length_in_hexadecimal() {
        assert_eq!(text(chunk(Bytes::from_static(b"0123456789abcdef\n").into())), "11\r\n0123456789abcdef\n\r\n");
        assert_eq!(text(chunk(Piece::default())), "", "an empty one would be the last");
    }
}
