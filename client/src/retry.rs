//! How long to wait between attempts, and when to give up.
//!
//! Exponential backoff with full jitter: the n-th wait is uniform in `0..=min(longest, first × 2ⁿ)`. Source:
//! "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Many clients that lost the same server therefore
//! reconnect at different times.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use crate::error::{Error, Result};

/// When an attempt is repeated, and for how long. A wait that the server asks for, by `Retry-After`, takes precedence over
/// the waits of the policy, up to [`Self::LONGEST_ASKED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Upper bound of the first wait. Default 50 ms.
    pub first: Duration,
    /// Upper bound of any wait. Default 5 s.
    pub longest: Duration,
    /// No attempt begins later than this after the first one. Default 30 s. Zero means no retries, and [`Duration::MAX`] no
    /// limit.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            longest: Duration::from_secs(5),
            give_up_after: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// The longest wait that a server may ask for: 5 minutes. One that asks for more is asked again after this time, so that a
    /// wrong `Retry-After` sends nobody away for years.
    pub const LONGEST_ASKED: Duration = Duration::from_secs(300);

    /// No retries.
    pub const fn none() -> Self {
        Self { first: Duration::ZERO, longest: Duration::ZERO, give_up_after: Duration::ZERO }
    }

    /// The default waits, without a limit.
    pub fn forever() -> Self {
        Self { give_up_after: Duration::MAX, ..Self::default() }
    }

    /// The same waits, with this limit.
    #[must_use]
    pub const fn give_up_after(mut self, limit: Duration) -> Self {
        self.give_up_after = limit;
        self
    }

    /// Starts the clock of a sequence of attempts.
    pub fn start(&self) -> Backoff {
        Backoff { policy: *self, started: Instant::now(), failures: 0 }
    }

    /// The upper bound of the wait after `failures` failures, the first being number 0.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

/// The waits of one sequence of attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    started: Instant,
    failures: u32,
}

impl Backoff {
    /// How long to wait now, or `None` if it is time to give up. `at_least` is the wait that the server asked for,
    /// which counts up to [`RetryPolicy::LONGEST_ASKED`]. A random wait up to its length is added to it: a server that asked a
    /// crowd to come back gets it spread over a time.
    pub fn next_wait(&mut self, at_least: Option<Duration>) -> Option<Duration> {
        let at_least = at_least.unwrap_or_default().min(RetryPolicy::LONGEST_ASKED);
        let ceiling = self.policy.ceiling(self.failures).max(at_least.min(self.policy.longest));
        self.failures = self.failures.saturating_add(1);
        let jitter = ceiling.mul_f64(rand::rng().random_range(0.0..=1.0));
        let wait = at_least.saturating_add(jitter);
        let due = self.started.elapsed().saturating_add(wait);
        let limit = self.policy.give_up_after;
        (limit == Duration::MAX || due < limit).then_some(wait)
    }

    /// How many attempts have failed so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Begins again after a success: the next failure counts as the first.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.started = Instant::now();
    }
}

/// Runs `attempt` again while it fails with a version conflict, for as long as `policy` allows.
///
/// `attempt` loads, decides and appends. It must load again each time.
///
/// # Errors
/// Any other error of `attempt`, or the last conflict.
pub async fn with_retry<T, E, F, Fut>(policy: RetryPolicy, mut attempt: F) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: AsRef<Error>,
{
    let mut backoff = policy.start();
    loop {
        match attempt().await {
            Err(error) if error.as_ref().is_version_conflict() => match backoff.next_wait(None) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            },
            result => return result,
        }
    }
}

impl AsRef<Error> for Error {
    fn as_ref(&self) -> &Error {
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_is_within_its_bounds(
            first_ms in 0u64..2000,
            longest_ms in 0u64..10_000,
            failures in 0u32..200,
            asked_ms in 0u64..20_000,
        ) {
            let policy = RetryPolicy {
                first: Duration::from_millis(first_ms),
                longest: Duration::from_millis(longest_ms),
                give_up_after: Duration::MAX,
            };
            let mut backoff = Backoff { policy, started: Instant::now(), failures };
            let asked = Duration::from_millis(asked_ms);
            let wait = backoff.next_wait(Some(asked)).expect("never gives up");
            prop_assert!(wait >= asked);
            let ceiling = policy.ceiling(failures).max(asked.min(policy.longest));
            prop_assert!(wait <= asked + ceiling + Duration::from_nanos(1));
            prop_assert!(policy.ceiling(failures) <= policy.longest);
            prop_assert!(policy.ceiling(failures) <= policy.ceiling(failures + 1));
        }
    }

    #[test]
    fn the_ceiling_doubles_up_to_the_longest() {
        let policy = RetryPolicy::default();
        let ceilings: Vec<_> = (0..9).map(|failures| policy.ceiling(failures).as_millis()).collect();
        assert_eq!(ceilings, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    /// Of a thousand clients that lost their server at once, or were sent away by it, no tenth of the time sees a fifth.
    #[test]
    fn many_clients_come_back_spread_out() {
        for (failures, asked) in [(0, None), (3, None), (6, None), (9, None), (0, Some(Duration::from_secs(1)))] {
            let ceiling = asked.unwrap_or_else(|| RetryPolicy::forever().ceiling(failures));
            let mut tenths = [0; 10];
            for _ in 0..1000 {
                let mut backoff = Backoff { failures, ..RetryPolicy::forever().start() };
                let wait = backoff.next_wait(asked).expect("never gives up");
                let tenth = (wait - asked.unwrap_or_default()).as_nanos() * 10 / (ceiling.as_nanos() + 1);
                tenths[usize::try_from(tenth).expect("one of ten")] += 1;
            }
            assert!(tenths.iter().all(|&tenth| tenth < 200), "after {failures} failures, asked {asked:?}: {tenths:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_when_the_next_attempt_would_be_too_late() {
        let mut backoff = RetryPolicy::default().give_up_after(Duration::from_secs(1)).start();
        assert!(backoff.next_wait(Some(Duration::from_secs(2))).is_none());
        assert!(RetryPolicy::none().start().next_wait(None).is_none());
    }

    #[test]
    fn a_server_sends_nobody_away_for_years() {
        for asked in [RetryPolicy::LONGEST_ASKED, Duration::from_secs(9_999_999_999), Duration::MAX] {
            let wait = RetryPolicy::forever().start().next_wait(Some(asked)).expect("never gives up");
            let longest = RetryPolicy::LONGEST_ASKED + RetryPolicy::default().longest;
            assert!((RetryPolicy::LONGEST_ASKED..=longest).contains(&wait), "asked {asked:?}: {wait:?}");
            assert_eq!(RetryPolicy::default().start().next_wait(Some(asked)), None, "asked {asked:?}");
        }
    }

    #[test]
    fn without_a_limit_no_wait_is_too_long() {
        let policy = RetryPolicy { first: Duration::MAX, longest: Duration::MAX / 2, give_up_after: Duration::MAX };
        assert!(policy.start().next_wait(None).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn only_conflicts_are_retried() {
        let mut attempts = 0;
        let result: Result<(), Error> = with_retry(RetryPolicy::default(), || {
            attempts += 1;
            let error = if attempts < 4 {
                Error::from_reply(409, None, br#"{"error":{"code":"STREAM_VERSION_CONFLICT"}}"#)
            } else {
                Error::Closed
            };
            async move { Err(error) }
        })
        .await;
        assert!(matches!(result, Err(Error::Closed)));
        assert_eq!(attempts, 4);
    }
}
