//! The lines of a body, one at a time, each of bounded length, in bounded time and memory.

use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use eventodb_protocol::ErrorCode;
use http_body::Body;
use http_body_util::BodyExt as _;

use super::progress::Failed;
use crate::http::{Account, Exhausted, Joined, Permit};

/// What holds for the lines of a body.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// Most bytes of a line.
    pub(super) most: usize,
    /// How long the next piece of the body may take.
    pub(super) gap: Duration,
    /// How long a line may take, from its first piece to its last.
    pub(super) line: Duration,
}

/// A body that is cut into lines.
pub(super) struct Lines<B> {
    body: Option<B>,
    /// The piece of the body that is being cut into lines.
    piece: Bytes,
    /// The beginning of a line whose end is in a later piece.
    begun: Option<Begun>,
    /// How many lines there were.
    number: u64,
    terms: Terms,
    account: Account,
}

/// A line of which the end is not here.
struct Begun {
    joined: Joined,
    since: Instant,
}

/// A line that is here, with its number from 1.
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) bytes: Bytes,
    /// What it takes where it is not a part of the piece at hand.
    _memory: Option<Permit>,
}

impl Line {
    /// One that takes no memory of its own.
    #[cfg(test)]
    pub(super) fn whole(number: u64, text: String) -> Self {
        Self { number, bytes: text.into(), _memory: None }
    }
}

/// Why there is no next line.
#[derive(Debug)]
pub(super) enum Stop {
    /// There is no memory for it now. Nothing is lost: it can be asked for again.
    NoRoom,
    /// There will be none.
    Failed(Failed),
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl From<Exhausted> for Stop {
    fn from(_: Exhausted) -> Self {
        Self::NoRoom
    }
}

impl<B: Body<Data = Bytes> + Unpin> Lines<B> {
    /// The lines of a body, whose memory is counted there.
    pub(super) fn new(body: B, terms: Terms, account: Account) -> Self {
        Self { body: Some(body), piece: Bytes::new(), begun: None, number: 0, terms, account }
    }

    /// What is left of the body, if it has not ended.
    pub(super) fn into_rest(self) -> Option<B> {
        self.body
    }

    /// The next line that is not blank.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Stop> {
        while let Some((bytes, memory)) = self.any().await? {
            self.number += 1;
            if !bytes.trim_ascii().is_empty() {
                return Ok(Some(Line { number: self.number, bytes, _memory: memory }));
            }
        }
        Ok(None)
    }

