//! A client of HTTP/1.1 that shows every byte: requests as text, replies with their headers as they came.

use std::io::{Error, ErrorKind, Result};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// A connection, in clear text or over TLS.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    /// The socket, for tests that close a side or write byte by byte.
    pub stream: S,
    /// Bytes that came and were not looked at yet.
    received: Vec<u8>,
    /// How long the next bytes may take.
    patience: Duration,
}

/// The head of a reply, or all of it.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body; empty if only the head was read.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The seconds of `Retry-After`.
    ///
    /// # Panics
    /// The reply has none.
    pub fn retry_after(&self) -> u32 {
        let value = self.header("retry-after").expect("the reply says when to come back");
        value.parse().expect("a number of seconds")
    }

    /// The body as text.
    ///
    /// # Panics
    /// It is not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The code of an error.
    ///
    /// # Panics
    /// The body is not JSON.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Connection {
    /// A connection to `HOST:PORT`.
    ///
    /// # Errors
    /// Nothing listens there.
    pub async fn open(address: &str) -> Result<Self> {
        Ok(Self::over(TcpStream::connect(address).await?))
    }

    /// A connection from another of this machine's own addresses.
    ///
    /// # Errors
    /// Nothing listens there, or the machine does not have the address.
    pub async fn open_from(source: Ipv4Addr, address: &str) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        Ok(Self::over(socket.connect(address.parse().map_err(Error::other)?).await?))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// The same on a socket that is connected.
    pub fn over(stream: S) -> Self {
        Self { stream, received: Vec::new(), patience: Duration::MAX }
    }

    /// The same, but bytes that do not come within `patience` are an error of the kind `TimedOut`.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        // TLS keeps what the socket does not take at once: also where a task has done much and is to let others go on.
        self.stream.flush().await
    }

    /// The next reply, whole.
    ///
    /// # Errors
    /// The connection ends before, or something else than a reply comes.
    pub async fn reply(&mut self) -> Result<Reply> {
        let mut reply = self.head().await?;
        if let Some(length) = reply.header("content-length") {
            let length = length.parse().map_err(Error::other)?;
            while self.received.len() < length {
                self.more().await?;
            }
            reply.body = self.received.drain(..length).collect();
        } else if reply.status != 204 {
            while let Some(chunk) = self.chunk().await? {
                reply.body.extend(chunk);
            }
        }
        Ok(reply)
    }

    /// The head of the next reply.
    ///
    /// # Errors
    /// The connection ends before, or something else than a head comes.
    pub async fn head(&mut self) -> Result<Reply> {
        let head = self.until(b"\r\n\r\n").await?;
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = lines.map(|line| header(line).ok_or_else(|| broken("no header")));
        let status = status.ok_or_else(|| broken("no status"))?;
        Ok(Reply { status, headers: headers.collect::<Result<_>>()?, body: Vec::new() })
    }

    /// The next chunk of a chunked body; `None` at its clean end.
    ///
    /// # Errors
    /// The connection ends before, or something else than a chunk comes.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.peek(b"\r\n").await?;
        let size = std::str::from_utf8(&self.received[..line]).map_err(Error::other)?;
        let size = usize::from_str_radix(size, 16).map_err(Error::other)?;
        let (begin, end) = (line + 2, line + 2 + size + 2);
        while self.received.len() < end {
            self.more().await?;
        }
        let chunk = self.received[begin..end - 2].to_vec();
        self.received.drain(..end);
        Ok((size > 0).then_some(chunk))
    }

    /// Everything until the connection is closed, even if it is closed by a reset.
    ///
    /// # Errors
    /// It is not closed in time.
    pub async fn rest(&mut self) -> Result<Vec<u8>> {
        while self.receive().await? {}
        Ok(std::mem::take(&mut self.received))
    }

    /// Receives some bytes; returns false at the end of the connection.
    ///
    /// # Errors
    /// Nothing comes in time.
    pub async fn receive(&mut self) -> Result<bool> {
        let read = tokio::time::timeout(self.patience, self.stream.read_buf(&mut self.received)).await;
        let read = read.map_err(|_| Error::new(ErrorKind::TimedOut, "neither bytes nor the end came"))?;
        Ok(matches!(read, Ok(bytes) if bytes > 0))
    }

    /// Takes what comes up to and with these bytes.
    async fn until(&mut self, end: &[u8]) -> Result<String> {
        let at = self.peek(end).await?;
        String::from_utf8(self.received.drain(..at + end.len()).collect()).map_err(Error::other)
    }

    /// Waits for these bytes; returns where they begin.
    async fn peek(&mut self, wanted: &[u8]) -> Result<usize> {
        loop {
            if let Some(at) = self.received.windows(wanted.len()).position(|window| window == wanted) {
                return Ok(at);
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<()> {
        if self.receive().await? { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }
}

/// The text of a call.
pub fn call(token: Option<&str>, body: &str) -> String {
    let length = format!("Content-Length: {}\r\n", body.len());
    head("POST", "/rpc", token, &length) + body
}

/// The head of a request; each of the further headers ends its line.
pub fn head(method: &str, path: &str, token: Option<&str>, headers: &str) -> String {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}{headers}\r\n")
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}
