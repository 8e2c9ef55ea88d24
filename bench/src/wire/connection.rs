//! One connection with one request at a time.

use anyhow::Context as _;
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::body;
use super::request::Address;

/// A connection that is kept open.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, where it lies in the connection's buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'a> {
    /// The status code.
    pub(crate) status: u16,
    head: &'a [u8],
    /// The body.
    pub(crate) body: &'a [u8],
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(crate) async fn open(address: &Address) -> anyhow::Result<Self> {
        let authority = address.authority();
        let stream = TcpStream::connect(authority).await.with_context(|| format!("cannot connect to {authority}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends a request and waits for its whole answer.
    ///
    /// # Errors
    /// The connection ended, or what came is no answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Reply<'_>> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let head = self.read_head().await?;
        let length = body::length(&self.buffer[..head]).context("a reply without a content-length")?;
        while self.buffer.len() < head + length {
            self.read().await?;
        }
        anyhow::ensure!(self.buffer.len() == head + length, "more than one reply to one request");
        let (head, body) = self.buffer.split_at(head);
        Ok(Reply { status: body::status(head)?, head, body })
    }

    /// Sends a request whose answer has no end that is known beforehand; what came of it behind the head stays in
    /// the buffer that is given back with the stream.
    ///
    /// # Errors
    /// The connection ended, or the answer is no stream of events.
    pub(crate) async fn into_stream(mut self, request: &[u8]) -> anyhow::Result<(TcpStream, Vec<u8>)> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let head = self.read_head().await?;
        let status = body::status(&self.buffer[..head])?;
        anyhow::ensure!(status == 200, "status {status} to a subscription");
        anyhow::ensure!(body::is_chunked(&self.buffer[..head]), "a subscription that is not chunked");
        self.buffer.drain(..head);
        Ok((self.stream, self.buffer))
    }

    /// Reads up to the end of the head; answers how long it is.
    async fn read_head(&mut self) -> anyhow::Result<usize> {
        let mut searched = 0;
        loop {
            if let Some(at) = memmem::find(&self.buffer[searched..], b"\r\n\r\n") {
                return Ok(searched + at + 4);
            }
            searched = self.buffer.len().saturating_sub(3);
            self.read().await?;
        }
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        anyhow::ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

impl Reply<'_> {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        body::header(self.head, name)
    }

    /// The body of a success.
    ///
    /// # Errors
    /// Another status; what the server says about it.
    pub(crate) fn success(&self) -> anyhow::Result<&[u8]> {
        if self.status == 200 {
            return Ok(self.body);
        }
        anyhow::bail!("status {}: {}", self.status, String::from_utf8_lossy(self.body))
    }
}
