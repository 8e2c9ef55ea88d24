//! What the tests share: a store on a directory, a plain model of what was written, and the
//! comparison of the two in every way that the store can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_protocol::filter::Traits;
use eventodb_protocol::message::{Expected, Message, NewMessage};
use eventodb_protocol::request::{Append, AppendEntry, Check, ListPage, Read};
use eventodb_protocol::{Condition, ConsumerGroup, Direction, Filter, Scope, Token};
use eventodb_store::model::NewNamespace;
use eventodb_store::sqlite::{self, Location, Sqlite};
use eventodb_store::{Error, EventStore, Log, Result, Settings};
use rusqlite::Connection;
use tempfile::TempDir;
use uuid::Uuid;

/// How long anything may take before it counts as hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The namespace of most tests, the first one: its files are called `1.*`.
pub(crate) const NAME: &str = "n";

/// Bounds with which memtable and index take turns all the time.
pub(crate) fn tiny() -> sqlite::Settings {
    sqlite::Settings {
        open_namespaces: 2,
        memtable_messages: 8,
        memtables_messages: 16,
        index_batch: 3,
        writer_threads: 2,
        readers: 2,
        examined_rows: 3,
        merged_categories: 1,
        min_free: 0,
    }
}

/// Bounds with which nothing is indexed before it has waited for a second.
pub(crate) fn lazy() -> sqlite::Settings {
    sqlite::Settings { index_batch: 1_000_000, ..sqlite::Settings::default() }
}

/// Opens the store in a directory.
pub(crate) async fn open(directory: &Path, settings: sqlite::Settings) -> Arc<EventStore> {
    let backend = Sqlite::open(Location::Directory(directory.to_owned()), settings).expect("the directory is ours");
    // That the machine is busy with other tests is no overload.
    let settings = Settings { queue_interval: PATIENCE, ..Settings::default() };
    EventStore::open(backend, settings).await.expect("the store opens")
}

/// Asks until the storage is available.
pub(crate) async fn available<T, F: Future<Output = Result<T>>>(mut ask: impl FnMut() -> F) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(Error::Unavailable(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            outcome => return outcome,
        }
    }
}

/// The log of a namespace, waited for while its index is being built.
pub(crate) async fn log(store: &EventStore, name: &str) -> Arc<Log> {
    available(|| store.log(name)).await.expect("the namespace is there")
}

pub(crate) async fn create(store: &EventStore, name: &str) -> Token {
    let token = Token::generate(name);
    let new = NewNamespace { token_hash: token.hash(), ..new_namespace(name) };
    store.create(new).await.expect("the name is free");
    token
}

/// A namespace of a token that nobody needs.
pub(crate) fn new_namespace(name: &str) -> NewNamespace {
    NewNamespace {
        name: name.to_owned(),
        token_hash: Token::generate(name).hash(),
        description: format!("about {name}"),
        metadata: "{}".to_owned(),
    }
}

/// Gives a registry the schema that it had in version 1 or 2, with the token that each namespace had there.
pub(crate) fn make_registry_earlier(directory: &Path, version: u32) {
    let registry = Connection::open(directory.join("registry.db")).expect("a database");
    let second = "
        ALTER TABLE namespaces ADD COLUMN token_hash BLOB NOT NULL DEFAULT x'';
        UPDATE namespaces SET token_hash = (SELECT hash FROM tokens WHERE origin = incarnation);
        DROP INDEX namespaces_origin;
        DROP TABLE tokens;
        ALTER TABLE namespaces DROP COLUMN origin;
        ALTER TABLE namespaces DROP COLUMN protected;
        ALTER TABLE namespaces DROP COLUMN quota_messages;
        ALTER TABLE namespaces DROP COLUMN quota_bytes;
        PRAGMA user_version = 2;";
    registry.execute_batch(second).expect("it is ours");
    if version == 1 {
        let first = "
            ALTER TABLE namespaces DROP COLUMN identity;
            ALTER TABLE namespaces DROP COLUMN marked_head;
            PRAGMA user_version = 1;";
        registry.execute_batch(first).expect("it is ours");
    }
}

