//! A test of the store's own every few seconds, so that it is known whether writes and pokes work before a client needs
//! them: a small write to the registry, and the append and the poke of [`super::trial`].

use std::sync::Weak;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::EventStore;
use super::trial::Trial;
use crate::degraded::Degraded;
use crate::error::{Chain, Error, Result};
use crate::fault::Fault;
use crate::figures::SelfTests;

/// The pause between two tests.
const EVERY: Duration = Duration::from_secs(10);
/// The pause after one that failed.
const AFTER_A_FAILURE: Duration = Duration::from_secs(2);
/// A test that has not ended by then has failed.
const WITHIN: Duration = Duration::from_secs(5);
/// For how long the result of a test counts.
const HOLDS_FOR: Duration = Duration::from_secs(30);
/// Codes by which the backend says already that nothing is written. An append would say it once more.
const TOLD_ALREADY: [&str; 3] = ["READ_ONLY", "DISK_LOW", "DIRECTORY_LOST"];

/// The results of the tests.
#[derive(Debug)]
pub(super) struct SelfTest {
    fault: Fault,
    /// When the last test ended, however it did.
    ended: Mutex<Instant>,
    pub(super) trial: Trial,
    pub(super) figures: SelfTests,
}

impl SelfTest {
    pub(super) fn new() -> Self {
        Self {
            fault: Fault::of("the server's own test of a write and its poke"),
            ended: Mutex::new(Instant::now()),
            trial: Trial::default(),
            figures: SelfTests::default(),
        }
    }

    /// Why writes are likely to be refused, if so.
    pub(super) fn degraded(&self) -> Option<Degraded> {
        if self.fault.is_there() {
            let message =
                "the server's own test of a write and its poke fails: writes are refused, or pokes do not come";
            return Some(Degraded::new("SELF_TEST_FAILED", message));
        }
        let is_overdue = self.ended.lock().elapsed() >= HOLDS_FOR;
        is_overdue.then(|| Degraded::new("SELF_TEST_OVERDUE", "the server's own test has not ended for 30 s"))
    }

    /// Notes how a test ended, and says how long it is until the next.
    fn note(&self, outcome: Result<()>) -> Duration {
        *self.ended.lock() = Instant::now();
        match outcome {
            Ok(()) => {
                self.figures.passed.increment();
                self.fault.mended(None);
                EVERY
            }
            Err(error) => {
                self.figures.failed.increment();
                match error {
                    Error::Unavailable(_) => self.fault.failed_with_the_database(None, &Chain(&error)),
                    _ => self.fault.failed(None, &Chain(&error)),
                }
                AFTER_A_FAILURE
            }
        }
    }
}

/// Tests until it is told to stop, or the store is gone.
pub(super) async fn run(store: Weak<EventStore>, stop: CancellationToken) {
    while let Some(store) = store.upgrade() {
        let pause = if may_test(&store) {
            let Some(outcome) = stop.run_until_cancelled(test_in_time(&store)).await else { return };
            store.self_test.note(outcome)
        } else {
            *store.self_test.ended.lock() = Instant::now();
            store.self_test.fault.mended(None);
            AFTER_A_FAILURE
        };
        drop(store);
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// Whether the store may write for itself.
fn may_test(store: &EventStore) -> bool {
    store.settings.self_test.as_ref().is_none_or(|may_append| may_append.load(Relaxed))
}

/// One test. One that does not end in time is told as failed at once, and waited for: a second one does not join it.
async fn test_in_time(store: &EventStore) -> Result<()> {
    let mut test = std::pin::pin!(test(store));
    if let Ok(outcome) = tokio::time::timeout(WITHIN, &mut test).await {
        return outcome;
    }
    let late = Error::unavailable("it has not ended within 5 s");
    store.self_test.fault.failed(None, &Chain(&late));
    test.await?;
    Err(late)
}

async fn test(store: &EventStore) -> Result<()> {
    store.backend.self_test().await?;
    let is_told = store.backend.degraded().iter().any(|reason| TOLD_ALREADY.contains(&reason.code));
    if store.settings.self_test.is_none() || is_told {
        return Ok(());
    }
    let took = store.self_test.trial.run(store).await?;
    store.self_test.figures.duration.observe_duration(took);
    Ok(())
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
