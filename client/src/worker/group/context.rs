//! What a handler knows beside its message.

use std::marker::PhantomData;
use std::sync::Arc;

use eventodb_protocol::group::{Epoch, Fenced};
use eventodb_protocol::reply::Appended;
use parking_lot::Mutex;

use super::holds::Task;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::group::Commit;
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
    client: Client,
    group: String,
    task: Task,
    committed: Mutex<Option<Committed>>,
}

/// What came of a commit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Committed {
    Done,
    Fenced(Fenced),
}

impl<M> Context<M> {
    pub(super) fn new(client: &Client, group: &str, task: &Task) -> Self {
        let (client, group, task) = (client.clone(), group.to_owned(), task.clone());
        Self { shared: Arc::new(Shared { client, group, task, committed: Mutex::default() }), mode: PhantomData }
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

    pub(super) fn committed(&self) -> Option<Committed> {
        *self.shared.committed.lock()
    }
}

impl Context<Atomic> {
    /// Appends, and moves the partition's checkpoint to the message in the same commit, or does neither. A handler calls it
    /// once, as its last act. If the message was handled already, or somebody else owns the partition, nothing is
    /// written.
    ///
    /// # Errors
    /// `Fenced`, after which the worker gives up what it has to, whatever the handler returns; and those of
    /// [`Client::append_many`].
    pub async fn commit_with(&self, append: AppendMany) -> Result<Vec<Appended>> {
        let result = self.shared.client.append_many(&append.commit(self.form())).await;
        let committed = match &result {
            Ok(_) => Some(Committed::Done),
            Err(Error::Fenced { fenced, .. }) => Some(Committed::Fenced(*fenced)),
            Err(_) => None,
        };
        let mut known = self.shared.committed.lock();
        if !matches!(*known, Some(Committed::Done)) {
            *known = committed;
        }
        result
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
