//! The parts that all logs of a server share: connections, notifications, background work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hints::Notifier;
use super::pool::Pool;
use super::settings::Settings;
use super::upkeep;
use crate::error::Chain;
use crate::model::Incarnation;

/// How often idle connections are looked for.
const SHRINK_INTERVAL: Duration = Duration::from_secs(10);
/// Connections that look up tokens.
const DOOR_CONNECTIONS: usize = 2;
/// Logs whose counts are folded at the same time.
const FOLDS: usize = 2;

/// The parts that all logs of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    /// For reads, and for calls to the registry with a valid token.
    pub(super) readers: Arc<Pool>,
    /// For looking up tokens, so that clients without a valid one do not hold up reads.
    pub(super) doors: Arc<Pool>,
    /// For probes.
    pub(super) probes: Arc<Pool>,
    /// For appends, and for the reads that planning an append needs.
    pub(super) sequencers: Arc<Pool>,
    pub(super) notifier: Arc<Notifier>,
    /// Bounds the connections that logs hold for their turns.
    pub(super) turns: Arc<Semaphore>,
    /// Whether PostgreSQL was found to take no writes when it was asked last.
    pub(super) read_only: AtomicBool,
    folds: Semaphore,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Shared {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            readers: Arc::new(Pool::new(&settings, settings.pool_min, settings.pool_max)),
            doors: Arc::new(Pool::new(&settings, 0, DOOR_CONNECTIONS)),
            probes: Arc::new(Pool::new(&settings, 0, 1)),
            sequencers: Arc::new(Pool::new(&settings, 1, settings.sequencer_connections)),
            notifier: Arc::new(Notifier::new()),
            turns: Arc::new(Semaphore::new(settings.sequencer_connections / 2)),
            read_only: AtomicBool::new(false),
            folds: Semaphore::new(FOLDS),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            settings,
        }
    }

    /// Notes whether PostgreSQL takes writes, and logs it if that has changed.
    pub(super) fn found_read_only(&self, is_read_only: bool) {
        match (self.read_only.swap(is_read_only, Ordering::Relaxed), is_read_only) {
            (false, true) => tracing::error!("PostgreSQL is read-only: writes are refused, reads are served"),
            (true, false) => tracing::info!("PostgreSQL takes writes again"),
            _ => {}
        }
    }

    fn pools(&self) -> [&Pool; 4] {
        [&self.readers, &self.doors, &self.probes, &self.sequencers]
    }

    /// Closes idle connections until the end.
    pub(super) async fn shrink(self: Arc<Self>) {
        let mut ticks = interval(SHRINK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.pools().iter().for_each(|pool| pool.shrink());
        }
    }

    /// Folds the counts of a log in the background.
    pub(super) fn fold(this: &Arc<Self>, log: Incarnation) {
        let shared = Arc::clone(this);
        this.tasks.spawn(async move {
            let work = async {
                let Ok(_permit) = shared.folds.acquire().await else { return };
                // A connection for reads, so that an append never waits for this.
                let outcome = match shared.readers.get().await {
                    Ok(mut connection) => upkeep::run(&mut connection, log).await,
                    Err(failure) => Err(failure),
                };
                if let Err(error) = outcome {
                    tracing::debug!(error = %Chain(&error), log = log.0, "cannot fold counts now");
                }
            };
            shared.stop.run_until_cancelled(work).await
        });
    }

    /// Ends background work and closes the connections.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.pools().iter().for_each(|pool| pool.close());
    }
}
