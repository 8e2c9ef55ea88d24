//! Idle connections kept for the next request.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
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
    /// Largest reply.
    pub(crate) reply_bytes: usize,
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

    /// Sends `request` once and reads the reply to its end. `Unavailable { maybe_done }` tells
    /// whether the request can have reached the server.
    pub(crate) async fn send(&self, request: &Request<Bytes>) -> Result<Reply> {
        let _permit = self.permits.acquire().await.map_err(|_| Error::Closed)?;
        let (mut sender, response) = self.start(request).await?;
        let (parts, body) = response.into_parts();
        let body = collect(body, self.settings.reply_bytes).await?;
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

/// Reads a body to its end.
pub(crate) async fn collect(mut body: Incoming, most: usize) -> Result<Vec<u8>> {
    let expected = body.size_hint().exact().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
    let too_large = || Error::protocol(format!("the reply is larger than {most} bytes"));
    if expected > most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(expected);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(cut)?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.remaining() > most {
                return Err(too_large());
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}

fn cut(error: hyper::Error) -> Error {
    Error::connection("the connection was cut before the end of the reply", true, error)
}

fn with_body(request: &Request<Bytes>) -> Request<Body> {
    request.clone().map(full)
}
