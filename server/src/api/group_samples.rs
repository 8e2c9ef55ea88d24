//! How consumer groups stand, for the metrics. A scrape asks the store at most once in ten seconds, however many scrapes
//! come: to count what waits, messages are read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_store::EventStore;
use eventodb_store::figures::GroupSample;
use parking_lot::Mutex;

/// Groups that have series of their own.
const MOST: usize = 100;
/// How long a sample is good.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// How long a scrape waits for a new one. Then it shows the last one, and the next scrape finds the new one.
const PATIENCE: Duration = Duration::from_secs(1);

/// The last sample.
#[derive(Debug, Default)]
pub(crate) struct GroupSamples {
    /// Held while a new one is taken; when the last one was.
    taken: Arc<tokio::sync::Mutex<Option<Instant>>>,
    last: Arc<Mutex<Vec<GroupSample>>>,
}

impl GroupSamples {
    /// The sample of the moment, or one that is a little older.
    pub(crate) async fn get(&self, store: &Arc<EventStore>) -> Vec<GroupSample> {
        if let Ok(mut taken) = Arc::clone(&self.taken).try_lock_owned()
            && taken.is_none_or(|taken| taken.elapsed() >= GOOD_FOR)
        {
            let (store, last) = (Arc::clone(store), Arc::clone(&self.last));
            let sampling = tokio::spawn(async move {
                let samples = store.sample_groups(MOST).await;
                *last.lock() = samples;
                *taken = Some(Instant::now());
            });
            // It goes on if the time is over.
            let _ = tokio::time::timeout(PATIENCE, sampling).await;
        }
        self.last.lock().clone()
    }
}
