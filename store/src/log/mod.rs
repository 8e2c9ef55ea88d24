//! A namespace's log: appends go in through the sequencer, reads and pokes come out of the tail or
//! the storage.
//!
//! | file | what stands there |
//! |---|---|
//! | `queue` | the bounded queue in front of the sequencer |
//! | `sequencer` | gathering and committing; following other servers |
//! | `decision` | what becomes of each append of a batch |
//! | `versions` | the versions that the sequencer remembers |
//! | `tail` | the window of the newest messages |
//! | `topics` | who waits for which messages |
//! | `read`, `page` | pages, and how they are planned |
//! | `subscription` | cursors that are told about every message after them |
//! | `parts` | what of it microbenchmarks measure by itself |
//! | `head_query` | asking a shared database for the head, once for all who wait |

mod decision;
mod head_query;
mod page;
#[cfg(feature = "testing")]
pub mod parts;
mod pauses;
mod queue;
mod read;
mod sequencer;
mod subscription;
mod tail;
mod topics;
mod versions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use eventodb_protocol::message::Message;
use eventodb_protocol::reply::{Appended, CategoryListed, StreamListed};
use eventodb_protocol::request::{Append, ListPage};
use eventodb_protocol::{Direction, Filter, Scope};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use page::{Chunk, Page};
pub use subscription::{Event, Start, Subscribe, Subscription};

pub(crate) use tail::Budget;

use self::head_query::HeadQuery;
use self::pauses::Pauses;
use self::queue::{Done, Queue, Work};
use self::sequencer::Sequencer;
use self::tail::Tail;
use self::topics::Topics;
use crate::clock;
use crate::error::{Error, Result};
use crate::model::{Axis, Columns, Counts, Entry, Head, Lineage, Namespace, Select};
use crate::settings::Settings;
use crate::storage::Storage;

/// How long a read waits until this server has followed to the head that the database told.
const FOLLOW_WITHIN: Duration = Duration::from_secs(10);
const LAGGING: &str = "this server could not follow the log";

/// The log of one incarnation of a namespace.
pub struct Log {
    namespace: Namespace,
    settings: Arc<Settings>,
    storage: Arc<dyn Storage>,
    /// Whether other servers may write to it.
    shared: bool,
    queue: Queue,
    sequencer: tokio::sync::Mutex<Sequencer>,
    /// Whether a turn of the sequencer is scheduled or runs.
    turning: AtomicBool,
    tail: RwLock<Tail>,
    topics: Topics,
    /// Where this server knows the log to end; only turns of the sequencer move it.
    known: Mutex<Head>,
    /// Global position up to which readers may see.
    head: watch::Sender<i64>,
    /// Global position that other servers are known to have reached.
    wanted: AtomicI64,
    /// Whether the database told a head that does not follow the one that is known, or what is known may not hold.
    suspicious: AtomicBool,
    /// Tells a turn that waits to append that there is something to follow.
    hinted: Notify,
    /// What heartbeats are counted from.
    opened: Instant,
    head_query: HeadQuery,
    refusing: AtomicBool,
    /// Whether this server fills another incarnation that is to take this one's place.
    replacing: AtomicBool,
    closed: CancellationToken,
    pauses: Pauses,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("namespace", &self.namespace.name)
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

impl Log {
    /// The log that `storage` holds.
    pub(crate) async fn open(
        namespace: Namespace,
        storage: Arc<dyn Storage>,
        shared: bool,
        settings: Arc<Settings>,
        budget: Arc<Budget>,
    ) -> Result<Arc<Self>> {
        let head = storage.head().await?;
        Ok(Arc::new(Self {
            queue: Queue::new(&settings),
            sequencer: tokio::sync::Mutex::new(Sequencer::new(settings.version_cache)),
            turning: AtomicBool::new(false),
            tail: RwLock::new(Tail::new(head.position, settings.tail_messages, budget)),
            topics: Topics::default(),
            known: Mutex::new(head),
            head: watch::Sender::new(head.position),
            wanted: AtomicI64::new(head.position),
            suspicious: AtomicBool::new(false),
            hinted: Notify::new(),
            opened: Instant::now(),
            head_query: HeadQuery::default(),
            refusing: AtomicBool::new(false),
            replacing: AtomicBool::new(false),
            closed: CancellationToken::new(),
            pauses: Pauses::new(settings.pause_seed),
            namespace,
            settings,
            storage,
            shared,
        }))
    }

    /// The namespace that it is the log of.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Global position of the last message that readers can see; 0 where there is none.
    pub fn head(&self) -> i64 {
        *self.head.borrow()
    }

