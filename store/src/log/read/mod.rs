//! Reading a log: pages, and subscriptions to what comes.
//!
//! **Invariants**
//! - A read sees everything that was committed before it began, through whichever server. Where other servers write
//!   too, the database is asked for its head first, and this server follows up to it.
//! - Nothing is read above the head that was fixed at the start, so that a page has no gap.
//! - Between two slices no connection, transaction or snapshot is held: a slow client costs a cursor.

mod head_query;
mod page;
mod scan;
mod subscription;
mod walk;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::message::Message;
use eventodb_protocol::reply::{CategoryListed, StreamListed};
use eventodb_protocol::request::{ListPage, Read};
use eventodb_protocol::{Direction, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

pub use page::{Chunk, Page};
pub(in crate::log) use scan::{Met, Scan};
pub use subscription::{Event, Start, Subscribe, Subscription};

use self::head_query::HeadQuery;
use self::walk::Walk;
use super::base::Base;
use super::write::Writer;
use crate::error::{Error, Result};
use crate::model::{Counts, Lineage, Size};

/// How long a read waits until this server has followed to the head that the database told.
const FOLLOW_WITHIN: Duration = Duration::from_secs(10);
const LAGGING: &str = "this server could not follow the log";

/// Reads one log, from its window if that reaches back far enough, else from the storage.
pub(in crate::log) struct Reader {
    base: Arc<Base>,
    /// Follows other servers.
    writer: Arc<Writer>,
    head_query: HeadQuery,
    /// Heartbeats are counted from here.
    opened: Instant,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("namespace", &self.base.namespace).finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(base: Arc<Base>, writer: Arc<Writer>) -> Self {
        Self { base, writer, head_query: HeadQuery::default(), opened: Instant::now() }
    }

    /// One page. If the request waits, the page is empty only once that time has passed without a match. Before each
    /// piece is kept, `room` is called with the bytes that the page would then hold; `false` ends the read with `NoRoom`.
    ///
    /// # Errors
    /// As [`super::Log::read_within`].
    pub(super) async fn page(self: &Arc<Self>, read: Read, mut room: impl FnMut(usize) -> bool + Send) -> Result<Page> {
        let read = self.placed(read).await?;
        if read.wait.is_zero() || read.limit == 0 {
            return self.page_now(&read, &mut room).await;
        }
        let deadline = Instant::now() + read.wait;
        // Registered before looking, so that nothing is missed in between.
        let waiter = self.base.window.register(&read.filter.scope);
        loop {
            let page = self.page_now(&read, &mut room).await?;
            if !page.is_empty() {
                return Ok(page);
            }
            tokio::select! {
                () = waiter.woken() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(page),
                () = self.base.window.closed() => return Err(Error::Closed),
            }
        }
    }

    /// The same read, whose time is a position.
    async fn placed(&self, read: Read) -> Result<Read> {
        let Some(time) = read.time else { return Ok(read) };
        Ok(Read { from: Some(self.position_at(time).await?), time: None, ..read })
    }

    /// The global position at which a read from a time on begins.
    ///
    /// # Errors
    /// As [`Self::confirm_head`].
    pub(super) async fn position_at(&self, time: Timestamp) -> Result<i64> {
        let head = self.confirm_head().await?;
        if let Some(position) = self.base.window.position_at(time) {
            return Ok(position);
        }
        let _turn = self.base.call_reads().await?;
        self.base.storage.position_at(time, head).await
    }

    async fn page_now(self: &Arc<Self>, read: &Read, room: &mut (impl FnMut(usize) -> bool + Send)) -> Result<Page> {
        let head = self.confirm_head().await?;
        let Some(mut walk) = Walk::new(Arc::clone(self), read, head) else {
            return Ok(Page::empty(walk::complete_without_reading(read, head)));
        };
        let mut chunks = VecDeque::new();
        let mut bytes = 0;
        let mut last = None;
        while bytes < self.base.settings.page_bytes {
            let chunk = match walk.next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(Error::Damaged(_)) if !chunks.is_empty() => {
                    walk.cut_here();
                    break;
                }
                Err(error) => return Err(error),
            };
            bytes += chunk.bytes();
            if !room(bytes) {
                return Err(Error::NoRoom);
            }
            last = chunk.iter().last().map(|message| message.global_position).or(last);
            chunks.push_back(chunk);
        }
        if read.direction == Direction::Backward {
            return Ok(Page::new(chunks, walk, None));
        }
        if !walk.is_done() {
            // The reply begins before the page is whole, so its end is looked for first.
            last = walk.find_end().await?.or(last);
        }
        let complete = if walk.is_cut() { last.unwrap_or(head) } else { walk::complete_at_the_end(read, head) };
        Ok(Page::new(chunks, walk, Some(complete)))
    }

    /// The message with this id.
    ///
    /// # Errors
    /// As [`Self::confirm_head`].
    pub(super) async fn message(&self, id: Uuid) -> Result<Option<Message>> {
        let head = self.confirm_head().await?;
        let _turn = self.base.call_reads().await?;
        let found = self.base.storage.message(id).await?;
        // What was committed meanwhile is not shown before everything below it is.
        Ok(found.filter(|message| message.global_position <= head))
    }

    /// Position of a stream's last message.
    ///
    /// # Errors
    /// As [`Self::confirm_head`].
    pub(super) async fn version(&self, stream: &str) -> Result<Option<i64>> {
        self.confirm_head().await?;
        let version = match self.base.window.version(stream) {
            Some(version) => version,
            None => {
                let _turn = self.base.call_reads().await?;
                self.base.storage.version(stream.into()).await?
            }
        };
        Ok((version >= 0).then_some(version))
    }

    /// One page of the streams.
    ///
    /// # Errors
    /// As [`Self::confirm_head`].
    pub(super) async fn streams(&self, page: &ListPage) -> Result<Vec<StreamListed>> {
        self.base.window.open_or_closed()?;
        let _turn = self.base.call_reads().await?;
        self.base.storage.streams(page).await
    }

    /// One page of categories.
    ///
    /// # Errors
    /// As [`Self::confirm_head`].
    pub(super) async fn categories(&self, page: &ListPage) -> Result<Vec<CategoryListed>> {
        self.base.window.open_or_closed()?;
        let _turn = self.base.call_reads().await?;
        self.base.storage.categories(page).await
    }

    /// How much there is.
    ///
    /// # Errors
    /// As [`Self::confirm_head`].
    pub(super) async fn counts(&self) -> Result<Counts> {
        self.base.window.open_or_closed()?;
        self.counts_of_ended().await
    }

    /// The same, also after the log was closed.
    pub(super) async fn counts_of_ended(&self) -> Result<Counts> {
        let _turn = self.base.call_reads().await?;
        self.base.storage.counts().await
    }

    /// How large the log is, as its quota counts it.
    pub(super) async fn size(&self) -> Result<Size> {
        let messages = self.counts().await?.messages;
        let _turn = self.base.call_reads().await?;
        Ok(Size { messages, bytes: self.base.storage.bytes().await? })
    }

    /// A subscription; it reads nothing before its first [`Subscription::next`].
    pub(super) fn subscribe(self: &Arc<Self>, subscribe: Subscribe) -> Subscription {
        Subscription::new(Arc::clone(self), subscribe)
    }

    /// The head, confirmed to be current where other servers write: everything that was committed before the call is
    /// at or below it, and visible here.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Unavailable`], [`Error::Failed`].
    pub(super) async fn confirm_head(&self) -> Result<i64> {
        self.base.window.open_or_closed()?;
        if !self.base.is_shared {
            return Ok(self.base.window.head());
        }
        let asked = self.head_query.ask(&*self.base.storage, || self.writer.known()).await;
        if matches!(asked, Err(Error::Closed)) {
            // Deleted or emptied through another server: the next call finds what is there instead.
            self.base.window.close();
        }
        let (head, lineage) = asked?;
        if lineage != Lineage::Follows {
            // What was seen here may be gone: a run looks at it.
            self.writer.suspect();
        }
        if lineage == Lineage::Diverged {
            // That run closes this log. Nothing that is gone is served until then.
            let closed = tokio::time::timeout(FOLLOW_WITHIN, self.base.window.closed()).await;
            return Err(closed.map_or_else(|_| Error::unavailable(LAGGING), |()| Error::Closed));
        }
        self.follow_to(head.position).await?;
        Ok(self.base.window.head())
    }

    /// Asks the database for the head if somebody waits here for other servers' writes.
    ///
    /// # Errors
    /// As [`Self::confirm_head`].
    pub(super) async fn poll(&self) -> Result<()> {
        if self.base.window.is_watched() {
            self.confirm_head().await?;
        }
        Ok(())
    }

    /// Waits until this server shows everything up to `position`, which the database has told.
    async fn follow_to(&self, position: i64) -> Result<()> {
        if self.base.window.head() >= position {
            return Ok(());
        }
        self.writer.hint(position);
        let shown = tokio::time::timeout(FOLLOW_WITHIN, self.base.window.shows(position)).await;
        shown.unwrap_or_else(|_| Err(Error::unavailable(LAGGING)))
    }
}
