//! The signs of life of one connection: what it is doing, and whether it gets on with it.
//!
//! The connection's own task writes them as it goes, a store or two per request and no look at the
//! clock; [`super::Watch`] looks at them from time to time and cuts whoever stood still for too
//! long. Orders go the other way by the same cell, so that a connection waits for one thing only.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::budget::{Account, Budget, Exhausted, Holder, Permit, REQUEST, Share};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing came yet.
    New,
    /// Between requests.
    Waiting,
    /// A request's head began to arrive.
    Head,
    /// A request is in progress; its client may close its sending side.
    Answering,
    /// A request is in progress that has shown no valid token and whose body is not here yet.
    Stranger,
    /// A request is in progress that is given up when its client closes its sending side: it is
    /// subscribed, or its body is missed.
    Open,
    /// The reply is made, but maybe not sent.
    Finishing,
}

impl Phase {
    fn from_u8(value: u8) -> Self {
        use Phase::{Answering, Finishing, Head, New, Open, Stranger, Waiting};
        [New, Waiting, Head, Answering, Stranger, Open, Finishing][usize::from(value)]
    }
}

/// What a connection is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Order {
    /// Go on.
    None,
    /// Finish what is in progress, then close.
    Drain,
    /// Close at once.
    Cut,
}

/// See the module.
pub(crate) struct Vitals {
    phase: AtomicU8,
    /// Moves on with every change of phase.
    changes: AtomicU32,
    /// Requests in progress; with HTTP/1 at most one.
    in_progress: AtomicU32,
    is_http2: AtomicBool,
    /// The client closed its sending side and the HTTP layer was not told yet.
    end_is_hidden: AtomicBool,
    order: AtomicU8,
    /// Of the connection's task.
    waker: AtomicWaker,
    /// Of the task that waits for more of a request's body.
    body_waker: AtomicWaker,
    /// How sending gets on.
    pub(crate) sending: Gauge,
    budget: Arc<Budget>,
    /// What memory its requests have taken.
    share: Arc<Share>,
    /// What it is counted with itself.
    memory: Mutex<Option<Permit>>,
    /// What long heads take beside it.
    heads: Mutex<Option<Permit>>,
    has_token: AtomicBool,
}

impl Vitals {
    /// Of a connection whose requests' memory is counted there, and which is counted with `memory` itself.
    pub(crate) fn new(budget: &Arc<Budget>, memory: Option<Permit>) -> Self {
        Self {
            phase: AtomicU8::new(Phase::New as u8),
            changes: AtomicU32::new(0),
            in_progress: AtomicU32::new(0),
            is_http2: AtomicBool::new(false),
            end_is_hidden: AtomicBool::new(false),
            order: AtomicU8::new(Order::None as u8),
            waker: AtomicWaker::new(),
            body_waker: AtomicWaker::new(),
            sending: Gauge::default(),
            budget: Arc::clone(budget),
            share: Arc::default(),
            memory: Mutex::new(memory),
            heads: Mutex::default(),
            has_token: AtomicBool::new(false),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        Phase::from_u8(self.phase.load(Relaxed))
    }

    /// A number that differs after each change of phase.
    pub(super) fn changes(&self) -> u32 {
        self.changes.load(Relaxed)
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, SeqCst);
        self.changes.fetch_add(1, Relaxed);
        if self.shows_end() && self.end_is_hidden.swap(false, SeqCst) {
            self.waker.wake();
        }
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.is_http2.load(Relaxed)
    }

    pub(super) fn set_http2(&self) {
        self.is_http2.store(true, Relaxed);
    }

    /// Whether the HTTP layer may be told that the client closed its sending side. It drops a
    /// request in progress then, which is wrong for a client that has asked all it wants and waits
    /// for the answer. With HTTP/2 each request has an end of its own.
    pub(super) fn shows_end(&self) -> bool {
        self.is_http2() || !matches!(self.phase(), Phase::Answering | Phase::Finishing)
    }

