//! The contract of a database that holds logs: few operations, and simple ones.
//!
//! A [`Backend`] keeps the registry of namespaces. For each incarnation it opens a [`Storage`], which is read, and an
//! [`Appender`], which takes batches. The logs of [`crate::log`] use these traits only; [`crate::sqlite`] and
//! [`crate::postgres`] implement them.

pub mod groups;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use eventodb_protocol::Timestamp;
use eventodb_protocol::message::Message;
use eventodb_protocol::reply::{CategoryListed, StreamListed};
use eventodb_protocol::request::ListPage;
use eventodb_protocol::token::TokenHash;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use uuid::Uuid;

use self::groups::{GroupStorage, GroupTag};
use crate::degraded::Degraded;
use crate::error::{Cause, Result};
use crate::figures::BackendFigures;
use crate::model::{
    Batch, Counts, Entry, Head, Incarnation, Lineage, Meant, Namespace, NamespaceUpdate, NewNamespace, Select, Size,
    Slice, TokenChange, TokenId, TokenRecord,
};

/// How often a caller of [`Backend::stage`] calls [`Backend::keep`].
pub const KEEP_EVERY: Duration = Duration::from_secs(5);

/// A database that holds the registry and the logs.
///
/// # Contract
/// - A change survives `kill -9` once its method has returned.
/// - The registry shows a namespace to every server as soon as `create` has returned, and to none
///   once `delete` has.
/// - The appends of SQLite block the thread that polls them for the time of one transaction: a caller makes them in a
///   run that it starts by [`Storage::spawn`]. Reads bring their own thread.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// `sqlite` or `postgres`, as `sys.health` tells it.
    fn kind(&self) -> &'static str;

    /// Whether a commit survives a crash of the machine, as far as it is known since the database was opened.
    fn is_durable(&self) -> bool;

    /// Whether other servers may write to the same logs, so that this one has to ask before it knows.
    fn is_shared(&self) -> bool;

    /// The living namespace of that name.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Failed`]; so for all methods here.
    async fn namespace(&self, name: &str) -> Result<Option<Namespace>>;

    /// The token with this hash of the living namespace of that name. One that has ended may be left out. Nothing else of
    /// the namespace is read, because the cost of a wrong token must not tell whether its namespace exists, nor how much
    /// is stored with it.
    async fn token(&self, namespace: &str, hash: &TokenHash) -> Result<Option<TokenRecord>>;

    /// The token of a living namespace with this id, whether the token lives or not.
    async fn token_by_id(&self, id: TokenId) -> Result<Option<TokenRecord>>;

    /// All tokens of the living namespace of that name, oldest first, also some that have ended.
    async fn tokens(&self, namespace: &str) -> Result<Vec<TokenRecord>>;

    /// Changes the tokens of a namespace, in one transaction that no other change of them overlaps. Returns the token
    /// that the change is about, as it is now. A change that is repeated returns the same; a rotation that is repeated
    /// with a shorter grace brings the end of the old token forward.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`], [`crate::Error::TokenNotFound`], [`crate::Error::TokenExists`],
    /// [`crate::Error::TooManyTokens`], [`crate::Error::LastAdministrator`]: nothing has changed.
    async fn change_tokens(&self, change: TokenChange) -> Result<TokenRecord>;

    /// Which of these tokens are neither revoked nor gone with their namespaces, and when each ends because it was
    /// rotated.
    async fn living_tokens(&self, ids: &[TokenId]) -> Result<Vec<(TokenId, Option<Timestamp>)>>;

    /// Notes that these tokens were used in the hour that begins at `hour`.
    async fn note_used(&self, ids: &[TokenId], hour: Timestamp) -> Result<()>;

    /// Changes a namespace, and returns it.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`], also if the one that lives is not the one that is meant.
    async fn update(&self, meant: Meant<'_>, update: &NamespaceUpdate) -> Result<Namespace>;

    /// All living namespaces, by name in byte order.
    async fn namespaces(&self) -> Result<Vec<Namespace>>;

    /// Creates a namespace with a new incarnation, and its first token.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceExists`].
    async fn create(&self, new: &NewNamespace) -> Result<Namespace>;

    /// Marks the incarnation deleted; that commit is the deletion, and the namespace's tokens open nothing from then
    /// on. `None` if it was deleted before. In either case no append is acknowledged after the answer. Its storage is
    /// dropped by [`Backend::purge`].
    ///
    /// # Errors
    /// [`crate::Error::Protected`]; [`crate::Error::Unknown`] also if it is deleted, and appends to it may be acknowledged.
    async fn delete(&self, incarnation: Incarnation) -> Result<Option<Timestamp>>;

    /// Makes sure that no append to a deleted incarnation of that name is acknowledged any more: the server that deleted
    /// it may have died before it did so.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] if some may be.
    async fn end_deleted(&self, name: &str) -> Result<()>;

    /// Creates an empty incarnation that is to take the place of a living one. It cannot be found by its name before it
    /// is promoted. Until it is promoted or discarded, a shared backend refuses every append to the living one, through
    /// any server, with [`AppendError::Replacing`]. The caller refuses the appends of its own server.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`] if the living one was deleted meanwhile, [`crate::Error::Replacing`] if
    /// another is staged for its place, [`crate::Error::Protected`].
    async fn stage(&self, living: Incarnation) -> Result<Namespace>;

    /// Says that a staged incarnation is still being filled. A caller does so each [`KEEP_EVERY`], because
    /// [`Backend::tidy`] discards an incarnation that is not kept.
    ///
    /// # Errors
    /// [`crate::Error::Overtaken`] if it cannot be promoted any more.
    async fn keep(&self, staged: Incarnation) -> Result<()>;

    /// Deletes the living incarnation and gives its name, tokens, description and whatever else it has to the staged
    /// one, which is of this size, in one step. A caller repeats it if the outcome is unknown. Whether the living one is
    /// protected, and its quota, are those of that moment: no [`Backend::update`] overlaps.
    ///
    /// # Errors
    /// [`crate::Error::Overtaken`] if the living one was deleted or the staged one discarded,
    /// [`crate::Error::Protected`], [`crate::Error::OverQuota`]; nothing has changed then.
    async fn promote(&self, staged: Incarnation, size: Size) -> Result<()>;

    /// Gives a staged incarnation up, so that the living one takes appends again. Changes nothing if it was promoted or
    /// discarded before.
    async fn discard(&self, staged: Incarnation) -> Result<()>;

    /// Takes over what servers of earlier versions noted in the registry, and discards staged incarnations that are not
    /// kept. It touches the registry alone, and is called again and again.
    async fn tidy(&self) -> Result<()> {
        Ok(())
    }

    /// Drops the storage of deleted and discarded incarnations that is not in use. That may take long. It is called again later for the
    /// rest, also after a crash.
    async fn purge(&self) -> Result<()>;

    /// How many messages each living incarnation holds, exact, without opening them all.
    async fn message_counts(&self) -> Result<Vec<(Incarnation, u64)>>;

    /// Opens the log of an incarnation, creating or migrating it if needed. A caller appends through one [`Opened`] at
    /// a time.
    ///
    /// # Errors
    /// [`crate::Error::Closed`] if the incarnation was deleted.
    async fn open(&self, incarnation: Incarnation) -> Result<Opened>;

    /// Hints of what other servers did. One may be lost. `None` if the backend is not shared, or at the second call.
    fn hints(&self) -> Option<mpsc::Receiver<Hint>>;

    /// How many reads run at once.
    fn readers(&self) -> Readers;

    /// Whether the database answers, within a short time.
    async fn ping(&self) -> Result<()>;

    /// Whether a server of a version before 0.2.0 uses the same database, as far as its sessions tell: it knows neither groups
    /// nor tokens with less than every right.
    async fn is_beside_older(&self) -> Result<bool> {
        Ok(false)
    }

    /// Returns once the threads that commit batches have taken up something new. It asks no disk and no database, because
    /// a backend that waits for one of them makes as much progress as it can.
    async fn beat(&self) {}

    /// The process has no descriptor left for a connection. Closes files that nobody uses now, if there are some. It may
    /// block.
    fn give_up_files(&self) {}

    /// Makes a small write that is durable when it returns and that cannot be read, and one to each log whose last
    /// write failed, so that [`Backend::degraded`] is up to date.
    async fn self_test(&self) -> Result<()>;

    /// Time of the last written message of an incarnation, without migrating it or keeping it open; 1970 if it has no
    /// message. Damage that is seen on the way is in [`Backend::degraded`] from then on.
    async fn last_time(&self, incarnation: Incarnation) -> Result<Timestamp>;

    /// Why writes are refused at the moment, or soon will be, as far as it is known without asking.
    fn degraded(&self) -> Vec<Degraded> {
        Vec::new()
    }

    /// What it tells of itself. It asks the database nothing for it.
    fn figures(&self) -> BackendFigures {
        BackendFigures::default()
    }

    /// Ends background work and closes files and connections. No call comes after it.
    async fn close(&self);
}

