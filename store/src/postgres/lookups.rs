//! Looking up tokens by their hashes: one query asks about all that wait.
//!
//! A token that this server does not know is asked about, because another server may have made it a moment ago. With a
//! query for each, clients that send wrong tokens would cost a multiple of other requests. Therefore what comes while a
//! query is under way waits for the next one. No question is answered by a query that was sent before the question came.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::token::TokenHash;
use tokio::sync::{mpsc, oneshot};
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
/// The next query does not wait longer than this for the one before it, which may be on a connection that is dead.
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
        tasks.spawn(async move {
            let mut waiting = Vec::new();
            while let Some(1..) = stop.run_until_cancelled(receiver.recv_many(&mut waiting, AT_ONCE)).await {
                let answered = answer(std::mem::take(&mut waiting));
                // A task of its own, which goes on if it is not waited for any more.
                let answered = inner.spawn(stop.clone().run_until_cancelled_owned(answered));
                let _ = timeout(SLOW, answered).await;
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
    let namespaces: Vec<&str> = questions.iter().map(|question| &*question.namespace).collect();
    let hashes: Vec<&[u8]> = questions.iter().map(|question| &question.hash.as_bytes()[..]).collect();
    let found = retrying!(doors, connection => tokens::by_hashes(connection, &namespaces, &hashes));
    match found.map_err(Failure::of_read) {
        Ok(found) => questions.into_iter().zip(found).for_each(|(question, token)| question.tell(Ok(token))),
        Err(error) => questions.into_iter().for_each(|question| question.tell(Err(error.clone()))),
    }
}

impl Question {
    fn tell(self, answer: Result<Option<TokenRecord>>) {
        // A caller that has gone does not need it.
        let _ = self.answer.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Lookups whose queries find nothing and wait for a permit each, and how many tokens each asked about.
    fn held_up() -> (Lookups, Arc<Semaphore>, mpsc::UnboundedReceiver<usize>) {
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
        (Lookups::answered_by(answer, &TaskTracker::new(), CancellationToken::new()), gate, sizes)
    }

    async fn ask(lookups: &Lookups) {
        let found = lookups.token("shop", &TokenHash::from_bytes([7; 32])).await;
        assert_eq!(found.expect("it is answered"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_a_query_is_under_way_waits_for_the_next_one() {
        let (lookups, gate, mut sizes) = held_up();
        let release = async {
            assert_eq!(sizes.recv().await, Some(1));
            let others = join_all((0..100).map(|_| ask(&lookups)));
            let release = async { gate.add_permits(2) };
            tokio::join!(others, release);
            assert_eq!(sizes.recv().await, Some(100));
        };
        tokio::join!(ask(&lookups), release);
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_hangs_holds_nobody_up_who_comes_later() {
        let (lookups, gate, mut sizes) = held_up();
        let hangs = ask(&lookups);
        let later = async {
            assert_eq!(sizes.recv().await, Some(1));
            let next = async { assert_eq!(sizes.recv().await, Some(1)) };
            let release = async {
                next.await;
                gate.add_permits(2);
            };
            tokio::join!(ask(&lookups), release);
        };
        tokio::join!(hangs, later);
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
