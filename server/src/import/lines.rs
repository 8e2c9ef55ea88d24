//! The lines of a body, one at a time, each of bounded length.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use eventodb_schema::ErrorCode;
use http_body::Body;
use http_body_util::BodyExt as _;

use super::progress::Failed;

/// See the module.
pub(super) struct Lines<B> {
    body: Option<B>,
    /// The piece of the body that is being cut into lines.
    piece: Bytes,
    /// The beginning of a line whose end is in a later piece.
    begun: Vec<u8>,
    /// How many lines there were.
    number: u64,
    most_bytes: usize,
    gap: Duration,
}

impl<B: Body<Data = Bytes> + Unpin> Lines<B> {
    /// Lines of at most `most_bytes`; `gap` is how long the next piece of the body may take.
    pub(super) fn new(body: B, most_bytes: usize, gap: Duration) -> Self {
        Self { body: Some(body), piece: Bytes::new(), begun: Vec::new(), number: 0, most_bytes, gap }
    }

    /// What is left of the body, if it has not ended.
    pub(super) fn into_rest(self) -> Option<B> {
        self.body
    }

    /// The next line that is not blank, with its number from 1.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Bytes)>, Failed> {
        while let Some(line) = self.any().await? {
            self.number += 1;
            if !line.trim_ascii().is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
        Ok(None)
    }

    /// How many lines there were.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    async fn any(&mut self) -> Result<Option<Bytes>, Failed> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.piece) {
                let line = self.piece.split_to(end);
                self.piece.advance(1);
                return self.finished(line).map(Some);
            }
            let rest = std::mem::take(&mut self.piece);
            self.begun.extend_from_slice(&rest);
            self.bounded(self.begun.len())?;
            match self.more().await? {
                Some(piece) => self.piece = piece,
                None if self.begun.is_empty() => return Ok(None),
                None => return self.finished(Bytes::new()).map(Some),
            }
        }
    }

    /// A line, of what was begun and its end.
    fn finished(&mut self, end: Bytes) -> Result<Bytes, Failed> {
        self.bounded(self.begun.len() + end.len())?;
        if self.begun.is_empty() {
            return Ok(end);
        }
        let mut line = std::mem::take(&mut self.begun);
        line.extend_from_slice(&end);
        Ok(line.into())
    }

    fn bounded(&self, length: usize) -> Result<(), Failed> {
        if length <= self.most_bytes {
            return Ok(());
        }
        let message = format!("a line must be at most {} bytes", self.most_bytes);
        Err(Failed { code: ErrorCode::InvalidJson, message, line: self.number + 1 })
    }

    /// The next piece of the body, or `None` behind the last.
    async fn more(&mut self) -> Result<Option<Bytes>, Failed> {
        let broken = |message: String| Failed { code: ErrorCode::ImportFailed, message, line: self.number + 1 };
        while let Some(body) = &mut self.body {
            let frame = tokio::time::timeout(self.gap, body.frame()).await;
            let late = |_| broken(format!("nothing came for {} s", self.gap.as_secs_f64()));
            match frame.map_err(late)? {
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
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    async fn lines(pieces: &'static [&'static str], most_bytes: usize) -> Result<Vec<(u64, String)>, Failed> {
        let frames = pieces.iter().map(|piece| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(*piece))));
        let mut lines = Lines::new(StreamBody::new(stream::iter(frames)), most_bytes, Duration::from_secs(30));
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next().await? {
            all.push((number, String::from_utf8(line.into()).expect("UTF-8")));
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
        let failed = lines(&["one\ntwo", "two\n"], 5).await.expect_err("too long");
        assert_eq!((failed.code, failed.line), (ErrorCode::InvalidJson, 2));
        let failed = lines(&["one\ntwo", "two"], 5).await.expect_err("too long");
        assert_eq!(failed.line, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_given_up() {
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::convert::Infallible>>());
        let mut lines = Lines::new(body, 5, Duration::from_secs(30));
        assert_eq!(lines.next().await.expect_err("too slow").code, ErrorCode::ImportFailed);
    }

    mod fuzz {
        use eventodb_schema::testing::{mangled, pieces};
        use proptest::prelude::*;
        use proptest::sample::Index;

        use super::*;

        /// The lines, and where they failed.
        fn all(pieces: Vec<&[u8]>) -> (Vec<(u64, Bytes)>, Option<Failed>) {
            let frames =
                pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(piece))));
            let mut lines = Lines::new(StreamBody::new(stream::iter(frames)), 8, Duration::from_secs(30));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            runtime.block_on(async {
                let mut found = Vec::new();
                loop {
                    match lines.next().await {
                        Ok(Some(line)) => found.push(line),
                        Ok(None) => return (found, None),
                        Err(failed) => return (found, Some(failed)),
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