/// What was written, in order.
#[derive(Clone, Default)]
pub(crate) struct Model(pub(crate) Vec<Message>);

impl Model {
    /// Writes `count` messages to several streams of three categories, and remembers them.
    pub(crate) async fn write(&mut self, log: &Arc<Log>, count: usize) {
        for _ in 0..count {
            let at = self.0.len();
            self.write_to(log, &format!("{}-{}", ["a", "b", "c"][at % 3], at % 7), at).await;
        }
    }

    async fn write_to(&mut self, log: &Arc<Log>, stream: &str, at: usize) {
        let version = self.version(stream);
        let new = NewMessage {
            id: Some(Uuid::new_v4()),
            kind: if at.is_multiple_of(4) { "U" } else { "T" }.into(),
            data: format!("{{\"at\":{at}}}").into(),
            metadata: at.is_multiple_of(5).then(|| r#"{"correlationStreamName":"o-1"}"#.into()),
        };
        let expected = if version < 0 { Expected::NoStream } else { Expected::Version(version) };
        let entry = AppendEntry { stream: stream.into(), expected, messages: vec![new.clone()] };
        let append = Append { entries: vec![entry], checks: Vec::new(), group: None };
        let written = available(|| log.append(append.clone())).await.expect("the version is right")[0];
        assert_eq!(written.first_position, version + 1);
        let head = self.0.last().map_or(0, |message| message.global_position);
        assert_eq!(written.first_global_position, head + 1);
        self.0.push(Message {
            id: new.id.expect("given above"),
            stream: stream.into(),
            kind: new.kind,
            position: written.first_position,
            global_position: written.first_global_position,
            data: new.data,
            metadata: new.metadata,
            time: eventodb_protocol::Timestamp::default(),
        });
    }

    fn version(&self, stream: &str) -> i64 {
        let of_stream = self.0.iter().rev().find(|message| &*message.stream == stream);
        of_stream.map_or(-1, |message| message.position)
    }

    fn streams(&self) -> BTreeSet<Arc<str>> {
        self.0.iter().map(|message| message.stream.clone()).collect()
    }

    /// Compares everything that the store can be asked with what was written, and goes on writing.
    pub(crate) async fn check(&mut self, store: &EventStore) {
        self.check_named(store, NAME).await;
    }

    pub(crate) async fn check_named(&mut self, store: &EventStore, name: &str) {
        let log = log(store, name).await;
        self.check_reads(&log).await;
        self.check_listings(store, &log).await;
        self.check_ids(&log).await;
        // Every version is known: a wrong one is refused, the right one accepted.
        for stream in self.streams() {
            let at = self.0.len();
            assert!(append_expecting(&log, &stream, self.version(&stream) + 1).await.is_err(), "{stream}");
            self.write_to(&log, &stream, at).await;
        }
        self.write_to(&log, &format!("new-{}", self.0.len()), 1).await;
        self.check_reads(&log).await;
        self.check_listings(store, &log).await;
    }

    /// Compares what can be read with what was written.
    pub(crate) async fn check_served(&self, store: &EventStore) {
        let log = log(store, NAME).await;
        self.check_reads(&log).await;
        self.check_listings(store, &log).await;
    }

    async fn check_reads(&self, log: &Arc<Log>) {
        let mut filters = vec![Filter::new(Scope::All)];
        filters.extend(self.streams().into_iter().map(|stream| Filter::new(Scope::Stream(stream))));
        for category in ["a", "b", "c", "new", "none"] {
            let whole = Filter::new(Scope::Categories(vec![category.into()]));
            for member in 0..3 {
                filters.push(Filter { group: ConsumerGroup::new(member, 3), ..whole.clone() });
            }
            filters.push(Filter { types: vec!["U".into()], ..whole.clone() });
            filters.push(Filter { correlation: Some("o".into()), ..whole.clone() });
            filters.push(whole);
        }
        filters.push(Filter::new(Scope::Categories(vec!["a".into(), "c".into()])));
        for filter in filters {
            for direction in [Direction::Forward, Direction::Backward] {
                let from = (direction == Direction::Forward).then_some(0);
                let read = Read { direction, from, ..Read::forward(filter.clone(), 0, 10_000) };
                let mut expected = self.matching(&filter);
                if direction == Direction::Backward {
                    expected.reverse();
                }
                assert_eq!(places(&messages(log, read).await), places(&expected), "{filter:?} {direction:?}");
            }
        }
        for stream in self.streams() {
            let version = available(|| log.version(&stream)).await.expect("the storage answers");
            assert_eq!(version, Some(self.version(&stream)), "{stream}");
        }
        assert_eq!(available(|| log.version("none-1")).await.expect("the storage answers"), None);
    }

    fn matching(&self, filter: &Filter) -> Vec<Message> {
        let matches = |message: &&Message| {
            let (stream, kind, correlation) = (&*message.stream, &*message.kind, message.correlation());
            filter.matches(Traits { stream, kind, correlation: correlation.as_deref() })
        };
        self.0.iter().filter(matches).cloned().collect()
    }

    async fn check_listings(&self, store: &EventStore, log: &Arc<Log>) {
        let streams = self.streams();
        let counts = available(|| log.counts()).await.expect("the storage answers");
        assert_eq!((counts.messages, counts.streams), (self.0.len() as u64, streams.len() as u64));

        let page = ListPage { prefix: String::new(), after: None, limit: 1000 };
        let listed = available(|| log.streams(&page)).await.expect("the storage answers");
        let listed: Vec<_> = listed.into_iter().map(|stream| (stream.stream, stream.version)).collect();
        let expected: Vec<_> = streams.iter().map(|name| (name.to_string(), self.version(name))).collect();
        assert_eq!(listed, expected);

        let mut categories: BTreeMap<String, (BTreeSet<&str>, u64)> = BTreeMap::new();
        for message in &self.0 {
            let (streams, messages) = categories.entry(message.category().to_owned()).or_default();
            streams.insert(&message.stream);
            *messages += 1;
        }
        let listed = available(|| log.categories(&page)).await.expect("the storage answers");
        let listed: Vec<_> = listed
            .into_iter()
            .map(|category| (category.category, category.stream_count, category.message_count))
            .collect();
        let expected: Vec<_> =
            categories.into_iter().map(|(name, (streams, messages))| (name, streams.len() as u64, messages)).collect();
        assert_eq!(listed, expected);

        let listed = available(|| store.list()).await.expect("the storage answers");
        let listed = listed.iter().find(|listed| listed.namespace == *log.namespace().name).expect("it is listed");
        assert_eq!(listed.message_count, self.0.len() as u64);
    }

    /// Every id is known: repeated, it is answered with its first place.
    async fn check_ids(&self, log: &Arc<Log>) {
        for message in &self.0 {
            let again = NewMessage {
                id: Some(message.id),
                kind: message.kind.clone(),
                data: message.data.clone(),
                metadata: message.metadata.clone(),
            };
            let entry = AppendEntry { stream: message.stream.clone(), expected: Expected::Any, messages: vec![again] };
            let append = Append { entries: vec![entry], checks: Vec::new(), group: None };
            let written = available(|| log.append(append.clone())).await.expect("it was written before")[0];
            let place = (written.first_position, written.first_global_position);
            assert_eq!(place, (message.position, message.global_position), "{}", message.id);
        }
    }
}

async fn append_expecting(log: &Arc<Log>, stream: &str, version: i64) -> Result<()> {
    append_one(log, stream, Expected::Version(version)).await
}

/// Writes a message that no model knows of.
pub(crate) async fn append_any(log: &Arc<Log>, stream: &str) -> Result<()> {
    append_one(log, stream, Expected::Any).await
}

/// A write that is not tried again.
pub(crate) async fn try_append(log: &Arc<Log>) -> Result<(), Error> {
    let message = NewMessage { id: None, kind: "T".into(), data: "{}".into(), metadata: None };
    let entry = AppendEntry { stream: "s-1".into(), expected: Expected::Any, messages: vec![message] };
    log.append(Append { entries: vec![entry], checks: Vec::new(), group: None }).await.map(|_| ())
}

/// Writes a message of a type of its own under a condition.
pub(crate) async fn append_if(log: &Arc<Log>, stream: &str, condition: Condition) -> Result<()> {
    let message = NewMessage { id: None, kind: "Conditional".into(), data: "{}".into(), metadata: None };
    let entry = AppendEntry { stream: stream.into(), expected: Expected::Any, messages: vec![message] };
    let checks = vec![Check::Condition(condition)];
    log.append(Append { entries: vec![entry], checks, group: None }).await.map(|_| ())
}

/// What the store tells of itself.
pub(crate) fn codes(store: &EventStore) -> Vec<&'static str> {
    store.degraded().into_iter().map(|degraded| degraded.code).collect()
}

