//! The moments at which requests of a load with a rate are due.
//!
//! A thread of its own waits for them: the runtime's timer is a millisecond coarse, and that would count as latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// An endless sequence of moments at a rate.
#[derive(Debug)]
pub(crate) struct Pace {
    start: Instant,
    rate: f64,
    ready: Arc<Semaphore>,
    taken: AtomicU64,
}

impl Pace {
    /// Moments from `start` on, `rate` a second.
    pub(crate) fn new(start: Instant, rate: f64) -> Self {
        let ready = Arc::new(Semaphore::new(0));
        let waiting = Arc::downgrade(&ready);
        std::thread::spawn(move || {
            for number in 0.. {
                std::thread::sleep(due(start, number, rate).saturating_duration_since(Instant::now()));
                // Once the pace is dropped, the thread ends with the next moment.
                let Some(ready) = waiting.upgrade() else { return };
                ready.add_permits(1);
            }
        });
        Self { start, rate, ready, taken: AtomicU64::new(0) }
    }

    /// Waits for the next moment and takes it.
    pub(crate) async fn next(&self) -> Instant {
        self.ready.acquire().await.expect("nobody closes it").forget();
        due(self.start, self.taken.fetch_add(1, Ordering::Relaxed), self.rate)
    }
}

/// The moment `n` of `rate` a second after `start`.
fn due(start: Instant, n: u64, rate: f64) -> Instant {
    start + Duration::from_secs_f64(n as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_their_rate() {
        let start = Instant::now();
        assert_eq!(due(start, 50, 100.0) - start, Duration::from_millis(500));
    }

    #[tokio::test]
    async fn moments_are_given_in_order_and_never_before_they_are_due() {
        let start = Instant::now();
        let pace = Pace::new(start, 1_000.0);
        for number in 0..5 {
            let moment = pace.next().await;
            assert_eq!(moment, start + Duration::from_millis(number));
            assert!(Instant::now() >= moment);
        }
    }
}
