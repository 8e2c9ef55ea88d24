//! Reading on for a while after a refusal.
//!
//! A client that is still sending when its connection is closed may lose the reply that it was just sent: the closed
//! side answers further bytes with a reset. So whatever still comes is read and thrown away, up to a bound.

use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use http_body_util::BodyExt as _;

use super::vitals::Vitals;

/// How long, and for how many bytes, what a client sends is read and thrown away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    bytes: usize,
    time: Duration,
}

impl Patience {
    /// With a client that has shown a valid token.
    pub(crate) const KNOWN: Self = Self { bytes: 64 * 1024 * 1024, time: Duration::from_secs(10) };
    /// With every other client.
    pub(crate) const STRANGER: Self = Self { bytes: 1024 * 1024, time: Duration::from_secs(1) };
}

/// Reads the rest of a request's body after a refusal.
#[derive(Clone)]
pub(crate) struct Linger(pub(super) Arc<Vitals>);

impl Linger {
    /// Reads the rest of a refused body, beside the reply.
    pub(crate) fn read_on<B>(&self, body: B, patience: Patience)
    where
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Send,
    {
        if !body.is_end_stream() {
            self.0.refuse_body();
            tokio::spawn(tokio::time::timeout(patience.time, discard(body, patience.bytes)));
        }
    }
}

async fn discard<B: Body + Unpin>(mut body: B, mut left: usize) {
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, bytes::Buf::remaining);
        let Some(rest) = left.checked_sub(bytes) else { return };
        left = rest;
    }
}
