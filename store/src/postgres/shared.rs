//! The parts that all logs of a server share: connections, notifications, background work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hints::Notifier;
use super::lookups::Lookups;
use super::node::Node;
use super::placement::Placement;
use super::places::Places;
use super::pool::Pool;
use super::settings::Settings;
use super::upkeep;
use crate::error::Chain;
use crate::model::Incarnation;

/// How often idle connections are looked for.
const SHRINK_INTERVAL: Duration = Duration::from_secs(10);
/// Connections that look up tokens.
const DOOR_CONNECTIONS: usize = 2;
/// Connections that make, change and drop the schemas of logs: as many are changed at once.
const SCHEMA_CONNECTIONS: usize = 3;

/// The parts that all logs of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    /// The nodes, and which log is where.
    pub(super) places: Arc<Places>,
    /// For calls to the registry with a valid token; reads of the logs at home use them as well.
    pub(super) readers: Arc<Pool>,
    /// For looking up tokens, so that clients without a valid one do not hold up reads.
    pub(super) doors: Arc<Pool>,
    pub(super) lookups: Lookups,
    /// For probes.
    pub(super) probes: Arc<Pool>,
    /// For making, changing and dropping the schemas of logs: whoever waits there for a lock holds up nothing else.
    pub(super) schemas: Arc<Pool>,
    pub(super) notifier: Arc<Notifier>,
    /// Whether PostgreSQL was found to take no writes when it was asked last.
    pub(super) read_only: AtomicBool,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Shared {
    pub(super) async fn new(settings: Arc<Settings>, placement: Placement) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let places = Places::new(placement, Arc::clone(&settings), tasks.clone(), stop.clone());
        let readers = Arc::clone(&places.home().pools().await.readers);
        let doors = Arc::new(Pool::new(&settings, 0, DOOR_CONNECTIONS).borrowing(&readers));
        Self {
            places: Arc::new(places),
            lookups: Lookups::new(Arc::clone(&doors), &tasks, stop.clone()),
            doors,
            probes: Arc::new(Pool::new(&settings, 0, 1).borrowing(&readers)),
            readers,
            schemas: Arc::new(Pool::new(&settings, 0, SCHEMA_CONNECTIONS)),
            notifier: Arc::new(Notifier::new()),
            read_only: AtomicBool::new(false),
            stop,
            tasks,
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

    /// Closes idle connections until the end.
    pub(super) async fn shrink(self: Arc<Self>) {
        let mut ticks = interval(SHRINK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.small_pools().for_each(Pool::shrink);
            self.places.shrink();
        }
    }

    /// Folds the counts of a log at its node, in the background.
    pub(super) fn fold(&self, log: Incarnation, node: Arc<Node>) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let work = async {
                let pools = node.pools().await;
                let Ok(_permit) = pools.folds.acquire().await else { return };
                // A connection for reads, so that an append never waits for this.
                let outcome = match pools.readers.get().await {
                    Ok(mut connection) => upkeep::run(&mut connection, log).await,
                    Err(failure) => Err(failure),
                };
                if let Err(error) = outcome {
                    tracing::debug!(error = %Chain(&error), log = log.0, "cannot fold counts now");
                }
            };
            stop.run_until_cancelled(work).await
        });
    }

    /// Ends background work and closes the connections.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.small_pools().for_each(Pool::close);
        self.places.close();
    }

    /// The pools that belong to no node.
    fn small_pools(&self) -> impl Iterator<Item = &Pool> {
        [&*self.doors, &*self.probes, &*self.schemas].into_iter()
    }
}
