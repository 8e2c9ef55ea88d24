//! Workers on groups that the server keeps.
//!
//! A worker joins the group, and handles messages of the partitions that it is given, as long as its lease lasts. One
//! task makes all calls and never runs a handler, so that a busy handler keeps its lease. When the time of a partition
//! is over by this process's own clock, its handlers are dropped at their next `await`: somebody else may act by then. A
//! handler that blocks its thread runs on; until it ends, this worker begins nothing of its stream.

mod context;
mod handlers;
mod holds;
mod membership;

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::limits::BATCH_SIZE_MAX;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use context::{Atomic, Concurrent, Context, Mode};
pub use handlers::MessageType;

use super::WorkerError;
use super::consumer::HandlerError;
use super::observer::{Nobody, Observer};
use crate::client::Client;
use crate::error::Error;
use crate::group::{CreateGroup, Group, Join, Start};
use crate::message::Message;
use crate::read_model::ReadModel;
use crate::retry::RetryPolicy;
use handlers::Handlers;
use membership::{End, Groups, Membership, until_answered};

/// How long after a stop the reply to a join is waited for.
const LAST_REPLY: Duration = Duration::from_secs(1);

/// What to do with a message whose handler fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// Park its stream, and try it again later: after `first`, then after twice as long each time, at most `longest`.
    /// After `tries` tries it waits for an operator (`group.retry`). Other streams go on.
    Park {
        /// The first wait.
        first: Duration,
        /// The longest wait.
        longest: Duration,
        /// How many tries are made in all.
        tries: u32,
    },
    /// Try it again and again, with growing pauses. Its stream waits, other streams go on as far as they were read.
    Retry,
    /// End the worker with an error. After the next start this message is handled first in its stream.
    Stop,
}

impl Default for Failing {
    fn default() -> Self {
        Self::Park { first: Duration::from_secs(1), longest: Duration::from_secs(600), tries: 10 }
    }
}

/// What a worker did until it was stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupSummary {
    /// Messages that were handled.
    pub messages: u64,
    /// How often a stream was parked.
    pub parked: u64,
}

struct Settings {
    create: Option<CreateGroup>,
    name: Option<String>,
    concurrency: usize,
    page: usize,
    checkpoint_every: Duration,
    retry: RetryPolicy,
    failing: Failing,
    until_caught_up: bool,
    observer: Arc<dyn Observer>,
}

/// A worker on a consumer group that the server keeps. Start as many of them as you like, on as many hosts: they share
/// the group's partitions.
///
/// ```no_run
/// # use eventodb_client::{Client, Message, worker::{Context, MessageType, Worker}};
/// # use serde::Deserialize;
/// # use tokio_util::sync::CancellationToken;
/// #[derive(Deserialize)]
/// struct Deposited {
///     amount: i64,
/// }
///
/// impl MessageType for Deposited {
///     const TYPE: &'static str = "Deposited";
/// }
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// Worker::new(&client, "printer")
///     .categories(["account"])
///     .on(|message: Message<Deposited>, _: Context<_>| async move {
///         println!("{}: {}", message.stream(), message.data.amount);
///         Ok::<_, std::io::Error>(())
///     })
///     .run(CancellationToken::new())
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Worker<M = Concurrent> {
    group: Group,
    client: Client,
    handlers: Handlers<M>,
    settings: Settings,
}

impl Worker<Concurrent> {
    /// A worker on the group of this name. A handled message may come again after a crash.
    pub fn new(client: &Client, group: impl Into<String>) -> Self {
        Self::with_mode(client, group)
    }

    /// Most handlers that run at once. Default 16.
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.settings.concurrency = handlers.max(1);
        self
    }
}

impl Worker<Atomic> {
    /// A worker whose handlers write their results by [`Context::commit_with`]: each message counts exactly once.
    /// Partitions are handled concurrently, and the messages of one partition one at a time.
    pub fn atomic(client: &Client, group: impl Into<String>) -> Self {
        Self::with_mode(client, group)
    }
}

impl<M: Mode> Worker<M> {
    fn with_mode(client: &Client, group: impl Into<String>) -> Self {
        Self {
            group: client.group(group),
            client: client.clone(),
            handlers: Handlers::default(),
            settings: Settings {
                create: None,
                name: None,
                concurrency: if M::ONE_AT_A_TIME { usize::MAX } else { 16 },
                page: 100,
                checkpoint_every: Duration::from_secs(1),
                retry: RetryPolicy::default().give_up_after(Duration::from_secs(1)),
                failing: Failing::default(),
                until_caught_up: false,
                observer: Arc::new(Nobody),
            },
        }
    }

