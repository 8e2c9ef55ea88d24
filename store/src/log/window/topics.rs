//! The waiters of a log. Subscriptions and waiting reads are woken by topic (a stream, a category, everything), so that
//! a write wakes only the waiters that it concerns.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use eventodb_protocol::Scope;
use foldhash::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::Entry;

/// The topics of one log that have waiters.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    all: Arc<Topic>,
    streams: HashMap<Arc<str>, Arc<Topic>>,
    categories: HashMap<Arc<str>, Arc<Topic>>,
    next: u64,
}

/// One topic: a stream, a category, or everything.
#[derive(Debug, Default)]
struct Topic {
    /// Global position of the last message of the topic that was published while it had waiters.
    last: AtomicI64,
    waiters: Mutex<HashMap<u64, Arc<Notify>>>,
}

/// A registration with the topics of a scope. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Waiter {
    inner: Arc<Mutex<Inner>>,
    scope: Scope,
    number: u64,
    topics: Vec<Arc<Topic>>,
    notify: Arc<Notify>,
    /// The head when it was registered; the topics tell about messages above it only.
    since: i64,
}

impl Topics {
    /// Registers a waiter. `head` is read under the lock under which [`Topics::publish`] moves it.
    pub(crate) fn register(&self, scope: &Scope, head: impl FnOnce() -> i64) -> Waiter {
        let mut inner = self.inner.lock();
        inner.next += 1;
        let number = inner.next;
        let notify = Arc::new(Notify::new());
        let topics: Vec<Arc<Topic>> = match scope {
            Scope::All => vec![inner.all.clone()],
            Scope::Stream(stream) => vec![inner.streams.entry(stream.clone()).or_default().clone()],
            Scope::Categories(names) => {
                names.iter().map(|name| inner.categories.entry(name.clone()).or_default().clone()).collect()
            }
        };
        for topic in &topics {
            topic.waiters.lock().insert(number, notify.clone());
        }
        let since = head();
        drop(inner);
        Waiter { inner: self.inner.clone(), scope: scope.clone(), number, topics, notify, since }
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
            topic.waiters.lock().values().for_each(|notify| notify.notify_one());
        }
    }

    /// Lets `move_head` show messages whose topics are not known, and wakes all waiters.
    pub(crate) fn publish_unseen(&self, head: i64, move_head: impl FnOnce()) {
        let inner = self.inner.lock();
        let topics = inner.streams.values().chain(inner.categories.values()).chain([&inner.all]);
        let topics: Vec<Arc<Topic>> = topics.cloned().collect();
        topics.iter().for_each(|topic| topic.last.store(head, SeqCst));
        move_head();
        drop(inner);
        for topic in topics {
            topic.waiters.lock().values().for_each(|notify| notify.notify_one());
        }
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
        after < self.since || self.topics.iter().any(|topic| topic.last.load(SeqCst) > after)
    }

    /// Waits for the next message of the scope; one published since the last call counts.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
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
