//! An append of the store's own, and the poke about it, by the way that those of clients take.
//!
//! The servers of a database share one namespace for it, in which each has a stream of its own. Its name has a control
//! character, which requests may not name, and [`EventStore::log`] opens it to nobody; it is in no list, no backup and no metric. After a number of messages a new
//! incarnation takes its place, so that it stays small whoever comes and goes
//! ([0195](../../../docs/decisions/0195-a-server-tests-itself-by-an-append.md)).

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_protocol::message::{Expected, NewMessage};
use eventodb_protocol::request::{Append, AppendEntry};
use eventodb_protocol::{Filter, Scope, Token};
use parking_lot::Mutex;

use super::EventStore;
use crate::error::{Error, Result};
use crate::figures::Figures;
use crate::log::{Budget, Event, Log, Start, Subscribe};
use crate::model::{Namespace, NewNamespace};
use crate::settings::Settings;

/// After this number of messages comes a new incarnation.
const MESSAGES: i64 = 10_000;
/// Bytes that the tail of the log may hold.
const TAIL_BYTES: usize = 64 * 1024;
/// No heartbeat comes within this time.
const NO_HEARTBEAT: Duration = Duration::from_hours(1);

/// The log that this server tests itself with.
#[derive(Debug)]
pub(super) struct Trial {
    stream: Arc<str>,
    log: Mutex<Option<Arc<Log>>>,
    /// Its own, so that what clients do is counted alone.
    figures: Arc<Figures>,
    budget: Arc<Budget>,
}

impl Default for Trial {
    fn default() -> Self {
        Self {
            stream: format!("server-{}", uuid::Uuid::new_v4()).into(),
            log: Mutex::default(),
            figures: Arc::default(),
            budget: Arc::new(Budget::new(TAIL_BYTES)),
        }
    }
}

impl Trial {
    /// Appends a message, waits for its poke, and says how long that took.
    ///
    /// # Errors
    /// Those of [`Log::append`], and of opening a log.
    pub(super) async fn run(&self, store: &EventStore) -> Result<Duration> {
        let log = self.log(store).await?;
        let took = match self.append(&log).await {
            Err(Error::Closed) => {
                // Another server has begun a new incarnation.
                self.forget(&log);
                let next = self.log(store).await?;
                self.append(&next).await?
            }
            outcome => outcome?,
        };
        if log.head() >= MESSAGES {
            self.end(store, &log).await?;
        }
        Ok(took)
    }

    /// The log, if it is open.
    pub(super) fn opened(&self) -> Option<Arc<Log>> {
        self.log.lock().clone()
    }

    pub(super) async fn log(&self, store: &EventStore) -> Result<Arc<Log>> {
        if let Some(log) = self.opened().filter(|log| !log.is_closed()) {
            return Ok(log);
        }
        let namespace = match found(store).await? {
            Some(namespace) => namespace,
            None => create(store).await?,
        };
        let opened = store.backend.open(namespace.incarnation).await?;
        let settings = Arc::new(Settings { version_cache: 8, ..(*store.settings).clone() });
        let (budget, figures) = (Arc::clone(&self.budget), Arc::clone(&self.figures));
        let reads = Arc::clone(&store.reads);
        let log = Log::open(namespace, opened, store.backend.is_shared(), settings, budget, reads, figures).await?;
        *self.log.lock() = Some(Arc::clone(&log));
        Ok(log)
    }

    async fn append(&self, log: &Log) -> Result<Duration> {
        let filter = Filter::new(Scope::Stream(Arc::clone(&self.stream)));
        let subscribe = Subscribe { filter, start: Start::Now, coalesce: None, heartbeat: NO_HEARTBEAT };
        let mut subscription = log.subscribe(subscribe);
        let begun = Instant::now();
        let message = NewMessage { id: None, kind: "Tested".into(), data: "{}".into(), metadata: None };
        let entry = AppendEntry { stream: Arc::clone(&self.stream), expected: Expected::Any, messages: vec![message] };
        let appended = log.append(Append { entries: vec![entry], checks: Vec::new(), group: None }).await?;
        let position = appended.last().map_or(0, |appended| appended.last_global_position);
        let mut is_poked = false;
        while !is_poked || subscription.position() < position {
            match subscription.next().await {
                Event::Pokes(_) => is_poked = true,
                Event::CaughtUp(_) | Event::AheadOfHead(_) | Event::Heartbeat(_) => {}
                Event::Closed => return Err(Error::Closed),
                Event::Damaged(position) => return Err(Error::Damaged(position)),
            }
        }
        Ok(begun.elapsed())
    }

    /// Ends the incarnation: the next test, of whichever server, makes a new one.
    async fn end(&self, store: &EventStore, log: &Arc<Log>) -> Result<()> {
        store.delete_log(log).await?;
        self.forget(log);
        Ok(())
    }

    fn forget(&self, log: &Arc<Log>) {
        log.close();
        let mut known = self.log.lock();
        if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, log)) {
            *known = None;
        }
    }
}

async fn found(store: &EventStore) -> Result<Option<Namespace>> {
    store.backend.namespace(Namespace::OF_SELF_TESTS).await
}

/// Creates the namespace. Nobody ever learns its token.
async fn create(store: &EventStore) -> Result<Namespace> {
    let name = Namespace::OF_SELF_TESTS;
    let new = NewNamespace {
        name: name.to_owned(),
        token_hash: Token::generate(name).hash(),
        description: "the servers' tests of themselves".to_owned(),
        metadata: "{}".to_owned(),
    };
    match store.backend.create(&new).await {
        // Another server was first.
        Err(Error::NamespaceExists) => found(store).await?.ok_or(Error::NamespaceNotFound),
        outcome => outcome,
    }
}
