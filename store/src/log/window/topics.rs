//! The waiters of a log. Subscriptions and waiting reads are woken by topic (a stream, a category, everything), so that
//! a write wakes only the waiters that it concerns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use eventodb_protocol::Scope;
use foldhash::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::Entry;

/// The topics of one log that have waiters.
#[derive(Debug)]
pub(crate) struct Topics {
    inner: Arc<Mutex<Inner>>,
    /// The waiters that the last look of [`Topics::stuck`] found with something to read: where each stood, and since when
    /// it stands there.
    behind: Mutex<HashMap<u64, (i64, Instant)>>,
}

#[derive(Debug)]
struct Inner {
    all: Arc<Topic>,
    streams: HashMap<Arc<str>, Arc<Topic>>,
    categories: HashMap<Arc<str>, Arc<Topic>>,
    next: u64,
}

/// One topic: a stream, a category, or everything.
///
/// **Invariant:** no message of the topic lies behind both `last` and `known_from` and at or below the head.
#[derive(Debug)]
struct Topic {
    /// Global position of the last message of the topic that was published while it had waiters.
    last: AtomicI64,
    /// Global position from which on all messages of the topic are known of: the head when it got its first waiter, or an
    /// earlier one behind which a waiter has looked since.
    known_from: AtomicI64,
    waiters: Mutex<HashMap<u64, Arc<Seat>>>,
}

/// What a topic knows of a waiter.
#[derive(Debug)]
struct Seat {
    notify: Notify,
    /// The global position up to which a subscription has handed out everything; [`i64::MAX`] for another waiter.
    cursor: AtomicI64,
    /// Whether it is the subscription's turn: its subscriber has taken the last event and waits for the next.
    is_asked: AtomicBool,
}

/// It is the subscription's turn until this is dropped.
#[derive(Debug)]
pub(crate) struct Asked(Arc<Seat>);

/// It is not its turn for a while, until this is dropped.
#[derive(Debug)]
pub(crate) struct Resting(Arc<Seat>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.is_asked.store(false, Relaxed);
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        self.0.is_asked.store(true, Relaxed);
    }
}

/// A registration with the topics of a scope. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Waiter {
    inner: Arc<Mutex<Inner>>,
    scope: Scope,
    number: u64,
    topics: Vec<Arc<Topic>>,
    seat: Arc<Seat>,
}

impl Inner {
    fn all(&self) -> Vec<Arc<Topic>> {
        self.streams.values().chain(self.categories.values()).chain([&self.all]).cloned().collect()
    }
}

impl Topic {
    fn new(head: i64) -> Arc<Self> {
        Arc::new(Self { last: AtomicI64::new(0), known_from: AtomicI64::new(head), waiters: Mutex::default() })
    }

    fn may_have_more(&self, after: i64) -> bool {
        after < self.known_from.load(SeqCst) || self.last.load(SeqCst) > after
    }
}

impl Topics {
    /// Those of a log that ends at `head`.
    pub(crate) fn new(head: i64) -> Self {
        let inner =
            Inner { all: Topic::new(head), streams: HashMap::default(), categories: HashMap::default(), next: 0 };
        Self { inner: Arc::new(Mutex::new(inner)), behind: Mutex::default() }
    }

    /// Registers a waiter. `head` is read under the lock under which [`Topics::publish`] moves it.
    pub(crate) fn register(&self, scope: &Scope, head: impl FnOnce() -> i64) -> Waiter {
        let mut inner = self.inner.lock();
        inner.next += 1;
        let number = inner.next;
        let seat = Arc::new(Seat {
            notify: Notify::new(),
            cursor: AtomicI64::new(i64::MAX),
            is_asked: AtomicBool::new(false),
        });
        let head = head();
        let topic = |topics: &mut HashMap<Arc<str>, Arc<Topic>>, name: &Arc<str>| {
            topics.entry(name.clone()).or_insert_with(|| Topic::new(head)).clone()
        };
        let topics: Vec<Arc<Topic>> = match scope {
            Scope::All => vec![inner.all.clone()],
            Scope::Stream(stream) => vec![topic(&mut inner.streams, stream)],
            Scope::Categories(names) => names.iter().map(|name| topic(&mut inner.categories, name)).collect(),
        };
        for topic in &topics {
            topic.waiters.lock().insert(number, seat.clone());
        }
        drop(inner);
        Waiter { inner: self.inner.clone(), scope: scope.clone(), number, topics, seat }
    }

