//! Overload, on a database that takes the time it is told to, by a clock that stands still meanwhile.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::*;
use crate::groups::{AuditEntry, Change, Stored};
use crate::model::Batch;
use crate::storage::groups::{GroupStorage, Looked, Question, Version};
use crate::storage::{AppendError, Settled, Submitted};

/// A database in which nothing is kept but the order of time.
#[derive(Default)]
struct Slow {
    /// How long a commit takes.
    commit: Mutex<Duration>,
    /// Whether the database does not answer: the outcome of an append is unknown, and cannot be found out.
    is_away: AtomicBool,
}

impl Slow {
    fn set_commit(&self, time: Duration) {
        *self.commit.lock() = time;
    }
}

struct SlowAppender(Arc<Slow>);

#[async_trait]
impl Appender for SlowAppender {
    fn submit(&mut self, batch: Arc<Batch>) -> Submitted {
        let slow = Arc::clone(&self.0);
        Box::pin(async move {
            let time = *slow.commit.lock();
            sleep(time).await;
            if slow.is_away.load(SeqCst) {
                return Err(AppendError::Unknown(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from("away"))));
            }
            Ok(batch.entries(batch.after.time))
        })
    }

    async fn settle(&mut self, _batch: &Batch) -> Result<Settled> {
        if self.0.is_away.load(SeqCst) {
            return Err(Error::unavailable("away"));
        }
        Ok(Settled::NotCommitted)
    }
}

#[async_trait]
impl Storage for Slow {
    async fn head_since(&self, known: &Head) -> Result<(Head, Lineage)> {
        Ok((*known, Lineage::Follows))
    }

    async fn versions(&self, streams: &[Arc<str>]) -> Result<Vec<i64>> {
        Ok(vec![-1; streams.len()])
    }

    async fn find(&self, _ids: &[Uuid]) -> Result<Vec<Message>> {
        Ok(Vec::new())
    }

    async fn message(&self, _id: Uuid) -> Result<Option<Message>> {
        Ok(None)
    }

    async fn position_at(&self, _time: Timestamp, head: i64) -> Result<i64> {
        Ok(head + 1)
    }

    async fn read(&self, select: &Select) -> Result<Slice> {
        unreachable!("nothing is read: {select:?}")
    }

    async fn streams(&self, _page: &ListPage) -> Result<Vec<StreamListed>> {
        Ok(Vec::new())
    }

    async fn categories(&self, _page: &ListPage) -> Result<Vec<CategoryListed>> {
        Ok(Vec::new())
    }

    async fn counts(&self) -> Result<Counts> {
        Ok(Counts::default())
    }

    async fn bytes(&self) -> Result<u64> {
        Ok(0)
    }

    fn spawn(&self, run: BoxFuture<'static, ()>) {
        tokio::spawn(run);
    }

    async fn close(&self) {}
}

/// A database without groups.
struct NoGroups;

#[async_trait]
impl GroupStorage for NoGroups {
    async fn look(&self, _: Question) -> Result<Looked> {
        Err(Error::GroupNotFound)
    }

    async fn change(&self, _: Change) -> Result<Option<Version>> {
        Ok(None)
    }

    async fn delete(&self, _: &str, _: Version) -> Result<bool> {
        Ok(false)
    }

    async fn last(&self, _: &str) -> Result<Option<(Stored, Epoch)>> {
        Ok(None)
    }

    async fn names(&self) -> Result<Vec<Arc<str>>> {
        Ok(Vec::new())
    }

    async fn audit(&self, _: &str, _: i64, _: usize) -> Result<Vec<AuditEntry>> {
        Ok(Vec::new())
    }
}

