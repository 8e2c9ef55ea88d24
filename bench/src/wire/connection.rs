//! One connection with one request at a time.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::either::Either;

use super::body::{self, Chunks};
use super::http2::Streams;
use super::request::Address;
use super::tls::Stream;

const NO_STREAM: &str = "over HTTP/2 whole replies are measured only";

/// A connection that is kept open.
#[derive(Debug)]
pub(crate) struct Connection {
    way: Way,
    buffer: Vec<u8>,
    /// A body that came in chunks, without their framing.
    joined: Vec<u8>,
}

#[derive(Debug)]
enum Way {
    Http1(Stream),
    Http2(Streams),
}

/// An answer, where it lies in the connection's buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    head: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl Connection {
    /// The first connection to a server, or the only one.
    pub(crate) async fn open(address: &Address) -> anyhow::Result<Self> {
        Self::open_from(address, 0).await
    }

    /// Connects as [`connect_from`] does.
    pub(crate) async fn open_from(address: &Address, number: u64) -> anyhow::Result<Self> {
        let way = match &address.http2 {
            Some(http2) => Way::Http2(http2.streams(address).await?),
            None => Way::Http1(stream_from(address, number).await?),
        };
        Ok(Self { way, buffer: Vec::new(), joined: Vec::new() })
    }

    /// Sends a request and waits for its whole answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Reply<'_>> {
        if let Way::Http2(streams) = &mut self.way {
            let status = streams.exchange(request, &mut self.buffer).await?;
            return Ok(Reply { status, head: &[], body: &self.buffer });
        }
        let head = self.send(request).await?;
        if body::is_chunked(&self.buffer[..head]) {
            return self.join_chunks(head).await;
        }
        let length = body::length(&self.buffer[..head]).context("a reply without a length")?;
        while self.buffer.len() < head + length {
            self.read().await?;
        }
        anyhow::ensure!(self.buffer.len() == head + length, "more than one reply to one request");
        let (head, body) = self.buffer.split_at(head);
        Ok(Reply { status: body::status(head)?, head, body })
    }

    /// Reads the rest of an answer that comes in chunks.
    async fn join_chunks(&mut self, head: usize) -> anyhow::Result<Reply<'_>> {
        self.joined.clear();
        let mut chunks = Chunks::default();
        let mut taken = head;
        while chunks.take(&self.buffer[taken..], &mut self.joined)? {
            taken = self.buffer.len();
            self.read().await?;
        }
        let head = &self.buffer[..head];
        Ok(Reply { status: body::status(head)?, head, body: &self.joined })
    }

    /// Sends a request whose answer is a stream of events; returns the stream and the bytes that came behind the head.
    pub(crate) async fn into_stream(mut self, request: &[u8]) -> anyhow::Result<(Stream, Vec<u8>)> {
        let head = self.send(request).await?;
        let status = body::status(&self.buffer[..head])?;
        anyhow::ensure!(status == 200, "status {status} to a subscription");
        anyhow::ensure!(body::is_chunked(&self.buffer[..head]), "a subscription that is not chunked");
        self.buffer.drain(..head);
        match self.way {
            Way::Http1(stream) => Ok((stream, self.buffer)),
            Way::Http2(_) => anyhow::bail!(NO_STREAM),
        }
    }

    /// Sends a request and reads up to the end of the reply's head; returns its length.
    async fn send(&mut self, request: &[u8]) -> anyhow::Result<usize> {
        self.buffer.clear();
        let stream = self.stream()?;
        stream.write_all(request).await?;
        // TLS may keep bytes for which the socket has no room.
        stream.flush().await?;
        let mut searched = 0;
        loop {
            if let Some(at) = memmem::find(&self.buffer[searched..], b"\r\n\r\n") {
                return Ok(searched + at + 4);
            }
            searched = self.buffer.len().saturating_sub(3);
            self.read().await?;
        }
    }

    fn stream(&mut self) -> anyhow::Result<&mut Stream> {
        match &mut self.way {
            Way::Http1(stream) => Ok(stream),
            Way::Http2(_) => anyhow::bail!(NO_STREAM),
        }
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        // A reply to a write fits into this; for pages the buffer grows once.
        self.buffer.reserve(1024);
        let Way::Http1(stream) = &mut self.way else { anyhow::bail!(NO_STREAM) };
        let read = stream.read_buf(&mut self.buffer).await?;
        anyhow::ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

impl Reply<'_> {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        body::header(self.head, name)
    }

    pub(crate) fn success(&self) -> anyhow::Result<&[u8]> {
        if self.status == 200 {
            return Ok(self.body);
        }
        anyhow::bail!("status {}: {}", self.status, String::from_utf8_lossy(self.body))
    }
}

/// A connection of its own, in clear text or over TLS.
async fn stream_from(address: &Address, number: u64) -> anyhow::Result<Stream> {
    let stream = connect_from(address, number).await?;
    stream.set_nodelay(true)?;
    match &address.tls {
        None => Ok(Either::Left(stream)),
        Some(tls) => tls.wrap(stream).await,
    }
}

/// Connects from the source address that the server's address asks for. Without one, connections to the loopback come
/// from several of its addresses, by their number: one address does not have ports for tens of thousands.
async fn connect_from(address: &Address, number: u64) -> anyhow::Result<TcpStream> {
    /// Connections of one source address: well below the ports that it has.
    const OF_ONE: u64 = 10_000;
    let authority = &address.authority;
    let last = u8::try_from(1 + number / OF_ONE).context("more connections than a loopback has ports")?;
    let source = address.source.or((last > 1).then_some(Ipv4Addr::new(127, 0, 0, last)));
    let target: Option<SocketAddr> = authority.parse().ok();
    let connected = match source.zip(target.filter(|target| target.is_ipv4() && target.ip().is_loopback())) {
        None => TcpStream::connect(authority).await,
        Some((source, target)) => {
            let socket = TcpSocket::new_v4()?;
            socket.bind((source, 0).into())?;
            socket.connect(target).await
        }
    };
    connected.with_context(|| format!("cannot connect to {authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_in_chunks_is_joined_and_the_next_one_begins_behind_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for (request, pieces) in [
                (
                    &b"one"[..],
                    &[
                        &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[1"[..],
                        b"\r\n1\r\n]\r\n0\r\n",
                        b"\r\n",
                    ][..],
                ),
                (b"two", &[b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n[2]"]),
            ] {
                let mut got = [0; 3];
                stream.read_exact(&mut got).await.unwrap();
                assert_eq!(got, request);
                for piece in pieces {
                    stream.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut connection = Connection::open(&address).await.unwrap();
        assert_eq!(connection.exchange(b"one").await.unwrap().success().unwrap(), b"[1]");
        assert_eq!(connection.exchange(b"two").await.unwrap().success().unwrap(), b"[2]");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn tens_of_thousands_of_connections_come_from_several_addresses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
        for (number, source) in [(0, 1), (9_999, 1), (10_000, 2), (25_000, 3)] {
            let mut connection = Connection::open_from(&address, number).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip(), Ipv4Addr::new(127, 0, 0, source), "{number}");
            let Ok(Either::Left(stream)) = connection.stream() else { panic!("it is clear") };
            assert_eq!(stream.local_addr().unwrap(), peer);
        }
    }
}
