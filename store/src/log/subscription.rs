//! Subscriptions: a cursor, not a queue.

use std::time::Duration;

use bytes::Bytes;
use eventodb_schema::Filter;

/// What a subscriber asks for.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// Which messages.
    pub filter: Filter,
    /// Where it begins.
    pub start: Start,
    /// Merges the pokes of such a window into the newest one per stream.
    pub coalesce: Option<Duration>,
    /// After this long without an event comes a [`Event::Heartbeat`].
    pub heartbeat: Duration,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this global position, inclusive.
    Global(i64),
    /// At this position in the stream, inclusive; the scope must be a stream.
    Stream(i64),
    /// Behind what is there now.
    Now,
}

/// A cursor in the log: everything that matches up to [`Subscription::position`] was handed out.
#[derive(Debug)]
pub struct Subscription {
    position: i64,
}

/// What a subscription has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Whole frames of pokes, in order.
    Pokes(Bytes),
    /// Everything up to this global position was handed out and there is no more yet: once history
    /// is done, and again after each time the subscriber had fallen behind.
    CaughtUp(i64),
    /// The start lies above the log's head, which is this.
    AheadOfHead(i64),
    /// Nothing happened for a while; handed out up to this global position.
    Heartbeat(i64),
    /// The namespace was deleted, or the store is closing.
    Closed,
}

impl Subscription {
    /// Global position up to which everything that matches was handed out.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Waits for the next event. May be dropped while it waits and called again; nothing is lost.
    /// While the storage is away it keeps trying.
    pub async fn next(&mut self) -> Event {
        unimplemented!()
    }
}