    /// Remembers that the end of the client's sending was met and not shown. False where it may be
    /// shown after all.
    pub(super) fn hide_end(&self) -> bool {
        self.end_is_hidden.store(true, SeqCst);
        self.body_waker.wake();
        !self.shows_end()
    }

    /// Somebody waits for more of a request's body: it will not come from a client that closed its
    /// sending side, now or later.
    pub(super) fn misses_body(&self, waker: &Waker) {
        if !self.is_http2() {
            self.body_waker.register(waker);
            if self.end_is_hidden.load(SeqCst) {
                self.set_phase(Phase::Open);
            }
        }
    }

    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.in_progress.fetch_add(1, Relaxed);
        self.set_phase(Phase::Answering);
        Busy { vitals: Arc::clone(self), namespace: OnceLock::new(), account: OnceLock::new(), permit: OnceLock::new() }
    }

    /// Takes more memory for the connection itself.
    ///
    /// # Errors
    /// Where it may be waited for.
    pub(super) fn grow(&self, more: usize) -> Result<(), Account> {
        match &mut *self.memory.lock() {
            Some(memory) => memory.grow(more).map_err(|Exhausted| memory.account().clone()),
            None => Ok(()),
        }
    }

    /// Adds memory that was waited for.
    pub(super) fn add(&self, more: Permit) {
        if let Some(memory) = &mut *self.memory.lock() {
            memory.absorb(more);
        }
    }

    /// Takes memory for a long head: a stranger's, until the connection has shown a token. New connections would find
    /// none if it came from theirs.
    ///
    /// # Errors
    /// Where it may be waited for.
    pub(super) fn grow_head(&self, more: usize) -> Result<(), Account> {
        let mut heads = self.heads.lock();
        let heads = heads.get_or_insert_with(|| {
            let own = self.memory.lock().as_ref().map(|memory| memory.account().clone());
            let known = own.filter(|_| self.has_token());
            known.unwrap_or_else(|| self.budget.account(&Arc::default(), Holder::Stranger)).charge(0)
        });
        heads.grow(more).map_err(|Exhausted| heads.account().clone())
    }

    /// Adds memory for a head that was waited for.
    pub(super) fn add_head(&self, more: Permit) {
        if let Some(heads) = &mut *self.heads.lock() {
            heads.absorb(more);
        }
    }

    /// The connection needs less from now on.
    pub(super) fn shrink_to(&self, bytes: usize) {
        if let Some(memory) = &mut *self.memory.lock() {
            memory.shrink_to(bytes);
        }
    }

    /// The connection has shown a token of this namespace, which it is counted to from now on.
    #[cold]
    fn belong_to(&self, namespace: &Arc<str>) -> Result<(), Exhausted> {
        let account = self.budget.account(&Arc::default(), Holder::Namespace(Arc::clone(namespace)));
        for memory in [&self.memory, &self.heads] {
            if let Some(memory) = &mut *memory.lock() {
                memory.move_to(&account)?;
            }
        }
        self.has_token.store(true, Relaxed);
        Ok(())
    }

    /// Whether a valid token came by this connection.
    fn has_token(&self) -> bool {
        self.has_token.load(Relaxed)
    }

    /// Whether another connection may have its place: it has shown no valid token, and waits for its client to send or to
    /// take something. One of HTTP/2 waits for some of its requests nearly always.
    pub(super) fn is_expendable(&self) -> bool {
        let waits = self.is_http2()
            || matches!(self.phase(), Phase::New | Phase::Waiting | Phase::Head | Phase::Stranger)
            || self.sending.blocked_at().is_some();
        waits && !self.has_token()
    }

    /// A request waits for its body that has shown no valid token, or does so no more.
    pub(crate) fn set_stranger(&self, is_stranger: bool) {
        if !self.is_http2() {
            self.set_phase(if is_stranger { Phase::Stranger } else { Phase::Answering });
        }
    }

    /// Gives an order; a lesser one than before changes nothing.
    pub(crate) fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, SeqCst);
        self.waker.wake();
    }

    /// Whether any order was given.
    pub(super) fn has_order(&self) -> bool {
        self.order.load(SeqCst) != Order::None as u8
    }

    /// Makes the waker's task be woken by the next order, and tells the present one.
    pub(crate) fn order(&self, waker: &Waker) -> Order {
        self.waker.register(waker);
        match self.order.load(SeqCst) {
            0 => Order::None,
            1 => Order::Drain,
            _ => Order::Cut,
        }
    }
}