    /// Appends atomically; one result per entry. A caller that goes away does not cancel it.
    ///
    /// # Errors
    /// [`crate::Error::VersionConflict`], [`crate::Error::IdConflict`], [`crate::Error::Overloaded`],
    /// [`crate::Error::Unavailable`], [`crate::Error::Closed`]: nothing was written.
    /// [`crate::Error::Unknown`]: open.
    pub async fn append(self: &Arc<Self>, append: Append) -> Result<Vec<Appended>> {
        let messages = append.entries.iter().flat_map(|entry| &entry.messages);
        let ids = messages.map(|message| message.id.unwrap_or_else(Uuid::now_v7)).collect();
        match self.submit(Work::Append(append, ids)).await? {
            Done::Appended(results) => Ok(results),
            Done::Imported(_) => unreachable!("an append is answered as an append"),
        }
    }

    /// Appends records that keep their positions and times; the global position of the last one comes back.
    ///
    /// # Errors
    /// [`crate::Error::PositionExists`] with the place of the first record that does not fit, and
    /// those of [`Log::append`].
    pub async fn import(self: &Arc<Self>, records: Vec<Message>) -> Result<i64> {
        match self.submit(Work::Import(records)).await? {
            Done::Imported(head) => Ok(head),
            Done::Appended(_) => unreachable!("an import is answered as an import"),
        }
    }

    /// Whether appends are refused because what the namespace holds is being replaced, be it through another server.
    ///
    /// # Errors
    /// [`crate::Error::Closed`], [`crate::Error::Unavailable`], [`crate::Error::Failed`].
    pub async fn is_being_replaced(&self) -> Result<bool> {
        self.open_or_closed()?;
        Ok(self.replacing.load(SeqCst) || self.storage.is_being_replaced().await?)
    }

    async fn submit(self: &Arc<Self>, work: Work) -> Result<Done> {
        if self.is_closed() || self.refusing.load(SeqCst) {
            return Err(Error::Closed);
        }
        if self.replacing.load(SeqCst) {
            return Err(Error::Replacing);
        }
        let answer = self.queue.put(work).await?;
        self.schedule();
        answer.await.map_err(|_| {
            Error::Unknown(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from("the sequencer stopped")))
        })?
    }

