//! A namespace's log: appends go in through the writer, pages and pokes come out of the window or the storage.
//!
//! Each folder has one struct that owns its state, and imports only the folders before it: `window` (what readers may
//! see), `write` (appends, and following other servers), `read` (pages and subscriptions), `groups` (their calls).

mod base;
mod groups;
mod kinds;
mod known;
#[cfg(feature = "testing")]
pub mod parts;
mod read;
mod reads;
mod survey;
mod window;
mod write;

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_protocol::Timestamp;
use eventodb_protocol::message::Message;
use eventodb_protocol::reply::{Appended, CategoryListed, Quota, StreamListed};
use eventodb_protocol::request::{Append, ListPage, Read};
use tokio::sync::Mutex;
use uuid::Uuid;

pub use crate::groups::Allowed;
pub use groups::{Groups, Named};
pub use read::{Chunk, Event, Page, Start, Subscribe, Subscription};
pub(crate) use reads::Reads;
pub(crate) use window::Budget;
pub use write::{Stages, Times};

use self::base::Base;
use self::read::Reader;
use self::window::Window;
use self::write::Writer;
use crate::error::{Chain, Result};
use crate::figures::Figures;
use crate::model::{Counts, Namespace, Size};
use crate::settings::Settings;
use crate::storage::Opened;

/// The log of one incarnation of a namespace.
pub struct Log {
    namespace: Namespace,
    base: Arc<Base>,
    /// Used also to stop a log, and to tell it of other servers' work.
    pub(crate) writer: Arc<Writer>,
    reader: Arc<Reader>,
    groups: Groups,
    /// Held while the database is asked for the head.
    polls: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("namespace", &self.namespace.name).finish_non_exhaustive()
    }
}

impl Log {
    /// The log that was `opened`; `is_shared` tells whether other servers may write to it.
    pub(crate) async fn open(
        namespace: Namespace,
        opened: Opened,
        is_shared: bool,
        settings: Arc<Settings>,
        budget: Arc<Budget>,
        reads: Arc<Reads>,
        figures: Arc<Figures>,
    ) -> Result<Arc<Self>> {
        let Opened { storage, appender, groups } = opened;
        let head = storage.head().await?;
        let window = Window::new(head.position, settings.tail_messages, budget);
        let base = Arc::new(Base::new(
            namespace.name.clone(),
            settings,
            storage,
            is_shared,
            window,
            namespace.quota,
            reads,
            groups,
            figures,
        ));
        let writer = Arc::new(Writer::new(Arc::clone(&base), appender, head));
        let reader = Arc::new(Reader::new(Arc::clone(&base), Arc::clone(&writer)));
        let groups = Groups::new(Arc::clone(&base), Arc::clone(&reader), Arc::clone(&writer));
        Ok(Arc::new(Self { namespace, base, writer, reader, groups, polls: Arc::default() }))
    }

    /// The namespace that it is the log of, as it was when the log was opened.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// How much the namespace may hold, as far as this server knows.
    pub fn quota(&self) -> Quota {
        *self.base.quota.read()
    }

    /// The node of the storage, if it is not the one that the backend was opened at.
    #[cfg(test)]
    pub(crate) fn node(&self) -> Option<Arc<str>> {
        self.base.storage.node()
    }

    /// Whether appends wait that no batch has taken up.
    #[cfg(test)]
    pub(crate) fn has_waiting(&self) -> bool {
        self.writer.has_waiting()
    }

    /// What the namespace may hold has changed.
    pub(crate) fn set_quota(&self, quota: Quota) {
        *self.base.quota.write() = quota;
    }

    /// Global position of the last message that readers can see; 0 if there is none.
    pub fn head(&self) -> i64 {
        self.base.window.head()
    }

    /// Appends atomically; one result per entry. A caller that goes away does not cancel it.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`]: it may be written. Any other: nothing was written.
    pub async fn append(&self, append: Append) -> Result<Vec<Appended>> {
        self.append_as(append, &Allowed::Any).await
    }

