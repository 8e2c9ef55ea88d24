//! Reading on for a while after a refusal.
//!
//! A client that is still sending when its connection is closed may lose the reply that it was just
//! sent: the closed side answers further bytes with a reset. So what still comes is read and thrown
//! away, up to a bound.

use std::time::Duration;

use http::HeaderMap;
use http::header::EXPECT;
use http_body::Body;
use http_body_util::BodyExt as _;

const MOST_BYTES: usize = 64 * 1024 * 1024;
const MOST_TIME: Duration = Duration::from_secs(10);

/// Reads the rest of a refused body, beside the reply.
pub(crate) fn read_on<B>(headers: &HeaderMap, body: B)
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Send,
{
    // Who waits for leave to send does not get it.
    if !body.is_end_stream() && !headers.contains_key(EXPECT) {
        tokio::spawn(tokio::time::timeout(MOST_TIME, discard(body)));
    }
}

async fn discard<B: Body + Unpin>(mut body: B) {
    let mut left = MOST_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, bytes::Buf::remaining);
        let Some(rest) = left.checked_sub(bytes) else { return };
        left = rest;
    }
}
