//! What a handler knows beside its message.

use std::marker::PhantomData;
use std::sync::Arc;

use eventodb_protocol::group::{Epoch, Fenced};
use eventodb_protocol::reply::Appended;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::holds::Task;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::group::Commit;
use crate::retry::RetryPolicy;
use crate::rpc::AppendMany;

/// How a worker handles messages: [`Concurrent`] or [`Atomic`].
pub trait Mode: sealed::Mode {}

/// Messages of different streams are handled at the same time, those of one stream in order.
#[derive(Clone, Copy, Debug)]
pub struct Concurrent;

/// Messages of one partition are handled one at a time, so that a handler can write its results and the partition's
/// checkpoint in one commit: a checkpoint says that everything before it is done.
#[derive(Clone, Copy, Debug)]
pub struct Atomic;

impl Mode for Concurrent {}
impl Mode for Atomic {}

pub(super) mod sealed {
    pub trait Mode: Send + Sync + 'static {
        /// Whether one message of a partition is handled at a time.
        const ONE_AT_A_TIME: bool;
    }

    impl Mode for super::Concurrent {
        const ONE_AT_A_TIME: bool = false;
    }

    impl Mode for super::Atomic {
        const ONE_AT_A_TIME: bool = true;
    }
}

/// Where a message comes from, and by which right it is handled.
pub struct Context<M> {
    shared: Arc<Shared>,
    mode: PhantomData<fn() -> M>,
}

struct Shared {
    /// Sends each call once.
    client: Client,
    group: String,
    task: Task,
    /// Locked while an append is under way, also if the handler does not wait for its end any more.
    commits: Arc<AsyncMutex<Commits>>,
    /// Cancelled when the membership gives the message up: an append under its epoch need not be answered then.
    over: CancellationToken,
}

#[derive(Default)]
struct Commits {
    committed: Option<Committed>,
    /// The handler has ended.
    is_closed: bool,
}

/// What came of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    Done,
    Fenced(Fenced),
    /// An attempt was not answered, and a later one was refused. The first one may still arrive.
    Open,
}

impl<M> Context<M> {
    pub(super) fn new(client: &Client, group: &str, task: &Task, over: CancellationToken) -> Self {
        let client = client.with_retry_policy(RetryPolicy::none());
        let (group, task, commits) = (group.to_owned(), task.clone(), Arc::default());
        Self { shared: Arc::new(Shared { client, group, task, commits, over }), mode: PhantomData }
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.shared.group
    }

    /// The partition of the message.
    pub fn partition(&self) -> u32 {
        self.shared.task.partition
    }

    /// The number of the partition's assignment. It grows with every change of the owner. A database that keeps the
    /// highest one of each stream can refuse a write that was made under a lower one.
    pub fn epoch(&self) -> Epoch {
        self.shared.task.epoch
    }

    /// Which try of the message this is, counted from 1. Tries that the worker makes at once count as one.
    pub fn attempt(&self) -> i64 {
        self.shared.task.retry.map_or(1, |(attempt, _)| attempt)
    }

    /// Until when the handler may act, by this process's clock, as far as is known now: every heartbeat puts it off. A
    /// handler that blocks its thread, and so cannot be ended, looks at it before each effect.
    pub fn until(&self) -> std::time::Instant {
        self.shared.task.until.borrow().into_std()
    }

    /// Waits until a sixth of a session is left of the handler's time: until heartbeats have failed for long, or the
    /// partition is asked back and its deadline is near. What the handler has started elsewhere is to be ended then.
    pub async fn ending(&self) {
        let (mut until, margin) = (self.shared.task.until.clone(), self.shared.task.session / 6);
        loop {
            let at = *until.borrow_and_update();
            let at = at.checked_sub(margin).unwrap_or(at);
            tokio::select! {
                () = sleep_until(at) => return,
                changed = until.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The handler has ended. Returns what came of its commit, as soon as that is known; `None` if there was none, or
    /// nothing was written. If the message is given up meanwhile, it returns `Err`.
    pub(super) async fn close(&self) -> Result<Option<Committed>, GivenUp> {
        let commits = self.shared.over.run_until_cancelled(self.shared.commits.lock()).await;
        let mut commits = commits.ok_or(GivenUp)?;
        commits.is_closed = true;
        Ok(commits.committed)
    }
}

/// The message was given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct GivenUp;

impl Context<Atomic> {
    /// Appends, and moves the partition's checkpoint to the message in the same commit, or does neither. A handler calls it
    /// once, as its last act. If the message was handled already, or somebody else owns the partition, nothing is
    /// written.
    ///
    /// An append that is not answered is repeated until it is, whatever the client's policy says, and also if the handler
    /// waits no longer: until then the partition is not read on. It ends with the worker's right to the partition.
    ///
    /// # Errors
    /// `Fenced`, after which the worker gives up what it has to, whatever the handler returns; `Closed` if the handler has
    /// ended or its time is over; and those of [`Client::append_many`].
    pub async fn commit_with(&self, append: AppendMany) -> Result<Vec<Appended>> {
        let commits = Arc::clone(&self.shared.commits).lock_owned().await;
        if commits.is_closed {
            return Err(Error::Closed);
        }
        let (client, append, over) = (self.shared.client.clone(), append.commit(self.form()), self.shared.over.clone());
        let appending = tokio::spawn(async move { over.run_until_cancelled(commit(client, append, commits)).await });
        match appending.await {
            Ok(result) => result.unwrap_or(Err(Error::Closed)),
            Err(_) => Err(Error::Closed),
        }
    }

    fn form(&self) -> Commit {
        let task = &self.shared.task;
        let (group, partition, epoch) = (self.shared.group.clone(), task.partition, task.epoch);
        let (position, stream) = (task.position(), task.stream().to_owned());
        match task.retry {
            None => Commit::Checkpoint { group, partition, epoch, position },
            Some(_) => Commit::Handled { group, partition, epoch, stream, position, read_to: task.read_to },
        }
    }
}

/// Appends until there is an answer.
async fn commit(client: Client, append: AppendMany, mut commits: OwnedMutexGuard<Commits>) -> Result<Vec<Appended>> {
    let (mut backoff, mut is_open) = (RetryPolicy::forever().start(), false);
    let result = loop {
        let error = match client.append_many(&append).await {
            Ok(appended) => break Ok(appended),
            Err(error) => error,
        };
        is_open |= !error.is_certainly_not_done();
        let may_repeat = matches!(error, Error::Unavailable { .. } | Error::RateLimited { .. });
        let wait = backoff.next_wait(error.retry_after()).filter(|_| may_repeat);
        let Some(wait) = wait else { break Err(error) };
        tokio::time::sleep(wait).await;
    };
    let committed = match &result {
        Ok(_) => Some(Committed::Done),
        Err(Error::Fenced { fenced, .. }) => Some(Committed::Fenced(*fenced)),
        Err(_) => is_open.then_some(Committed::Open),
    };
    if commits.committed != Some(Committed::Done) {
        commits.committed = committed.or(commits.committed);
    }
    result
}

impl<M> Clone for Context<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), mode: PhantomData }
    }
}

impl<M> std::fmt::Debug for Context<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Task { partition, epoch, .. } = &self.shared.task;
        f.debug_struct("Context").field("partition", partition).field("epoch", epoch).finish_non_exhaustive()
    }
}