    /// Creates the group if it does not exist, over these categories; none are all messages of the namespace. A group that
    /// exists must read the same. Without this call the group must exist.
    #[must_use]
    pub fn categories<S: Into<String>>(mut self, categories: impl IntoIterator<Item = S>) -> Self {
        self.new_group().categories = categories.into_iter().map(Into::into).collect();
        self
    }

    /// Where the group begins if it does not exist. Default: with the first message.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.new_group().start = Some(start);
        self
    }

    /// How many partitions the group gets if it does not exist. Default 16.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.new_group().partitions = Some(partitions);
        self
    }

    /// A name that is always the same for this process, such as that of its host. When the process starts again, it takes
    /// its partitions over at once. Of two workers of one name the younger one wins, and the older one ends with
    /// [`WorkerError::Duplicate`].
    ///
    /// Younger is the one that joined last. A worker whose lease has ended joins again under its name, so that a process that
    /// was stopped for longer than a session ends one that took its place meanwhile. Once that one is started again, it is
    /// the younger.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Handles messages of the type of `D`. A later handler of the same type replaces an earlier one. Data that is no `D`
    /// is a failure of the message.
    #[must_use]
    pub fn on<D, F, Fut, E>(mut self, handler: F) -> Self
    where
        D: MessageType,
        F: Fn(Message<D>, Context<M>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        self.handlers.insert(Some(D::TYPE.to_owned()), move |message: Message, context| {
            let handled = message.typed::<D>().map(|message| handler(message, context));
            async move {
                match handled {
                    Ok(outcome) => outcome.await.map_err(Into::<HandlerError>::into),
                    Err(error) => Err(error.into()),
                }
            }
        });
        self
    }

    /// Handles messages of this type, with data that is not decoded.
    #[must_use]
    pub fn on_type<F, Fut, E>(mut self, kind: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Message, Context<M>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        self.handlers.insert(Some(kind.into()), handler);
        self
    }

    /// Handles messages of all other types. Without such a handler they count as handled.
    #[must_use]
    pub fn otherwise<F, Fut, E>(mut self, handler: F) -> Self
    where
        F: Fn(Message, Context<M>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        self.handlers.insert(None, handler);
        self
    }

    /// Handles messages of all other types by changing a read model, each exactly once. Messages that its projection does not
    /// know are to be passed over by it.
    #[must_use]
    pub fn read_model(self, model: impl ReadModel) -> Self {
        let model = Arc::new(model);
        self.otherwise(move |message: Message, context| {
            let model = Arc::clone(&model);
            async move { model.handle(context.epoch(), &message).await }
        })
    }

    /// Most messages that the worker reads ahead, 1 to 10,000. Default 100.
    #[must_use]
    pub fn page_size(mut self, messages: usize) -> Self {
        self.settings.page = messages.clamp(1, BATCH_SIZE_MAX);
        self
    }

    /// The longest time from a handled message to its checkpoint, while there is more to handle. When nothing is in hand,
    /// the checkpoint is stored at once. Default 1 s, at most a day.
    #[must_use]
    pub fn checkpoint_every(mut self, interval: Duration) -> Self {
        self.settings.checkpoint_every = interval.min(Duration::from_hours(24));
        self
    }

    /// How a handler that failed is called again at once, before [`Worker::failing`] counts. Default: for 1 s.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.settings.retry = retry;
        self
    }

    /// What to do with a message whose handler still fails then. Default: its stream is parked and tried again, 10 times.
    #[must_use]
    pub fn failing(mut self, failing: Failing) -> Self {
        self.settings.failing = failing;
        self
    }

    /// Ends the worker once everything is done in its partitions that was there when a read found nothing more for the first
    /// time. A worker without a partition ends once every partition of the group has caught up; until then it stands by. If
    /// the group is paused, the worker ends with [`WorkerError::Paused`].
    ///
    /// It asks the group's status. If its token has not the right to read, it cannot: then it ends when a read finds that
    /// nothing at all was written in the namespace since the read before, also in a paused group, and without a partition it
    /// waits for one.
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

    fn new_group(&mut self) -> &mut CreateGroup {
        self.settings.create.get_or_insert_default()
    }

    /// Runs until `stop` is cancelled. Then what was begun is finished, checkpoints are stored, and the partitions move to
    /// other members at once. While the server is unreachable, the worker waits for it.
    ///
    /// # Errors
    /// See [`WorkerError`].
    pub async fn run(self, stop: CancellationToken) -> Result<GroupSummary, WorkerError> {
        let Self { group, client, handlers, settings } = self;
        // Each attempt of a call has its own start, which the lease is counted from.
        let once = client.with_retry_policy(RetryPolicy::none());
        let groups =
            Groups { calls: once.group(group.name()), heartbeats: once.with_own_connections().group(group.name()) };
        let handlers = Arc::new(handlers);
        let mut summary = GroupSummary::default();
        let mut leaving = JoinSet::new();
        let created = stop.run_until_cancelled(create(&groups.calls, &settings)).await;
        created.unwrap_or(Ok(())).map_err(WorkerError::Client)?;
        loop {
            let Some((started, joined)) = join(&groups.calls, &settings, &stop).await? else { return Ok(summary) };
            let membership =
                Membership::new(&client, &groups, Arc::clone(&handlers), &settings, &mut summary, started, &joined);
            match membership.run(&stop, &mut leaving).await {
                End::Stopped => return Ok(summary),
                End::Failed(error) => return Err(error),
                End::Lost => tracing::warn!(group = group.name(), "the lease ended; joining again"),
                End::Refused => tracing::warn!(group = group.name(), "the server has lost messages; joining again"),
                End::Open => tracing::warn!(group = group.name(), "a commit may still arrive; joining again"),
            }
        }
    }
}

