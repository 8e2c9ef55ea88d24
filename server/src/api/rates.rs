//! Bounds on the number of requests a second: of an address, of a token, and of wrong tokens from an address.
//!
//! The crate `governor` keeps them, by the generic cell rate algorithm: after a second of silence a client may send as many
//! requests at once as it may in a second. A request is looked at before its body is read and before the store is asked.
//! Wrong tokens alone are counted after the store was asked, because a right token is never refused for the wrong ones
//! that came before.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use eventodb_protocol::Token;
use governor::clock::{Clock, DefaultClock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;

use crate::http::Subnet;
use crate::live;

/// Addresses, or tokens, that have a count of their own.
const OWN: usize = 64 * 1024;
/// Counts that all others share. What is counted there depends on a secret of the process, so that nobody can choose whose
/// count to use up.
const SHARED: u64 = 4 * 1024;
/// How often counts that are as good as new are looked for, while there are more addresses than counts.
const SWEEP: Duration = Duration::from_secs(1);

/// All bounds on rates.
pub(crate) struct Rates {
    wanted: live::Rates,
    addresses: Option<Limiter>,
    tokens: Option<Limiter>,
    wrong_tokens: Option<Limiter>,
}

impl Rates {
    pub(crate) fn new(rates: live::Rates) -> Self {
        let limiter =
            |bound, most: Option<NonZeroU32>| most.map(|most| Limiter::new(bound, most, DefaultClock::default()));
        Self {
            wanted: rates,
            addresses: limiter(Bound::Address, rates.requests_per_address),
            tokens: limiter(Bound::Token, rates.requests_per_token),
            wrong_tokens: limiter(Bound::WrongTokens, rates.wrong_tokens),
        }
    }

    /// Whether these are the wanted ones.
    pub(crate) fn are(&self, wanted: live::Rates) -> bool {
        self.wanted == wanted
    }

    /// Counts a request of a client, and of the token that it shows, right or wrong.
    ///
    /// # Errors
    /// [`Limited`] if there were as many as may be.
    pub(crate) fn admit(&self, client: IpAddr, token: Option<&Token>) -> Result<(), Limited> {
        if let Some(addresses) = &self.addresses {
            addresses.count(&Subnet::of(client))?;
        }
        if let (Some(tokens), Some(token)) = (&self.tokens, token) {
            tokens.count(token.as_str())?;
        }
        Ok(())
    }

    /// Counts a wrong token that a client has shown.
    ///
    /// # Errors
    /// [`Limited`] if there were as many as may be.
    pub(crate) fn count_wrong_token(&self, client: IpAddr) -> Result<(), Limited> {
        self.wrong_tokens.as_ref().map_or(Ok(()), |wrong| wrong.count(&Subnet::of(client)))
    }
}

/// What is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Address,
    Token,
    WrongTokens,
}

impl Bound {
    /// What is counted, and the flag that says how many may be.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Address => ("requests from one address", "--max-requests-per-address"),
            Self::Token => ("requests with one token", "--max-requests-per-token"),
            Self::WrongTokens => ("wrong tokens from one address", "--max-wrong-tokens"),
        }
    }
}

/// As many came in a second as may. The message is made beforehand, because a refusal must cost little, and copied, which
/// takes less time than to count who has it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Limited {
    bound: Bound,
    message: String,
}

impl Limited {
    fn new(bound: Bound, most: NonZeroU32) -> Self {
        let (what, flag) = bound.names();
        Self { bound, message: format!("at most {most} {what} a second are answered ({flag}); nothing was done") }
    }

    /// What is told to the client.
    pub(crate) fn into_message(self) -> String {
        self.message
    }
}

/// A bound for each of many.
struct Limiter<C: Clock = DefaultClock> {
    limiter: RateLimiter<u64, Table, C, NoOpMiddleware<C::Instant>>,
    refusal: Limited,
    /// Decides which count is whose.
    secret: RandomState,
    is_full: Arc<AtomicBool>,
    /// When counts that are as good as new were looked for.
    swept: Mutex<C::Instant>,
}

impl<C: Clock> Limiter<C> {
    /// At most this number a second.
    fn new(bound: Bound, most: NonZeroU32, clock: C) -> Self {
        let table = Table::default();
        Self {
            is_full: Arc::clone(&table.is_full),
            refusal: Limited::new(bound, most),
            secret: RandomState::new(),
            swept: Mutex::new(clock.now()),
            limiter: RateLimiter::new(Quota::per_second(most), table, clock),
        }
    }

    /// Counts one more of `whose`.
    fn count(&self, whose: &(impl Hash + ?Sized)) -> Result<(), Limited> {
        if self.is_full.load(Relaxed) {
            self.sweep();
        }
        let counted = self.limiter.check_key(&self.secret.hash_one(whose));
        counted.map_err(|_| self.refusal.clone())
    }

