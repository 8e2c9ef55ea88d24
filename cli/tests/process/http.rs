//! The HTTP client of the tests, for a server that may be killed meanwhile: every failure is an error.

use std::io::{Error, ErrorKind, Result};
use std::net::Ipv4Addr;

use eventodb_testing::http::{self, Connection};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::server::integer;

/// A connection that is kept alive.
pub(crate) struct Http<S = TcpStream> {
    pub(crate) connection: Connection<S>,
    token: String,
    /// The beginning of a frame of a subscription.
    frames: Vec<u8>,
}

impl Http {
    pub(crate) async fn connect(address: &str, token: &str) -> Result<Self> {
        Ok(Self::over(Connection::open(address).await?, token))
    }

    /// Connects from another of this machine's own addresses.
    pub(crate) async fn connect_from(source: Ipv4Addr, address: &str, token: &str) -> Result<Self> {
        Ok(Self::over(Connection::open_from(source, address).await?, token))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http<S> {
    pub(crate) fn over(connection: Connection<S>, token: &str) -> Self {
        Self { connection, token: token.to_owned(), frames: Vec::new() }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.connection.send(bytes).await
    }

    /// Calls a method; returns the status and the result or error.
    pub(crate) async fn call(&mut self, call: &Value) -> Result<(u16, Value)> {
        self.connection.send(http::call(Some(&self.token), &call.to_string())).await?;
        self.answer().await
    }

    /// The next response with a JSON body.
    pub(crate) async fn answer(&mut self) -> Result<(u16, Value)> {
        let reply = self.connection.reply().await?;
        Ok((reply.status, serde_json::from_slice(&reply.body).map_err(Error::other)?))
    }

    /// Begins a subscription to everything after `last`; its frames are read by [`Self::chunk`].
    pub(crate) async fn subscribe(&mut self, last: i64) -> Result<()> {
        let last = format!("Last-Event-ID: {last}\r\n");
        let path = "/subscribe?all=true&position=1";
        self.connection.send(http::head("GET", path, Some(&self.token), &last)).await?;
        let head = self.connection.head().await?;
        if head.status != 200 || head.header("content-length").is_some() {
            return Err(broken("no event stream"));
        }
        Ok(())
    }

    /// The next pokes of a subscription: stream, position, global position of each.
    pub(crate) async fn pokes(&mut self) -> Result<Option<Vec<(String, i64, i64)>>> {
        let mut pokes = Vec::new();
        while pokes.is_empty() {
            let Some(chunk) = self.chunk().await? else { return Ok(None) };
            self.frames.extend(chunk);
            // Only whole frames count.
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

    /// The next part of a chunked body; `None` at its clean end, an error if it is cut off.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        self.connection.chunk().await
    }

    /// Everything that comes until the connection is closed.
    pub(crate) async fn rest(&mut self) -> Result<String> {
        String::from_utf8(self.connection.rest().await?).map_err(Error::other)
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}
