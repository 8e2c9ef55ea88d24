//! Request bodies: read whole, within bounds of size, time and memory.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body::Body;
use http_body_util::BodyExt as _;

use super::budget::{Account, Exhausted, Permit, SMALL};
use super::joined::{COUNTED, Joined};

/// Bodies up to this size are copied. Otherwise a body of a few bytes would keep the connection's whole buffer, and hyper
/// would need another one, for as long as a call waits.
const COPIED: usize = 1024;

/// A body that is here.
pub(crate) struct Upload {
    content: Content,
    _permit: Option<Permit>,
}

enum Content {
    One(Bytes),
    Joined(Vec<u8>),
}

/// Why a body was not read to its end. The connection cannot go on behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It has more bytes than this.
    TooLarge(usize),
    /// It did not come within this time.
    TooSlow(Duration),
    /// The client stopped sending in the middle.
    Off,
    /// There is no memory for it.
    Exhausted,
}

impl From<Exhausted> for Broken {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

/// The part of a body that is here as soon as it is asked for.
pub(crate) enum Beginning {
    /// All of it, and it is small.
    Whole(Upload),
    /// Some of it, or nothing.
    Part(Bytes),
}

impl Upload {
    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match &self.content {
            Content::One(bytes) => bytes,
            Content::Joined(bytes) => bytes,
        }
    }

    fn of(bytes: Bytes, permit: Option<Permit>) -> Self {
        let content = if bytes.len() <= COPIED { Content::Joined(bytes.into()) } else { Content::One(bytes) };
        Self { content, _permit: permit }
    }
}

/// What holds for a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Most bytes.
    pub(crate) most: usize,
    /// Between two pieces.
    pub(crate) gap: Duration,
    /// In all.
    pub(crate) total: Duration,
    /// When its request began.
    pub(crate) started: Instant,
}

/// Takes the bytes of a body that are here already. Most bodies are small and whole, and need neither a timer nor the
/// budget.
///
/// # Errors
/// [`Broken::Off`].
pub(crate) async fn begin<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Result<Beginning, Broken> {
    let first = match at_once(body).await {
        Some(frame) => data(frame)?,
        None => return Ok(Beginning::Part(Bytes::new())),
    };
    let is_whole = first.is_none() || body.is_end_stream();
    let first = first.unwrap_or_default();
    Ok(if is_whole && first.len() <= SMALL {
        Beginning::Whole(Upload::of(first, None))
    } else {
        Beginning::Part(first)
    })
}

/// Reads a body to its end, of which the first bytes are here.
///
/// # Errors
/// [`Broken`]; a body whose declared length is too large is not read at all.
pub(crate) async fn finish<B>(first: Bytes, body: &mut B, terms: &Terms, account: &Account) -> Result<Upload, Broken>
where
    B: Body<Data = Bytes> + Unpin,
{
    let rest = body.size_hint();
    terms.bound(first.len().saturating_add(usize::try_from(rest.lower()).unwrap_or(usize::MAX)))?;
    if !first.is_empty() && body.is_end_stream() {
        let permit = account.take(COUNTED * first.len())?;
        return Ok(Upload::of(first, Some(permit)));
    }
    let declared = rest.exact().map_or(terms.most, |rest| first.len() + rest as usize);
    let mut joined = Joined::new(account, declared)?;
    joined.add(&first)?;
    while let Some(piece) = piece(body, terms).await? {
        terms.bound(joined.len() + piece.len())?;
        joined.add(&piece)?;
    }
    let (bytes, permit) = joined.into_parts();
    Ok(Upload { content: Content::Joined(bytes), _permit: Some(permit) })
}

impl Terms {
    fn bound(&self, length: usize) -> Result<(), Broken> {
        if length <= self.most {
            return Ok(());
        }
        Err(Broken::TooLarge(self.most))
    }
}

/// The next piece, within the time for it.
async fn piece<B: Body<Data = Bytes> + Unpin>(body: &mut B, terms: &Terms) -> Result<Option<Bytes>, Broken> {
    loop {
        let frame = match at_once(body).await {
            Some(frame) => frame,
            None => in_time(body, terms).await?,
        };
        match data(frame)? {
            Some(data) if data.is_empty() => {}
            data => return Ok(data),
        }
    }
}