    /// How many lines there were.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    async fn any(&mut self) -> Result<Option<(Bytes, Option<Permit>)>, Stop> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.piece) {
                let line = self.finished(end)?;
                self.piece.advance(1);
                return Ok(Some(line));
            }
            self.keep(self.piece.len())?;
            match self.more().await? {
                Some(piece) => self.piece = piece,
                None if self.begun.is_none() => return Ok(None),
                None => return self.finished(0).map(Some),
            }
        }
    }

    /// A line: what was begun of it, and the piece up to `end`.
    fn finished(&mut self, end: usize) -> Result<(Bytes, Option<Permit>), Stop> {
        if self.begun.is_none() {
            self.bounded(end)?;
            return Ok((self.piece.split_to(end), None));
        }
        self.keep(end)?;
        let Some(begun) = self.begun.take() else { return Ok(Default::default()) };
        let (bytes, memory) = begun.joined.into_parts();
        Ok((bytes.into(), Some(memory)))
    }

    /// Keeps the first `length` bytes of the piece as the beginning of a line.
    fn keep(&mut self, length: usize) -> Result<(), Stop> {
        let before = self.begun.as_ref().map_or(0, |begun| begun.joined.len());
        self.bounded(before + length)?;
        if length == 0 {
            return Ok(());
        }
        let begun = match &mut self.begun {
            Some(begun) => begun,
            None => {
                let joined = Joined::new(&self.account, self.terms.most)?;
                self.begun.insert(Begun { joined, since: Instant::now() })
            }
        };
        begun.joined.add(&self.piece[..length])?;
        self.piece.advance(length);
        if self.piece.is_empty() {
            // An empty piece would keep the buffer that it was cut from.
            self.piece = Bytes::new();
        }
        Ok(())
    }

    fn bounded(&self, length: usize) -> Result<(), Failed> {
        if length <= self.terms.most {
            return Ok(());
        }
        let message = format!("a line must be at most {} bytes", self.terms.most);
        Err(Failed::new(ErrorCode::InvalidJson, message, self.number + 1))
    }

    /// The next piece of the body, or `None` behind the last.
    async fn more(&mut self) -> Result<Option<Bytes>, Failed> {
        let broken = |message: String| Failed::new(ErrorCode::ImportFailed, message, self.number + 1);
        let Terms { gap, line, .. } = self.terms;
        let left = self.begun.as_ref().map_or(gap, |begun| line.saturating_sub(begun.since.elapsed()));
        let late = || match left < gap {
            true => format!("a line did not arrive within {} s", line.as_secs_f64()),
            false => format!("nothing came for {} s", gap.as_secs_f64()),
        };
        while let Some(body) = &mut self.body {
            let frame = tokio::time::timeout(left.min(gap), body.frame()).await;
            match frame.map_err(|_| broken(late()))? {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {}
                },
                Some(Err(_)) => return Err(broken("the body broke off".to_owned())),
                None => self.body = None,
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;
    use crate::http::{Budget, Holder};

    const MINUTE: Duration = Duration::from_secs(60);

    fn account(memory: usize) -> Account {
        Arc::new(Budget::new(memory)).account(&Arc::default(), Holder::Namespace("a".into()))
    }

    /// Lines in memory that is as good as endless.
    fn lines_of<B: Body<Data = Bytes> + Unpin>(body: B, most: usize) -> Lines<B> {
        let terms = Terms { most, gap: MINUTE / 2, line: 2 * MINUTE };
        Lines::new(body, terms, account(1 << 30))
    }

    async fn lines(pieces: &'static [&'static str], most_bytes: usize) -> Result<Vec<(u64, String)>, Stop> {
        let frames = pieces.iter().map(|piece| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(*piece))));
        let mut lines = lines_of(StreamBody::new(stream::iter(frames)), most_bytes);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await? {
            all.push((line.number, String::from_utf8(line.bytes.into()).expect("UTF-8")));
        }
        Ok(all)
    }

    #[tokio::test]
    async fn lines_are_found_across_pieces() {
        let found = lines(&["on", "e\n\n \r\ntwo\nthr", "", "ee"], 5).await.expect("lines");
        assert_eq!(found, [(1, "one".to_owned()), (4, "two".to_owned()), (5, "three".to_owned())]);
        assert!(lines(&[], 5).await.expect("none").is_empty());
        assert!(lines(&["\n"], 5).await.expect("none").is_empty());
    }

    #[tokio::test]
    async fn a_line_is_bounded() {
        for pieces in [&["one\ntwo", "two\n"], &["one\ntwo", "two"]] {
            let Err(Stop::Failed(failed)) = lines(pieces, 5).await else { panic!("it is too long") };
            assert_eq!((failed.code, failed.line), (ErrorCode::InvalidJson, 2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_given_up() {
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::convert::Infallible>>());
        let Err(Stop::Failed(failed)) = lines_of(body, 5).next().await else { panic!("it is too slow") };
        assert_eq!((failed.code, &*failed.message), (ErrorCode::ImportFailed, "nothing came for 30 s"));
    }

    /// The clock that a line is held against is not the paused one.
    #[tokio::test]
    async fn a_line_that_comes_byte_by_byte_is_given_up() {
        let bytes = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"x"))), ()))
        });
        let terms = Terms { most: usize::MAX, gap: MINUTE, line: Duration::from_millis(20) };
        let mut lines = Lines::new(StreamBody::new(Box::pin(bytes)), terms, account(1 << 30));
        let Err(Stop::Failed(failed)) = lines.next().await.map(drop) else { panic!("it is too slow") };
        assert_eq!(failed.message, "a line did not arrive within 0.02 s");
    }

    #[tokio::test]
    async fn a_line_for_which_there_is_no_memory_can_be_asked_for_again() {
        let pieces = ["one\n".to_owned(), "x".repeat(1000), "x".repeat(1000), "x\n".to_owned()];
        let frames = pieces.map(|piece| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(piece))));
        let account = account(40_000);
        let terms = Terms { most: 5000, gap: MINUTE, line: MINUTE };
        let mut lines = Lines::new(StreamBody::new(stream::iter(frames)), terms, account.clone());
        assert_eq!(lines.next().await.ok().flatten().expect("a line").bytes, "one");
        let taken = account.take(12_000).expect("it is there");
        assert!(matches!(lines.next().await, Err(Stop::NoRoom)));
        drop(taken);
        let line = lines.next().await.ok().flatten().expect("a line");
        assert_eq!((line.number, line.bytes.len()), (2, 2001));
    }

    mod fuzz {
        use eventodb_protocol::testing::{mangled, pieces};
        use proptest::prelude::*;
        use proptest::sample::Index;

        use super::*;

        /// The lines, and where they failed.
        fn all(pieces: Vec<&[u8]>) -> (Vec<(u64, Bytes)>, Option<String>) {
            let frames =
                pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(piece))));
            let mut lines = lines_of(StreamBody::new(stream::iter(frames)), 8);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            runtime.block_on(async {
                let mut found = Vec::new();
                loop {
                    match lines.next().await {
                        Ok(Some(line)) => found.push((line.number, line.bytes)),
                        Ok(None) => return (found, None),
                        Err(stop) => return (found, Some(format!("{stop:?}"))),
                    }
                }
            })
        }

        proptest! {
            #[test]
            fn any_cut_of_a_body_has_the_same_lines(
                body in mangled("([a-c]{0,4}|\r\n|\n| ){0,20}"), cuts in proptest::collection::vec(any::<Index>(), 0..6),
            ) {
                let found = all(pieces(&body, &cuts));
                prop_assert!(found.0.iter().all(|(_, line)| line.len() <= 8 && !line.contains(&b'\n')));
                prop_assert_eq!(found, all(vec![&body]));
            }
        }
    }
}
