//! A subscription, read frame by frame.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use memchr::memmem;
use tokio::io::{AsyncRead as _, ReadBuf};

use super::body::Chunks;
use super::connection::Connection;
use super::request::Address;
use super::tls::Stream;

thread_local! {
    /// The buffer for reading: one for all subscriptions of a thread, so that an idle subscription has none of its own.
    static PIECE: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// A stream of events.
#[derive(Debug)]
pub(crate) struct Events {
    stream: Stream,
    chunks: Chunks,
    text: Vec<u8>,
    goes_on: bool,
}

impl Events {
    /// Subscribes, and waits until every write from now on is poked.
    pub(crate) async fn open(address: &Address, query: &str) -> anyhow::Result<Self> {
        Self::over(Connection::open(address).await?, address, query).await
    }

    /// The same over a connection that is open already.
    pub(crate) async fn over(connection: Connection, address: &Address, query: &str) -> anyhow::Result<Self> {
        let (stream, first) = connection.into_stream(&address.subscribe(query)).await?;
        let mut events = Self { stream, chunks: Chunks::default(), text: Vec::new(), goes_on: true };
        events.goes_on = events.chunks.take(&first, &mut events.text)?;
        loop {
            let ready = memmem::find(&events.text, b": ready");
            let end = ready.and_then(|at| memmem::find(&events.text[at..], b"\n\n").map(|end| at + end + 2));
            if let Some(end) = end {
                // The rest of the piece is left for the next read.
                events.text.drain(..end);
                return Ok(events);
            }
            events.read().await?;
        }
    }

    /// Waits for at least one whole frame, and hands all whole frames to `take`.
    pub(crate) async fn next(&mut self, mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
        loop {
            if let Some(end) = memmem::rfind(&self.text, b"\n\n") {
                take(&self.text[..end + 2]);
                self.text.drain(..end + 2);
                return Ok(());
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.goes_on, "the server ended the subscription");
        poll_fn(|cx| self.poll_take(cx)).await
    }

    /// Takes the bytes that have arrived.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<()>> {
        PIECE.with_borrow_mut(|piece| {
            let mut piece = ReadBuf::new(piece);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Err(anyhow::anyhow!("the server closed the subscription's connection")));
            }
            self.goes_on = self.chunks.take(piece.filled(), &mut self.text)?;
            Poll::Ready(Ok(()))
        })
    }
}

/// The global positions of the pokes in whole frames.
pub(crate) fn pokes(frames: &[u8]) -> impl Iterator<Item = i64> {
    const FIELD: &[u8] = b"\"globalPosition\":";
    memmem::find_iter(frames, FIELD).filter_map(|at| {
        let digits = &frames[at + FIELD.len()..];
        let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pokes_are_found_among_comments() {
        let frames = b": caught-up 3\nid: 3\n\nid: 4\nevent: poke\n\
            data: {\"stream\":\"a-1\",\"position\":0,\"globalPosition\":4}\n\n";
        assert_eq!(pokes(frames).collect::<Vec<_>>(), [4]);
    }
}
