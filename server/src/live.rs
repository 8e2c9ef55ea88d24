//! The settings that may change while the server runs. Each request looks at them anew.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;

/// The settings that may change while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changeable {
    /// Whether calls that may change the store are refused.
    pub read_only: bool,
    /// Whether new subscriptions are taken.
    pub takes_subscriptions: bool,
    /// The most subscriptions.
    pub subscriptions: AtOnce,
    /// The most calls that wait for a message.
    pub waits: AtOnce,
    /// The most requests a second.
    pub rates: Rates,
    /// A request that takes longer than this is slow, and is logged.
    pub slow: Duration,
    /// The log of every request.
    pub access_log: AccessLog,
}

/// The log of every request, not only of those that failed or were slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Whether there is one.
    pub is_on: bool,
    /// Lines a second. Of more requests only a part has a line.
    pub per_second: NonZeroU32,
}

/// The most of something at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtOnce {
    /// Of one namespace.
    pub per_namespace: usize,
    /// With one token.
    pub per_token: usize,
}

/// The most requests a second; what is `None` has no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Requests of one address, except probes.
    pub requests_per_address: Option<NonZeroU32>,
    /// Requests with one token, except probes.
    pub requests_per_token: Option<NonZeroU32>,
    /// Wrong tokens of one address. Beyond it they are refused as too many. Right ones never are.
    pub wrong_tokens: Option<NonZeroU32>,
}

impl Rates {
    /// Whether requests have a bound at all.
    pub(crate) fn count_requests(&self) -> bool {
        self.requests_per_address.is_some() || self.requests_per_token.is_some()
    }
}

/// The settings as they are now.
#[derive(Debug)]
pub struct Live {
    now: ArcSwap<Changeable>,
    takes_writes: Arc<AtomicBool>,
}

impl Live {
    /// These settings, until they are changed. Nothing is written without a request before the server serves.
    pub fn new(settings: Changeable) -> Self {
        Self { now: ArcSwap::from_pointee(settings), takes_writes: Arc::default() }
    }

    /// The settings that are in force.
    pub fn now(&self) -> Changeable {
        **self.now.load()
    }

    /// Puts these settings in force, all at once: the next request on every connection is held to them.
    pub fn set(&self, settings: Changeable) {
        self.now.store(Arc::new(settings));
        self.takes_writes.store(!settings.read_only, Relaxed);
    }

    /// The server serves from now on.
    pub(crate) fn begin(&self) {
        self.set(self.now());
    }

    /// Whether the server serves and is not in read-only mode: for work that writes without a request.
    pub fn takes_writes(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.takes_writes)
    }
}

impl Default for Changeable {
    fn default() -> Self {
        let many = AtOnce { per_namespace: 100_000, per_token: 100_000 };
        Self {
            read_only: false,
            takes_subscriptions: true,
            subscriptions: many,
            waits: many,
            rates: Rates::default(),
            slow: Duration::from_millis(100),
            access_log: AccessLog::default(),
        }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { is_on: false, per_second: NonZeroU32::new(1_000).expect("it is not zero") }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self { requests_per_address: None, requests_per_token: None, wrong_tokens: NonZeroU32::new(20) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_without_a_request_before_the_server_serves_nor_in_read_only_mode() {
        let live = Live::new(Changeable::default());
        let takes_writes = live.takes_writes();
        let mut seen = vec![takes_writes.load(Relaxed)];
        live.begin();
        for read_only in [false, true, false] {
            live.set(Changeable { read_only, ..live.now() });
            seen.push(takes_writes.load(Relaxed));
        }
        assert_eq!(seen, [false, true, false, true]);
    }
}
