//! Idle connections kept for the next request.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::{Body, Connector, Sender, full};
use crate::error::{Error, Result};

/// Bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSettings {
    /// Connections at once. A further request waits until one is free.
    pub(crate) connections: usize,
    /// An idle connection older than this is not used again. It is less than the time after which servers close theirs.
    pub(crate) idle: Duration,
    /// Time limit for opening a connection.
    pub(crate) connect: Duration,
}

/// Connections of one client.
pub(crate) struct Pool {
    connector: Connector,
    settings: PoolSettings,
    idle: Mutex<Vec<Idle>>,
    permits: Semaphore,
}

struct Idle {
    sender: Sender,
    since: Instant,
}

/// A complete reply.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Pool {
    pub(crate) fn new(connector: Connector, settings: PoolSettings) -> Self {
        Self { connector, settings, idle: Mutex::default(), permits: Semaphore::new(settings.connections) }
    }

    /// A pool of the same settings that shares nothing with this one.
    pub(crate) fn apart(&self) -> Self {
        Self::new(self.connector.clone(), self.settings)
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Sends `request` once and reads the reply, which has at most `most` bytes. `Unavailable { maybe_done }` tells whether
    /// the request can have reached the server.
    pub(crate) async fn send(&self, request: &Request<Bytes>, most: usize) -> Result<Reply> {
        let _permit = self.permits.acquire().await.map_err(|_| Error::Closed)?;
        let (mut sender, response) = self.start(request).await?;
        let (parts, body) = response.into_parts();
        let body = match parts.status.is_success() {
            true => collect(body, most).await?,
            false => error_body(body).await?,
        };
        // If the server is about to close the connection, `put` or the next request finds out.
        if !sender.is_closed() && sender.ready().await.is_ok() {
            self.put_back(sender);
        }
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }

    /// Sends over an idle connection, or a new one. If the server has closed an idle connection and nothing was sent
    /// over it, the next one is tried.
    async fn start(&self, request: &Request<Bytes>) -> Result<(Sender, Response<Incoming>)> {
        while let Some(mut sender) = self.take() {
            if sender.ready().await.is_err() {
                continue;
            }
            match send_once(&mut sender, request).await {
                Ok(response) => return Ok((sender, response)),
                Err(Error::Unavailable { maybe_done: false, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut sender = self.open().await?;
        let response = send_once(&mut sender, request).await?;
        Ok((sender, response))
    }

    /// Opens a connection that is not shared.
    pub(crate) async fn open(&self) -> Result<Sender> {
        timeout(self.settings.connect, self.connector.connect())
            .await
            .unwrap_or_else(|_| Err(Error::unavailable("the connection was not opened in time", false)))
    }

    fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.lock();
        while let Some(Idle { sender, since }) = idle.pop() {
            if !sender.is_closed() && since.elapsed() < self.settings.idle {
                return Some(sender);
            }
        }
        None
    }

    fn put_back(&self, sender: Sender) {
        let mut idle = self.idle.lock();
        idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < self.settings.idle);
        idle.push(Idle { sender, since: Instant::now() });
    }
}

/// Sends over this connection. hyper hands a request back that it has not begun to send.
async fn send_once(sender: &mut Sender, request: &Request<Bytes>) -> Result<Response<Incoming>> {
    sender.try_send_request(with_body(request)).await.map_err(|mut error| match error.take_message() {
        Some(_) => Error::connection("the connection closed before the request", false, error.into_error()),
        None => cut(error.into_error()),
    })
}

/// Bytes of a reply's body that are read if its status is an error. Those of this protocol are much smaller.
const ERROR_BYTES: usize = 1 << 20;

/// Reads a body to its end.
///
/// # Errors
/// `Protocol` if it has more than `most` bytes.
async fn collect(body: Incoming, most: usize) -> Result<Vec<u8>> {
    let too_large = || Error::protocol(format!("the reply is larger than {most} bytes"));
    if body.size_hint().exact().is_some_and(|size| size > most as u64) {
        return Err(too_large());
    }
    let (blocks, is_all) = gather(body, most).await?;
    if is_all { Ok(blocks.joined()) } else { Err(too_large()) }
}

/// Reads the body of a reply whose status is an error: its beginning if it is longer than any of this protocol.
pub(crate) async fn error_body(body: Incoming) -> Result<Vec<u8>> {
    gather(body, ERROR_BYTES).await.map(|(blocks, _)| blocks.joined())
}

/// Reads at most `most` bytes of a body, and tells whether these are all. If they are not, the connection ends.
async fn gather(mut body: Incoming, most: usize) -> Result<(Blocks, bool)> {
    let expected = body.size_hint().exact().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
    let mut blocks = Blocks::new(expected.min(most));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(cut)?;
        let data = frame.data_ref().map(|data| data.as_ref()).unwrap_or_default();
        let room = most - blocks.bytes;
        blocks.add(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok((blocks, false));
        }
    }
    Ok((blocks, true))
}

/// A body of unknown length as it comes in. Its blocks are not moved before the end. A vector would be moved each time that it
/// grows, which takes the room of both and leaves holes: three times the body.
struct Blocks {
    blocks: Vec<Vec<u8>>,
    bytes: usize,
}

impl Blocks {
    /// Bytes of the smallest block, and of the largest one whose size nobody told. Each is as large as all before it.
    const SIZES: (usize, usize) = (8 << 10, 4 << 20);

    fn new(expected: usize) -> Self {
        Self { blocks: vec![Vec::with_capacity(expected)], bytes: 0 }
    }

    fn add(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let (least, most) = Self::SIZES;
            if self.blocks.last().is_none_or(|block| block.len() == block.capacity()) {
                self.blocks.push(Vec::with_capacity(self.bytes.clamp(least, most)));
            }
            let block = self.blocks.last_mut().expect("there is one with room");
            let (now, later) = data.split_at(data.len().min(block.capacity() - block.len()));
            block.extend_from_slice(now);
            self.bytes += now.len();
            data = later;
        }
    }

    /// All of it. Each block is freed once it is copied.
    fn joined(mut self) -> Vec<u8> {
        self.blocks.retain(|block| !block.is_empty());
        if self.blocks.len() <= 1 {
            return self.blocks.pop().unwrap_or_default();
        }
        let mut whole = Vec::with_capacity(self.bytes);
        for block in self.blocks {
            whole.extend_from_slice(&block);
        }
        whole
    }
}

fn cut(error: hyper::Error) -> Error {
    Error::connection("the connection was cut before the end of the reply", true, error)
}

fn with_body(request: &Request<Bytes>) -> Request<Body> {
    request.clone().map(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_whole_whatever_its_pieces() {
        let body: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        for (piece, expected) in [(1, 0), (7, 100), (100_000, 0), (2_999_999, 0), (4096, body.len())] {
            let mut blocks = Blocks::new(expected);
            body.chunks(piece).for_each(|piece| blocks.add(piece));
            let held: usize = blocks.blocks.iter().map(Vec::capacity).sum();
            assert!(held <= 2 * body.len(), "{held} bytes hold it");
            assert!(blocks.joined() == body, "in pieces of {piece} bytes");
        }
        assert!(Blocks::new(0).joined().is_empty());
    }
}
