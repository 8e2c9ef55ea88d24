//! The signs of life of one connection: what it is doing, and whether it makes progress.
//!
//! The connection's own task writes them, with a store or two for each request and without reading the clock.
//! [`super::Watch`] looks at them from time to time and cuts connections that stood still for too long. Orders to the
//! connection go through the same cell, so that its task waits for one thing only.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::budget::{Account, Budget, Exhausted, Holder, Permit, Share};
use super::gauge::Gauge;

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

/// What a connection's task, its requests and the watch tell each other.
pub(super) struct Vitals {
    phase: AtomicU8,
    /// Moves on with every change of phase.
    changes: AtomicU32,
    /// Requests in progress; with HTTP/1 at most one.
    in_progress: AtomicU32,
    is_http2: AtomicBool,
    /// hyper sends a stream, and does not look whether the subscriber is gone.
    is_streaming: AtomicBool,
    /// The rest of the present request's body is thrown away.
    body_is_refused: AtomicBool,
    /// The client closed its sending side and the HTTP layer was not told yet.
    end_is_hidden: AtomicBool,
    order: AtomicU8,
    /// Of the connection's task, which is woken by each order.
    waker: Mutex<Option<Waker>>,
    /// Of the task that waits for more of a request's body.
    body_waker: AtomicWaker,
    /// How sending gets on.
    pub(super) sending: Gauge,
    budget: Arc<Budget>,
    /// What memory its requests have taken.
    share: Arc<Share>,
    /// What it is counted with itself.
    memory: Mutex<Option<Permit>>,
    /// What long heads take beside it.
    heads: Mutex<Option<Permit>>,
    /// Of the first valid token that came by it.
    namespace: OnceLock<Arc<str>>,
    /// The end of a valid token that came by it, which vouches for the connection until then.
    voucher: Mutex<Option<CancellationToken>>,
}

impl Vitals {
    /// A new connection. Its requests take memory from `budget`; `memory` is what the connection itself takes.
    pub(super) fn new(budget: &Arc<Budget>, memory: Option<Permit>) -> Self {
        Self {
            phase: AtomicU8::new(Phase::New as u8),
            changes: AtomicU32::new(0),
            in_progress: AtomicU32::new(0),
            is_http2: AtomicBool::new(false),
            is_streaming: AtomicBool::new(false),
            body_is_refused: AtomicBool::new(false),
            end_is_hidden: AtomicBool::new(false),
            order: AtomicU8::new(Order::None as u8),
            waker: Mutex::default(),
            body_waker: AtomicWaker::new(),
            sending: Gauge::default(),
            budget: Arc::clone(budget),
            share: Arc::default(),
            memory: Mutex::new(memory),
            heads: Mutex::default(),
            namespace: OnceLock::new(),
            voucher: Mutex::new(None),
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
            self.wake();
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Relaxed)
    }

    pub(super) fn set_http2(&self) {
        self.is_http2.store(true, Relaxed);
    }

    /// The reply of hyper is a stream from now on, the last one of its connection.
    pub(super) fn set_streaming(&self) {
        self.is_streaming.store(true, Relaxed);
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.is_streaming.load(Relaxed)
    }

    /// Whether the HTTP layer may be told that the client closed its sending side. It drops a
    /// request in progress then, which is wrong for a client that has asked all it wants and waits
    /// for the answer. With HTTP/2 each request has an end of its own.
    pub(super) fn shows_end(&self) -> bool {
        self.is_http2() || !matches!(self.phase(), Phase::Answering | Phase::Finishing)
    }

    /// Remembers that the client has closed its sending side and that hyper was not told. Returns false if hyper may be
    /// told after all.
    pub(super) fn hide_end(&self) -> bool {
        self.end_is_hidden.store(true, SeqCst);
        self.body_waker.wake();
        !self.shows_end()
    }

    /// The rest of the present request's body is only read so that the client can take the reply. If the body ends early,
    /// nothing is missed.
    pub(super) fn refuse_body(&self) {
        self.body_is_refused.store(true, Relaxed);
    }

    /// The application waits for more of a request's body. If the client has closed its sending side, or closes it later,
    /// nothing more comes and hyper is told of the end.
    pub(super) fn misses_body(&self, waker: &Waker) {
        if !self.is_http2() && !self.body_is_refused.load(Relaxed) {
            self.body_waker.register(waker);
            if self.end_is_hidden.load(SeqCst) {
                self.set_phase(Phase::Open);
            }
        }
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.in_progress.fetch_add(1, Relaxed);
        self.body_is_refused.store(false, Relaxed);
        self.set_phase(Phase::Answering);
    }

    /// A request's reply is sent, or given up.
    pub(super) fn end(&self) {
        if self.in_progress.fetch_sub(1, Relaxed) == 1 {
            self.set_phase(if self.is_http2() { Phase::Waiting } else { Phase::Finishing });
        }
    }

    /// An account for the memory of one of its requests.
    pub(super) fn account(&self, holder: Holder) -> Account {
        self.budget.account(&self.share, holder)
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
    pub(super) fn belong_to(&self, namespace: &Arc<str>) -> Result<(), Exhausted> {
        let account = self.budget.account(&Arc::default(), Holder::Namespace(Arc::clone(namespace)));
        for memory in [&self.memory, &self.heads] {
            if let Some(memory) = &mut *memory.lock() {
                memory.move_to(&account)?;
            }
        }
        let _ = self.namespace.set(Arc::clone(namespace));
        Ok(())
    }

    /// The namespace that the connection is counted to.
    pub(super) fn namespace(&self) -> Option<&Arc<str>> {
        self.namespace.get()
    }

    /// Whether a valid token came by this connection.
    pub(super) fn has_token(&self) -> bool {
        self.namespace.get().is_some()
    }

    /// A token that is valid until this end came by the connection.
    pub(super) fn vouch(&self, end: &CancellationToken) {
        let mut voucher = self.voucher.lock();
        // Nearly always it is the same, and then the state of the token, which all its connections share, is not looked at.
        if voucher.as_ref().is_none_or(|before| before != end && before.is_cancelled()) {
            *voucher = Some(end.clone());
        }
    }

    /// Whether a token that came by the connection is still valid.
    fn has_living_token(&self) -> bool {
        self.voucher.lock().as_ref().is_some_and(|end| !end.is_cancelled())
    }

    /// Whether another connection may have its place: it has shown no token that is still valid, and waits for its client
    /// to send or to take something. One of HTTP/2 waits for some of its requests nearly always.
    pub(super) fn is_expendable(&self) -> bool {
        let waits = self.is_http2()
            || matches!(self.phase(), Phase::New | Phase::Waiting | Phase::Head | Phase::Stranger)
            || self.sending.blocked_at().is_some();
        waits && !self.has_living_token()
    }

    /// Gives an order; a lesser one than before changes nothing.
    pub(super) fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// This waker's task is woken by each order from now on.
    pub(super) fn listen(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }

    /// The present order.
    pub(super) fn told(&self) -> Order {
        match self.order.load(SeqCst) {
            0 => Order::None,
            1 => Order::Drain,
            _ => Order::Cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_only_grow() {
        let vitals = Vitals::new(&Arc::new(Budget::new(1024)), None);
        vitals.give(Order::Cut);
        vitals.give(Order::Drain);
        assert_eq!(vitals.told(), Order::Cut);
    }
}
