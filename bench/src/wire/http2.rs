//! Many requests at a time over few HTTP/2 connections, in clear text or over TLS 1.3.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use memchr::memmem;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_util::either::Either;

use super::request::Address;

/// Connections that all requests share.
const CONNECTIONS: usize = 4;

/// The connections of one load. They are made when the first lane asks, on its runtime.
#[derive(Debug, Default)]
pub(crate) struct Http2 {
    senders: OnceCell<Vec<SendRequest<Full<Bytes>>>>,
    taken: AtomicUsize,
}

/// One stream after the other on one of the connections.
#[derive(Debug)]
pub(crate) struct Streams {
    sender: SendRequest<Full<Bytes>>,
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl Http2 {
    /// Streams on the next of the connections to this address.
    pub(super) async fn streams(&self, address: &Address) -> anyhow::Result<Streams> {
        let senders = self.senders.get_or_try_init(|| connect(address)).await?;
        let next = self.taken.fetch_add(1, Ordering::Relaxed) % senders.len();
        let scheme = if address.tls.is_some() { "https" } else { "http" };
        let bearer = address.token.as_ref().map(|token| HeaderValue::from_str(&format!("Bearer {token}")));
        Ok(Streams {
            sender: senders[next].clone(),
            uri: format!("{scheme}://{}/rpc", address.authority).parse()?,
            authorization: bearer.transpose()?,
        })
    }
}

async fn connect(address: &Address) -> anyhow::Result<Vec<SendRequest<Full<Bytes>>>> {
    let (authority, mut senders) = (&address.authority, Vec::new());
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(authority).await.with_context(|| format!("cannot connect to {authority}"))?;
        stream.set_nodelay(true)?;
        let stream = match &address.tls {
            None => Either::Left(stream),
            Some(tls) => tls.for_http2().wrap(stream).await?,
        };
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // If the connection fails, its requests report it.
        tokio::spawn(connection);
        senders.push(sender);
    }
    Ok(senders)
}

impl Streams {
    /// Sends the body of a request that was made for HTTP/1.1; returns the status and puts the reply's body into
    /// `body`.
    pub(super) async fn exchange(&mut self, request: &[u8], body: &mut Vec<u8>) -> anyhow::Result<u16> {
        let end = memmem::find(request, b"\r\n\r\n").context("a request without an end of its head")?;
        let mut sent = Request::post(self.uri.clone()).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            sent = sent.header(AUTHORIZATION, authorization.clone());
        }
        let sent = sent.body(Full::new(Bytes::copy_from_slice(&request[end + 4..])))?;
        self.sender.ready().await?;
        let mut reply = self.sender.send_request(sent).await?;
        body.clear();
        while let Some(frame) = reply.frame().await {
            if let Ok(data) = frame?.into_data() {
                body.extend_from_slice(&data);
            }
        }
        Ok(reply.status().as_u16())
    }
}
