//! Subscribers that note pokes beside another load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::load::{Loaded, on_own_thread};
use crate::measure::{Gauge, Measured};
use crate::wire::{Address, Connection, Events, pokes};

/// The state that subscribers and the load beside them share.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The pokes of each subscription that is ready: their global positions, and when they came. One list for all would
    /// be copied as a whole when it grows, and pokes would wait for that.
    heard: Mutex<Vec<Vec<(i64, Instant)>>>,
    /// How many they are.
    pokes: AtomicU64,
    stop: AtomicBool,
    failed: AtomicBool,
}

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(10);

impl Watch {
    /// Waits until `count` subscriptions are ready, or one failed.
    pub(super) async fn ready(&self, count: u64, gauge: &Gauge) {
        self.until(gauge, || self.heard().len() as u64 >= count).await;
    }

    /// Waits until `count` pokes came, at most this long.
    pub(super) async fn poked(&self, count: u64, within: Duration, gauge: &Gauge) {
        let begin = Instant::now();
        self.until(gauge, || self.pokes.load(Ordering::Relaxed) >= count || begin.elapsed() > within).await;
    }

    /// The pokes that came to each subscription.
    pub(super) fn heard(&self) -> MutexGuard<'_, Vec<Vec<(i64, Instant)>>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the subscriptions.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    async fn until(&self, gauge: &Gauge, is_over: impl Fn() -> bool) {
        while !is_over() && !gauge.is_stopped() && !self.failed.load(Ordering::Relaxed) {
            tokio::time::sleep(STEP).await;
        }
    }
}

/// Runs a load beside a subscription for each query: it begins once all are ready, and they end with it.
///
/// In the first of the results, a latency is the time from connecting to `: ready`, and messages are pokes.
pub(super) async fn beside<T>(
    asked: Vec<(Address, String)>,
    watch: Arc<Watch>,
    gauge: &Gauge,
    load: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(Loaded, T)> {
    let count = asked.len() as u64;
    let listening = Arc::clone(&watch);
    let loads = async {
        watch.ready(count, gauge).await;
        let loaded = load.await;
        watch.stop();
        loaded
    };
    tokio::try_join!(on_own_thread(move || async move { listen(asked, &listening).await }), loads)
}

/// Opens a subscription for each query, and listens until the watch says stop.
pub(super) async fn listen(asked: Vec<(Address, String)>, watch: &Arc<Watch>) -> anyhow::Result<Loaded> {
    let listened = drive(asked, watch).await;
    // Otherwise the load beside them would wait for ever.
    watch.failed.store(true, Ordering::Relaxed);
    listened
}

async fn drive(asked: Vec<(Address, String)>, watch: &Arc<Watch>) -> anyhow::Result<Loaded> {
    let (begin, mut measured, mut listeners) = (Instant::now(), Measured::default(), JoinSet::new());
    for (number, (address, query)) in asked.iter().enumerate() {
        let asked = Instant::now();
        let connection = Connection::open_from(address, number as u64).await?;
        let events = Events::over(connection, address, query).await?;
        measured.answer(asked.elapsed(), begin.elapsed(), 0);
        watch.heard().push(Vec::new());
        listeners.spawn(note(events, number, Arc::clone(watch)));
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

/// Notes pokes until the subscription ends; returns why it did.
async fn note(mut events: Events, by: usize, watch: Arc<Watch>) -> anyhow::Error {
    loop {
        let noted = events.next(|frames| {
            let (now, mut heard) = (Instant::now(), watch.heard());
            let before = heard[by].len();
            heard[by].extend(pokes(frames).map(|position| (position, now)));
            watch.pokes.fetch_add((heard[by].len() - before) as u64, Ordering::Relaxed);
        });
        if let Err(error) = noted.await {
            return error;
        }
    }
}
