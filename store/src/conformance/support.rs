//! Shared by the cases: a database with one namespace, and short ways to write and read.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::message::{Expected, Message, NewMessage};
use eventodb_protocol::reply::Appended;
use eventodb_protocol::request::{Append, AppendEntry, Read};
use eventodb_protocol::{Direction, Filter, Scope, Token};

use super::Database;
use crate::error::Result;
use crate::log::{Event, Log, Page, Start, Subscribe, Subscription};
use crate::model::NewNamespace;
use crate::settings::Settings;
use crate::{Error, EventStore};

/// How long a case may take before it counts as hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A database under test, and the store on it.
pub struct World {
    database: Box<dyn Database>,
    pub(crate) settings: Settings,
    pub(crate) store: Arc<EventStore>,
}

impl World {
    pub(crate) async fn new(database: Box<dyn Database>, settings: Settings) -> Self {
        let store = open(&*database, &settings).await;
        Self { database, settings, store }
    }

    /// The log of a new namespace.
    pub(crate) async fn log(&self) -> Arc<Log> {
        let name = format!("n{}", uuid::Uuid::new_v4().simple());
        self.create(&name).await;
        self.store.log(&name).await.expect("it was just created")
    }

    pub(crate) async fn create(&self, name: &str) -> Token {
        let token = Token::generate(name);
        self.store.create(namespace(name, &token)).await.expect("the name is free");
        token
    }

    /// The database behind the store.
    pub(crate) fn backend(&self) -> &dyn crate::Backend {
        self.store.backend()
    }

    /// Closes the store and opens the same database again. Returns false if the database ends with its backend.
    pub(crate) async fn reopen(&mut self) -> bool {
        if !self.database.is_durable() {
            return false;
        }
        self.store.close().await;
        self.store = open(&*self.database, &self.settings).await;
        true
    }

    /// Another server on the same database; `None` if only one can use it.
    pub(crate) async fn second(&self) -> Option<Arc<EventStore>> {
        if !self.backend().is_shared() {
            return None;
        }
        Some(open(&*self.database, &self.settings).await)
    }

    pub(crate) async fn close(self) {
        self.store.close().await;
        self.database.end().await;
    }
}

async fn open(database: &dyn Database, settings: &Settings) -> Arc<EventStore> {
    // That the machine is busy with other tests is no overload.
    let settings = Settings { queue_interval: PATIENCE, ..settings.clone() };
    EventStore::open(database.open().await, settings).await.expect("a database opens")
}

pub(crate) fn namespace(name: &str, token: &Token) -> NewNamespace {
    NewNamespace {
        name: name.to_owned(),
        token_hash: token.hash(),
        description: String::new(),
        metadata: "{}".to_owned(),
    }
}

pub(crate) fn message(kind: &str) -> NewMessage {
    NewMessage { id: None, kind: kind.into(), data: "{}".into(), metadata: None }
}

pub(crate) fn entry(stream: &str, expected: Expected, messages: Vec<NewMessage>) -> AppendEntry {
    AppendEntry { stream: stream.into(), expected, messages }
}

pub(crate) fn append(entries: Vec<AppendEntry>) -> Append {
    Append { entries, checks: Vec::new(), group: None }
}

/// Writes one message, whatever the stream's version.
pub(crate) async fn write(log: &Arc<Log>, stream: &str, kind: &str) -> Appended {
    write_expecting(log, stream, Expected::Any, message(kind)).await.expect("nothing is in the way")
}

pub(crate) async fn write_expecting(
    log: &Arc<Log>,
    stream: &str,
    expected: Expected,
    message: NewMessage,
) -> Result<Appended> {
    let results = log.append(append(vec![entry(stream, expected, vec![message])])).await?;
    let [result] = results[..] else { panic!("one entry has one result") };
    Ok(result)
}

pub(crate) fn stream(name: &str) -> Filter {
    Filter::new(Scope::Stream(name.into()))
}

pub(crate) fn category(name: &str) -> Filter {
    Filter::new(Scope::Categories(vec![name.into()]))
}

pub(crate) fn everything() -> Filter {
    Filter::new(Scope::All)
}

/// A read of a stream by its positions.
pub(crate) fn stream_read(name: &str, from: Option<i64>, direction: Direction, limit: usize) -> Read {
    Read { by_stream_position: true, from, direction, ..Read::forward(stream(name), 0, limit) }
}

/// All messages of a page.
pub(crate) async fn messages(mut page: Page) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(chunk) = page.next().await.expect("the storage answers") {
        messages.extend(chunk.iter().map(|message| message.to_message()));
    }
    messages
}

pub(crate) async fn read(log: &Arc<Log>, read: Read) -> Vec<Message> {
    messages(log.read(read).await.expect("the storage answers")).await
}

/// Everything in the log.
pub(crate) async fn all(log: &Arc<Log>) -> Vec<Message> {
    read(log, Read::forward(everything(), 0, 10_000)).await
}

pub(crate) fn positions(messages: &[Message]) -> Vec<i64> {
    messages.iter().map(|message| message.position).collect()
}

pub(crate) fn global_positions(messages: &[Message]) -> Vec<i64> {
    messages.iter().map(|message| message.global_position).collect()
}

pub(crate) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::VersionConflict(_))
}

pub(crate) fn subscribe(log: &Arc<Log>, filter: Filter, start: Start) -> Subscription {
    log.subscribe(Subscribe { filter, start, coalesce: None, heartbeat: Duration::from_secs(600) })
}

/// A poke as its frame tells it: stream, position, global position.
pub(crate) type Poke = (String, i64, i64);

/// The pokes in some frames.
pub(crate) fn pokes(frames: &[u8]) -> Vec<Poke> {
    let text = std::str::from_utf8(frames).expect("frames are UTF-8");
    let frames = text.split_terminator("\n\n");
    frames
        .map(|frame| {
            let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).expect("a poke has data");
            let number = |key: &str| {
                let value = eventodb_protocol::json::member(data, key).expect("a poke has its positions");
                value.parse().expect("positions are numbers")
            };
            let stream = eventodb_protocol::json::member(data, "stream").and_then(eventodb_protocol::json::string);
            (stream.expect("a poke has its stream").into_owned(), number("position"), number("globalPosition"))
        })
        .collect()
}

/// Takes events until there were `count` pokes.
pub(crate) async fn take(subscription: &mut Subscription, count: usize) -> Vec<Poke> {
    let mut taken = Vec::new();
    while taken.len() < count {
        match subscription.next().await {
            Event::Pokes(frames) => taken.extend(pokes(&frames)),
            Event::Damaged(position) => panic!("the message at {position} is damaged"),
            Event::Closed => panic!("the subscription ended after {} of {count} pokes", taken.len()),
            Event::CaughtUp(_) | Event::AheadOfHead(_) | Event::Heartbeat(_) => {}
        }
    }
    taken
}