/// A writer on a slow database that commits at most `batch_messages` at a time.
fn slow_writer(batch_messages: usize) -> (Arc<Writer>, Arc<Slow>) {
    let slow = Arc::new(Slow::default());
    let settings = Arc::new(Settings { batch_messages, ..Settings::default() });
    let window = Window::new(0, settings.tail_messages, Arc::new(Budget::new(settings.tail_bytes)));
    let storage = Arc::clone(&slow) as Arc<dyn Storage>;
    let (quota, groups, figures) = (Quota::default(), Arc::new(NoGroups), Arc::default());
    let base = Base::new("shop".into(), settings, storage, false, window, quota, reads(), groups, figures);
    let appender = Box::new(SlowAppender(Arc::clone(&slow)));
    (Arc::new(Writer::new(Arc::new(base), appender, Head::default())), slow)
}

/// The answers to appends, each with the time that it took.
#[derive(Default)]
struct Answers(JoinSet<(Duration, Result<Vec<Appended>>)>);

impl Answers {
    /// Appends once each `pause` for this time.
    async fn keep_appending(&mut self, writer: &Arc<Writer>, pause: Duration, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let writer = Arc::clone(writer);
            self.0.spawn(async move {
                let started = Instant::now();
                let answer = writer.append(append("account-1"), &Allowed::Any).await;
                (started.elapsed(), answer)
            });
            sleep(pause).await;
        }
    }

    /// How long each accepted one took, and each refused one with its error.
    async fn all(self) -> (Vec<Duration>, Vec<(Duration, Error)>) {
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for (time, answer) in self.0.join_all().await {
            match answer {
                Ok(_) => accepted.push(time),
                Err(error) => refused.push((time, error)),
            }
        }
        (accepted, refused)
    }
}

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_commit_that_stalls_for_half_a_second_refuses_nothing() {
    let (writer, slow) = slow_writer(1_000);
    let mut answers = Answers::default();
    slow.set_commit(MS);
    answers.keep_appending(&writer, MS, 200 * MS).await;
    slow.set_commit(500 * MS);
    answers.keep_appending(&writer, MS, 2 * MS).await;
    slow.set_commit(MS);
    answers.keep_appending(&writer, MS, 2_000 * MS).await;
    let (accepted, refused) = answers.all().await;
    assert_eq!((accepted.len(), refused.len()), (2_202, 0));
    assert!(accepted.iter().max() >= Some(&(490 * MS)), "the stall was there");
}

