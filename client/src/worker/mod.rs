//! Workers: consumers of categories that remember their position.
//!
//! A [`Worker`] is a member of a group that the server keeps: as many of them as you like share its categories. A
//! [`StaticWorker`] keeps its position elsewhere, and shares a category only with as many others as were agreed on before.
//! The rest of this page is about it.
//!
//! A static worker reads pages by global position, handles their messages, and saves its position. While it handles one page,
//! the next is fetched. At the end of the log a subscription wakes it. A subscription is only a hint: if it fails, the
//! worker still reads from time to time, so that no message is missed.

mod consumer;
mod group;
mod handlers;
mod observer;
mod seen;
mod session;

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::ConsumerGroup;
use eventodb_protocol::limits::BATCH_SIZE_MAX;
use eventodb_protocol::name::category;
use tokio_util::sync::CancellationToken;

pub use consumer::{Checkpointed, Consumer, Failure, Handled, HandlerError};
pub use group::{Atomic, Concurrent, Context, Failing, GroupSummary, MessageType, Mode, Worker};
pub use handlers::Handlers;
pub use observer::{Lag, Observer, Reaction};
pub use seen::{FileIds, RecentIds, SeenIds};

use crate::checkpoint::{CheckpointError, is_position_category};
use crate::client::Client;
use crate::error::Error;
use crate::retry::RetryPolicy;
use session::Session;

/// What to do with a message whose handler still fails after the last retry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Stop the worker. After the next start this message is the first.
    #[default]
    Stop,
    /// Skip the message.
    Skip,
    /// Write the message into this stream, with the error in its metadata, and continue.
    Park(String),
}

/// Why a worker ended although it was not stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// Another worker of the same name and member is running, and goes on.
    #[error("another worker has this name: {0}")]
    Duplicate(String),
    /// A message could not be handled, and [`OnError::Stop`] is set.
    #[error("cannot handle {kind} at {position} of {stream} (global position {global_position})")]
    Handler {
        /// The message's stream.
        stream: String,
        /// Its position there.
        position: i64,
        /// Its global position.
        global_position: i64,
        /// Its type.
        kind: String,
        /// The error of the handler.
        #[source]
        source: HandlerError,
    },
    /// The checkpoint can be neither loaded nor saved.
    #[error("no checkpoint")]
    Checkpoint(#[source] CheckpointError),
    /// There seems to be nothing more to handle, because the group is paused: see [`Worker::until_caught_up`].
    #[error("the group {0} is paused")]
    Paused(String),
    /// The worker was to end once it has caught up, and its saved position is one that the namespace has not reached:
    /// see [`Observer::ahead_of_head`].
    #[error(
        "the checkpoint {position} is above the head {head}: the namespace was restored or replaced, and what is written \
         up to {position} would be taken for handled; begin with a new checkpoint"
    )]
    AheadOfHead {
        /// The saved position.
        position: i64,
        /// The global position of the namespace's last message.
        head: i64,
    },
    /// The server refuses the worker's calls.
    #[error("cannot read")]
    Client(#[source] Error),
}

/// What a worker did until it was stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Messages that were handled, skipped or parked.
    pub messages: u64,
    /// The saved position.
    pub position: Option<i64>,
}

#[derive(Clone)]
struct Settings {
    categories: Vec<String>,
    group: Option<ConsumerGroup>,
    start: i64,
    page: i64,
    every: usize,
    interval: Duration,
    poll: Duration,
    retry: RetryPolicy,
    on_error: OnError,
    filter_types: bool,
    until_caught_up: bool,
    observer: Arc<dyn Observer>,
}

impl Settings {
    /// Whether messages of `stream` may have to be handled. A worker over all categories ignores the saved positions of
    /// workers: each of its own would wake it to save the next one, for ever.
    fn is_news(&self, stream: &str) -> bool {
        !self.categories.is_empty() || !is_position_category(category(stream))
    }
}

