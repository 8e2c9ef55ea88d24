//! Lets the first few of each kind pass, and counts the rest. It is for lines of the log that clients without a token
//! can cause, too.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::per_thread::PerThread;

/// How many of a kind pass in each turn.
const FIRST: u64 = 5;

/// How many of each kind there were in the present turn. Kinds are kept as long as each turn has some: there must be few,
/// and none that a client makes up, because they are hashed fast rather than well.
#[derive(Debug)]
pub(crate) struct Sampler<K> {
    seen: Mutex<HashMap<K, Seen, RandomState>>,
    /// Each thread counts for itself what goes on alike.
    runs: PerThread<Mutex<Option<Run<K>>>>,
}

/// Some of a kind from one address that did not pass, one after the other.
#[derive(Debug)]
struct Run<K> {
    kind: K,
    address: IpAddr,
    count: u64,
}

/// What was seen of a kind in the present turn.
#[derive(Debug, Default)]
struct Seen {
    passed: u64,
    counted: u64,
    /// The address of the last one that passed, in an earlier turn perhaps.
    last: Option<IpAddr>,
}

impl<K> Default for Sampler<K> {
    fn default() -> Self {
        Self { seen: Mutex::default(), runs: PerThread::default() }
    }
}

impl<K: Copy + Eq + Hash> Sampler<K> {
    /// Whether one of this kind passes that came from this address. It does not if the one before came from there, too:
    /// it would say the same once more.
    pub(crate) fn passes(&self, kind: K, address: IpAddr) -> bool {
        let mut run = self.runs.mine().lock();
        if let Some(run) = run.as_mut().filter(|run| run.kind == kind && run.address == address) {
            run.count += 1;
            return false;
        }
        let mut kinds = self.seen.lock();
        if let Some(ended) = run.take() {
            kinds.entry(ended.kind).or_default().counted += ended.count;
        }
        let seen = kinds.entry(kind).or_default();
        let passes = seen.passed < FIRST && seen.last != Some(address);
        if passes {
            seen.passed += 1;
            seen.last = Some(address);
        } else {
            *run = Some(Run { kind, address, count: 1 });
        }
        passes
    }

    /// Counts one that does not pass.
    pub(crate) fn count(&self, kind: K) {
        self.seen.lock().entry(kind).or_default().counted += 1;
    }

    /// Begins the next turn; how many of each kind did not pass in the last one.
    pub(crate) fn turn(&self) -> Vec<(K, u64)> {
        // All of them, so that none goes on into the next turn.
        let mut runs: Vec<_> = self.runs.all().map(Mutex::lock).collect();
        let mut kinds = self.seen.lock();
        for ended in runs.iter_mut().filter_map(|run| run.take()) {
            kinds.entry(ended.kind).or_default().counted += ended.count;
        }
        kinds.retain(|_, seen| seen.passed + seen.counted > 0);
        let counted = kinds.iter_mut().map(|(kind, seen)| {
            seen.passed = 0;
            (*kind, std::mem::take(&mut seen.counted))
        });
        counted.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn the_first_of_each_kind_passes_and_the_rest_is_counted() {
        let sampler = Sampler::default();
        assert_eq!((0..10_000).filter(|_| sampler.passes("a", address(1))).count(), 1);
        assert!(sampler.passes("b", address(1)));
        assert_eq!(sampler.turn(), [("a", 10_000 - 1)]);
        assert!(!sampler.passes("a", address(1)), "it goes on");
        assert_eq!(sampler.turn(), [("a", 1)]);
        assert!(sampler.turn().is_empty());
        assert!(sampler.passes("a", address(1)), "it begins again");
        sampler.count("b");
        assert_eq!(sampler.turn(), [("b", 1)]);
    }

    #[test]
    fn what_goes_on_is_counted_once_another_comes() {
        let sampler = Sampler::default();
        let passed = [1, 1, 1, 2, 2, 1].map(|last| sampler.passes("a", address(last)));
        assert_eq!(passed, [true, false, false, true, false, true]);
        assert!(sampler.passes("b", address(1)) && !sampler.passes("b", address(1)));
        let mut counted = sampler.turn();
        counted.sort_unstable();
        assert_eq!(counted, [("a", 3), ("b", 1)]);
    }

    #[test]
    fn others_of_a_kind_pass_too_but_not_all() {
        let sampler = Sampler::default();
        let passed = (0..200).filter(|last| sampler.passes("a", address(*last))).count() as u64;
        assert_eq!(passed, FIRST);
        assert_eq!(sampler.turn(), [("a", 200 - FIRST)]);
        assert!(sampler.passes("a", address(200)));
    }
}