/// The bound on reads that run at once at each node of a backend, of all logs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readers {
    /// Their number.
    pub at_once: usize,
    /// How long one more waits.
    pub patience: Duration,
}

/// Something that another server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The log of this incarnation has reached this global position.
    Written(Incarnation, i64),
    /// A group of this incarnation with this tag has changed.
    Group(Incarnation, GroupTag),
    /// It changes a group of this incarnation with this tag, and others are always first.
    Wanted(Incarnation, GroupTag),
    /// Namespaces were created or deleted, or tokens changed.
    Registry,
    /// Hints may have been lost: look at everything.
    All,
}

/// What [`Backend::open`] hands out: the log of one incarnation, and the right to append to it.
pub struct Opened {
    /// For reads, by any number of callers.
    pub storage: Arc<dyn Storage>,
    /// For appends, by one caller.
    pub appender: Box<dyn Appender>,
    /// The groups that read the log.
    pub groups: Arc<dyn GroupStorage>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

/// The log of one incarnation in a database, to be read.
///
/// # Contract
/// - If a message is visible to a method, every message at a lower global position is.
/// - Reads see everything that was committed before they were called.
/// - What appends ask ([`Self::head_since`], [`Self::versions`], [`Self::find`]) and what reads ask (the rest) is answered
///   by different threads or connections of a shared backend, so that neither can use up the other's.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// The name of the node that has the log, if the backend has several and it is another one than most calls go to.
    /// The log may move.
    fn node(&self) -> Option<Arc<str>> {
        None
    }

