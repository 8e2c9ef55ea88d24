//! Whether the database is lost. The log has one line when it is found lost, and one when it is back. What follows from
//! it is counted meanwhile, and not told again and again.

use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use eventodb_store::{Chain, EventStore, database_is_lost};
use tokio::sync::Notify;

/// How often the database is pinged.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The shortest pause between two pings. Requests that fail although the database answers, as on a full disk, ask for one all
/// the time.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the database has to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an outage that lasts is told again.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Whether the database is lost.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    is_lost: AtomicBool,
    is_suspected: Notify,
}

/// An outage that lasts.
struct Lost {
    since: Instant,
    told: Instant,
    error: String,
    /// Requests that had failed when the database was last seen.
    failed: u64,
}

impl Outage {
    /// Whether the log has told that the database is lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Relaxed)
    }

    /// A request found the database away: it is pinged at once.
    pub(crate) fn suspect(&self) {
        self.is_suspected.notify_one();
    }

    /// Pings the database until the future is dropped. `failed` tells how many requests have failed until now.
    pub(crate) async fn watch(&self, store: &EventStore, failed: impl Fn() -> u64) {
        let mut lost: Option<Lost> = None;
        let mut failed_before = failed();
        loop {
            tokio::time::sleep(PAUSE).await;
            let _ = tokio::time::timeout(LOOK_EVERY, self.is_suspected.notified()).await;
            match (problem(store).await, &mut lost) {
                (None, None) => failed_before = failed(),
                (None, Some(outage)) => {
                    outage.tell_its_end(failed());
                    self.set(false);
                    (lost, failed_before) = (None, failed());
                }
                (Some(error), None) => {
                    tracing::error!(error, "the database is lost");
                    self.set(true);
                    let now = Instant::now();
                    lost = Some(Lost { since: now, told: now, error, failed: failed_before });
                }
                (Some(error), Some(lost)) if lost.told.elapsed() >= TELL_EVERY => lost.tell_again(error, failed()),
                (Some(_), Some(_)) => {}
            }
        }
    }

    fn set(&self, is_lost: bool) {
        self.is_lost.store(is_lost, Relaxed);
        database_is_lost(is_lost);
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        if self.is_lost() {
            database_is_lost(false);
        }
    }
}

impl Lost {
    fn tell_its_end(&self, failed: u64) {
        let (seconds, failed) = (self.since.elapsed().as_secs(), failed.saturating_sub(self.failed));
        tracing::info!(seconds, failed, "the database is back");
    }

    fn tell_again(&mut self, error: String, failed: u64) {
        let (seconds, failed) = (self.since.elapsed().as_secs(), failed.saturating_sub(self.failed));
        let news = (error != self.error).then_some(&*error);
        tracing::error!(error = news, seconds, failed, "the database is still lost");
        (self.told, self.error) = (Instant::now(), error);
    }
}

/// Why the database does not answer, if it does not.
async fn problem(store: &EventStore) -> Option<String> {
    match tokio::time::timeout(PATIENCE, store.ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(Chain(error.source().unwrap_or(&error)).to_string()),
        Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
