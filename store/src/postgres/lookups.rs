//! Looking up tokens by their hashes: one query asks about all that wait.
//!
//! A token that this server does not know is asked about each time, because another server may have made it a moment
//! ago. With a query for each, clients that send wrong tokens would cost a multiple of other requests. Therefore what
//! comes while two queries are under way waits for the next one, and asks once for each token. No question is answered by a query that was sent before the
//! question came: a token works everywhere as soon as the call that made it was answered.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::token::TokenHash;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::Failure;
use super::pool::{Pool, retrying};
use super::registry::can_be_stored;
use super::tokens;
use crate::error::{Error, Result};
use crate::model::TokenRecord;

/// Tokens that one query asks about, and that wait for the next one; callers beyond them wait for room.
const AT_ONCE: usize = 1_024;
/// Queries that are under way at once: with one alone nobody would work while it is.
pub(super) const QUERIES: usize = 2;
/// The next query does not wait longer than this for those before it, which may be on connections that are dead.
const SLOW: Duration = Duration::from_millis(100);
const STOPPING: &str = "this server is closing";

/// Where tokens are looked up.
#[derive(Debug)]
pub(super) struct Lookups {
    questions: mpsc::Sender<Question>,
}

/// Which token has this hash, in the living namespace of that name?
#[derive(Debug)]
struct Question {
    namespace: Box<str>,
    hash: TokenHash,
    answer: oneshot::Sender<Result<Option<TokenRecord>>>,
}

impl Lookups {
    /// Answers questions over connections of `doors`, as one of `tasks` and until `stop`.
    pub(super) fn new(doors: Arc<Pool>, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        Self::answered_by(move |questions| answer(questions, Arc::clone(&doors)), tasks, stop)
    }

    fn answered_by<F>(
        answer: impl Fn(Vec<Question>) -> F + Send + 'static,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (questions, mut receiver) = mpsc::channel(AT_ONCE);
        let inner = tasks.clone();
        let free = Arc::new(Semaphore::new(QUERIES));
        tasks.spawn(async move {
            let mut waiting = Vec::new();
            loop {
                // Waited for first: meanwhile more questions come. A query that hangs keeps its own.
                let turn = timeout(SLOW, Arc::clone(&free).acquire_owned()).await;
                let Some(1..) = stop.run_until_cancelled(receiver.recv_many(&mut waiting, AT_ONCE)).await else {
                    break;
                };
                let answered = stop.clone().run_until_cancelled_owned(answer(std::mem::take(&mut waiting)));
                inner.spawn(async move {
                    answered.await;
                    drop(turn);
                });
            }
        });
        Self { questions }
    }

    /// The token with this hash, of the living namespace of that name.
    pub(super) async fn token(&self, namespace: &str, hash: &TokenHash) -> Result<Option<TokenRecord>> {
        if !can_be_stored(namespace) {
            return Ok(None);
        }
        let (answer, answered) = oneshot::channel();
        let question = Question { namespace: namespace.into(), hash: *hash, answer };
        self.questions.send(question).await.map_err(|_| Error::unavailable(STOPPING))?;
        answered.await.unwrap_or_else(|_| Err(Error::unavailable(STOPPING)))
    }
}

/// Answers these questions by one query.
async fn answer(questions: Vec<Question>, doors: Arc<Pool>) {
    let mut asked: Vec<_> = questions.iter().map(Question::asked).collect();
    asked.sort_unstable();
    asked.dedup();
    let places: Vec<_> = questions.iter().map(|question| asked.binary_search(&question.asked())).collect();
    let (namespaces, hashes): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let found = retrying!(doors, connection => tokens::by_hashes(connection, &namespaces, &hashes));
    match found.map_err(Failure::of_read) {
        Ok(found) => questions.into_iter().zip(places).for_each(|(question, place)| {
            question.tell(Ok(found[place.expect("all were asked about")].clone()));
        }),
        Err(error) => questions.into_iter().for_each(|question| question.tell(Err(error.clone()))),
    }
}

impl Question {
    fn asked(&self) -> (&str, &[u8]) {
        (&self.namespace, self.hash.as_bytes())
    }

    fn tell(self, answer: Result<Option<TokenRecord>>) {
        // A caller that has gone does not need it.
        let _ = self.answer.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    use super::*;

    /// Lookups whose queries find nothing and wait for a permit each, and how many tokens each asked about.
    fn held_up() -> (Arc<Lookups>, Arc<Semaphore>, mpsc::UnboundedReceiver<usize>) {
        let gate = Arc::new(Semaphore::new(0));
        let (asked, sizes) = mpsc::unbounded_channel();
        let passes = Arc::clone(&gate);
        let answer = move |questions: Vec<Question>| {
            asked.send(questions.len()).expect("the test waits for it");
            let passes = Arc::clone(&passes);
            async move {
                passes.acquire().await.expect("it stays open").forget();
                questions.into_iter().for_each(|question| question.tell(Ok(None)));
            }
        };
        let lookups = Lookups::answered_by(answer, &TaskTracker::new(), CancellationToken::new());
        (Arc::new(lookups), gate, sizes)
    }

    fn ask(lookups: &Arc<Lookups>) -> JoinHandle<()> {
        let lookups = Arc::clone(lookups);
        tokio::spawn(async move {
            let found = lookups.token("shop", &TokenHash::from_bytes([7; 32])).await;
            assert_eq!(found.expect("it is answered"), None);
        })
    }

    /// As many queries as may be under way at once, each of which asks about one token.
    async fn ask_all_at_once(
        lookups: &Arc<Lookups>,
        sizes: &mut mpsc::UnboundedReceiver<usize>,
    ) -> Vec<JoinHandle<()>> {
        let mut asking = Vec::new();
        for _ in 0..QUERIES {
            asking.push(ask(lookups));
            assert_eq!(sizes.recv().await, Some(1));
        }
        asking
    }

    async fn all_answered(asking: Vec<JoinHandle<()>>) {
        for asked in asking {
            asked.await.expect("it is answered");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_queries_are_under_way_waits_for_the_next_one() {
        let (lookups, gate, mut sizes) = held_up();
        let mut asking = ask_all_at_once(&lookups, &mut sizes).await;
        asking.extend((0..100).map(|_| ask(&lookups)));
        sleep(SLOW / 2).await;
        gate.add_permits(QUERIES + 1);
        assert_eq!(sizes.recv().await, Some(100));
        all_answered(asking).await;
    }

    #[tokio::test(start_paused = true)]
    async fn queries_that_hang_hold_nobody_up_who_comes_later() {
        let (lookups, gate, mut sizes) = held_up();
        let mut asking = ask_all_at_once(&lookups, &mut sizes).await;
        asking.push(ask(&lookups));
        assert_eq!(sizes.recv().await, Some(1));
        gate.add_permits(QUERIES + 1);
        all_answered(asking).await;
    }

    #[tokio::test]
    async fn who_asks_a_server_that_has_stopped_is_refused() {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let lookups = Lookups::answered_by(|_| async {}, &tasks, stop.clone());
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        let found = lookups.token("shop", &TokenHash::from_bytes([7; 32])).await;
        assert!(matches!(found, Err(Error::Unavailable(_))), "{found:?}");
    }
}