async fn append_one(log: &Arc<Log>, stream: &str, expected: Expected) -> Result<()> {
    let message = NewMessage { id: None, kind: "T".into(), data: "{}".into(), metadata: None };
    let entry = AppendEntry { stream: stream.into(), expected, messages: vec![message] };
    let append = Append { entries: vec![entry], checks: Vec::new(), group: None };
    available(|| log.append(append.clone())).await.map(|_| ())
}

/// Everything that a read finds.
pub(crate) async fn messages(log: &Arc<Log>, read: Read) -> Vec<Message> {
    let all = || async {
        let mut page = log.read(read.clone()).await?;
        let mut messages = Vec::new();
        while let Some(chunk) = page.next().await? {
            messages.extend(chunk.iter().map(|message| message.to_message()));
        }
        Ok(messages)
    };
    available(all).await.expect("the storage answers")
}

/// What is compared of messages; times are the store's own.
fn places(messages: &[Message]) -> Vec<String> {
    let line = |message: &Message| {
        let Message { id, stream, kind, position, global_position, data, metadata, .. } = message;
        format!("{global_position} {stream} {position} {id} {kind} {data} {metadata:?}")
    };
    messages.iter().map(line).collect()
}

/// A directory with a store that holds `count` messages, closed cleanly, and what they are.
pub(crate) async fn store_of(count: usize) -> (TempDir, Model) {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let mut model = Model::default();
    let store = open(directory.path(), sqlite::Settings::default()).await;
    create(&store, NAME).await;
    model.write(&log(&store, NAME).await, count).await;
    store.close().await;
    (directory, model)
}

