//! A request's body on its way in, by a client that may have closed its sending side.
//!
//! Such a client has either sent all it wanted to and waits for the answer, or it is gone in the middle. The socket
//! cannot tell which, and hyper drops the request when it hears that the side is closed. So hyper hears of it only once
//! somebody has asked for more of the body and there was none.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::vitals::Vitals;

/// A request's body that tells its connection when more of it is missed.
pub(crate) struct Arriving {
    body: Incoming,
    vitals: Arc<Vitals>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, vitals: &Arc<Vitals>) -> Self {
        Self { body, vitals: Arc::clone(vitals) }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() {
            self.vitals.misses_body(cx.waker());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
