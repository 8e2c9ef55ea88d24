//! How an event stream takes its connection over from hyper.
//!
//! hyper gives its socket back only while it serves. So it is left without an answer to the request, and is let go as
//! soon as the replies to earlier requests are on the socket. Were the request answered, hyper would write behind the
//! back of the stream.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::Response;
use parking_lot::Mutex;

use super::vitals::Vitals;

/// The stream that is to have the connection, once there is one.
pub(super) struct Takeover<B> {
    stream: Mutex<Option<Response<B>>>,
    /// Whether there is one: asked each time that the connection is polled.
    waits: AtomicBool,
}

impl<B> Takeover<B> {
    pub(super) fn new() -> Self {
        Self { stream: Mutex::new(None), waits: AtomicBool::new(false) }
    }

    /// Asks for the connection, and leaves hyper without an answer: it is dropped before long.
    pub(super) async fn request(&self, stream: Response<B>) -> Infallible {
        *self.stream.lock() = Some(stream);
        self.waits.store(true, Relaxed);
        pending().await
    }

    /// Whether hyper can be let go: a stream waits, and all replies before it are sent. hyper flushes whenever it is
    /// polled, so that it holds nothing back unless the socket takes no more.
    pub(super) fn is_due(&self, vitals: &Vitals) -> bool {
        self.waits.load(Relaxed) && vitals.sending.blocked_at().is_none()
    }

    /// The stream that waits.
    pub(super) fn take(&self) -> Option<Response<B>> {
        self.stream.lock().take()
    }
}