    /// The committed head, for a read.
    ///
    /// # Errors
    /// [`crate::Error::Closed`] if the incarnation was deleted, [`crate::Error::Unavailable`],
    /// [`crate::Error::Failed`]; so for all methods here.
    async fn head(&self) -> Result<Head> {
        Ok(self.confirm_head(&Head::default()).await?.0)
    }

    /// The committed head, and how it stands to one that was known before, for an append. After a failover or a restore,
    /// batches that the database had acknowledged may be gone, and others have their numbers.
    async fn head_since(&self, known: &Head) -> Result<(Head, Lineage)>;

    /// The same for a read.
    async fn confirm_head(&self, known: &Head) -> Result<(Head, Lineage)> {
        self.head_since(known).await
    }

    /// Whether appends are refused because an incarnation is staged for the place of this one. Only a shared backend
    /// has to know; otherwise the one server does.
    async fn is_being_replaced(&self) -> Result<bool> {
        Ok(false)
    }

    /// The last position of each of these streams, in their order, for an append; -1 for one without messages.
    async fn versions(&self, streams: &[Arc<str>]) -> Result<Vec<i64>>;

    /// The last position of this stream, for a read; -1 if it has no messages.
    async fn version(&self, stream: Arc<str>) -> Result<i64> {
        Ok(self.versions(&[stream]).await?.first().copied().unwrap_or(-1))
    }

    /// The messages with these ids, as far as there are any, in any order, for an append.
    async fn find(&self, ids: &[Uuid]) -> Result<Vec<Message>>;

    /// The message with this id, for a read.
    async fn message(&self, id: Uuid) -> Result<Option<Message>>;

    /// The global position of the first message up to `head` that is at or after `time`; one above `head` if there is
    /// none. If times descend somewhere, as those of imported messages may, it is a message at or after `time` whose
    /// predecessor is earlier.
    async fn position_at(&self, time: Timestamp, head: i64) -> Result<i64>;

