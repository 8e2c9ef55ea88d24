//! Runs that meet what no database does on demand: a panic, and a read that fails.

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use eventodb_protocol::group::Epoch;
use eventodb_protocol::message::{Expected, NewMessage};
use eventodb_protocol::reply::{CategoryListed, Quota, StreamListed};
use eventodb_protocol::request::group::{AtomicForm, GroupForm};
use eventodb_protocol::request::{AppendEntry, ListPage};
use eventodb_protocol::token::Token;
use eventodb_protocol::{Filter, Scope, Timestamp};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use uuid::Uuid;

use super::super::read::{Event, Reader, Start, Subscribe};
use super::super::reads::Reads;
use super::super::window::{Budget, Window};
use super::*;
use crate::model::{Batch, Counts, Lineage, NewNamespace, Select, Slice};
use crate::settings::Settings;
use crate::sqlite::{self, Location, Sqlite};
use crate::storage::{Abilities, Backend as _, Opened, Readers, Settled, Storage, Submitted};

mod overload;
mod survey;

/// A storage that cannot be asked for versions while it is told so, and counts reads.
struct Failing {
    storage: Arc<dyn Storage>,
    fails: AtomicBool,
    /// For how many streams it was asked, each time that it failed.
    asked: Mutex<Vec<usize>>,
    reads: AtomicUsize,
}

#[async_trait]
impl Storage for Failing {
    async fn head_since(&self, known: &Head) -> Result<(Head, Lineage)> {
        self.storage.head_since(known).await
    }

    async fn versions(&self, streams: &[Arc<str>]) -> Result<Vec<i64>> {
        if self.fails.load(SeqCst) {
            self.asked.lock().push(streams.len());
            return Err(Error::failed("the disk cannot be read"));
        }
        self.storage.versions(streams).await
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Message>> {
        self.storage.find(ids).await
    }

    async fn message(&self, id: Uuid) -> Result<Option<Message>> {
        self.storage.message(id).await
    }

    async fn position_at(&self, time: Timestamp, head: i64) -> Result<i64> {
        self.storage.position_at(time, head).await
    }

    async fn read(&self, select: &Select) -> Result<Slice> {
        self.reads.fetch_add(1, SeqCst);
        self.storage.read(select).await
    }

    async fn streams(&self, page: &ListPage) -> Result<Vec<StreamListed>> {
        self.storage.streams(page).await
    }

    async fn categories(&self, page: &ListPage) -> Result<Vec<CategoryListed>> {
        self.storage.categories(page).await
    }

    async fn counts(&self) -> Result<Counts> {
        self.storage.counts().await
    }

    async fn bytes(&self) -> Result<u64> {
        self.storage.bytes().await
    }

    fn spawn(&self, run: BoxFuture<'static, ()>) {
        self.storage.spawn(run);
    }

    async fn close(&self) {
        self.storage.close().await;
    }
}

pub(super) fn reads() -> Arc<Reads> {
    Arc::new(Reads::new(Readers { at_once: 1, patience: Duration::MAX }))
}

/// A writer on an empty log in memory.
async fn writer() -> (Arc<Writer>, Arc<Failing>, Arc<Sqlite>) {
    writer_with(|appender| appender).await
}

/// The same, with an appender in place of its own.
async fn writer_with(
    replace: impl FnOnce(Box<dyn Appender>) -> Box<dyn Appender>,
) -> (Arc<Writer>, Arc<Failing>, Arc<Sqlite>) {
    let backend = Sqlite::open(Location::Memory, sqlite::Settings::default()).unwrap();
    let name = "shop".to_owned();
    let token_hash = Token::generate(&name).hash();
    let namespace = NewNamespace { name, token_hash, description: String::new(), metadata: "{}".to_owned() };
    let namespace = backend.create(&namespace).await.unwrap();
    let Opened { storage, appender, groups } = backend.open(namespace.incarnation).await.unwrap();
    let failing = Arc::new(Failing {
        storage,
        fails: AtomicBool::new(false),
        asked: Mutex::default(),
        reads: AtomicUsize::new(0),
    });
    let settings = Arc::new(Settings::default());
    let window = Window::new(0, settings.tail_messages, Arc::new(Budget::new(settings.tail_bytes)));
    let base = Base::new(
        namespace.name,
        settings,
        Arc::clone(&failing) as Arc<dyn Storage>,
        false,
        window,
        Quota::default(),
        reads(),
        groups,
        Arc::default(),
    );
    (Arc::new(Writer::new(Arc::new(base), replace(appender), Head::default())), failing, backend)
}

/// Of two batches under way the first ends only once the second has gone on, as where a log has moved: the second is sent
/// to the new place at once, and the first has to line up behind it there.
struct Crossing {
    submitted: Arc<AtomicUsize>,
    went_on: Arc<Notify>,
}

#[async_trait]
impl Appender for Crossing {
    fn abilities(&self) -> Abilities {
        Abilities { finds_versions: false, takes_batch_behind: true }
    }

    fn submit(&mut self, batch: Arc<Batch>) -> Submitted {
        let (is_first, went_on) = (self.submitted.fetch_add(1, SeqCst) == 0, Arc::clone(&self.went_on));
        Box::pin(async move {
            if is_first {
                went_on.notified().await;
            } else {
                tokio::task::yield_now().await;
                went_on.notify_one();
            }
            Ok(batch.entries(Timestamp::default()))
        })
    }

