//! Bytes that a client sends although nobody wants them. They are read and thrown away, so that the client sees the reply
//! and no reset.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Counts them.
#[derive(Default)]
pub(super) struct Unwanted {
    seen: usize,
}

impl Unwanted {
    /// Bytes so far.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// Reads on until the client ends or more than `most` bytes came.
    pub(super) fn poll_rest<R>(&mut self, from: &mut R, most: usize, cx: &mut Context<'_>) -> Poll<()>
    where
        R: AsyncRead + Unpin,
    {
        let mut bytes = [0; 2048];
        while self.seen <= most {
            let mut buffer = ReadBuf::new(&mut bytes);
            if ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer)).is_err() || buffer.filled().is_empty() {
                break;
            }
            self.seen += buffer.filled().len();
        }
        Poll::Ready(())
    }
}
