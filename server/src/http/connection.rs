//! One connection: HTTP/1.1 or HTTP/2, as its first bytes or the TLS handshake say, within its time limits.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::addresses::Subnet;
use super::arriving::Arriving;
use super::budget::{self, Budget, Permit};
use super::drive::{drive, unless_told};
use super::exchange::Exchange;
use super::limits::Limits;
use super::outgoing::Outgoing;
use super::request_id::RequestId;
use super::service::{Answer, Service};
use super::socket::{HTTP2_PREFACE, Socket};
use super::takeover::Takeover;
use super::tls::{self, Tls};
use super::vitals::Vitals;
use super::watch::Watch;
use super::wire::{Transport, Wire};
use super::{events, handshake, room};

/// Bytes of a request's head, and bytes that wait to be sent before a reply is asked for more.
const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of all header fields of an HTTP/2 request.
const HTTP2_HEADER_BYTES: u32 = 64 * 1024;

/// Bytes that an HTTP/2 client may send of bodies before they are asked for: of one as of all of them together, so that
/// one alone has all of it.
const HTTP2_WINDOW: u32 = budget::HTTP2_WINDOW as u32;

/// How connections speak HTTP. Time limits are not set here: [`Watch`] holds connections to them.
pub(super) struct Protocol {
    /// Finds out which version it is. It reads the first bytes apart, for which hyper's buffer grows to
    /// twice its size and stays so.
    either: auto::Builder<TokioExecutor>,
    http1: http1::Builder,
}

impl Protocol {
    pub(super) fn new(limits: &Limits) -> Self {
        let mut either = auto::Builder::new(TokioExecutor::new());
        let mut http1 = http1::Builder::new();
        // While a request is answered, hyper would look whether the client is gone, by a read for which it makes a second
        // buffer. `half_close` spares that: a client that closes its sending side may wait for the answer, and `Socket` looks
        // whether a subscriber is gone.
        either.http1().half_close(true).header_read_timeout(None).max_buf_size(BUFFER_BYTES);
        http1.half_close(true).header_read_timeout(None).max_buf_size(BUFFER_BYTES).max_header_size(BUFFER_BYTES);
        either
            .http2()
            .max_concurrent_streams(limits.http2_streams)
            .initial_stream_window_size(HTTP2_WINDOW)
            .initial_connection_window_size(HTTP2_WINDOW)
            .max_header_list_size(HTTP2_HEADER_BYTES)
            .max_send_buf_size(BUFFER_BYTES);
        Self { either, http1 }
    }
}

/// What all connections of a server share.
pub(super) struct Serving<S> {
    pub(super) service: Arc<S>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) watch: Arc<Watch>,
    pub(super) budget: Arc<Budget>,
    pub(super) stopping: CancellationToken,
    pub(super) protocol: Protocol,
}