    /// One slice of messages.
    async fn read(&self, select: &Select) -> Result<Slice>;

    /// One page of streams.
    async fn streams(&self, page: &ListPage) -> Result<Vec<StreamListed>>;

    /// One page of categories.
    async fn categories(&self, page: &ListPage) -> Result<Vec<CategoryListed>>;

    /// How many messages and streams the log has.
    async fn counts(&self) -> Result<Counts>;

    /// How many bytes the log takes in the database, with its indexes. It may lag a little behind.
    async fn bytes(&self) -> Result<u64>;

    /// Starts a run of the log's sequencer: SQLite on one of its writer threads, PostgreSQL as a task. A run ends once
    /// nothing waits to be appended, or after a number of batches.
    fn spawn(&self, run: BoxFuture<'static, ()>);

    /// Gives files and connections back; a later call of another method may open them again.
    async fn close(&self);
}

/// The right to append to the log of one incarnation. Its methods take `&mut self`, so that appends have an order.
///
/// # Contract
/// - A batch is committed wholly or not at all, only directly behind the very batch that `batch.after` names by its id,
///   and is durable once its outcome says so.
/// - Batches are sent in the order in which they are submitted, each when its future is first polled. Without
///   [`Abilities::takes_batch_behind`], the caller waits for one outcome before it submits the next batch.
/// - A batch that is submitted behind one that is under way happens only if that one does.
#[async_trait]
pub trait Appender: Send {
    /// What it does at the moment beyond the rest of the contract. A caller asks before each batch.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    /// Where servers that write to one log take turns: what to wait for before the next batch is planned. `None` if
    /// there is nothing to wait for.
    fn lead(&mut self) -> Option<BoxFuture<'_, ()>> {
        None
    }

    /// Commits a batch. Its messages get the time max(the database's clock, `batch.after.time`); those of an import
    /// keep their times. Messages to an open stream follow its last message.
    fn submit(&mut self, batch: Arc<Batch>) -> Submitted;

    /// Settles an append whose outcome is unknown: puts an empty batch under its number, so that the lost one can never
    /// succeed any more, or finds that one, or another server's, there.
    ///
    /// # Errors
    /// [`crate::Error::Closed`], [`crate::Error::Unavailable`], [`crate::Error::Failed`]: it is still unknown.
    async fn settle(&mut self, batch: &Batch) -> Result<Settled>;
}

/// The outcome of an append: the messages as they were written, or why they were not.
pub type Outcome = Result<Vec<Arc<Entry>>, AppendError>;

/// An append that is under way once it has been polled. If it is dropped, its outcome is unknown.
pub type Submitted = BoxFuture<'static, Outcome>;

/// What an appender does beyond the rest of its contract. The sequencer plans with or without it, because only the
/// sequencer knows the versions and ids that a batch under way will leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// An append finds the versions of streams that are open in its batch. Otherwise the caller leaves none open.
    pub finds_versions: bool,
    /// A batch may be submitted behind one that is under way. The caller polls both until the first has ended, because the
    /// second may hold what the first needs.
    pub takes_batch_behind: bool,
}

/// Why an append did not happen, or may not have.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Another server wrote after `batch.after`. Nothing was written.
    #[error("another server wrote first")]
    Behind,
    /// The database refuses these messages and would do so again. Nothing was written.
    #[error("the database refuses the batch")]
    Rejected(#[source] Cause),
    /// Nothing was written; a later attempt may succeed.
    #[error("the storage is unavailable")]
    Unavailable(#[source] Cause),
    /// The outcome is open until [`Appender::settle`] has settled it.
    #[error("the outcome is unknown")]
    Unknown(#[source] Cause),
    /// The incarnation was deleted. Nothing was written.
    #[error("the log is closed")]
    Closed,
    /// An incarnation is staged that is to take this one's place. Nothing was written.
    #[error("the namespace is being replaced")]
    Replacing,
}

/// How an unknown outcome was settled.
#[derive(Clone, Debug)]
pub enum Settled {
    /// The batch was committed; these are its messages.
    Committed(Vec<Arc<Entry>>),
    /// It was not, and never will be.
    NotCommitted,
}