    async fn settle(&mut self, _: &Batch) -> Result<Settled> {
        unreachable!("each outcome is known")
    }
}

#[tokio::test]
async fn a_batch_that_is_sent_behind_another_goes_on_while_that_one_is_waited_for() {
    let (submitted, went_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let crossing = Crossing { submitted: Arc::clone(&submitted), went_on };
    let (writer, ..) = writer_with(|_| Box::new(crossing)).await;
    let first = tokio::spawn({
        let writer = Arc::clone(&writer);
        async move { writer.append(append("account-1"), &Allowed::Any).await }
    });
    while submitted.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let both = async {
        assert_eq!(writer.append(append("account-2"), &Allowed::Any).await.unwrap()[0].last_global_position, 2);
        assert_eq!(first.await.expect("no panic").unwrap()[0].last_global_position, 1);
    };
    tokio::time::timeout(Duration::from_secs(60), both).await.expect("neither waits for the other for ever");
    assert_eq!(submitted.load(SeqCst), 2, "the second was sent behind the first");
}

fn append(stream: &str) -> Append {
    let message = NewMessage { id: None, kind: "Opened".into(), data: "{}".into(), metadata: None };
    let entry = AppendEntry { stream: stream.into(), expected: Expected::Any, messages: vec![message] };
    Append { entries: vec![entry], checks: Vec::new(), group: None }
}

#[tokio::test]
async fn subscribers_to_the_same_read_once_that_there_is_nothing() {
    let (writer, storage, _backend) = writer().await;
    writer.append(append("account-1"), &Allowed::Any).await.unwrap();
    // Nothing of it is in memory.
    writer.base.window.skip_to(1);
    let reader = Arc::new(Reader::new(Arc::clone(&writer.base), Arc::clone(&writer)));
    let subscribe = || {
        let filter = Filter::new(Scope::Categories(vec!["order".into()]));
        reader.subscribe(Subscribe {
            filter,
            start: Start::Global(0),
            coalesce: None,
            heartbeat: Duration::from_secs(3_600),
        })
    };
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut subscription = subscribe();
        assert_eq!(subscription.next().await, Event::CaughtUp(1));
        held.push(subscription);
        assert_eq!(storage.reads.load(SeqCst), 1);
    }
    let order = writer.append(append("order-1"), &Allowed::Any).await.unwrap();
    assert_eq!(order[0].last_global_position, 2);
    for subscription in &mut held {
        assert!(matches!(subscription.next().await, Event::Pokes(_)));
    }
    assert_eq!(storage.reads.load(SeqCst), 1, "what is written now is in memory");
}

#[tokio::test]
async fn a_run_that_panics_costs_its_caller_an_answer_and_nobody_the_log() {
    let (writer, _, _backend) = writer().await;
    // Without an id for its message.
    let panics = writer.write(Work::Append(NewMessages { ids: Vec::new(), ..append("account-1").into() })).await;
    assert!(matches!(panics, Err(Error::Unknown(_))), "{panics:?}");
    let written =
        tokio::time::timeout(Duration::from_secs(60), writer.append(append("account-1"), &Allowed::Any)).await;
    assert_eq!(written.expect("the log goes on").unwrap()[0].last_global_position, 1);
}

#[tokio::test]
async fn an_append_on_a_group_that_is_busy_holds_up_no_other() {
    let (writer, _, _backend) = writer().await;
    let turn = writer.base.groups.get("g").turn.clone().lock_owned().await;
    let form = AtomicForm::Fence { partition: 0, epoch: Epoch::from_number(1) };
    let acting = Append { group: Some(GroupForm { group: "g".to_owned(), form }), ..append("account-1") };
    let deed = Some(Box::new(Deed::of_no_group(&Allowed::Any)));
    let waiting = writer.write(Work::Append(NewMessages { deed, ..acting.into() }));
    let plain = writer.append(append("account-2"), &Allowed::Any);
    let both = tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(waiting, plain) }).await;
    let (waiting, plain) = both.expect("nobody waits for the turn");
    plain.expect("nothing is in its way");
    assert!(matches!(waiting, Ok(Done::Outrun(_))), "it goes round: {waiting:?}");
    drop(turn);
}

#[tokio::test]
async fn a_read_that_fails_is_not_taken_for_a_batch_that_is_rejected() {
    let (writer, failing, _backend) = writer().await;
    failing.fails.store(true, SeqCst);
    let mut answers = Vec::new();
    for stream in ["account-1", "account-2", "account-3"] {
        answers.push(writer.queue.put(Work::Append(append(stream).into())).await.unwrap());
    }
    writer.schedule();
    for answer in answers {
        let answer = answer.await.expect("each is answered");
        assert!(matches!(answer, Err(Error::Failed(_))), "{answer:?}");
    }
    let asked = failing.asked.lock().clone();
    assert!(asked.iter().all(|streams| *streams == 3), "no append was tried alone: {asked:?}");
    failing.fails.store(false, SeqCst);
    assert_eq!(writer.append(append("account-1"), &Allowed::Any).await.unwrap()[0].last_global_position, 1);
}

#[tokio::test]
async fn draining_waits_for_everything_that_was_accepted() {
    let (writer, _, _backend) = writer().await;
    let mut answers = Vec::new();
    for at in 0..100 {
        let work = Work::Append(append(&format!("account-{at}")).into());
        answers.push(writer.queue.put(work).await.unwrap());
    }
    writer.schedule();
    writer.refuse();
    writer.drain().await;
    assert!(answers.iter_mut().all(|answer| matches!(answer.try_recv(), Ok(Ok(_)))));
    assert!(matches!(writer.append(append("account-1"), &Allowed::Any).await, Err(Error::Closed)));
}
