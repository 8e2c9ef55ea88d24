//! One budget for the memory that waits in the process for a client: bodies that arrive and what is made of them, lines
//! and batches of imports, pages, replies that are not sent yet, and connections themselves.
//!
//! The owner of such bytes has a [`Permit`] for them, and gives it back by dropping it. A namespace may take as much as
//! is left for all others, and a connection half of that (dynamic thresholds, after Choudhury and Hahne, "Dynamic queue
//! length thresholds for shared-memory packet switches", 1998). One namespace alone gets half of the budget, two get a
//! third each, and any number of them leaves something for the next. Requests without a valid token are *strangers*. They
//! share a small part, so that they take no memory from requests with a token. Connections that have shown no valid token
//! share another part and may be closed to make room. A connection that has shown one counts to its namespace.
//!
//! The sums are exact. A bound is checked before it is added to, not in the same step: threads that take memory at the
//! same moment may exceed the bound by what each of them takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Up to this size a body or reply over HTTP/1.1 is covered by the memory that its connection is counted with.
pub(crate) const SMALL: usize = 4 * 1024;
/// What a connection is counted with: the buffers of the HTTP layer, and its task.
pub(crate) const CONNECTION: usize = 32 * 1024;
/// What a connection of HTTP/2 is counted with: its client may fill the window before the application reads anything, and
/// may send the head of a request in parts.
pub(crate) const HTTP2_CONNECTION: usize = CONNECTION + HTTP2_WINDOW + 64 * 1024;
/// Bytes of bodies that an HTTP/2 client may send before the application reads any, over all requests of a connection.
pub(crate) const HTTP2_WINDOW: usize = 128 * 1024;
/// Bytes of a request's head over HTTP/1.1 that its connection is counted with.
pub(crate) const HEAD: usize = 8 * 1024;
/// What TLS adds to a connection: a record that arrives, its content, what waits to be sent, and the session.
pub(crate) const TLS: usize = 64 * 1024;
/// What TLS adds to an event stream, which sends little and receives nothing.
pub(crate) const TLS_EVENT_STREAM: usize = 16 * 1024;
/// What a connection is counted with once it is an event stream and nothing else.
pub(crate) const EVENT_STREAM: usize = 4 * 1024;
/// What a request in progress is counted with over HTTP/2, where a connection has many.
pub(crate) const REQUEST: usize = 8 * 1024;

/// Strangers together may take the budget divided by this.
const STRANGERS: usize = 16;
/// Connections together may take the budget divided by this.
const CONNECTIONS: usize = 2;
/// A connection may take what is left divided by this.
const PER_CONNECTION: usize = 2;
/// A wait for memory asks for at most the budget divided by this: more would never come free.
const MOST_WAITED_FOR: usize = 8;

/// The memory of all that waits in the process for clients.
pub(crate) struct Budget {
    whole: usize,
    taken: AtomicUsize,
    /// The part of `taken` that connections themselves have.
    connections: AtomicUsize,
    /// The part of `taken` that strangers have.
    strangers: AtomicUsize,
    /// The part of `taken` that each namespace has, for namespaces that have any.
    namespaces: Mutex<HashMap<Arc<str>, usize>>,
    /// How many callers wait for memory to be given back.
    waiting: AtomicUsize,
    given_back: Notify,
}

/// For whom memory is taken.
#[derive(Clone, Debug)]
pub(crate) enum Holder {
    /// A connection that has shown no valid token, for itself.
    Connection,
    /// A request without a valid token.
    Stranger,
    /// A request that has shown a token of this namespace.
    Namespace(Arc<str>),
}

/// What one connection has taken.
#[derive(Debug, Default)]
pub(crate) struct Share(AtomicUsize);

/// The holder and the connection that memory is counted to. It is one pointer, because every reply has room for some of
/// them.
#[derive(Clone)]
pub(crate) struct Account(Arc<Owner>);

struct Owner {
    budget: Arc<Budget>,
    share: Arc<Share>,
    holder: Holder,
}

/// Memory that was taken; dropping it gives it back.
pub(crate) struct Permit {
    account: Account,
    bytes: usize,
}

