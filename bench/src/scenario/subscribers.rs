//! Subscribers that take what comes and keep nothing: company for other loads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::load::Loaded;
use crate::measure::{Gauge, Measured};
use crate::wire::{Address, Connection, Events, pokes};

/// Subscribes once for each of `asked`, the last one first told to `ready`, and listens until `stop`.
///
/// A latency is the time from connecting to `: ready`; messages are pokes.
pub(crate) async fn listen(asked: Vec<(Address, String)>, watch: Arc<Watch>) -> anyhow::Result<Loaded> {
    let listen = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(drive(asked, watch))
    };
    tokio::task::spawn_blocking(listen).await.context("the subscribers panicked")?
}

/// What subscribers and whoever waits for them share.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Subscriptions that are ready.
    ready: AtomicU64,
    /// Pokes that came.
    pub(crate) pokes: AtomicU64,
    stop: AtomicBool,
    failed: AtomicBool,
}

/// How often somebody looks whether it is time.
const STEP: Duration = Duration::from_millis(10);

impl Watch {
    /// Waits until so many are ready; answers whether they are, rather than that one failed.
    pub(crate) async fn ready(&self, count: u64, gauge: &Gauge) -> bool {
        self.until(gauge, || self.ready.load(Ordering::Relaxed) >= count).await
    }

    /// Waits until so many pokes came, at most so long; answers whether they did.
    pub(crate) async fn poked(&self, count: u64, within: Duration, gauge: &Gauge) -> bool {
        let begin = Instant::now();
        let is_over = || self.pokes.load(Ordering::Relaxed) >= count || begin.elapsed() > within;
        self.until(gauge, is_over).await && self.pokes.load(Ordering::Relaxed) >= count
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

/// Whatever ends the subscribers before they are told to is seen by whoever waits for them.
struct Ended(Arc<Watch>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.failed.store(true, Ordering::Relaxed);
    }
}

async fn drive(asked: Vec<(Address, String)>, watch: Arc<Watch>) -> anyhow::Result<Loaded> {
    let _ended = Ended(Arc::clone(&watch));
    let begin = Instant::now();
    let (mut measured, mut listeners) = (Measured::default(), JoinSet::new());
    for (number, (address, query)) in (0..).zip(&asked) {
        let asked = Instant::now();
        let connection = Connection::open_from(address, number).await?;
        let mut events = Events::over(connection, address, query).await?;
        measured.answer(asked.elapsed(), begin.elapsed(), 0);
        watch.ready.fetch_add(1, Ordering::Relaxed);
        let watch = Arc::clone(&watch);
        listeners.spawn(async move {
            loop {
                let counted = events.next(|frames| {
                    let found = pokes(frames).count() as u64;
                    watch.pokes.fetch_add(found, Ordering::Relaxed);
                });
                if let Err(error) = counted.await {
                    return error;
                }
            }
        });
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
