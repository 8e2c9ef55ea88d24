//! Bytes that a client sends although nobody wants them. They are read and thrown away, so that the client sees the reply
//! and no reset.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Counts them, up to a bound.
pub(super) struct Unwanted {
    seen: usize,
    most: usize,
}

impl Unwanted {
    /// At most this number of bytes is read.
    pub(super) fn new(most: usize) -> Self {
        Self { seen: 0, most }
    }

    /// Reads on until the client ends or more than the bound came.
    pub(super) fn poll_rest<R: AsyncRead + Unpin>(&mut self, from: &mut R, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 2048];
        while self.seen <= self.most {
            let mut buffer = ReadBuf::new(&mut bytes);
            if ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer)).is_err() || buffer.filled().is_empty() {
                break;
            }
            self.seen += buffer.filled().len();
        }
        Poll::Ready(())
    }
}