    /// Forgets counts that are as good as new.
    #[cold]
    fn sweep(&self) {
        let Some(mut swept) = self.swept.try_lock() else { return };
        let now = self.limiter.clock().now();
        if now.duration_since(*swept) >= SWEEP.into() {
            *swept = now;
            self.limiter.retain_recent();
        }
    }
}

/// The counts of a limiter, each under a number that says whose it is. The numbers are hashes by a secret already.
#[derive(Default)]
struct Table {
    counts: Mutex<HashMap<u64, Nanos, foldhash::fast::RandomState>>,
    /// Somebody had no count of its own since counts were forgotten.
    is_full: Arc<AtomicBool>,
}

impl StateStore for Table {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut counts = self.counts.lock();
        let has_own = counts.len() < OWN || counts.contains_key(key);
        let key = if has_own { *key } else { *key % SHARED };
        if !has_own {
            self.is_full.store(true, Relaxed);
        }
        let (decision, count) = decide(counts.get(&key).copied())?;
        counts.insert(key, count);
        Ok(decision)
    }
}

impl ShrinkableKeyedStateStore<u64> for Table {
    fn retain_recent(&self, drop_below: Nanos) {
        let mut counts = self.counts.lock();
        counts.retain(|_, count| *count > drop_below);
        self.is_full.store(false, Relaxed);
    }

    fn len(&self) -> usize {
        self.counts.lock().len()
    }

    fn is_empty(&self) -> bool {
        self.counts.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limiter(most: u32, clock: &FakeRelativeClock) -> Limiter<FakeRelativeClock> {
        Limiter::new(Bound::Address, NonZeroU32::new(most).expect("not zero"), clock.clone())
    }

    fn rates(change: impl FnOnce(&mut live::Rates)) -> Rates {
        let mut rates = live::Rates::default();
        change(&mut rates);
        Rates::new(rates)
    }

    impl<C: Clock> Limiter<C> {
        fn admits(&self, whose: &impl Hash) -> bool {
            self.count(whose).is_ok()
        }
    }

    #[test]
    fn each_address_has_as_many_as_it_may() {
        let clock = FakeRelativeClock::default();
        let limiter = limiter(3, &clock);
        let admitted = || (0..10).filter(|_| limiter.admits(&"a")).count();
        assert_eq!(admitted(), 3);
        assert!(limiter.admits(&"b"));
        clock.advance(Duration::from_millis(334));
        assert_eq!(admitted(), 1, "a third of a second later");
        clock.advance(Duration::from_secs(100));
        assert_eq!(admitted(), 3, "nothing is saved up for longer than a second");
    }

    #[test]
    fn a_table_that_is_full_stays_bounded_and_goes_on_counting() {
        let clock = FakeRelativeClock::default();
        let limiter = limiter(1, &clock);
        assert!(limiter.admits(&"early") && !limiter.admits(&"early"));
        for number in 0..OWN + 100 * SHARED as usize {
            limiter.admits(&number);
        }
        assert!(limiter.limiter.len() <= OWN + SHARED as usize);
        assert!(limiter.is_full.load(Relaxed));
        assert!(!limiter.admits(&"early"), "it keeps its own count");
        assert!(!limiter.admits(&"late"), "its shared count is used up");
        clock.advance(3 * SWEEP);
        assert!(limiter.admits(&"late"));
        assert!(limiter.limiter.len() < OWN, "the counts of the silent ones are forgotten");
    }

    #[test]
    fn an_ipv6_client_has_one_count_whichever_of_its_addresses_it_uses() {
        let rates = rates(|rates| rates.wrong_tokens = NonZeroU32::new(2));
        let address = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        let counted = (0..10).filter(|host| rates.count_wrong_token(address(1, *host)).is_ok()).count();
        assert_eq!(counted, 2);
        assert!(rates.count_wrong_token(address(2, 0)).is_ok());
    }

    #[test]
    fn addresses_and_tokens_are_counted_apart() {
        let rates = rates(|rates| {
            rates.requests_per_address = NonZeroU32::new(3);
            rates.requests_per_token = NonZeroU32::new(2);
        });
        let token = Token::generate("a");
        let send =
            |last: u8, token| rates.admit(Ipv4Addr::new(10, 0, 0, last).into(), token).map_err(|limited| limited.bound);
        assert_eq!([1, 2, 3].map(|last| send(last, Some(&token))), [Ok(()), Ok(()), Err(Bound::Token)]);
        assert_eq!([(); 4].map(|()| send(4, None)), [Ok(()), Ok(()), Ok(()), Err(Bound::Address)]);
        let limited = rates.count_wrong_token(Ipv4Addr::LOCALHOST.into());
        assert_eq!(limited, Ok(()), "it has a bound of its own");
    }

    #[test]
    fn a_refusal_names_the_flag() {
        let limited = Limited::new(Bound::Token, NonZeroU32::MIN);
        let message =
            "at most 1 requests with one token a second are answered (--max-requests-per-token); nothing was done";
        assert_eq!(limited.to_string(), message);
    }
}