    /// As [`Log::append`]. It acts on its group only if that is one of the `allowed` ones.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append_as(&self, append: Append, allowed: &Allowed) -> Result<Vec<Appended>> {
        self.writer.append(append, allowed).await
    }

    /// Refuses an append that is not made yet, if it would be refused because earlier ones wait for too long. It costs a
    /// fraction of what making it would.
    ///
    /// # Errors
    /// [`crate::Error::Overloaded`], or [`crate::Error::Unavailable`] if the outcome of an earlier append is being found
    /// out.
    pub fn check_age(&self) -> Result<()> {
        self.writer.check_age()
    }

    /// As [`Log::append_as`]. The stages are told when it passes them.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append_traced(
        &self,
        append: Append,
        allowed: &Allowed,
        stages: Option<Arc<Stages>>,
    ) -> Result<Vec<Appended>> {
        self.writer.append_traced(append, allowed, stages).await
    }

    /// Appends records that keep their positions and times. Returns the global position of the last one.
    ///
    /// # Errors
    /// As [`Log::append`], and [`crate::Error::PositionExists`] with the index of the first record that does not fit.
    pub async fn import(&self, records: Vec<Message>) -> Result<i64> {
        self.writer.import(records).await
    }

    /// Whether appends are refused because the namespace is being replaced, through this server or another one.
    pub async fn is_being_replaced(&self) -> Result<bool> {
        self.writer.is_being_replaced().await
    }

    /// Reads one page; waits for a first message as long as the request says. A page ends before a damaged message.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] if the first message is damaged, and those of [`crate::storage::Storage`].
    pub async fn read(&self, read: Read) -> Result<Page> {
        self.read_within(read, |_| true).await
    }

    /// The same within bounds of memory. Before the page keeps a piece, `room` is asked with the bytes of text that it
    /// would keep in all. It keeps at most the pieces that it gathers before the reply begins.
    ///
    /// # Errors
    /// As [`Self::read`], and [`crate::Error::NoRoom`].
    pub async fn read_within(&self, read: Read, room: impl FnMut(usize) -> bool + Send) -> Result<Page> {
        self.reader.page(read, room).await
    }

    /// The message with this id.
    pub async fn message(&self, id: Uuid) -> Result<Option<Message>> {
        self.reader.message(id).await
    }

    /// The global position at which a read from a time on begins: that of the first message at or after it, or the one
    /// behind the last message if there is none. If times of imported messages descend, it is a position whose message
    /// is at or after the time while the one before it is not.
    pub async fn position_at(&self, time: Timestamp) -> Result<i64> {
        self.reader.position_at(time).await
    }

    /// Position of a stream's last message.
    pub async fn version(&self, stream: &str) -> Result<Option<i64>> {
        self.reader.version(stream).await
    }

    /// One page of the streams.
    pub async fn streams(&self, page: &ListPage) -> Result<Vec<StreamListed>> {
        self.reader.streams(page).await
    }

    /// One page of categories.
    pub async fn categories(&self, page: &ListPage) -> Result<Vec<CategoryListed>> {
        self.reader.categories(page).await
    }

    /// How much there is.
    pub async fn counts(&self) -> Result<Counts> {
        self.reader.counts().await
    }

    /// The same, also after the log was closed, as long as its storage is there.
    pub(crate) async fn counts_of_ended(&self) -> Result<Counts> {
        self.reader.counts_of_ended().await
    }

    /// How large it is, as its quota counts it.
    pub(crate) async fn size(&self) -> Result<Size> {
        self.reader.size().await
    }

    /// A subscription; it reads nothing before its first [`Subscription::next`].
    pub fn subscribe(&self, subscribe: Subscribe) -> Subscription {
        self.reader.subscribe(subscribe)
    }

    /// The groups that read it.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Asks the database for the head in the background, if somebody waits here for other servers' writes. The answer to
    /// an earlier call is waited for, but not by the caller: a node of the database that does not answer holds up its
    /// own logs and no others.
    pub(crate) fn poll(&self) {
        let Ok(turn) = Arc::clone(&self.polls).try_lock_owned() else { return };
        let (reader, base) = (Arc::clone(&self.reader), Arc::clone(&self.base));
        tokio::spawn(async move {
            if let Err(error) = reader.poll().await {
                tracing::debug!(namespace = %base.namespace, error = %Chain(&error), "cannot see what other servers did");
            }
            drop(turn);
        });
    }

    /// How many messages the slowest subscription that has something to read is behind the head.
    pub(crate) fn lag(&self) -> i64 {
        self.base.window.lag()
    }

    /// How many subscriptions have been asked for their next event, and had something to read but did not read it, for at
    /// least this time. It is known from the looks before this one.
    pub(crate) fn stuck_subscriptions(&self, least: Duration, now: Instant) -> usize {
        self.base.window.stuck_subscriptions(least, now)
    }

    /// Serves nothing more: appends are refused, reads fail and subscriptions end.
    pub(crate) fn close(&self) {
        self.base.window.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.base.window.is_closed()
    }
}
