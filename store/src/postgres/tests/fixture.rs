//! A backend on a fresh database, and messages to put into it.

use std::sync::Arc;

use eventodb_protocol::message::Message;
use eventodb_protocol::{Direction, Filter, Scope, Timestamp, Token};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::EventStore;
use crate::conformance::support::PATIENCE;
use crate::error::Result;
use crate::model::{Axis, Batch, Columns, Head, Incarnation, NewNamespace, Select, Slice};
use crate::postgres::{Postgres, Settings};
use crate::storage::{Appender, Backend, Opened, Outcome, Settled, Storage};
use eventodb_testing::postgres;

/// A server on the database.
pub(super) async fn open_store(backend: Settings, settings: crate::Settings) -> Arc<EventStore> {
    let backend = Postgres::open(backend).await.expect("the database is fine");
    // That the machine is busy with other tests is no overload.
    let settings = crate::Settings { queue_interval: PATIENCE, ..settings };
    EventStore::open(backend, settings).await.expect("it answers")
}

/// A backend on a database of its own.
pub(super) struct Fixture {
    pub(super) url: String,
    pub(super) backend: Arc<Postgres>,
    pub(super) log: Incarnation,
    pub(super) storage: Arc<dyn Storage>,
    appender: Mutex<Box<dyn Appender>>,
}

pub(super) fn settings(url: &str) -> Settings {
    Settings::new(url.parse().expect("a good URL"))
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::at(postgres::database().await, change).await
    }

    pub(super) async fn at(url: String, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings(&url);
        change(&mut settings);
        let backend = Postgres::open(settings).await.expect("the database is fresh");
        let namespace = match backend.namespace("test").await.expect("it answers") {
            Some(namespace) => namespace,
            None => backend.create(&new_namespace("test")).await.expect("the name is free"),
        };
        let Opened { storage, appender, .. } = backend.open(namespace.incarnation).await.expect("it lives");
        Self { url, backend, log: namespace.incarnation, storage, appender: Mutex::new(appender) }
    }

    /// Drops what was deleted; by servers that begin anew, as one that met somebody who still works there,
    /// be it on counts in the background, pauses before it tries again.
    pub(super) async fn purge_all(&self) {
        self.long_ago().await;
        while self.number("SELECT count(*) FROM eventodb.namespaces WHERE deleted_at IS NOT NULL").await > 0 {
            let server = Postgres::open(settings(&self.url)).await.expect("the database is fine");
            server.purge().await.expect("it answers");
            server.close().await;
        }
    }

    /// Lets a while have passed since what was deleted was deleted.
    pub(super) async fn long_ago(&self) {
        self.sql("UPDATE eventodb.namespaces SET deleted_at = deleted_at - interval '1 minute'").await;
    }

    /// Another server on the same database.
    pub(super) async fn second(&self) -> Self {
        Self::at(self.url.clone(), |_| {}).await
    }

    /// SQL past the code under test, on the log's schema.
    pub(super) async fn sql(&self, text: &str) {
        postgres::run(&self.url, &text.replace("{log}", &format!("eventodb_{}", self.log.0))).await;
    }

    /// One number that SQL on the log's schema returns.
    pub(super) async fn number(&self, text: &str) -> i64 {
        let text = text.replace("{log}", &format!("eventodb_{}", self.log.0));
        postgres::connect(&self.url).await.query_one(&text, &[]).await.expect("good SQL").get(0)
    }

    /// Waits until SQL on the log's schema returns this number.
    pub(super) async fn until(&self, text: &str, wanted: i64) {
        let holds = async { while self.number(text).await != wanted {} };
        tokio::time::timeout(PATIENCE, holds).await.unwrap_or_else(|_| panic!("{text} never returned {wanted}"));
    }

    /// Appends these to the head, whose stream positions go on from what is there.
    pub(super) async fn write(&self, places: &[(&str, &str)]) -> Batch {
        let batch = self.batch(places).await;
        self.append(&batch).await.expect("nobody else writes");
        batch
    }

    pub(super) async fn append(&self, batch: &Batch) -> Outcome {
        let submitted = self.appender.lock().await.submit(Arc::new(batch.clone()));
        submitted.await
    }

    pub(super) async fn settle(&self, batch: &Batch) -> Result<Settled> {
        self.appender.lock().await.settle(batch).await
    }

    /// A batch after the head with one message per (stream, type).
    pub(super) async fn batch(&self, places: &[(&str, &str)]) -> Batch {
        let head = self.storage.head().await.expect("it answers");
        let names: Vec<Arc<str>> = places.iter().map(|(stream, _)| (*stream).into()).collect();
        let mut versions = self.storage.versions(&names).await.expect("it answers");
        for at in 0..names.len() {
            if let Some(before) = (0..at).rev().find(|&before| names[before] == names[at]) {
                versions[at] = versions[before] + 1;
            }
        }
        let messages: Vec<Message> = places
            .iter()
            .enumerate()
            .map(|(at, (stream, kind))| message(stream, kind, versions[at] + 1, head.position + 1 + at as i64))
            .collect();
        batch(head, messages)
    }

    pub(super) async fn read(&self, select: Select) -> Slice {
        self.storage.read(&select).await.expect("it answers")
    }
}

pub(super) fn new_namespace(name: &str) -> NewNamespace {
    NewNamespace {
        name: name.to_owned(),
        token_hash: Token::generate(name).hash(),
        description: "about it".to_owned(),
        metadata: "{}".to_owned(),
    }
}

pub(super) fn message(stream: &str, kind: &str, position: i64, global_position: i64) -> Message {
    Message {
        id: Uuid::new_v4(),
        stream: stream.into(),
        kind: kind.into(),
        position,
        global_position,
        data: r#"{"n":1.10,"s":"\u0000\ud800 ü"}"#.into(),
        metadata: None,
        time: Timestamp::default(),
    }
}

pub(super) fn batch(after: Head, messages: Vec<Message>) -> Batch {
    let starts_stream = messages.iter().map(|message| message.position == 0).collect();
    Batch {
        id: Uuid::new_v4(),
        after,
        messages,
        starts_stream,
        open: foldhash::HashSet::default(),
        keep_times: false,
        groups: Vec::new(),
    }
}

/// The same where the versions of these streams are left to be found: their positions are counted from 0.
pub(super) fn open_batch(after: Head, messages: Vec<Message>, open: &[&str]) -> Batch {
    let open: foldhash::HashSet<Arc<str>> = open.iter().map(|&stream| stream.into()).collect();
    let starts = |message: &Message| message.position == 0 && !open.contains(&message.stream);
    let starts_stream = messages.iter().map(starts).collect();
    Batch { starts_stream, open, ..batch(after, messages) }
}

/// Everything in `scope`, by global position.
pub(super) fn select(scope: Scope) -> Select {
    Select {
        filter: Arc::new(Filter::new(scope)),
        axis: Axis::Global,
        from: 1,
        to: i64::MAX,
        head: i64::MAX,
        direction: Direction::Forward,
        rows: 100,
        bytes: 1 << 20,
        columns: Columns::All,
    }
}

/// The global positions of a slice.
pub(super) fn positions(slice: &Slice) -> Vec<i64> {
    slice.rows.iter().map(|message| message.global_position).collect()
}
