//! One connection: HTTP/1.1 or HTTP/2, as its first bytes say, within its time limits.

mod arriving;
mod io;
mod vitals;
mod watch;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::config::Bounds;
use crate::service;
use crate::state::State;

pub(crate) use arriving::Arriving;
pub(crate) use vitals::{Busy, Gauge, Order, Vitals};
pub(crate) use watch::{Listed, Watch};

/// What an HTTP/2 connection begins with, and no request of HTTP/1 does.
const HTTP2_PREFACE: &[u8] = b"PRI ";
/// Bytes of a request's head, and bytes that wait to be sent before a reply is asked for more.
const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of all header fields of an HTTP/2 request.
const HTTP2_HEADER_BYTES: u32 = 64 * 1024;

/// How connections speak HTTP. No time limits here: [`Watch`] has them.
pub(crate) struct Protocol {
    /// Finds out which version it is. It reads the first bytes apart, for which hyper's buffer grows to
    /// twice its size and stays so.
    either: Builder<TokioExecutor>,
    http1: Builder<TokioExecutor>,
}

impl Protocol {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let mut either = Builder::new(TokioExecutor::new());
        // Not hyper's `half_close`: it never looks whether a subscriber is gone. `Socket` tells it when to know.
        either.http1().header_read_timeout(None).max_buf_size(BUFFER_BYTES);
        either
            .http2()
            .max_concurrent_streams(bounds.http2_streams)
            .max_header_list_size(HTTP2_HEADER_BYTES)
            .max_send_buf_size(BUFFER_BYTES);
        let http1 = either.clone().http1_only();
        Self { either, http1 }
    }

    /// The one for a connection that begins with these bytes, of which there may be few yet.
    fn of(&self, first: &[u8]) -> &Builder<TokioExecutor> {
        if first.is_empty() || HTTP2_PREFACE.starts_with(first) { &self.either } else { &self.http1 }
    }
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

/// Serves one connection until it ends, or is told to.
pub(crate) async fn serve(stream: TcpStream, protocol: &Protocol, state: Arc<State>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let vitals = Arc::new(Vitals::new());
    let _listed = state.watch.add(&vitals);
    let mut first = [0; HTTP2_PREFACE.len()];
    let Some(first) = peek(&stream, &vitals, &mut first).await else { return };
    let protocol = protocol.of(first);
    let socket = TokioIo::new(io::Socket::new(stream, Arc::clone(&vitals)));
    let handler = service_fn({
        let vitals = Arc::clone(&vitals);
        move |request| service::answer(Arc::clone(&state), vitals.begin(), request)
    });
    let mut connection = pin!(protocol.serve_connection(socket, handler));
    let mut is_draining = false;
    let result = poll_fn(|cx| {
        match vitals.order(cx.waker()) {
            Order::None => {}
            Order::Drain => {
                if !std::mem::replace(&mut is_draining, true) {
                    connection.as_mut().graceful_shutdown();
                }
            }
            Order::Cut => return Poll::Ready(Ok(())),
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}