/// Serves one connection until it ends, or is told to. `memory` is what it is counted with.
pub(super) async fn serve<S: Service>(stream: TcpStream, peer: IpAddr, memory: Permit, serving: Arc<Serving<S>>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let address = Subnet::of(peer);
    let vitals = Arc::new(Vitals::new(&serving.budget, Some(memory)));
    let _listed = serving.watch.add(&vitals, address);
    let Some((transport, is_either)) = open(stream, address, &vitals, &serving).await else { return };
    let socket = Socket::new(transport, Arc::clone(&vitals), is_either);
    let of_tls = if serving.tls.is_some() { budget::TLS_EVENT_STREAM } else { 0 };
    // Boxed, so that the connection of a subscriber gives back the room for HTTP.
    let result = if is_either {
        Box::pin(serve_either(socket, peer, &serving, &vitals)).await
    } else {
        match Box::pin(serve_http1(socket, peer, &serving, &vitals)).await {
            Ok(None) => Ok(()),
            Ok(Some((socket, stream))) => {
                vitals.shrink_to(budget::EVENT_STREAM + of_tls);
                events::send(socket, stream, &vitals).await.map_err(Into::into)
            }
            Err(error) => Err(error.into()),
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// What a new connection is read from and written to, and whether it may speak HTTP/2. `None` if it is to end.
async fn open<S>(
    stream: TcpStream,
    address: Subnet,
    vitals: &Arc<Vitals>,
    serving: &Serving<S>,
) -> Option<(Transport, bool)> {
    let mut first = [0; HTTP2_PREFACE.len()];
    let first = peek(&stream, vitals, &mut first).await?;
    let wire = Wire::new(stream, Arc::clone(vitals), Arc::clone(serving.watch.traffic()));
    let (transport, is_either) = match &serving.tls {
        None => (Either::Left(wire), may_be_http2(first)),
        Some(tls) => {
            take(budget::TLS, vitals, address, &serving.watch).await?;
            let stream = Box::pin(handshake::shake(wire, first, tls, vitals)).await?;
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
            (Either::Right(Box::new(stream)), is_http2)
        }
    };
    if is_either {
        take(budget::HTTP2_CONNECTION - budget::CONNECTION, vitals, address, &serving.watch).await?;
    }
    Some((transport, is_either))
}

/// Looks at the first bytes that come, and leaves them there. `None` if the connection is to end.
async fn peek<'a>(stream: &TcpStream, vitals: &Vitals, bytes: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut buffer = ReadBuf::new(bytes);
    let length = unless_told(vitals, poll_fn(|cx| stream.poll_peek(cx, &mut buffer))).await?.ok()?;
    Some(&bytes[..length])
}

/// Whether a connection that begins with these bytes, of which there may be few yet, may speak HTTP/2.
fn may_be_http2(first: &[u8]) -> bool {
    first.is_empty() || HTTP2_PREFACE.starts_with(first)
}

/// Takes memory that a connection needs beyond that of every other. `None` if the connection is to end.
async fn take(more: usize, vitals: &Vitals, address: Subnet, watch: &Watch) -> Option<()> {
    let Err(account) = vitals.grow(more) else { return Some(()) };
    vitals.add(unless_told(vitals, room::make(watch, address, account.wait(more))).await?);
    Some(())
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Serves a connection whose version is not known yet.
async fn serve_either<S: Service>(
    socket: Socket,
    peer: IpAddr,
    serving: &Arc<Serving<S>>,
    vitals: &Arc<Vitals>,
) -> Result<(), AnyError> {
    let handler = service_fn(|request: Request<Incoming>| {
        let is_http2 = request.version() == Version::HTTP_2;
        if is_http2 {
            // Its first bytes may have come in pieces.
            vitals.set_http2();
        }
        // HTTP/2 answers requests by tasks of their own.
        let (serving, vitals) = (Arc::clone(serving), Arc::clone(vitals));
        async move {
            Ok::<_, Infallible>(match answer(&serving, &vitals, peer, request).await {
                Answer::Stream(stream) if !is_http2 => streamed(stream, &vitals),
                Answer::Reply(response) | Answer::Stream(response) => response,
            })
        }
    });
    let mut connection = pin!(serving.protocol.either.serve_connection(TokioIo::new(socket), handler));
    let served = drive(
        vitals,
        &mut connection,
        |connection| connection.as_mut().graceful_shutdown(),
        |connection, cx| connection.as_mut().poll(cx),
    );
    served.await.unwrap_or(Ok(()))
}

/// Serves requests until the connection ends, or is an event stream from now on: then its socket and the stream are
/// returned.
async fn serve_http1<S: Service>(
    socket: Socket,
    peer: IpAddr,
    serving: &Serving<S>,
    vitals: &Arc<Vitals>,
) -> hyper::Result<Option<(Socket, Response<Outgoing<S::Body>>)>> {
    let takeover = Takeover::new();
    let handler = service_fn(|request: Request<Incoming>| {
        // HTTP/1.0 knows no chunks: hyper sends the stream as it is.
        let knows_chunks = request.version() == Version::HTTP_11;
        let answer = answer(serving, vitals, peer, request);
        let takeover = &takeover;
        async move {
            match answer.await {
                Answer::Stream(stream) if knows_chunks => match takeover.request(stream).await {},
                Answer::Stream(stream) => Ok(streamed(stream, vitals)),
                Answer::Reply(response) => Ok::<_, Infallible>(response),
            }
        }
    });
    let mut connection = serving.protocol.http1.serve_connection(TokioIo::new(socket), handler);
    let served = drive(
        vitals,
        &mut connection,
        |connection| Pin::new(connection).graceful_shutdown(),
        |connection, cx| match Pin::new(connection).poll(cx) {
            Poll::Pending if takeover.is_due(vitals) => Poll::Ready(Ok(())),
            polled => polled,
        },
    );
    served.await.unwrap_or(Ok(()))?;
    Ok(takeover.take().map(|stream| (connection.into_parts().io.into_inner(), stream)))
}

/// A stream that hyper is to send.
fn streamed<B>(stream: Response<B>, vitals: &Vitals) -> Response<B> {
    vitals.set_streaming();
    stream
}

/// Lets the application answer a request, and makes the reply one of this connection.
fn answer<'a, S: Service>(
    serving: &'a Serving<S>,
    vitals: &Arc<Vitals>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> impl Future<Output = Answer<Outgoing<S::Body>>> + Send + use<'a, S> {
    let exchange = Exchange::begin(vitals, RequestId::of(request.headers()));
    let version = request.version();
    let request = request.map(|body| Arriving::new(body, vitals));
    let answer = serving.service.answer(request, Arc::clone(&exchange), peer);
    async move {
        let mut answer = answer.await;
        let (Answer::Reply(response) | Answer::Stream(response)) = &mut answer;
        exchange.id().tell(response.headers_mut());
        match answer {
            Answer::Reply(mut response) => {
                let closes = version == Version::HTTP_10 || serving.watch.is_leaving();
                set_connection(response.headers_mut(), version, closes);
                Answer::Reply(response.map(|body| Outgoing::new(body, exchange, &serving.watch)))
            }
            Answer::Stream(mut response) => {
                exchange.goes_on();
                set_connection(response.headers_mut(), version, true);
                Answer::Stream(response.map(|body| Outgoing::new(body, exchange, &serving.watch)))
            }
        }
    }
}

/// Says that the connection closes behind a reply, where it does. HTTP/2 has no such field.
fn set_connection(headers: &mut HeaderMap, version: Version, closes: bool) {
    if version == Version::HTTP_2 {
        headers.remove(CONNECTION);
    } else if closes {
        headers.entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
    }
}
