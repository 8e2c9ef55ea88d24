//! The signs of life of one connection: what it is doing, and whether it gets on with it.
//!
//! The connection's own task writes them as it goes, a store or two per request and no look at the
//! clock; [`super::Watch`] looks at them from time to time and cuts whoever stood still for too
//! long. Orders go the other way by the same cell, so that a connection waits for one thing only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::task::Waker;

use futures_util::task::AtomicWaker;

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
    /// A request is in progress that is given up when its client closes its sending side: it is
    /// subscribed, or its body is missed.
    Open,
    /// The reply is made, but maybe not sent.
    Finishing,
}

impl Phase {
    fn from_u8(value: u8) -> Self {
        [Self::New, Self::Waiting, Self::Head, Self::Answering, Self::Open, Self::Finishing][usize::from(value)]
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
}

impl Vitals {
    pub(crate) fn new() -> Self {
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
        Busy(Arc::clone(self))
    }

    /// Gives an order; a lesser one than before changes nothing.
    pub(crate) fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, SeqCst);
        self.waker.wake();
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
pub(crate) struct Busy(Arc<Vitals>);

impl Busy {
    /// The reply goes on until the client leaves.
    pub(crate) fn subscribed(&self) {
        if !self.0.is_http2() {
            self.0.set_phase(Phase::Open);
        }
    }

    /// The connection that the request came by.
    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.in_progress.fetch_sub(1, Relaxed) == 1 {
            self.0.set_phase(if self.0.is_http2() { Phase::Waiting } else { Phase::Finishing });
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
    /// A gauge of something that waits from the start.
    pub(crate) fn waiting() -> Self {
        Self { blocked: AtomicBool::new(true), taken: AtomicU32::new(0) }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_shown_once_the_reply_is_sent() {
        let vitals = Arc::new(Vitals::new());
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
        let vitals = Arc::new(Vitals::new());
        let _busy = vitals.begin();
        vitals.misses_body(Waker::noop());
        assert!(!vitals.shows_end(), "it may still come");
        assert!(vitals.hide_end());
        vitals.misses_body(Waker::noop());
        assert!(vitals.shows_end());
    }

    #[test]
    fn a_subscription_ends_with_its_client() {
        let vitals = Arc::new(Vitals::new());
        vitals.begin().subscribed();
        assert!(!vitals.shows_end(), "it has ended");
        let busy = vitals.begin();
        busy.subscribed();
        assert!(vitals.shows_end());
    }

    #[test]
    fn orders_only_grow() {
        let vitals = Vitals::new();
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
