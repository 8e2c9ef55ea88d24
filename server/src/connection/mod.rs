//! One connection: HTTP/1.1 or HTTP/2, as its first bytes say, within its time limits.

mod arriving;
mod events;
mod io;
mod room;
mod vitals;
mod watch;

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::body::Body;
use crate::budget::{self, Permit};
use crate::config::Bounds;
use crate::service;
use crate::state::State;

pub(crate) use arriving::Arriving;
pub(crate) use room::make as make_room;
pub(crate) use vitals::{Busy, Order, Pending, Vitals};
pub(crate) use watch::{Listed, Watch};

/// What an HTTP/2 connection begins with, and no request of HTTP/1 does.
const HTTP2_PREFACE: &[u8] = b"PRI ";
/// Bytes of a request's head, and bytes that wait to be sent before a reply is asked for more.
const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of all header fields of an HTTP/2 request.
const HTTP2_HEADER_BYTES: u32 = 64 * 1024;

/// Bytes that an HTTP/2 client may send of bodies before they are asked for: of one as of all of them together, so that
/// one alone has all of it.
const HTTP2_WINDOW: u32 = budget::HTTP2_WINDOW as u32;

/// How connections speak HTTP. No time limits here: [`Watch`] has them.
pub(crate) struct Protocol {
    /// Finds out which version it is. It reads the first bytes apart, for which hyper's buffer grows to
    /// twice its size and stays so.
    either: auto::Builder<TokioExecutor>,
    http1: http1::Builder,
}

impl Protocol {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let mut either = auto::Builder::new(TokioExecutor::new());
        let mut http1 = http1::Builder::new();
        // Not hyper's `half_close`: it never looks whether a subscriber is gone. `Socket` tells it when to know.
        either.http1().header_read_timeout(None).max_buf_size(BUFFER_BYTES);
        http1.header_read_timeout(None).max_buf_size(BUFFER_BYTES).max_header_size(BUFFER_BYTES);
        either
            .http2()
            .max_concurrent_streams(bounds.http2_streams)
            .initial_stream_window_size(HTTP2_WINDOW)
            .initial_connection_window_size(HTTP2_WINDOW)
            .max_header_list_size(HTTP2_HEADER_BYTES)
            .max_send_buf_size(BUFFER_BYTES);
        Self { either, http1 }
    }
}

/// Whether a connection that begins with these bytes, of which there may be few yet, may speak HTTP/2.
fn may_be_http2(first: &[u8]) -> bool {
    first.is_empty() || HTTP2_PREFACE.starts_with(first)
}

/// Looks at the first bytes that come, and leaves them there. `None` where the connection is to end.
async fn peek<'a>(stream: &TcpStream, vitals: &Vitals, bytes: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut buffer = ReadBuf::new(bytes);
    let length = poll_fn(|cx| match vitals.order(cx.waker()) {
        Order::None => stream.poll_peek(cx, &mut buffer).map(Result::ok),
        Order::Drain | Order::Cut => Poll::Ready(None),
    });
    let length = length.await?;
    Some(&bytes[..length])
}

/// Takes the memory that a connection of HTTP/2 needs beyond that of another. `None` where the connection is to end.
async fn room_for_http2(vitals: &Vitals, address: IpAddr, state: &State) -> Option<()> {
    let more = budget::HTTP2_CONNECTION - budget::CONNECTION;
    let Err(account) = vitals.grow(more) else { return Some(()) };
    let mut room = pin!(room::make(&state.watch, address, account.wait(more)));
    let more = poll_fn(|cx| match vitals.order(cx.waker()) {
        Order::None => room.as_mut().poll(cx).map(Some),
        Order::Drain | Order::Cut => Poll::Ready(None),
    });
    vitals.add(more.await?);
    Some(())
}

/// Serves one connection until it ends, or is told to. `memory` is what it is counted with.
pub(crate) async fn serve(stream: TcpStream, address: IpAddr, memory: Permit, protocol: &Protocol, state: Arc<State>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let vitals = Arc::new(Vitals::new(&state.budget, Some(memory)));
    let _listed = state.watch.add(&vitals, address);
    let mut first = [0; HTTP2_PREFACE.len()];
    let Some(first) = peek(&stream, &vitals, &mut first).await else { return };
    let is_either = may_be_http2(first);
    if is_either && room_for_http2(&vitals, address, &state).await.is_none() {
        return;
    }
    let socket = io::Socket::new(stream, Arc::clone(&vitals));
    // Boxed, as a subscriber's connection has no need of the room for HTTP any more.
    let result = if is_either {
        Box::pin(serve_either(socket, protocol, state, &vitals)).await
    } else {
        match Box::pin(serve_http1(socket, protocol, state, &vitals)).await {
            Ok(None) => Ok(()),
            Ok(Some((socket, response))) => {
                vitals.shrink_to(budget::EVENT_STREAM);
                events::send(socket, response, &vitals).await.map_err(Into::into)
            }
            Err(error) => Err(error.into()),
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Serves a connection whose version is not known yet.
async fn serve_either(
    socket: io::Socket,
    protocol: &Protocol,
    state: Arc<State>,
    vitals: &Arc<Vitals>,
) -> Result<(), AnyError> {
    let handler = service_fn(|request| service::answer(Arc::clone(&state), vitals.begin(), request));
    let mut connection = pin!(protocol.either.serve_connection(TokioIo::new(socket), handler));
    let mut is_draining = false;
    poll_fn(|cx| {
        match vitals.order(cx.waker()) {
            Order::None => {}
            Order::Drain if std::mem::replace(&mut is_draining, true) => {}
            Order::Drain => connection.as_mut().graceful_shutdown(),
            Order::Cut => return Poll::Ready(Ok(())),
        }
        connection.as_mut().poll(cx)
    })
    .await
}

/// Serves requests until the connection ends, or is to be an event stream from now on, which comes back.
async fn serve_http1(
    socket: io::Socket,
    protocol: &Protocol,
    state: Arc<State>,
    vitals: &Arc<Vitals>,
) -> hyper::Result<Option<(io::Socket, Response<Body>)>> {
    let endless = Mutex::new(None);
    let handler = service_fn(|request: Request<Incoming>| {
        let may_take_over = request.version() == Version::HTTP_11;
        let answer = service::answer(Arc::clone(&state), vitals.begin(), request);
        let endless = &endless;
        async move {
            let response = answer.await?;
            if may_take_over && response.body().is_endless() {
                *endless.lock() = Some(response);
                return pending().await;
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = protocol.http1.serve_connection(TokioIo::new(socket), handler);
    let mut is_draining = false;
    let ended = poll_fn(|cx| {
        match vitals.order(cx.waker()) {
            Order::None => {}
            Order::Drain if std::mem::replace(&mut is_draining, true) => {}
            Order::Drain => Pin::new(&mut connection).graceful_shutdown(),
            Order::Cut => return Poll::Ready(Ok(())),
        }
        let polled = Pin::new(&mut connection).poll(cx);
        // Replies to requests before it, if there are any, are sent first.
        let is_taken = endless.lock().is_some() && vitals.sending.blocked_at().is_none();
        if polled.is_pending() && is_taken { Poll::Ready(Ok(())) } else { polled }
    });
    ended.await?;
    let taken = endless.lock().take();
    Ok(taken.map(|response| (connection.into_parts().io.into_inner(), response)))
}
