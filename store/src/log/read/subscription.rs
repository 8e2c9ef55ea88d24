//! Subscriptions. Each is a cursor, not a queue: everything that matches up to the cursor was handed out.
//!
//! A subscription registers as a waiter before it looks. Then it hands out the messages between its cursor and the
//! head, from memory if they are there, else from the storage. History, live messages, reconnects and the messages of
//! other servers take this one path. A slow subscriber costs a cursor, and never a buffer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use eventodb_protocol::message::MessageRef;
use eventodb_protocol::{Direction, Filter, Scope, wire};
use tokio::time::Instant;

use super::super::window::Waiter;
use super::Reader;
use crate::error::{Chain, Error, Result};
use crate::figures::{Figures, Gauge, Subscriptions};
use crate::model::Entry;
use crate::model::{Axis, Columns, Rows, Select};
use crate::seldom::{Due, outage};

/// Pauses between attempts while the storage is away: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Heartbeats come at multiples of this part of their interval, so that one wake-up serves many subscribers.
const BEATS: u32 = 128;

/// Streams whose pokes are merged at once; more go out in parts.
const COALESCED_STREAMS: usize = 4096;

/// A subscriber's request.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// The filter that its messages match.
    pub filter: Filter,
    /// Where it begins.
    pub start: Start,
    /// For how long pokes are gathered; of those of one stream only the newest is handed out.
    pub coalesce: Option<Duration>,
    /// After this long without an event, or up to a hundredth more, comes a [`Event::Heartbeat`].
    pub heartbeat: Duration,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this global position, inclusive.
    Global(i64),
    /// At this position in the stream, inclusive; the scope must be a stream.
    Stream(i64),
    /// Behind the last message that is there now.
    Now,
}

/// The next thing that a subscription tells its subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Whole frames of pokes, in order.
    Pokes(Bytes),
    /// Everything up to this global position was handed out and there is no more yet: once history
    /// is done, and again after each time the subscriber had fallen behind.
    CaughtUp(i64),
    /// The start lies above the log's head, which is this.
    AheadOfHead(i64),
    /// Nothing happened for a while; everything up to this global position was handed out.
    Heartbeat(i64),
    /// The message at this global position is damaged: nothing behind it is handed out, and this comes again.
    Damaged(i64),
    /// The namespace was deleted, or the store is closing.
    Closed,
}

/// A cursor in the log: everything that matches up to [`Subscription::position`] was handed out.
#[derive(Debug)]
pub struct Subscription {
    reader: Arc<Reader>,
    filter: Arc<Filter>,
    waiter: Waiter,
    /// Where it begins, until that is known as a global position.
    start: Option<Start>,
    cursor: i64,
    /// Messages of the stream below this position are not wanted.
    stream_position: i64,
    coalesce: Option<Duration>,
    /// Until when pokes are gathered, after something came.
    gathers_until: Option<Instant>,
    /// Pokes up to the cursor that were merged and not handed out yet.
    merged: Newest,
    heartbeat: Duration,
    told_caught_up: bool,
    _open: Open,
    /// Pokes wait until then for more to go out with them. It is set once the last messages of the log were handed out.
    rest: Option<Instant>,
}

/// The result of a look behind the cursor.
enum Found {
    Pokes(Bytes),
    /// No messages, up to the head.
    Nothing,
}

impl Subscription {
    pub(super) fn new(reader: Arc<Reader>, subscribe: Subscribe) -> Self {
        let Subscribe { filter, start, coalesce, heartbeat } = subscribe;
        let waiter = reader.base.window.register(&filter.scope);
        // Where it can be known without reading, it is, because the subscriber is told before anything is read.
        let cursor = match start {
            Start::Now => reader.base.window.head(),
            Start::Global(position) => position.max(1) - 1,
            Start::Stream(_) => 0,
        };
        waiter.set_cursor(cursor);
        let open = Open::new(&reader.base.figures, &filter.scope);
        Self {
            reader,
            _open: open,
            filter: Arc::new(filter),
            waiter,
            start: Some(start),
            cursor,
            stream_position: 0,
            coalesce,
            gathers_until: None,
            merged: Newest::default(),
            heartbeat,
            told_caught_up: false,
            rest: None,
        }
    }

    /// Global position up to which everything that matches was handed out, or goes out with the next pokes.
    pub fn position(&self) -> i64 {
        self.cursor
    }

    /// Waits for the next event. May be dropped while it waits and called again; nothing is lost.
    /// While the storage is away it keeps trying.
    pub async fn next(&mut self) -> Event {
        let reader = Arc::clone(&self.reader);
        let _asked = self.waiter.asked();
        tokio::select! {
            biased;
            () = reader.base.window.closed() => Event::Closed,
            event = self.event() => event,
        }
    }

