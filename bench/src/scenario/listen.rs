//! Subscribers that count pokes beside another load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::load::{Loaded, on_own_thread};
use crate::measure::{Gauge, Measured};
use crate::wire::{Address, Connection, Events, pokes};

/// The state that subscribers and the load beside them share.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Subscriptions that are ready.
    ready: AtomicU64,
    /// Pokes that came.
    pokes: AtomicU64,
    stop: AtomicBool,
    failed: AtomicBool,
}

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(10);

impl Watch {
    /// Waits until `count` subscriptions are ready; returns false if one failed before.
    pub(crate) async fn ready(&self, count: u64, gauge: &Gauge) -> bool {
        self.until(gauge, || self.ready.load(Ordering::Relaxed) >= count).await
    }

    /// Waits until `count` pokes came, at most this long.
    pub(crate) async fn poked(&self, count: u64, within: Duration, gauge: &Gauge) {
        let begin = Instant::now();
        self.until(gauge, || self.pokes.load(Ordering::Relaxed) >= count || begin.elapsed() > within).await;
    }

    /// Ends the subscriptions.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    async fn until(&self, gauge: &Gauge, is_over: impl Fn() -> bool) -> bool {
        while !is_over() {
            if gauge.is_stopped() || self.failed.load(Ordering::Relaxed) {
                return false;
            }
            tokio::time::sleep(STEP).await;
        }
        true
    }
}

/// Opens a subscription for each query, and listens until the watch says stop, on a thread of its own.
///
/// A latency of the result is the time from connecting to `: ready`; its messages are pokes.
pub(crate) async fn listen(asked: Vec<(Address, String)>, watch: Arc<Watch>) -> anyhow::Result<Loaded> {
    on_own_thread(move || async move {
        let listened = drive(asked, &watch).await;
        // Otherwise the load beside them would wait for ever.
        watch.failed.store(true, Ordering::Relaxed);
        listened
    })
    .await
}

async fn drive(asked: Vec<(Address, String)>, watch: &Arc<Watch>) -> anyhow::Result<Loaded> {
    let (begin, mut measured, mut listeners) = (Instant::now(), Measured::default(), JoinSet::new());
    for (number, (address, query)) in (0..).zip(&asked) {
        let asked = Instant::now();
        let connection = Connection::open_from(address, number).await?;
        let events = Events::over(connection, address, query).await?;
        measured.answer(asked.elapsed(), begin.elapsed(), 0);
        watch.ready.fetch_add(1, Ordering::Relaxed);
        listeners.spawn(count(events, Arc::clone(watch)));
    }
    while !watch.stop.load(Ordering::Relaxed) {
        tokio::select! {
            Some(error) = listeners.join_next() => return Err(error.context("a subscriber panicked")?),
            () = tokio::time::sleep(STEP) => {}
        }
    }
    measured.messages = watch.pokes.load(Ordering::Relaxed);
    Ok(Loaded { measured, elapsed: begin.elapsed(), ..Loaded::default() })
}

/// Counts pokes until the subscription ends; returns why it did.
async fn count(mut events: Events, watch: Arc<Watch>) -> anyhow::Error {
    loop {
        let counted = events.next(|frames| {
            watch.pokes.fetch_add(pokes(frames).count() as u64, Ordering::Relaxed);
        });
        if let Err(error) = counted.await {
            return error;
        }
    }
}
