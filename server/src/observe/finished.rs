//! Finished requests on their way into what is counted of them.
//!
//! All threads share the counts, which are a dozen lines of memory for each request. So each thread gathers the requests
//! that it has finished, and they are added to the counts a few dozen at a time, in the order of their ends. Before the counts
//! are read, all gathered requests are added: each request is in the counts that are read after its reply.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::metrics::{Ended, Outcome, Requests};
use super::performance::Performance;
use super::record::Record;
use crate::per_thread::PerThread;

/// Requests of one thread that are added at once.
const AT_ONCE: usize = 64;

/// Counts finished requests.
pub(crate) struct Finished {
    requests: Requests,
    performance: Performance,
    gathered: PerThread<Mutex<Vec<Ended>>>,
    /// The requests that are being added. Empty while the lock is free.
    adding: Mutex<Vec<Ended>>,
}

impl Finished {
    /// For methods of these names, which [`super::Method`] has the numbers of.
    pub(crate) fn new(names: &'static [&'static str]) -> Self {
        Self {
            requests: Requests::new(names),
            performance: Performance::new(names),
            gathered: PerThread::default(),
            adding: Mutex::default(),
        }
    }

    /// Counts a request. It is slow if it took longer than `slow`, without the time that it asked to wait.
    pub(crate) fn count(&self, record: Record, outcome: Outcome, slow: Duration) {
        let is_slow = outcome.own_duration() > slow;
        if is_slow {
            self.performance.keep_slow(&record, &outcome);
        }
        let Record { method, namespace, started, .. } = record;
        let mut gathered = self.gathered.mine().lock();
        gathered.push(Ended { method, namespace, started, outcome, is_slow });
        let is_enough = gathered.len() >= AT_ONCE;
        drop(gathered);
        // If the lock is taken, its holder adds these, too, or the next request of this thread tries again.
        if is_enough && let Some(adding) = self.adding.try_lock() {
            self.add(adding);
        }
    }

    /// How requests ended.
    pub(crate) fn requests(&self) -> &Requests {
        self.add(self.adding.lock());
        &self.requests
    }

    /// Statistics of requests.
    pub(crate) fn performance(&self) -> &Performance {
        self.add(self.adding.lock());
        &self.performance
    }

    /// Adds what all threads have gathered.
    fn add(&self, mut adding: MutexGuard<'_, Vec<Ended>>) {
        self.gathered.all().for_each(|gathered| adding.append(&mut gathered.lock()));
        // The statistics are of periods, and count a late request for the latest.
        adding.sort_by_key(Ended::at);
        self.requests.add(&adding);
        self.performance.add(&adding);
        adding.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use http::StatusCode;

    use super::*;
    use crate::http::RequestId;
    use crate::observe::Method;

    const NAMES: &[&str] = &["stream.write"];

    /// Counts a request that ended so long after this moment.
    fn count(finished: &Finished, from: Instant, after: Duration) {
        let id = RequestId::Own(1);
        let record = Record::new(id, IpAddr::V4(Ipv4Addr::LOCALHOST), Method::new(NAMES[0], 0), from + after);
        let (status, zero) = (StatusCode::OK, Duration::ZERO);
        let outcome = Outcome { status, code: None, shed: None, duration: zero, wait: zero };
        finished.count(record, outcome, Duration::from_secs(1));
    }

    fn requests(finished: &Finished) -> u64 {
        finished.requests().statuses().map(|(.., count)| count).sum()
    }

    #[test]
    fn each_request_is_counted_once_by_whatever_thread_and_seen_at_once() {
        let finished = Arc::new(Finished::new(NAMES));
        let from = Instant::now();
        count(&finished, from, Duration::ZERO);
        assert_eq!((requests(&finished), finished.performance().periods().process.total), (1, 1));
        let threads = (0..4).map(|_| {
            let finished = Arc::clone(&finished);
            thread::spawn(move || {
                for done in 1..=10_001 {
                    count(&finished, from, Duration::ZERO);
                    assert!(done % 100 != 0 || requests(&finished) > done);
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().expect("it counts"));
        assert_eq!((requests(&finished), finished.performance().periods().process.total), (40_005, 40_005));
        finished.performance().reset();
        assert_eq!((requests(&finished), finished.performance().periods().process.total), (40_005, 0));
    }

    #[test]
    fn what_a_silent_thread_has_counts_for_the_time_of_its_end() {
        let finished = Arc::new(Finished::new(NAMES));
        let from = Instant::now();
        let early = Arc::clone(&finished);
        thread::spawn(move || count(&early, from, Duration::from_secs(3))).join().expect("it counts");
        count(&finished, from, Duration::from_secs(60));
        // Points are of the seconds that are over and of the latest.
        let series = finished.performance().series(super::super::Step::Second);
        let points: Vec<_> = series.points.iter().map(|point| (point.0 - series.points[0].0, point.1)).collect();
        assert_eq!(points, [(0, 1), (57, 1)]);
    }
}