/// There is no memory, or the share of it is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl Budget {
    /// A budget of this many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            whole: bytes,
            taken: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            strangers: AtomicUsize::new(0),
            namespaces: Mutex::default(),
            waiting: AtomicUsize::new(0),
            given_back: Notify::new(),
        }
    }

    /// An account of a connection.
    pub(crate) fn account(self: &Arc<Self>, share: &Arc<Share>, holder: Holder) -> Account {
        Account(Arc::new(Owner { budget: Arc::clone(self), share: Arc::clone(share), holder }))
    }

    /// All of it.
    pub(crate) fn whole(&self) -> usize {
        self.whole
    }

    /// What connections, requests without a valid token, and namespaces have taken of it. The sums may differ by what is
    /// taken at the same moment.
    pub(crate) fn shares(&self) -> [(&'static str, usize); 3] {
        let [connections, strangers] = [&self.connections, &self.strangers].map(|share| share.load(Relaxed));
        let namespaces = self.namespaces.lock().values().sum();
        [("connections", connections), ("strangers", strangers), ("namespaces", namespaces)]
    }

    fn left(&self) -> usize {
        self.whole.saturating_sub(self.taken.load(Relaxed))
    }

    /// How much more the holder may take.
    fn room(&self, holder: &Holder) -> usize {
        let left = self.left();
        // With so much more it has as much as is left then: something always is.
        let fair = |taken: usize| left.saturating_sub(taken) / 2;
        let of = |part: usize, taken: &AtomicUsize| {
            let taken = taken.load(Relaxed);
            (self.whole / part).saturating_sub(taken).min(fair(taken))
        };
        match holder {
            Holder::Connection => of(CONNECTIONS, &self.connections),
            Holder::Stranger => of(STRANGERS, &self.strangers),
            Holder::Namespace(name) => fair(self.namespaces.lock().get(name).copied().unwrap_or(0)),
        }
    }

    fn add(&self, holder: &Holder, bytes: usize) {
        self.taken.fetch_add(bytes, Relaxed);
        match holder {
            Holder::Connection => _ = self.connections.fetch_add(bytes, Relaxed),
            Holder::Stranger => _ = self.strangers.fetch_add(bytes, Relaxed),
            Holder::Namespace(name) => *self.namespaces.lock().entry(Arc::clone(name)).or_default() += bytes,
        }
    }

    fn give_back(&self, holder: &Holder, bytes: usize) {
        match holder {
            Holder::Connection => _ = self.connections.fetch_sub(bytes, Relaxed),
            Holder::Stranger => _ = self.strangers.fetch_sub(bytes, Relaxed),
            Holder::Namespace(name) => {
                let mut namespaces = self.namespaces.lock();
                if let Some(taken) = namespaces.get_mut(name) {
                    *taken -= bytes;
                    if *taken == 0 {
                        namespaces.remove(name);
                    }
                }
            }
        }
        self.taken.fetch_sub(bytes, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.given_back.notify_waiters();
        }
    }
}

impl Account {
    /// Takes memory.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub(crate) fn take(&self, bytes: usize) -> Result<Permit, Exhausted> {
        let mut permit = Permit { account: self.clone(), bytes: 0 };
        permit.grow(bytes)?;
        Ok(permit)
    }

    /// Takes memory, unless it is so little that the connection's or the request's own memory covers it.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub(crate) fn take_if_large(&self, bytes: usize) -> Result<Option<Permit>, Exhausted> {
        if bytes <= SMALL { Ok(None) } else { self.take(bytes).map(Some) }
    }

    /// Takes memory that is in use already, whether any is left or not. Later callers find less.
    pub(crate) fn charge(&self, bytes: usize) -> Permit {
        self.add(bytes);
        Permit { account: self.clone(), bytes }
    }

    /// Takes memory as soon as there is enough. Every owner of memory gives it back within a time limit.
    pub(crate) async fn wait(&self, bytes: usize) -> Permit {
        // A wait for more than a caller can ever get would not end.
        let bytes = bytes.min(self.0.budget.whole / MOST_WAITED_FOR);
        loop {
            if let Ok(permit) = self.take(bytes) {
                return permit;
            }
            let _waiting = Waiting::new(&self.0.budget.waiting);
            let given_back = self.0.budget.given_back.notified();
            if let Ok(permit) = self.take(bytes) {
                return permit;
            }
            given_back.await;
        }
    }

    /// Waits until some memory is given back.
    pub(crate) async fn given_back(&self) {
        let _waiting = Waiting::new(&self.0.budget.waiting);
        self.0.budget.given_back.notified().await;
    }

    fn room(&self) -> usize {
        let room = self.0.budget.room(&self.0.holder);
        match self.0.holder {
            Holder::Connection => room,
            _ => {
                let taken = self.0.share.0.load(Relaxed).saturating_mul(PER_CONNECTION);
                // With so much more it has that part of what is left then.
                room.min(self.0.budget.left().saturating_sub(taken) / (PER_CONNECTION + 1))
            }
        }
    }

    fn add(&self, bytes: usize) {
        if bytes > 0 {
            self.0.share.0.fetch_add(bytes, Relaxed);
            self.0.budget.add(&self.0.holder, bytes);
        }
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.0.share.0.fetch_sub(bytes, Relaxed);
            self.0.budget.give_back(&self.0.holder, bytes);
        }
    }
}