/// Creates the group if it is to be created, as soon as the server answers.
async fn create(group: &Group, settings: &Settings) -> Result<(), Error> {
    let Some(new) = &settings.create else { return Ok(()) };
    let create = || async {
        let created = group.create(new).await;
        if let Err(error) = &created
            && error.is_transient()
        {
            settings.observer.disconnected(error);
        }
        created
    };
    until_answered(create).await.0.map(drop)
}

/// Becomes a member, as soon as the server answers. `None` if the worker was stopped. A reply that comes soon after the stop
/// is taken, because only a member can leave.
async fn join(
    group: &Group,
    settings: &Settings,
    stop: &CancellationToken,
) -> Result<Option<(tokio::time::Instant, crate::group::reply::Membership)>, WorkerError> {
    let mut join = Join { name: settings.name.clone(), instance: Uuid::now_v7() };
    let mut backoff = RetryPolicy::forever().start();
    while !stop.is_cancelled() {
        let started = tokio::time::Instant::now();
        let error = tokio::select! {
            () = stopped_for(stop, LAST_REPLY) => return Ok(None),
            result = group.join(&join) => match result {
                Ok(joined) => return Ok(Some((started, joined))),
                Err(error) => error,
            },
        };
        // A reply was lost, and the lease has ended since.
        let is_over = is_lost(&error);
        if is_over {
            join.instance = Uuid::now_v7();
        }
        let wait = backoff.next_wait(error.retry_after()).filter(|_| is_over || error.is_transient());
        let Some(wait) = wait else { return Err(failure(error)) };
        settings.observer.disconnected(&error);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    Ok(None)
}

/// Returns this long after a stop.
async fn stopped_for(stop: &CancellationToken, time: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(time).await;
}

/// Whether the membership is over, and the worker may join again.
fn is_lost(error: &Error) -> bool {
    use eventodb_protocol::group::Fence;
    matches!(error, Error::Fenced { fenced, .. } if matches!(fenced.reason, Fence::Lease | Fence::Unknown))
}

/// Why a worker ends with an error of the server.
fn failure(error: Error) -> WorkerError {
    use eventodb_protocol::group::{Fence, Fenced};
    match error {
        Error::Fenced { fenced: Fenced { reason: Fence::Replaced, .. }, .. } => {
            WorkerError::Duplicate("a younger member of the same name took its place".to_owned())
        }
        error => WorkerError::Client(error),
    }
}

impl<M> std::fmt::Debug for Worker<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("group", &self.group.name()).finish_non_exhaustive()
    }
}
