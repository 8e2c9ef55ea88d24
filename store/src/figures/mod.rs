//! Plain figures that the code counts into and that a server reads when it is asked for its metrics.
//!
//! Counting costs an atomic addition or two and takes no lock. Nothing here has a name: the server has the table of names.

mod backend;
mod group;
mod histogram;
mod of_store;
mod recent;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use backend::{BackendFigures, PoolFigures};
pub use group::GroupSample;
pub use histogram::{Distribution, Histogram, LATENCIES, SIZES};
pub use of_store::{Appends, Figures, Gauge, Groups, Latency, Reads, Sample, SelfTests, Source, Subscriptions};
pub use recent::RecentMax;

/// A number of events since the start.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// That many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