#[tokio::test(start_paused = true)]
async fn a_lasting_overload_refuses_at_once_and_those_that_are_accepted_wait_near_the_target() {
    let (writer, slow) = slow_writer(10);
    // Five hundred a second are taken, and twice as many come.
    slow.set_commit(20 * MS);
    let mut first = Answers::default();
    first.keep_appending(&writer, MS, 2_000 * MS).await;
    let mut later = Answers::default();
    later.keep_appending(&writer, MS, 10_000 * MS).await;
    let (_, refused) = first.all().await;
    assert!(!refused.is_empty(), "it is noticed within two seconds");
    let (accepted, refused) = later.all().await;
    assert!(refused.iter().all(|(time, error)| time.is_zero() && matches!(error, Error::Overloaded)));
    assert!(accepted.len() >= 4_800, "the database has all the work that it can do: {}", accepted.len());
    let longest = accepted.iter().max().copied().unwrap_or_default();
    // Until the oldest has waited for the target, twice as many as can be taken in that time have come.
    assert!(longest <= 2 * 100 * MS + 2 * 20 * MS, "the target is 100 ms, and a commit takes 20 ms: {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn what_would_be_refused_can_be_refused_before_it_is_made() {
    let (writer, slow) = slow_writer(10);
    assert!(writer.check_age().is_ok());
    slow.set_commit(20 * MS);
    let (mut early, mut refused) = (0, 0);
    for _ in 0..5_000 {
        let is_early = matches!(writer.check_age(), Err(Error::Overloaded));
        // Those that are accepted wait, and go on although nobody waits for them.
        let answer = writer.append(append("account-1"), &Allowed::Any).now_or_never();
        let is_refused = matches!(answer, Some(Err(Error::Overloaded)));
        assert!(is_refused || !is_early, "it would have been accepted");
        early += usize::from(is_early);
        refused += usize::from(is_refused);
        sleep(MS).await;
    }
    assert!(refused > 1_000 && early > refused * 9 / 10, "{early} of {refused}");
    sleep(1_000 * MS).await;
    assert!(writer.check_age().is_ok(), "nothing waits any more");
}

#[tokio::test(start_paused = true)]
async fn an_overload_that_is_over_refuses_nothing_more() {
    let (writer, slow) = slow_writer(10);
    slow.set_commit(20 * MS);
    Answers::default().keep_appending(&writer, MS, 5_000 * MS).await;
    let mut gentle = Answers::default();
    gentle.keep_appending(&writer, 4 * MS, 1_000 * MS).await;
    drop(gentle);
    let mut later = Answers::default();
    slow.set_commit(500 * MS);
    later.keep_appending(&writer, 4 * MS, 2 * MS).await;
    slow.set_commit(20 * MS);
    later.keep_appending(&writer, 4 * MS, 3_000 * MS).await;
    assert!(later.all().await.1.is_empty(), "a stall of half a second, as if there had been no overload");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_after_the_interval() {
    let slow = Arc::new(Slow::default());
    slow.set_commit(60_000 * MS);
    let queue = Queue::new(&Settings { queue_appends: 1, ..Settings::default() }, Arc::default(), Arc::default());
    let _first = queue.put(Work::Append(append("account-1").into())).await.unwrap();
    let started = Instant::now();
    let refused = queue.put(Work::Append(append("account-1").into())).await;
    assert!(matches!(refused, Err(Error::Overloaded)), "{refused:?}");
    assert_eq!(started.elapsed(), 1_000 * MS);
}

#[tokio::test(start_paused = true)]
async fn an_import_is_not_refused_for_the_age_of_appends() {
    let (writer, slow) = slow_writer(10);
    slow.set_commit(20 * MS);
    let mut appends = Answers::default();
    appends.keep_appending(&writer, MS, 3_000 * MS).await;
    let record = Message {
        global_position: 1_000_000,
        position: 1_000_000,
        stream: "account-1".into(),
        id: Uuid::now_v7(),
        kind: "Opened".into(),
        data: "{}".into(),
        metadata: None,
        time: eventodb_protocol::Timestamp::now(),
    };
    assert!(matches!(writer.append(append("account-1"), &Allowed::Any).await, Err(Error::Overloaded)));
    assert_eq!(writer.import(vec![record]).await.unwrap(), 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn while_the_database_is_away_appends_are_refused_as_not_written_within_the_interval() {
    let (writer, slow) = slow_writer(1_000);
    slow.is_away.store(true, SeqCst);
    let mut answers = Answers::default();
    answers.keep_appending(&writer, 10 * MS, 10 * MS).await;
    // The outcome of the first one is unknown from now on. It is tried for ten seconds to find it out.
    answers.keep_appending(&writer, 100 * MS, 9_000 * MS).await;
    let waiting = answers.0.len();
    sleep(60_000 * MS).await;
    let (accepted, refused) = answers.all().await;
    assert!(accepted.is_empty());
    let (unknown, certain): (Vec<_>, Vec<_>) =
        refused.into_iter().partition(|(_, error)| matches!(error, Error::Unknown(_)));
    assert_eq!((unknown.len(), certain.len()), (1, waiting - 1), "only the first may be written");
    assert!(certain.iter().all(|(_, error)| matches!(error, Error::Unavailable(_))), "{certain:?}");
    let at_once = certain.iter().filter(|(time, _)| time.is_zero()).count();
    assert!(at_once >= 75, "those of the first 1.1 s wait, the others do not: {at_once}");

    slow.is_away.store(false, SeqCst);
    assert!(writer.append(append("account-1"), &Allowed::Any).await.is_ok(), "it comes back by itself");
}
