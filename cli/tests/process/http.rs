//! A small HTTP/1.1 client by which a test sees every byte that a server answers.

use std::io::{Error, ErrorKind, Result};
use std::net::Ipv4Addr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use super::server::integer;

/// A connection that is kept alive.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    token: String,
    /// The beginning of a frame of a subscription.
    frames: Vec<u8>,
}

/// A response before its body is read.
struct Head {
    status: u16,
    length: Option<usize>,
}

impl Http {
    pub(crate) async fn connect(address: &str, token: &str) -> Result<Self> {
        Ok(Self::over(TcpStream::connect(address).await?, token))
    }

    /// Connects from another of this machine's own addresses.
    pub(crate) async fn connect_from(source: Ipv4Addr, address: &str, token: &str) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        Ok(Self::over(socket.connect(address.parse().map_err(Error::other)?).await?, token))
    }

    fn over(stream: TcpStream, token: &str) -> Self {
        Self { stream: BufReader::new(stream), token: token.to_owned(), frames: Vec::new() }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    /// Calls a method, and returns the status and the result or error.
    pub(crate) async fn call(&mut self, call: &Value) -> Result<(u16, Value)> {
        let body = call.to_string();
        let head = format!(
            "POST /rpc HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        self.send(format!("{head}{body}").as_bytes()).await?;
        self.answer().await
    }

    /// The next response with a JSON body.
    pub(crate) async fn answer(&mut self) -> Result<(u16, Value)> {
        let head = self.head().await?;
        let mut body = Vec::new();
        match head.length {
            Some(length) => {
                body.resize(length, 0);
                self.stream.read_exact(&mut body).await?;
            }
            None => {
                while let Some(chunk) = self.chunk().await? {
                    body.extend(chunk);
                }
            }
        }
        Ok((head.status, serde_json::from_slice(&body).map_err(Error::other)?))
    }

    /// Begins a subscription to everything after `last`. [`Self::chunk`] reads its frames.
    pub(crate) async fn subscribe(&mut self, last: i64) -> Result<()> {
        let head = format!(
            "GET /subscribe?all=true&position=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nLast-Event-ID: {last}\r\n\r\n",
            self.token
        );
        self.send(head.as_bytes()).await?;
        let head = self.head().await?;
        if (head.status, head.length) != (200, None) { Err(broken("no event stream")) } else { Ok(()) }
    }

    /// The next pokes of a subscription: stream, position, global position of each.
    pub(crate) async fn pokes(&mut self) -> Result<Option<Vec<(String, i64, i64)>>> {
        let mut pokes = Vec::new();
        while pokes.is_empty() {
            let Some(chunk) = self.chunk().await? else { return Ok(None) };
            self.frames.extend(chunk);
            // Only complete frames count.
            while let Some(end) = self.frames.windows(2).position(|two| two == b"\n\n") {
                let frame = String::from_utf8(self.frames.drain(..end + 2).collect()).map_err(Error::other)?;
                if let Some(data) = frame.lines().find_map(|line| line.strip_prefix("data: ")) {
                    let poke: Value = serde_json::from_str(data).map_err(Error::other)?;
                    let stream = poke["stream"].as_str().ok_or_else(|| broken("a poke without a stream"))?.to_owned();
                    pokes.push((stream, integer(&poke["position"]), integer(&poke["globalPosition"])));
                }
            }
        }
        Ok(Some(pokes))
    }

    /// The next part of a chunked body; `None` at its clean end, an error where it is cut off.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let length = usize::from_str_radix(&self.line().await?, 16).map_err(Error::other)?;
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).await?;
        chunk.truncate(length);
        Ok((length > 0).then_some(chunk))
    }

    /// Everything that comes until the connection is closed.
    pub(crate) async fn rest(&mut self) -> Result<String> {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).await?;
        Ok(rest)
    }

    async fn head(&mut self) -> Result<Head> {
        let status = self.line().await?;
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut head = Head { status: status.ok_or_else(|| broken("no status"))?, length: None };
        loop {
            let line = self.line().await?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok(head);
            }
            if let Some(length) = line.strip_prefix("content-length:") {
                head.length = Some(length.trim().parse().map_err(Error::other)?);
            }
        }
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}