impl Permit {
    /// How many bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more.
    ///
    /// # Errors
    /// [`Exhausted`]; what was taken before stays.
    pub(crate) fn grow(&mut self, more: usize) -> Result<(), Exhausted> {
        if more > self.account.room() {
            return Err(Exhausted);
        }
        self.account.add(more);
        self.bytes += more;
        Ok(())
    }

    /// Takes what is missing for this many bytes in all.
    ///
    /// # Errors
    /// [`Exhausted`]; what was taken before stays.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.grow(bytes.saturating_sub(self.bytes))
    }

    /// Counts all of it to another account from now on.
    ///
    /// # Errors
    /// [`Exhausted`]; it stays where it was.
    pub(crate) fn move_to(&mut self, account: &Account) -> Result<(), Exhausted> {
        *self = account.take(self.bytes)?;
        Ok(())
    }

    /// Takes over the memory of another permit of the same account.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// The account that it is counted to.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Gives back all but this many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.account.give_back(less);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// Counts a caller that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WHOLE: usize = 1 << 20;

    fn of(budget: &Arc<Budget>, namespace: &str) -> Account {
        budget.account(&Arc::default(), Holder::Namespace(namespace.into()))
    }

    /// Takes all that a namespace gets, over many connections.
    fn fill(budget: &Arc<Budget>, namespace: &str) -> Vec<Permit> {
        std::iter::from_fn(|| of(budget, namespace).take(1024).ok()).collect()
    }

    #[test]
    fn one_namespace_gets_half_and_two_get_a_third_each() {
        let budget = Arc::new(Budget::new(WHOLE));
        let first = fill(&budget, "a");
        assert_eq!(first.len() * 1024, WHOLE / 2);
        assert_eq!(fill(&budget, "b").len() * 1024, WHOLE / 4, "half of what is left");
        drop(first);
        assert_eq!(budget.left(), WHOLE, "all is given back");
        assert!(budget.namespaces.lock().is_empty());
    }

    #[test]
    fn something_is_left_for_the_next_however_many_there_are() {
        let budget = Arc::new(Budget::new(WHOLE));
        let held: Vec<_> = (0..4).map(|namespace| fill(&budget, &namespace.to_string())).collect();
        let all_of = |holder: Holder| {
            let account = budget.account(&Arc::default(), holder);
            std::iter::from_fn(move || account.take(1024).ok()).collect::<Vec<_>>()
        };
        let others = [all_of(Holder::Connection), all_of(Holder::Stranger)];
        assert!(others.iter().all(|taken| !taken.is_empty()));
        assert!(of(&budget, "honest").take(1024).is_ok());
        drop((held, others));
    }

    #[test]
    fn one_connection_gets_a_third() {
        let budget = Arc::new(Budget::new(WHOLE));
        let account = of(&budget, "a");
        let mut permit = account.take(0).expect("nothing is always there");
        while permit.grow(1024).is_ok() {}
        assert_eq!(permit.bytes, WHOLE / 3 / 1024 * 1024);
        assert!(of(&budget, "a").take(1024).is_ok(), "another connection of the same namespace");
    }

    #[test]
    fn strangers_take_nothing_from_those_with_a_token() {
        let budget = Arc::new(Budget::new(WHOLE));
        let stranger = || budget.account(&Arc::default(), Holder::Stranger).take(1024).ok();
        let strangers: Vec<_> = std::iter::from_fn(stranger).collect();
        assert_eq!(strangers.len() * 1024, WHOLE / STRANGERS);
        assert!(of(&budget, "a").take(WHOLE / 4).is_ok());
    }

    #[test]
    fn what_is_charged_counts_although_nothing_is_left() {
        let budget = Arc::new(Budget::new(WHOLE));
        let mut permit = of(&budget, "a").charge(WHOLE);
        assert!(of(&budget, "b").take(1).is_err());
        permit.shrink_to(WHOLE / 2);
        assert!(of(&budget, "b").take(1).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_what_is_given_back() {
        let budget = Arc::new(Budget::new(WHOLE));
        let held = of(&budget, "a").charge(WHOLE);
        let account = of(&budget, "b");
        let waiting = tokio::spawn(async move { account.wait(1024).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        drop(held);
        drop(waiting.await.expect("it gets it"));
        assert_eq!(budget.left(), WHOLE);
    }
}