/// Changes the data of the messages at these positions, which their checksums show.
pub(crate) fn damage(directory: &Path, positions: &[i64]) {
    let connection = Connection::open(log_file(directory)).expect("a database");
    for at in positions {
        let change = format!("UPDATE messages SET data = '{{}}' WHERE global_position = {at}");
        connection.execute_batch(&change).expect("a log");
    }
}

/// A copy of a directory's databases as a crash at this moment would leave them. Taken again until
/// nothing changed while it was taken.
pub(crate) fn crash_copy(directory: &Path) -> TempDir {
    let deadline = Instant::now() + PATIENCE;
    let mut before = contents(directory);
    loop {
        let after = contents(directory);
        if before == after {
            let copy = tempfile::tempdir().expect("a temporary folder");
            for (name, bytes) in after {
                std::fs::write(copy.path().join(name), bytes).expect("there is room");
            }
            return copy;
        }
        assert!(Instant::now() < deadline, "the store never rests");
        before = after;
    }
}

/// All files but the lock and SQLite's shared memory.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(directory).expect("the folder is there").map(|file| file.expect("a file"));
    let named = files.map(|file| (file.file_name().into_string().expect("our own names"), file.path()));
    let kept = named.filter(|(name, _)| name != "lock" && !name.ends_with("-shm"));
    // A file that is gone again is looked for again.
    kept.filter_map(|(name, path)| Some((name, std::fs::read(path).ok()?))).collect()
}

pub(crate) fn index_file(directory: &Path) -> PathBuf {
    directory.join("1.index.db")
}

pub(crate) fn log_file(directory: &Path) -> PathBuf {
    directory.join("1.log.db")
}

/// Whether `file` exists and holds something.
pub(crate) fn holds_something(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0)
}

pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