    /// Notes which topics `entries` belong to, lets `move_head` show them, then wakes the waiters of these topics.
    pub(crate) fn publish(&self, entries: &[Arc<Entry>], move_head: impl FnOnce()) {
        let mut touched: Vec<Arc<Topic>> = Vec::new();
        {
            let inner = self.inner.lock();
            let mut touch = |topic: &Arc<Topic>, position: i64| {
                topic.last.store(position, SeqCst);
                if !touched.iter().any(|known| Arc::ptr_eq(known, topic)) {
                    touched.push(topic.clone());
                }
            };
            let somebody = !inner.streams.is_empty() || !inner.categories.is_empty();
            for entry in entries.iter().filter(|_| somebody) {
                let message = entry.message();
                for topic in [inner.streams.get(&message.stream), inner.categories.get(message.category())] {
                    topic.into_iter().for_each(|topic| touch(topic, message.global_position));
                }
            }
            if let Some(last) = entries.last() {
                touch(&inner.all, last.message().global_position);
            }
            move_head();
        }
        for topic in touched {
            topic.waiters.lock().values().for_each(|seat| seat.notify.notify_one());
        }
    }

    /// Lets `move_head` show messages whose topics are not known, and wakes all waiters.
    pub(crate) fn publish_unseen(&self, head: i64, move_head: impl FnOnce()) {
        let inner = self.inner.lock();
        let topics = inner.all();
        topics.iter().for_each(|topic| topic.last.store(head, SeqCst));
        move_head();
        drop(inner);
        for topic in topics {
            topic.waiters.lock().values().for_each(|seat| seat.notify.notify_one());
        }
    }

    /// The lowest cursor of the subscriptions that have something to read.
    pub(crate) fn slowest(&self) -> Option<i64> {
        let slowest = |topic: &Arc<Topic>| {
            let waiters = topic.waiters.lock();
            let cursors = waiters.values().map(|seat| seat.cursor.load(Relaxed));
            cursors.filter(|cursor| topic.may_have_more(*cursor)).min()
        };
        self.all().iter().filter_map(slowest).min()
    }

    /// How many subscriptions have been asked, and had something to read but did not move, since a look at least this
    /// long ago.
    pub(crate) fn stuck(&self, least: Duration, now: Instant) -> usize {
        let mut behind = HashMap::default();
        let mut before = self.behind.lock();
        for topic in self.all() {
            for (number, seat) in &*topic.waiters.lock() {
                let cursor = seat.cursor.load(Relaxed);
                if seat.is_asked.load(Relaxed) && topic.may_have_more(cursor) {
                    let stood = before.get(number).filter(|(at, _)| *at == cursor);
                    behind.insert(*number, (cursor, stood.map_or(now, |(_, since)| *since)));
                }
            }
        }
        let is_stuck = |(_, since): &&(i64, Instant)| now.saturating_duration_since(*since) >= least;
        let stuck = behind.values().filter(is_stuck).count();
        *before = behind;
        stuck
    }

    fn all(&self) -> Vec<Arc<Topic>> {
        self.inner.lock().all()
    }

    /// Whether there are no waiters.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.inner.lock();
        inner.streams.is_empty() && inner.categories.is_empty() && inner.all.waiters.lock().is_empty()
    }
}

impl Waiter {
    /// Whether a message of the scope may have been published after this global position.
    pub(crate) fn may_have_more(&self, after: i64) -> bool {
        self.topics.iter().any(|topic| topic.may_have_more(after))
    }

    /// A read has shown that no message of the scope lies behind `after` and at or below `upto`. Whoever waits for the same
    /// need not read that again.
    pub(crate) fn found_nothing(&self, after: i64, upto: i64) {
        for topic in self.topics.iter().filter(|topic| topic.known_from.load(SeqCst) <= upto) {
            topic.known_from.fetch_min(after, SeqCst);
        }
    }

    /// Everything up to this global position was handed out.
    pub(crate) fn set_cursor(&self, cursor: i64) {
        self.seat.cursor.store(cursor, Relaxed);
    }

    /// The subscriber waits for the next event, until the result is dropped.
    pub(crate) fn asked(&self) -> Asked {
        self.seat.is_asked.store(true, Relaxed);
        Asked(Arc::clone(&self.seat))
    }

    /// The subscriber has asked for a pause, until the result is dropped.
    pub(crate) fn resting(&self) -> Resting {
        self.seat.is_asked.store(false, Relaxed);
        Resting(Arc::clone(&self.seat))
    }

