//! A small write of the store's own every few seconds, so that it is known whether writes work before a client needs
//! one.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::degraded::Degraded;
use crate::error::Chain;
use crate::fault::Fault;
use crate::storage::Backend;

/// The pause between two tests.
const EVERY: Duration = Duration::from_secs(10);
/// The pause after one that failed.
const AFTER_A_FAILURE: Duration = Duration::from_secs(2);
/// For how long the result of a test counts.
const HOLDS_FOR: Duration = Duration::from_secs(30);

/// The results of the tests.
#[derive(Debug)]
pub(crate) struct SelfTest {
    fault: Fault,
    /// When the last test ended, however it did.
    ended: Mutex<Instant>,
}

impl SelfTest {
    pub(crate) fn new() -> Self {
        Self { fault: Fault::of("the test write to the store"), ended: Mutex::new(Instant::now()) }
    }

    /// Tests until it is told to stop, or the backend is gone. A test that hangs is not joined by a second one.
    pub(crate) async fn run(self: Arc<Self>, backend: Weak<dyn Backend>, stop: CancellationToken) {
        loop {
            let Some(backend) = backend.upgrade() else { return };
            let Some(outcome) = stop.run_until_cancelled(backend.self_test()).await else { return };
            drop(backend);
            *self.ended.lock() = Instant::now();
            let pause = match outcome {
                Ok(()) => {
                    self.fault.mended(None);
                    EVERY
                }
                Err(error) => {
                    self.fault.failed(None, &Chain(&error));
                    AFTER_A_FAILURE
                }
            };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Why writes are likely to be refused, if so.
    pub(crate) fn degraded(&self) -> Option<Degraded> {
        if self.fault.is_there() {
            return Some(Degraded::new("SELF_TEST_FAILED", "the store's own test write fails: writes are refused"));
        }
        let is_overdue = self.ended.lock().elapsed() >= HOLDS_FOR;
        is_overdue.then(|| Degraded::new("SELF_TEST_OVERDUE", "the store's own test write has not ended for 30 s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_does_not_end_is_told_after_a_while() {
        let test = SelfTest::new();
        assert_eq!(test.degraded(), None);
        *test.ended.lock() = Instant::now().checked_sub(HOLDS_FOR).expect("the machine runs for longer");
        assert_eq!(test.degraded().map(|degraded| degraded.code), Some("SELF_TEST_OVERDUE"));
    }
}
