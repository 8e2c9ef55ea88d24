//! The end of subscriptions when the server stops: one after the other, and each with a pause of its own before its client
//! comes back. Otherwise all clients would connect to the next server at once.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The time between two subscriptions that end, on average.
const EACH: Duration = Duration::from_millis(10);
/// All of them end within this time.
const MOST: Duration = Duration::from_secs(5);
/// They have a part of the drain time, so that the last of them still ends cleanly.
const PART_OF_DRAIN: u32 = 2;

/// The subscriptions of a server, and the time over which they end.
pub(crate) struct Departures {
    stopping: CancellationToken,
    most: Duration,
    open: AtomicUsize,
    spread: OnceLock<Duration>,
}

impl Departures {
    /// Those of a server that begins to stop when `stopping` is cancelled, and has `drain` from then on.
    pub(crate) fn new(stopping: CancellationToken, drain: Duration) -> Self {
        Self { stopping, most: MOST.min(drain / PART_OF_DRAIN), open: AtomicUsize::new(0), spread: OnceLock::new() }
    }

    /// Counts a subscription, until the result is dropped.
    pub(crate) fn join(self: &Arc<Self>) -> Departure {
        self.open.fetch_add(1, Relaxed);
        Departure(Arc::clone(self))
    }

    /// How long it takes until all have ended: the longer the more there are.
    fn spread(&self) -> Duration {
        *self.spread.get_or_init(|| {
            let open = u32::try_from(self.open.load(Relaxed)).unwrap_or(u32::MAX);
            EACH.saturating_mul(open).min(self.most)
        })
    }
}

/// The end of one subscription.
pub(crate) struct Departure(Arc<Departures>);

impl Departure {
    /// Waits until the subscription is to end because the server stops.
    pub(crate) async fn is_due(&self) {
        self.0.stopping.cancelled().await;
        tokio::time::sleep(self.0.spread().mul_f64(rand::random())).await;
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;

    /// When this number of subscriptions end, after the server has begun to stop.
    async fn ends(count: usize, drain: Duration) -> Vec<Duration> {
        let stopping = CancellationToken::new();
        let departures = Arc::new(Departures::new(stopping.clone(), drain));
        let mut all = JoinSet::new();
        for _ in 0..count {
            let departure = departures.join();
            all.spawn(async move {
                departure.is_due().await;
                Instant::now()
            });
        }
        tokio::task::yield_now().await;
        let stopped = Instant::now();
        stopping.cancel();
        let mut ends: Vec<_> = all.join_all().await.into_iter().map(|end| end - stopped).collect();
        ends.sort_unstable();
        ends
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_subscription_ends_at_once() {
        assert!(ends(1, Duration::from_secs(10)).await[0] <= EACH + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_spread_over_some_seconds() {
        let ends = ends(1_000, Duration::from_secs(60)).await;
        assert!(ends[999] <= MOST + Duration::from_millis(1), "{:?}", ends[999]);
        for tenth in 1..=10 {
            let until = MOST * tenth / 10;
            let before = ends.iter().filter(|end| **end <= until).count();
            assert!(before.abs_diff(tenth as usize * 100) < 100, "{before} end before {until:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_end_well_before_the_drain_time_is_over() {
        assert!(ends(1_000, Duration::from_secs(1)).await[999] <= Duration::from_millis(501));
        assert!(ends(1_000, Duration::ZERO).await[999] <= Duration::from_millis(1));
    }
}