    /// Waits for the next message of the scope; one published since the last call counts.
    pub(crate) async fn woken(&self) {
        self.seat.notify.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut inner = self.inner.lock();
        for topic in &self.topics {
            topic.waiters.lock().remove(&self.number);
        }
        let is_idle = |topic: &Arc<Topic>| topic.waiters.lock().is_empty();
        match &self.scope {
            Scope::All => {}
            Scope::Stream(stream) => {
                if inner.streams.get(stream).is_some_and(is_idle) {
                    inner.streams.remove(stream);
                }
            }
            Scope::Categories(names) => {
                for name in names {
                    if inner.categories.get(name).is_some_and(is_idle) {
                        inner.categories.remove(name);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: i64 = 100;

    fn register(topics: &Topics, names: &[&str]) -> Waiter {
        topics.register(&Scope::Categories(names.iter().map(|name| (*name).into()).collect()), || HEAD)
    }

    #[test]
    fn what_one_waiter_has_looked_through_the_others_need_not_read() {
        let topics = Topics::new(HEAD);
        let first = register(&topics, &["a"]);
        assert!(first.may_have_more(0) && first.may_have_more(HEAD - 1) && !first.may_have_more(HEAD));
        first.found_nothing(7, HEAD - 1);
        assert!(first.may_have_more(7), "something may lie between what was read and what is noted since");
        first.found_nothing(7, HEAD);
        let [second, other, both] = [&["a"][..], &["b"], &["a", "b"]].map(|names| register(&topics, names));
        for (waiter, more) in [(&first, 6), (&second, 6), (&other, HEAD - 1), (&both, HEAD - 1)] {
            assert!(waiter.may_have_more(more) && !waiter.may_have_more(more + 1));
        }
        both.found_nothing(0, HEAD + 5);
        assert!([&first, &second, &other, &both].iter().all(|waiter| !waiter.may_have_more(0)));
    }

    #[test]
    fn the_slowest_is_the_one_that_has_most_to_read() {
        let topics = Topics::new(HEAD);
        let [first, second, other] = [&["a"][..], &["a"], &["b"]].map(|names| register(&topics, names));
        assert_eq!(topics.slowest(), None, "no subscription is among the waiters");
        [&first, &second, &other].iter().for_each(|waiter| waiter.set_cursor(HEAD));
        assert_eq!(topics.slowest(), None);
        topics.publish_unseen(HEAD + 9, || {});
        assert_eq!(topics.slowest(), Some(HEAD));
        [&first, &other].iter().for_each(|waiter| waiter.set_cursor(HEAD + 9));
        second.set_cursor(HEAD + 4);
        assert_eq!(topics.slowest(), Some(HEAD + 4));
        drop(second);
        assert_eq!(topics.slowest(), None);
    }

    #[test]
    fn a_subscription_is_stuck_if_it_is_asked_and_does_not_read_what_is_there() {
        const LEAST: Duration = Duration::from_secs(10);
        let topics = Topics::new(HEAD);
        let [stuck, slow, pausing, moving] = [(); 4].map(|()| register(&topics, &["a", "b"]));
        [&stuck, &slow, &pausing, &moving].iter().for_each(|waiter| waiter.set_cursor(HEAD));
        let _asked = [stuck.asked(), pausing.asked(), moving.asked()];
        let (begin, pause) = (Instant::now(), pausing.resting());
        assert_eq!(topics.stuck(LEAST, begin), 0);
        topics.publish_unseen(HEAD + 9, || {});
        assert_eq!(topics.stuck(LEAST, begin), 0, "nobody knows for how long it has been so");
        moving.set_cursor(HEAD + 1);
        assert_eq!(topics.stuck(LEAST, begin + LEAST), 1);
        drop(pause);
        assert_eq!(topics.stuck(LEAST, begin + LEAST), 1, "its pause has only just ended");
        assert_eq!(topics.stuck(LEAST, begin + LEAST + LEAST), 3);
        [&stuck, &pausing, &moving].iter().for_each(|waiter| waiter.set_cursor(HEAD + 9));
        assert_eq!(topics.stuck(LEAST, begin + LEAST + LEAST), 0);
    }

    #[test]
    fn what_is_not_seen_may_be_of_each_topic() {
        let topics = Topics::new(HEAD);
        let waiter = register(&topics, &["a"]);
        waiter.found_nothing(0, HEAD);
        topics.publish_unseen(HEAD + 9, || {});
        assert!(waiter.may_have_more(HEAD) && !waiter.may_have_more(HEAD + 9));
    }

    #[test]
    fn nothing_is_known_any_more_once_the_last_waiter_has_left() {
        let topics = Topics::new(HEAD);
        register(&topics, &["a"]).found_nothing(0, HEAD);
        assert!(register(&topics, &["a"]).may_have_more(0), "messages were published unseen meanwhile");
    }
}
