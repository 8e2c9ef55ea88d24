//! How many reads of the storage run at once, for calls and for subscriptions.
//!
//! The storage takes reads in the order in which they come. Without a budget for each, a thousand subscriptions that
//! catch up would be before every call, and a thousand calls before every poke from history. So each kind waits for its
//! own, and the storage has a read of the other kind before it for a moment at most.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{Error, Result};
use crate::storage::Readers;

/// Calls leave this part of all reads to subscriptions, if there are several.
const LEFT_BY_CALLS: usize = 4;
/// Subscriptions take at most this part of all reads.
const OF_SUBSCRIPTIONS: usize = 2;

/// The reads that may run at once, of all logs of a store.
#[derive(Debug)]
pub(crate) struct Reads {
    calls: Semaphore,
    subscriptions: Semaphore,
    patience: Duration,
}

impl Reads {
    /// Those of a backend.
    pub(crate) fn new(readers: Readers) -> Self {
        let all = readers.at_once.clamp(1, Semaphore::MAX_PERMITS);
        let left = if all > 1 { (all / LEFT_BY_CALLS).max(1) } else { 0 };
        Self {
            calls: Semaphore::new(all - left),
            subscriptions: Semaphore::new((all / OF_SUBSCRIPTIONS).max(1)),
            patience: readers.patience,
        }
    }

    /// Waits until a call may read.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if other calls have all reads for too long.
    pub(super) async fn of_call(&self) -> Result<SemaphorePermit<'_>> {
        if let Ok(permit) = self.calls.try_acquire() {
            return Ok(permit);
        }
        let permit = tokio::time::timeout(self.patience, self.calls.acquire()).await;
        let permit = permit.map_err(|_| Error::unavailable("other calls have all readers"))?;
        Ok(permit.expect("the semaphore is never closed"))
    }

    /// Waits until a subscription may read. It keeps nobody waiting meanwhile.
    pub(super) async fn of_subscription(&self) -> SemaphorePermit<'_> {
        self.subscriptions.acquire().await.expect("the semaphore is never closed")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::FutureExt as _;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn reads(at_once: usize) -> Reads {
        Reads::new(Readers { at_once, patience: PATIENCE })
    }

    /// How many calls, and how many subscriptions, read at once while nobody of the other kind does.
    fn at_once(reads: &Reads) -> (usize, usize) {
        let calls: Vec<_> = std::iter::from_fn(|| reads.of_call().now_or_never()).collect();
        let subscriptions: Vec<_> = std::iter::from_fn(|| reads.of_subscription().now_or_never()).collect();
        (calls.len(), subscriptions.len())
    }

    #[tokio::test]
    async fn each_kind_leaves_some_to_the_other() {
        for (all, expected) in [(0, (1, 1)), (1, (1, 1)), (2, (1, 1)), (4, (3, 2)), (16, (12, 8))] {
            assert_eq!(at_once(&reads(all)), expected, "{all}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_other_calls_as_long_as_the_backend_says() {
        let reads = reads(1);
        let permit = reads.of_call().await.expect("nobody reads");
        let started = tokio::time::Instant::now();
        assert!(matches!(reads.of_call().await, Err(Error::Unavailable(_))));
        assert_eq!(started.elapsed(), PATIENCE);
        drop(permit);
        assert!(reads.of_call().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn subscriptions_wait_for_no_call() {
        let reads = reads(4);
        let _calls: Vec<_> = std::iter::from_fn(|| reads.of_call().now_or_never()).collect();
        assert!(reads.of_subscription().now_or_never().is_some());
    }
}
