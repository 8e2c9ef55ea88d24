//! Request bodies: read whole, within bounds of size, time and memory.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Instant;

use bytes::{Buf as _, Bytes};
use eventodb_schema::ErrorCode;
use futures_util::FutureExt as _;
use http_body::Body;
use http_body_util::BodyExt as _;

use crate::config::Timeouts;
use crate::error::Failure;

/// Bodies up to this size are not counted: connections are.
const UNCOUNTED: usize = 64 * 1024;

/// Bodies up to this size are copied: a piece of the connection's buffer keeps all of it, and there is
/// another one for what comes next, for as long as a read waits.
const COPIED: usize = 1024;

/// The memory that large bodies may take, all of them together.
pub(crate) struct Budget {
    left: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { left: AtomicUsize::new(bytes) }
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        taken.is_ok()
    }
}

/// A body that is here.
pub(crate) struct Upload {
    content: Content,
    _share: Option<Share>,
}

enum Content {
    One(Bytes),
    Joined(Vec<u8>),
}

/// A part of the budget, given back when it is dropped.
struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Upload {
    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match &self.content {
            Content::One(bytes) => bytes,
            Content::Joined(bytes) => bytes,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// What holds for a body.
pub(crate) struct Terms<'a> {
    /// Most bytes.
    pub(crate) limit: usize,
    pub(crate) timeouts: &'a Timeouts,
    /// When its request began.
    pub(crate) started: Instant,
    pub(crate) budget: &'a Arc<Budget>,
}

/// Reads a body to its end.
///
/// # Errors
/// `PAYLOAD_TOO_LARGE`, at once where its length is declared; `OVERLOADED` where the memory for
/// bodies is used up; a failure that closes the connection where it does not come in time.
pub(crate) async fn read<B>(body: &mut B, terms: &Terms<'_>) -> Result<Upload, Failure>
where
    B: Body<Data = Bytes> + Unpin,
{
    let declared = body.size_hint().lower();
    if declared > terms.limit as u64 {
        return Err(too_large(terms.limit));
    }
    let Some(first) = piece(body, terms).await? else {
        return Ok(Upload { content: Content::One(Bytes::new()), _share: None });
    };
    if body.is_end_stream() {
        bounded(first.len(), terms)?;
        let content = if first.len() <= COPIED { Content::Joined(first.into()) } else { Content::One(first) };
        return Ok(Upload { content, _share: None });
    }
    let mut share = Share { budget: Arc::clone(terms.budget), bytes: 0 };
    let mut joined = Vec::from(first);
    loop {
        bounded(joined.len(), terms)?;
        let uncounted = joined.len().saturating_sub(UNCOUNTED + share.bytes);
        if !share.budget.take(uncounted) {
            let message = "the bodies of other requests take all the memory there is for them";
            return Err(Failure::new(ErrorCode::Overloaded, message).closing());
        }
        share.bytes += uncounted;
        let Some(piece) = piece(body, terms).await? else { break };
        joined.extend_from_slice(&piece);
    }
    Ok(Upload { content: Content::Joined(joined), _share: Some(share) })
}

fn bounded(length: usize, terms: &Terms<'_>) -> Result<(), Failure> {
    if length > terms.limit { Err(too_large(terms.limit)) } else { Ok(()) }
}

fn too_large(limit: usize) -> Failure {
    Failure::new(ErrorCode::PayloadTooLarge, format!("the body must be at most {limit} bytes")).closing()
}

/// The next piece, within the time for it.
async fn piece<B: Body<Data = Bytes> + Unpin>(body: &mut B, terms: &Terms<'_>) -> Result<Option<Bytes>, Failure> {
    loop {
        let frame = match at_once(body).await {
            Some(frame) => frame,
            None => in_time(body, terms).await?,
        };
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Failure::invalid("the body broke off").closing()),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.has_remaining() => return Ok(Some(data)),
                _ => {}
            },
        }
    }
}

/// A frame of a body.
type NextFrame<B> = Option<Result<http_body::Frame<Bytes>, <B as Body>::Error>>;

/// The next frame, if it is there as soon as it is asked for. The connection hands it over only when
/// it is asked, so asking twice is what finds it. Most bodies need no timer this way.
async fn at_once<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Option<NextFrame<B>> {
    let mut frame = body.frame();
    let mut has_asked = false;
    poll_fn(|cx| match frame.poll_unpin(cx) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending if !has_asked => {
            has_asked = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn in_time<B: Body<Data = Bytes> + Unpin>(body: &mut B, terms: &Terms<'_>) -> Result<NextFrame<B>, Failure> {
    let Timeouts { body_gap, body_total, .. } = *terms.timeouts;
    let left = body_total.saturating_sub(terms.started.elapsed());
    let limit = if left < body_gap { body_total } else { body_gap };
    let frame = tokio::time::timeout(left.min(body_gap), body.frame()).await;
    frame.map_err(|_| Failure::too_slow(limit))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn terms<'a>(limit: usize, timeouts: &'a Timeouts, budget: &'a Arc<Budget>) -> Terms<'a> {
        Terms { limit, timeouts, started: Instant::now(), budget }
    }

    fn pieces(sizes: &[usize]) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin + use<> {
        let frames: Vec<_> = sizes.iter().map(|&size| Ok(Frame::data(Bytes::from(vec![b'x'; size])))).collect();
        StreamBody::new(stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_is_bounded_with_and_without_a_declared_length() {
        let (timeouts, budget) = (Timeouts::default(), Arc::new(Budget::new(1024)));
        let terms = terms(10, &timeouts, &budget);
        let whole = read(&mut Full::new(Bytes::from_static(b"0123456789")), &terms).await.expect("a body");
        assert_eq!(whole.as_slice(), b"0123456789");
        let failure = read(&mut Full::new(Bytes::from_static(b"0123456789x")), &terms).await.err().expect("too large");
        assert_eq!(failure.code(), ErrorCode::PayloadTooLarge);
        assert_eq!(read(&mut pieces(&[4, 0, 6]), &terms).await.expect("a body").as_slice(), b"xxxxxxxxxx");
        let failure = read(&mut pieces(&[4, 7]), &terms).await.err().expect("too large");
        assert_eq!(failure.code(), ErrorCode::PayloadTooLarge);
    }

    #[tokio::test]
    async fn the_memory_of_large_bodies_is_bounded_and_given_back() {
        let (timeouts, budget) = (Timeouts::default(), Arc::new(Budget::new(UNCOUNTED)));
        let terms = terms(usize::MAX, &timeouts, &budget);
        let first = read(&mut pieces(&[UNCOUNTED, UNCOUNTED]), &terms).await.expect("fits");
        let failure = read(&mut pieces(&[UNCOUNTED, 1]), &terms).await.err().expect("nothing is left");
        assert_eq!(failure.code(), ErrorCode::Overloaded);
        drop(first);
        assert!(read(&mut pieces(&[UNCOUNTED, 1]), &terms).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_given_up() {
        let timeouts = Timeouts { body_gap: Duration::from_secs(30), ..Timeouts::default() };
        let budget = Arc::new(Budget::new(1024));
        let terms = terms(10, &timeouts, &budget);
        let mut body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::convert::Infallible>>());
        let failure = read(&mut body, &terms).await.err().expect("too slow");
        assert!(failure.into_response().headers().contains_key(http::header::CONNECTION));
    }
}