/// A worker that keeps its position itself, ready to run.
///
/// ```no_run
/// # use eventodb_client::{Client, worker::{Checkpointed, Handlers, StaticWorker}, checkpoint::FileCheckpoint};
/// # use tokio_util::sync::CancellationToken;
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let handlers = Handlers::new().on("Deposited", |message| async move {
///     println!("{}: {}", message.stream(), message.data_json());
///     Ok::<_, std::io::Error>(())
/// });
/// let checkpoint = FileCheckpoint::new("printer.checkpoint");
/// let stop = CancellationToken::new();
/// StaticWorker::new(&client, Checkpointed::new(handlers, checkpoint)).categories(["account"]).run(stop).await?;
/// # Ok(())
/// # }
/// ```
pub struct StaticWorker<C> {
    client: Client,
    consumer: C,
    settings: Settings,
}

impl<C: Consumer> StaticWorker<C> {
    /// A worker over every message of the namespace of `client`.
    pub fn new(client: &Client, consumer: C) -> Self {
        Self {
            client: client.clone(),
            consumer,
            settings: Settings {
                categories: Vec::new(),
                group: None,
                start: 0,
                page: 1000,
                every: 5000,
                interval: Duration::from_secs(1),
                poll: Duration::from_secs(10),
                retry: RetryPolicy::default(),
                on_error: OnError::Stop,
                filter_types: true,
                until_caught_up: false,
                observer: Arc::new(observer::Nobody),
            },
        }
    }

    /// Only these categories. None means all, except for the saved positions of consumers.
    #[must_use]
    pub fn categories<S: Into<String>>(mut self, categories: impl IntoIterator<Item = S>) -> Self {
        self.settings.categories = categories.into_iter().map(Into::into).collect();
        self
    }

    /// Only streams of this member of a consumer group.
    #[must_use]
    pub fn group(mut self, group: ConsumerGroup) -> Self {
        self.settings.group = Some(group);
        self
    }

    /// The global position to begin at if no position was saved yet, inclusive. Default: the start.
    #[must_use]
    pub fn start_at(mut self, global_position: i64) -> Self {
        self.settings.start = global_position;
        self
    }

    /// Most messages on a page, 1 to 10,000. Default 1000.
    #[must_use]
    pub fn page_size(mut self, messages: usize) -> Self {
        self.settings.page = i64::try_from(messages.clamp(1, BATCH_SIZE_MAX)).expect("a page is small");
        self
    }

    /// A checkpoint is saved after this many messages, and at the latest this long after the first message since the
    /// last checkpoint. While there is nothing to handle, nothing is saved. Default 5,000 messages, 1 s.
    #[must_use]
    pub fn checkpoint_every(mut self, messages: usize, interval: Duration) -> Self {
        self.settings.every = messages.max(1);
        self.settings.interval = interval;
        self
    }

    /// The longest time between two reads if no poke arrives. Default 10 s.
    #[must_use]
    pub fn poll_every(mut self, interval: Duration) -> Self {
        self.settings.poll = interval;
        self
    }

    /// How a failed handler is retried. Default: for 30 s.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.settings.retry = retry;
        self
    }

    /// What to do with a message whose handler still fails after the last retry. Default: the worker stops.
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.settings.on_error = on_error;
        self
    }

    /// Reads messages of all types and skips those without a handler here, for servers that cannot filter by type.
    #[must_use]
    pub fn without_type_filter(mut self) -> Self {
        self.settings.filter_types = false;
        self
    }

    /// Ends the worker once there is nothing more to handle, instead of waiting for new messages.
    #[must_use]
    pub fn until_caught_up(mut self) -> Self {
        self.settings.until_caught_up = true;
        self
    }

    /// The observer that is called at each event.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.settings.observer = Arc::new(observer);
        self
    }

    /// Runs until `stop` is cancelled. Then the current message is finished and the position is saved. While the server
    /// is unreachable, the worker waits for it.
    ///
    /// # Errors
    /// See [`WorkerError`].
    pub async fn run(mut self, stop: CancellationToken) -> Result<Summary, WorkerError> {
        let mut summary = Summary::default();
        let mut backoff = RetryPolicy::forever().start();
        loop {
            let mut session = Session::new(&self.client, &mut self.consumer, &self.settings, &stop, &mut summary);
            let error = match session.run(&mut backoff).await {
                Ok(()) => return Ok(summary),
                Err(error) => error,
            };
            // A lost checkpoint may have lost the position of messages that were handled since the last save: load it
            // again.
            let wait = match error {
                WorkerError::Checkpoint(CheckpointError::Taken(who)) => return Err(WorkerError::Duplicate(who)),
                WorkerError::Checkpoint(ref error) => {
                    tracing::warn!(%error, "checkpoint lost, loading it again");
                    if backoff.failures() >= CHECKPOINT_ATTEMPTS { None } else { backoff.next_wait(None) }
                }
                _ => None,
            };
            let Some(wait) = wait else { return Err(error) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return Err(error),
            }
        }
    }
}

/// The worker gives up after this many failures in a row to load or save a checkpoint.
const CHECKPOINT_ATTEMPTS: u32 = 10;

impl<C> std::fmt::Debug for StaticWorker<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticWorker").field("categories", &self.settings.categories).finish_non_exhaustive()
    }
}