    /// Position of a stream's last message.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub async fn version(self: &Arc<Self>, stream: &str) -> Result<Option<i64>> {
        self.confirm_head().await?;
        let known = self.tail.read().version(stream);
        let version = match known {
            Some(version) => version,
            None => self.storage.versions(&[stream.into()]).await?.first().copied().unwrap_or(-1),
        };
        Ok((version >= 0).then_some(version))
    }

    /// One page of the streams.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub async fn streams(self: &Arc<Self>, page: &ListPage) -> Result<Vec<StreamListed>> {
        self.open_or_closed()?;
        self.storage.streams(page).await
    }

    /// One page of categories.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub async fn categories(self: &Arc<Self>, page: &ListPage) -> Result<Vec<CategoryListed>> {
        self.open_or_closed()?;
        self.storage.categories(page).await
    }

    /// How much there is.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub async fn counts(self: &Arc<Self>) -> Result<Counts> {
        self.open_or_closed()?;
        self.storage.counts().await
    }

    /// A subscription; it reads nothing before its first [`Subscription::next`].
    pub fn subscribe(self: &Arc<Self>, subscribe: Subscribe) -> Subscription {
        Subscription::new(self.clone(), subscribe)
    }

    /// The head, confirmed to be current where other servers write: everything that was committed
    /// before the call is at or below it, and visible here.
    pub(crate) async fn confirm_head(self: &Arc<Self>) -> Result<i64> {
        self.open_or_closed()?;
        if !self.shared {
            return Ok(self.head());
        }
        let asked = self.head_query.ask(&*self.storage, || self.known()).await;
        if matches!(asked, Err(Error::Closed)) {
            // Deleted or emptied through another server: the next call finds what is there instead.
            self.close();
        }
        let (head, lineage) = asked?;
        if lineage != Lineage::Follows {
            // What was seen here may be gone: a turn looks at it.
            self.suspicious.store(true, SeqCst);
            self.look();
        }
        if lineage == Lineage::Diverged {
            // It closes this log, and nothing that is gone is served until then.
            return Err(self.closed_within().await);
        }
        self.follow_to(head.position).await?;
        Ok(self.head())
    }

    /// Waits until a turn has closed this log.
    async fn closed_within(&self) -> Error {
        match tokio::time::timeout(FOLLOW_WITHIN, self.closed.cancelled()).await {
            Ok(()) => Error::Closed,
            Err(_) => Error::unavailable(LAGGING),
        }
    }

    /// Waits until this server shows everything up to `position`, which the database has told.
    async fn follow_to(self: &Arc<Self>, position: i64) -> Result<()> {
        if self.head() >= position {
            return Ok(());
        }
        let mut head = self.head.subscribe();
        self.hint(position);
        let reached = tokio::time::timeout(FOLLOW_WITHIN, head.wait_for(|head| *head >= position));
        tokio::select! {
            reached = reached => match reached {
                Ok(Ok(_)) => Ok(()),
                _ => Err(Error::unavailable(LAGGING)),
            },
            () = self.closed.cancelled() => Err(Error::Closed),
        }
    }

    /// Other servers have written up to here, it is said.
    pub(crate) fn hint(self: &Arc<Self>, position: i64) {
        if self.wanted.fetch_max(position, SeqCst) < position || self.is_behind() {
            self.look();
        }
    }

    /// Has a turn, the one that runs or a new one, look at what other servers wrote.
    fn look(self: &Arc<Self>) {
        self.hinted.notify_one();
        self.schedule();
    }

    /// Asks the database for the head if somebody waits here for other servers' writes.
    pub(crate) async fn poll(self: &Arc<Self>) -> Result<()> {
        if !self.topics.is_empty() {
            self.confirm_head().await?;
        }
        Ok(())
    }

    /// Whether nobody waits for messages here.
    #[cfg(feature = "testing")]
    pub(crate) fn topics_are_empty(&self) -> bool {
        self.topics.is_empty()
    }

    fn known(&self) -> Head {
        *self.known.lock()
    }

    /// Whether the last time lies so far ahead of the clock that it is not a matter of two clocks. Times never go
    /// back, so that each new message gets that time.
    pub(crate) fn is_ahead_of_clock(&self) -> bool {
        clock::is_ahead(self.known().time)
    }

    /// Says so if the last time lies ahead of the clock.
    pub(crate) fn warn_of_time(&self) {
        if self.is_ahead_of_clock() {
            clock::warn_of(&self.namespace.name, self.known().time);
        }
    }

    /// Refuses new appends from now on; those that were accepted go on.
    pub(crate) fn refuse(&self) {
        self.refusing.store(true, SeqCst);
    }

    /// Whether new appends are refused because another incarnation is to take this one's place; those that
    /// were accepted go on.
    pub(crate) fn set_replacing(&self, replacing: bool) {
        self.replacing.store(replacing, SeqCst);
    }

    /// Waits until everything that was accepted is answered.
    pub(crate) async fn drain(self: &Arc<Self>) {
        while !self.queue.is_empty() || self.turning.load(SeqCst) {
            drop(self.sequencer.lock().await);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Serves nothing more: appends are refused, subscriptions end.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    fn open_or_closed(&self) -> Result<()> {
        if self.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Whether other servers are known to have written more, or what is known may not hold.
    pub(crate) fn is_behind(&self) -> bool {
        self.wanted.load(SeqCst) > self.head() || self.suspicious.load(SeqCst)
    }

    fn begin_turn(&self) -> bool {
        !self.turning.swap(true, SeqCst)
    }

    fn end_turn(&self) {
        self.turning.store(false, SeqCst);
    }

    /// Those who wait for what cannot be followed give up in their own time; a turn does not try again by itself.
    fn following_failed(&self) {
        self.wanted.store(self.head(), SeqCst);
        self.suspicious.store(false, SeqCst);
    }

    /// The database ends at `head`. A hint that was there before it was asked and says more was false: any role of
    /// a shared database can send one, and nobody must look for it for ever.
    fn following_succeeded(&self, hinted: i64, head: i64) {
        if hinted > head {
            // Where it fails, there is a later hint to follow.
            let _ = self.wanted.compare_exchange(hinted, head, SeqCst, SeqCst);
        }
        self.suspicious.store(false, SeqCst);
    }

    /// Shows committed messages to readers and wakes who waits for them.
    fn publish(&self, entries: &[Arc<Entry>]) {
        let Some(last) = entries.last() else { return };
        self.topics.publish(entries, || {
            self.tail.write().push(entries);
            self.head.send_replace(last.message().global_position);
        });
    }

    /// Moves the head over messages that were not read.
    fn skip_to(&self, head: i64) {
        self.topics.publish_unseen(head, || {
            self.tail.write().restart(head);
            self.head.send_replace(head);
        });
    }

    /// The log went back to an earlier head: what was known is forgotten, and its streams end.
    fn restart(&self, head: i64) {
        self.wanted.store(head, SeqCst);
        self.skip_to(head);
        self.close();
    }

    /// The messages that other servers wrote in a range, or `None` where they are more than the
    /// tail would hold.
    async fn foreign(&self, after: i64, head: i64) -> Result<Option<Vec<Arc<Entry>>>> {
        if head - after > self.settings.tail_messages as i64 {
            return Ok(None);
        }
        let mut select = Select {
            filter: Arc::new(Filter::new(Scope::All)),
            axis: Axis::Global,
            from: after + 1,
            to: head,
            head,
            direction: Direction::Forward,
            rows: self.settings.slice_rows,
            bytes: self.settings.slice_bytes,
            columns: Columns::All,
        };
        let mut entries = Vec::new();
        loop {
            let slice = self.storage.read(&select).await?;
            entries.extend(slice.rows.iter().map(|message| {
                let starts_stream = message.position == 0;
                Arc::new(Entry::new(message.to_message(), starts_stream))
            }));
            match slice.covered.checked_add(1) {
                Some(next) if next <= head => select.from = next,
                _ => return Ok(Some(entries)),
            }
        }
    }
}
