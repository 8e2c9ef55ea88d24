//! How many reads of the storage run at once, for calls and for subscriptions.
//!
//! The storage takes reads in the order in which they come. Without a budget for each, a thousand subscriptions that
//! catch up would be before every call, and a thousand calls before every poke from history. So each kind waits for its
//! own, and the storage has a read of the other kind before it for a moment at most.
//!
//! Where a backend has several nodes, the reads of each node have bounds of their own: reads that wait for a node that
//! does not answer keep no place from the others.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::storage::Readers;

/// Calls leave this part of all reads to subscriptions, if there are several.
const LEFT_BY_CALLS: usize = 4;
/// Subscriptions take at most this part of all reads.
const OF_SUBSCRIPTIONS: usize = 2;

/// The reads that may run at once, of all logs of a store.
#[derive(Debug)]
pub(crate) struct Reads {
    readers: Readers,
    /// Those of the node that all logs are at, unless they say another one.
    home: Node,
    others: Mutex<HashMap<Arc<str>, Node>>,
}

/// The reads that may run at once at one node.
#[derive(Clone, Debug)]
struct Node {
    calls: Arc<Semaphore>,
    subscriptions: Arc<Semaphore>,
}

impl Node {
    fn new(readers: Readers) -> Self {
        let all = readers.at_once.clamp(1, Semaphore::MAX_PERMITS);
        let left = if all > 1 { (all / LEFT_BY_CALLS).max(1) } else { 0 };
        Self {
            calls: Arc::new(Semaphore::new(all - left)),
            subscriptions: Arc::new(Semaphore::new((all / OF_SUBSCRIPTIONS).max(1))),
        }
    }
}

impl Reads {
    /// Those of a backend.
    pub(crate) fn new(readers: Readers) -> Self {
        Self { readers, home: Node::new(readers), others: Mutex::default() }
    }

    fn at(&self, node: Option<Arc<str>>) -> Node {
        match node {
            None => self.home.clone(),
            Some(name) => self.others.lock().entry(name).or_insert_with(|| Node::new(self.readers)).clone(),
        }
    }

    /// Waits until a call may read at this node.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if other calls have all reads for too long.
    pub(super) async fn of_call(&self, node: Option<Arc<str>>) -> Result<OwnedSemaphorePermit> {
        let calls = self.at(node).calls;
        if let Ok(permit) = Arc::clone(&calls).try_acquire_owned() {
            return Ok(permit);
        }
        let permit = tokio::time::timeout(self.readers.patience, calls.acquire_owned()).await;
        let permit = permit.map_err(|_| Error::unavailable("other calls have all readers"))?;
        Ok(permit.expect("the semaphore is never closed"))
    }

    /// Waits until a subscription may read at this node. It keeps nobody waiting meanwhile.
    pub(super) async fn of_subscription(&self, node: Option<Arc<str>>) -> OwnedSemaphorePermit {
        self.at(node).subscriptions.acquire_owned().await.expect("the semaphore is never closed")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::FutureExt as _;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn reads(at_once: usize) -> Reads {
        Reads::new(Readers { at_once, patience: PATIENCE })
    }

    /// How many calls, and how many subscriptions, read at once while nobody of the other kind does.
    fn at_once(reads: &Reads) -> (usize, usize) {
        let calls: Vec<_> = std::iter::from_fn(|| reads.of_call(None).now_or_never()).collect();
        let subscriptions: Vec<_> = std::iter::from_fn(|| reads.of_subscription(None).now_or_never()).collect();
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
        let permit = reads.of_call(None).await.expect("nobody reads");
        let started = tokio::time::Instant::now();
        assert!(matches!(reads.of_call(None).await, Err(Error::Unavailable(_))));
        assert_eq!(started.elapsed(), PATIENCE);
        drop(permit);
        assert!(reads.of_call(None).await.is_ok());
    }

    #[tokio::test]
    async fn the_reads_of_one_node_wait_for_no_other() {
        let reads = reads(1);
        let _home = reads.of_call(None).now_or_never().expect("nobody reads there");
        let _first = reads.of_call(Some("a".into())).now_or_never().expect("nobody reads there");
        assert!(reads.of_call(Some("b".into())).now_or_never().is_some());
        assert!(reads.of_call(Some("a".into())).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn subscriptions_wait_for_no_call() {
        let reads = reads(4);
        let _calls: Vec<_> = std::iter::from_fn(|| reads.of_call(None).now_or_never()).collect();
        assert!(reads.of_subscription(None).now_or_never().is_some());
    }
}