/// A request in progress; it ends when this is dropped.
pub(crate) struct Busy {
    vitals: Arc<Vitals>,
    /// Of the valid token that came with it.
    namespace: OnceLock<Arc<str>>,
    /// Where its memory is counted.
    account: OnceLock<Account>,
    /// What the request itself takes, where a connection has many.
    permit: OnceLock<Permit>,
}

impl Busy {
    /// The reply goes on until the client leaves.
    pub(crate) fn subscribed(&self) {
        if !self.vitals.is_http2() {
            self.vitals.set_phase(Phase::Open);
        }
    }

    /// The connection that the request came by.
    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// The request has shown a token of this namespace, which it is counted to from now on. So is its connection, if it
    /// is the first one.
    ///
    /// # Errors
    /// [`Exhausted`] where the namespace may not have the connection.
    pub(crate) fn belongs_to(&self, namespace: &Arc<str>) -> Result<(), Exhausted> {
        if !self.vitals.has_token() {
            self.vitals.belong_to(namespace)?;
        }
        self.namespace.get_or_init(|| Arc::clone(namespace));
        Ok(())
    }

    /// Where the request's memory is counted: a stranger's, unless it was said before whose it is.
    pub(crate) fn account(&self) -> &Account {
        self.account.get_or_init(|| {
            let holder = self.namespace.get().cloned().map_or(Holder::Stranger, Holder::Namespace);
            self.vitals.budget.account(&self.vitals.share, holder)
        })
    }

    /// Takes memory for the request itself, where its connection's does not cover it.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub(crate) fn admit(&self) -> Result<(), Exhausted> {
        if self.vitals.is_http2() && self.permit.get().is_none() {
            let _ = self.permit.set(self.account().take(REQUEST)?);
        }
        Ok(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.vitals.in_progress.fetch_sub(1, Relaxed) == 1 {
            self.vitals.set_phase(if self.vitals.is_http2() { Phase::Waiting } else { Phase::Finishing });
        }
    }
}

/// Whether something is waiting for a client to take bytes, and whether the client takes any.
#[derive(Default)]
pub(crate) struct Gauge {
    blocked: AtomicBool,
    taken: AtomicU32,
}

impl Gauge {
    /// The client does not take any more for now.
    pub(crate) fn block(&self) {
        if !self.blocked.load(Relaxed) {
            self.blocked.store(true, Relaxed);
        }
    }

    /// The client took something.
    pub(crate) fn advance(&self) {
        if self.blocked.load(Relaxed) {
            self.blocked.store(false, Relaxed);
            self.taken.fetch_add(1, Relaxed);
        }
    }

    /// A number that differs after each advance, while something waits.
    pub(crate) fn blocked_at(&self) -> Option<u32> {
        self.blocked.load(Relaxed).then(|| self.taken.load(Relaxed))
    }
}

/// Pieces of one reply that wait for a client to take them, and whether it takes any.
#[derive(Default)]
pub(crate) struct Pending {
    pieces: AtomicU32,
    taken: AtomicU32,
}

impl Pending {
    /// One more waits.
    pub(crate) fn add(&self) {
        self.pieces.fetch_add(1, Relaxed);
    }

    /// The client took some of a piece.
    pub(crate) fn advance(&self) {
        self.taken.fetch_add(1, Relaxed);
    }