/// A frame of a body.
type NextFrame<B> = Option<Result<http_body::Frame<Bytes>, <B as Body>::Error>>;

/// The bytes of a frame, or `None` behind the last.
fn data<E>(frame: Option<Result<http_body::Frame<Bytes>, E>>) -> Result<Option<Bytes>, Broken> {
    match frame {
        None => Ok(None),
        Some(Err(_)) => Err(Broken::Off),
        Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
    }
}

/// The next frame, if it has arrived. hyper hands a frame over only after it was asked for one, so this asks twice. Most
/// bodies need no timer this way.
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

async fn in_time<B: Body<Data = Bytes> + Unpin>(body: &mut B, terms: &Terms) -> Result<NextFrame<B>, Broken> {
    let left = terms.total.saturating_sub(terms.started.elapsed());
    let limit = if left < terms.gap { terms.total } else { terms.gap };
    let frame = tokio::time::timeout(left.min(terms.gap), body.frame()).await;
    frame.map_err(|_| Broken::TooSlow(limit))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::super::budget::{Budget, Holder};
    use super::*;

    const KIB: usize = 1024;

    fn terms(most: usize) -> Terms {
        Terms { most, gap: Duration::from_secs(30), total: Duration::from_secs(120), started: Instant::now() }
    }

    fn budget(bytes: usize) -> Arc<Budget> {
        Arc::new(Budget::new(bytes))
    }

    fn account(budget: &Arc<Budget>) -> Account {
        budget.account(&Arc::default(), Holder::Namespace("a".into()))
    }

    fn pieces(sizes: &[usize]) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin + use<> {
        let frames: Vec<_> = sizes.iter().map(|&size| Ok(Frame::data(Bytes::from(vec![b'x'; size])))).collect();
        StreamBody::new(stream::iter(frames))
    }

    async fn read<B: Body<Data = Bytes> + Unpin>(
        mut body: B,
        most: usize,
        account: &Account,
    ) -> Result<Upload, Broken> {
        finish(Bytes::new(), &mut body, &terms(most), account).await
    }

    #[tokio::test]
    async fn a_body_is_bounded_with_and_without_a_declared_length() {
        let account = account(&budget(1024 * KIB));
        let whole = read(Full::new(Bytes::from_static(b"0123456789")), 10, &account).await.expect("a body");
        assert_eq!(whole.as_slice(), b"0123456789");
        let failure = read(Full::new(Bytes::from_static(b"0123456789x")), 10, &account).await.err().expect("too large");
        assert_eq!(failure, Broken::TooLarge(10));
        assert_eq!(read(pieces(&[4, 0, 6]), 10, &account).await.expect("a body").as_slice(), b"xxxxxxxxxx");
        let failure = read(pieces(&[4, 7]), 10, &account).await.err().expect("too large");
        assert_eq!(failure, Broken::TooLarge(10));
    }

    #[tokio::test]
    async fn a_small_body_that_is_here_needs_nothing_of_the_budget() {
        let begun = begin(&mut Full::new(Bytes::from(vec![b'x'; SMALL]))).await.expect("it is here");
        assert!(matches!(begun, Beginning::Whole(upload) if upload.as_slice().len() == SMALL));
        let begun = begin(&mut Full::new(Bytes::from(vec![b'x'; SMALL + 1]))).await.expect("it is here");
        assert!(matches!(begun, Beginning::Part(first) if first.len() == SMALL + 1));
    }

    #[tokio::test]
    async fn the_memory_of_bodies_is_bounded_and_given_back() {
        let account = account(&budget(600 * KIB));
        let first = read(pieces(&[50 * KIB, 50 * KIB]), 100 * KIB, &account).await.expect("fits");
        let failure = read(pieces(&[50 * KIB, 1]), 100 * KIB, &account).await.err().expect("the share is used up");
        assert_eq!(failure, Broken::Exhausted);
        drop(first);
        assert!(read(pieces(&[50 * KIB, 1]), 100 * KIB, &account).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_given_up() {
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::convert::Infallible>>());
        let failure = read(body, 10, &account(&budget(1024))).await.err().expect("too slow");
        assert_eq!(failure, Broken::TooSlow(Duration::from_secs(30)));
    }
}
