//! A request's body on its way in, by a client that may have closed its sending side.
//!
//! Such a client has either sent all it wanted to and waits for the answer, or it is gone in the
//! middle. The socket cannot tell which, and hyper drops the request when it hears of it; so it
//! hears of it only once somebody has asked for more of the body and there was none.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

use super::vitals::Vitals;

/// See the module.
pub(crate) struct Arriving<B> {
    body: B,
    vitals: Arc<Vitals>,
}

impl<B> Arriving<B> {
    pub(crate) fn new(body: B, vitals: &Arc<Vitals>) -> Self {
        Self { body, vitals: Arc::clone(vitals) }
    }

    /// The body without its being missed.
    pub(crate) fn into_inner(self) -> B {
        self.body
    }
}

impl<B: Body + Unpin> Body for Arriving<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
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
