//! How one consumer group stands at some moment.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::group::reply::GroupStatus;

/// What metrics tell of a group.
#[derive(Clone, Debug)]
pub struct GroupSample {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub group: Arc<str>,
    /// Messages of all partitions that are neither handled nor in a parked stream, up to a bound.
    pub lag: u64,
    /// The age of the oldest of them.
    pub lag_age: Duration,
    /// Parked streams.
    pub parked: u64,
    /// How long the one that was parked first has been.
    pub parked_age: Duration,
    /// Partitions that no member owns.
    pub unowned: u64,
}

impl GroupSample {
    pub(crate) fn of(namespace: &Arc<str>, group: Arc<str>, status: &GroupStatus) -> Self {
        let partitions = &status.partitions;
        let longest = |ages: &mut dyn Iterator<Item = i64>| {
            Duration::from_millis(ages.max().and_then(|age| u64::try_from(age).ok()).unwrap_or_default())
        };
        Self {
            namespace: Arc::clone(namespace),
            group,
            lag: partitions.iter().map(|partition| partition.lag.messages as u64).sum(),
            lag_age: longest(&mut partitions.iter().map(|partition| partition.lag.ms)),
            parked: partitions.iter().map(|partition| partition.parked.streams as u64).sum(),
            parked_age: longest(&mut partitions.iter().map(|partition| partition.parked.oldest_ms)),
            unowned: partitions.iter().filter(|partition| partition.owner.is_none()).count() as u64,
        }
    }
}