    /// One of them waits no more.
    pub(crate) fn remove(&self) {
        self.pieces.fetch_sub(1, Relaxed);
    }

    /// A number that differs after each advance, while something waits.
    pub(crate) fn blocked_at(&self) -> Option<u32> {
        (self.pieces.load(Relaxed) > 0).then(|| self.taken.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::CONNECTION;

    fn budget() -> Arc<Budget> {
        Arc::new(Budget::new(1024))
    }

    #[test]
    fn the_end_is_shown_once_the_reply_is_sent() {
        let vitals = Arc::new(Vitals::new(&budget(), None));
        let busy = vitals.begin();
        assert!(vitals.hide_end());
        drop(busy);
        assert_eq!(vitals.phase(), Phase::Finishing);
        assert!(!vitals.shows_end());
        vitals.set_phase(Phase::Waiting);
        assert!(vitals.shows_end());
    }

    #[test]
    fn the_end_is_shown_once_more_of_the_body_is_missed() {
        let vitals = Arc::new(Vitals::new(&budget(), None));
        let _busy = vitals.begin();
        vitals.misses_body(Waker::noop());
        assert!(!vitals.shows_end(), "it may still come");
        assert!(vitals.hide_end());
        vitals.misses_body(Waker::noop());
        assert!(vitals.shows_end());
    }

    #[test]
    fn a_subscription_ends_with_its_client() {
        let vitals = Arc::new(Vitals::new(&budget(), None));
        vitals.begin().subscribed();
        assert!(!vitals.shows_end(), "it has ended");
        let busy = vitals.begin();
        busy.subscribed();
        assert!(vitals.shows_end());
    }

    #[test]
    fn a_connection_is_counted_to_the_namespace_of_its_first_token() {
        let budget = Arc::new(Budget::new(256 * 1024));
        let connection = || budget.account(&Arc::default(), Holder::Connection).take(CONNECTION);
        let [first, second] = ["a", "b"].map(Arc::<str>::from);
        let mut all = Vec::new();
        while let Ok(memory) = connection() {
            all.push(Arc::new(Vitals::new(&budget, Some(memory))));
        }
        assert_eq!(all.len(), 4, "those without a token have half");
        all[0].begin().belongs_to(&first).expect("there is room");
        all[0].begin().belongs_to(&second).expect("it is the first one's");
        let another = budget.account(&Arc::default(), Holder::Connection).take(CONNECTION / 2);
        assert!(another.is_ok(), "others may come");
        drop(another);
        for connection in &all[1..3] {
            connection.begin().belongs_to(&first).expect("there is room");
        }
        assert!(all[3].begin().belongs_to(&first).is_err(), "it would have more than is left for others");
        assert!(!all[3].has_token());
    }

    #[test]
    fn who_has_no_token_and_takes_no_reply_may_be_cut_for_others() {
        let vitals = Arc::new(Vitals::new(&budget(), None));
        let busy = vitals.begin();
        assert!(!vitals.is_expendable(), "it is being answered");
        vitals.sending.block();
        assert!(vitals.is_expendable());
        vitals.sending.advance();
        vitals.set_http2();
        assert!(vitals.is_expendable(), "each reply has a pace of its own");
        busy.belongs_to(&"a".into()).expect("it takes nothing");
        assert!(!vitals.is_expendable());
    }

    #[test]
    fn orders_only_grow() {
        let vitals = Vitals::new(&budget(), None);
        vitals.give(Order::Cut);
        vitals.give(Order::Drain);
        assert_eq!(vitals.order(Waker::noop()), Order::Cut);
    }

    #[test]
    fn a_gauge_tells_standing_still_from_moving() {
        let gauge = Gauge::default();
        assert_eq!(gauge.blocked_at(), None);
        gauge.block();
        let before = gauge.blocked_at();
        gauge.block();
        assert_eq!(gauge.blocked_at(), before);
        gauge.advance();
        gauge.block();
        assert_ne!(gauge.blocked_at(), before);
    }
}