    async fn event(&mut self) -> Event {
        let mut pause = RETRY.0;
        loop {
            match self.try_event().await {
                Ok(event) => return event,
                Err(Error::Closed) => return Event::Closed,
                Err(Error::Damaged(position)) => return Event::Damaged(position),
                Err(error) => {
                    let namespace = &self.reader.base.namespace;
                    if let Some(Due { held_back }) = outage("subscription") {
                        tracing::warn!(%namespace, error = %Chain(&error), held_back, "a subscription waits for the storage");
                    }
                    if tokio::time::timeout(self.heartbeat, tokio::time::sleep(pause)).await.is_err() {
                        return Event::Heartbeat(self.cursor);
                    }
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
    }

    async fn try_event(&mut self) -> Result<Event> {
        if let Some(start) = self.start
            && let Some(event) = self.begin(start).await?
        {
            return Ok(event);
        }
        let heartbeat = tokio::time::sleep(self.silence());
        tokio::pin!(heartbeat);
        loop {
            if let Some(until) = self.gathers_until {
                let _resting = self.waiter.resting();
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = &mut heartbeat => return Ok(Event::Heartbeat(self.cursor)),
                }
                self.gathers_until = None;
            }
            self.gather().await;
            if let Found::Pokes(frames) = self.look().await? {
                return Ok(Event::Pokes(frames));
            }
            if !self.told_caught_up {
                self.told_caught_up = true;
                return Ok(Event::CaughtUp(self.cursor));
            }
            tokio::select! {
                () = self.waiter.woken() => {}
                () = &mut heartbeat => {
                    // Messages that do not match did not wake it: the heartbeat tells that the cursor passed them.
                    return match self.look().await? {
                        Found::Pokes(frames) => Ok(Event::Pokes(frames)),
                        Found::Nothing => Ok(Event::Heartbeat(self.cursor)),
                    };
                }
            }
            self.gathers_until = self.coalesce.map(|window| Instant::now() + window);
        }
    }

    /// For how long nothing must happen until a heartbeat.
    fn silence(&self) -> Duration {
        let beat = (self.heartbeat / BEATS).as_nanos().max(1);
        let due = self.reader.opened.elapsed().as_nanos() + self.heartbeat.as_nanos();
        self.heartbeat.saturating_add(Duration::from_nanos_u128(due.next_multiple_of(beat) - due))
    }

    /// Waits until a little time has passed since the last pokes, so that messages which come right after them go out
    /// in one piece: each piece costs a system call on both sides, however small it is.
    async fn gather(&self) {
        if let Some(until) = self.rest
            && self.waiter.may_have_more(self.cursor)
            && Instant::now() < until
        {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Finds the global position to begin at.
    async fn begin(&mut self, start: Start) -> Result<Option<Event>> {
        let head = self.reader.confirm_head().await?;
        let mut ahead = false;
        match start {
            Start::Now => {}
            Start::Global(_) => ahead = self.cursor > head,
            Start::Stream(position) => {
                self.stream_position = position.max(0);
                let cursor = self.before_stream_position(head).await?;
                self.reach(cursor);
            }
        }
        self.start = None;
        if !ahead {
            return Ok(None);
        }
        let namespace = &self.reader.base.namespace;
        tracing::warn!(%namespace, position = self.cursor + 1, head, "a subscription begins above the head");
        self.told_caught_up = true;
        Ok(Some(Event::AheadOfHead(head)))
    }

    /// The global position before the first message at or after the wanted stream position.
    async fn before_stream_position(&self, head: i64) -> Result<i64> {
        if self.stream_position == 0 || head == 0 {
            return Ok(0);
        }
        let mut select = self.select(self.stream_position, i64::MAX, head, 1);
        select.axis = Axis::Stream;
        loop {
            let turn = self.reader.base.subscription_reads().await;
            let slice = self.reader.base.stored(&select).await?;
            drop(turn);
            if let Some(first) = slice.rows.last() {
                return Ok(first.global_position - 1);
            }
            if slice.covered == select.to {
                return Ok(head);
            }
            select.from = slice.covered.saturating_add(1);
        }
    }

    /// Looks for pokes after the cursor, and moves it over what it looked at.
    async fn look(&mut self) -> Result<Found> {
        let is_live = self.told_caught_up;
        loop {
            let head = self.reader.base.window.head();
            if self.cursor < head && !self.waiter.may_have_more(self.cursor) {
                self.reach(head);
            }
            if self.cursor >= head || self.merged.len() >= COALESCED_STREAMS {
                return Ok(self.found());
            }
            let select = self.select(self.cursor + 1, head, head, self.reader.base.settings.slice_rows.max(1));
            let recent = self.reader.base.recent(&select);
            let (frames, covered) = match recent {
                Some(found) => {
                    if is_live {
                        self.observe_delay(&found.entries);
                    }
                    (self.frames_of_entries(&found.entries), found.covered)
                }
                None => {
                    self.reader.base.pauses.at("before a subscription's slice").await;
                    let turn = self.reader.base.subscription_reads().await;
                    if !self.waiter.may_have_more(self.cursor) {
                        // Another subscription to the same has looked meanwhile.
                        continue;
                    }
                    self.told_caught_up = false;
                    let slice = match self.reader.base.stored(&select).await {
                        Ok(slice) => slice,
                        Err(error) if self.merged.len() == 0 => return Err(error),
                        // What was merged so far goes first; the next look fails again.
                        Err(_) => return Ok(self.found()),
                    };
                    drop(turn);
                    if self.filter.is_open() {
                        let last = slice.rows.last().map_or(self.cursor, |last| last.global_position);
                        self.waiter.found_nothing(last, slice.covered);
                    }
                    (self.frames_of_rows(&slice.rows), slice.covered)
                }
            };
            // More lies behind a slice that was cut.
            self.told_caught_up &= covered == head;
            self.reach(covered);
            if !frames.is_empty() {
                self.rest = (covered == head).then(|| Instant::now() + self.reader.base.settings.poke_gap);
                return Ok(Found::Pokes(frames));
            }
        }
    }

    /// Everything that matches up to this global position was handed out, or is about to be.
    fn reach(&mut self, cursor: i64) {
        self.cursor = cursor;
        self.waiter.set_cursor(cursor);
    }

    /// Counts how long the first of these messages, which are new to a subscription at the head, waited to be handed out.
    fn observe_delay(&self, entries: &[Arc<Entry>]) {
        if let Some(shown) = entries.first().and_then(|entry| entry.shown_at()) {
            let now = std::time::Instant::now();
            self.reader.base.figures.subscriptions.delay.observe(now.saturating_duration_since(shown), now);
        }
    }

    /// The pokes that were merged.
    fn found(&mut self) -> Found {
        let merged = std::mem::take(&mut self.merged);
        self.count_pokes(merged.len());
        merged.into_found()
    }

    fn count_pokes(&self, pokes: usize) {
        self.reader.base.figures.subscriptions.pokes.add(pokes as u64);
    }

    fn select(&self, from: i64, to: i64, head: i64, rows: usize) -> Select {
        Select {
            filter: self.filter.clone(),
            axis: Axis::Global,
            from,
            to,
            head,
            direction: Direction::Forward,
            rows,
            bytes: self.reader.base.settings.poke_bytes,
            columns: Columns::Positions,
        }
    }

    /// The frames of the entries that are wanted. If pokes are coalesced, they are merged instead.
    fn frames_of_entries(&mut self, entries: &[Arc<Entry>]) -> Bytes {
        let from = self.stream_position;
        let mut wanted = entries.iter().filter(|entry| entry.message().position >= from);
        if self.coalesce.is_some() {
            wanted.for_each(|entry| self.merged.put(entry.message().as_ref()));
            return Bytes::new();
        }
        if entries.len() == 1 {
            let poke = wanted.next().map(|entry| entry.poke().clone());
            self.count_pokes(poke.iter().len());
            return poke.unwrap_or_default();
        }
        let mut frames = BytesMut::with_capacity(entries.len() * 128);
        let mut pokes = 0;
        wanted.for_each(|entry| {
            pokes += 1;
            frames.extend_from_slice(entry.poke());
        });
        self.count_pokes(pokes);
        frames.freeze()
    }

    /// As [`Self::frames_of_entries`], for messages from the storage.
    fn frames_of_rows(&mut self, rows: &Rows) -> Bytes {
        let from = self.stream_position;
        let wanted = rows.iter().filter(|message| message.position >= from);
        if self.coalesce.is_some() {
            wanted.for_each(|message| self.merged.put(message));
            return Bytes::new();
        }
        let mut frames = Vec::with_capacity(rows.len() * 128);
        let mut pokes = 0;
        for message in wanted {
            pokes += 1;
            wire::write_poke(&mut frames, message.stream, message.position, message.global_position);
        }
        self.count_pokes(pokes);
        frames.into()
    }
}

/// Counts a subscription as open, by what it subscribes to, until it is dropped.
#[derive(Debug)]
struct Open {
    figures: Arc<Figures>,
    kind: fn(&Subscriptions) -> &Gauge,
}

impl Open {
    fn new(figures: &Arc<Figures>, scope: &Scope) -> Self {
        let kind: fn(&Subscriptions) -> &Gauge = match scope {
            Scope::All => |of| &of.of_all,
            Scope::Stream(_) => |of| &of.of_stream,
            Scope::Categories(_) => |of| &of.of_categories,
        };
        kind(&figures.subscriptions).enter();
        Self { figures: Arc::clone(figures), kind }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        (self.kind)(&self.figures.subscriptions).leave();
    }
}

/// The newest poke of each stream.
#[derive(Debug, Default)]
struct Newest(HashMap<Box<str>, (i64, i64)>);

impl Newest {
    fn put(&mut self, message: MessageRef<'_>) {
        let positions = (message.global_position, message.position);
        match self.0.get_mut(message.stream) {
            Some(newest) => *newest = positions,
            None => {
                self.0.insert(message.stream.into(), positions);
            }
        }
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// Their frames, in order.
    fn into_found(self) -> Found {
        if self.0.is_empty() {
            return Found::Nothing;
        }
        let mut pokes: Vec<_> = self.0.into_iter().collect();
        pokes.sort_unstable_by_key(|(_, positions)| *positions);
        let mut frames = Vec::with_capacity(pokes.len() * 128);
        for (stream, (global_position, position)) in pokes {
            wire::write_poke(&mut frames, &stream, position, global_position);
        }
        Found::Pokes(frames.into())
    }
}
