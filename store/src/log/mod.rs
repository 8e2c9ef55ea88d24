//! A namespace's log: appends go in through the sequencer, reads and pokes come out of the tail or
//! the storage.

mod entry;
mod page;
mod subscription;

use std::sync::Arc;

use eventodb_schema::message::Message;
use eventodb_schema::reply::{Appended, CategoryListed, StreamListed};
use eventodb_schema::request::{Append, Read, StreamsPage};

pub use entry::Entry;
pub use page::{Chunk, Page};
pub use subscription::{Event, Start, Subscribe, Subscription};

use crate::backend::{Counts, Namespace};
use crate::error::Result;

/// The log of one incarnation of a namespace.
#[derive(Debug)]
pub struct Log {
    namespace: Namespace,
}

impl Log {
    /// The namespace that it is the log of.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Global position of the last message that readers can see; 0 where there is none.
    pub fn head(&self) -> i64 {
        unimplemented!()
    }

    /// Appends atomically; one result per entry. A caller that goes away does not cancel it.
    ///
    /// # Errors
    /// [`crate::Error::VersionConflict`], [`crate::Error::IdConflict`], [`crate::Error::Overloaded`],
    /// [`crate::Error::Unavailable`]: nothing was written. [`crate::Error::Unknown`]: open.
    pub async fn append(self: &Arc<Self>, _append: Append) -> Result<Vec<Appended>> {
        unimplemented!()
    }

    /// Appends records that keep their positions and times; the global position of the last one comes back.
    ///
    /// # Errors
    /// [`crate::Error::PositionExists`] with the place of the first record that does not fit.
    pub async fn import(self: &Arc<Self>, _records: Vec<Message>) -> Result<i64> {
        unimplemented!()
    }

    /// Reads one page; waits for a first message as long as the request says.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Closed`], [`crate::Error::Failed`].
    pub async fn read(self: &Arc<Self>, _read: Read) -> Result<Page> {
        unimplemented!()
    }

    /// Position of a stream's last message.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub async fn version(self: &Arc<Self>, _stream: &str) -> Result<Option<i64>> {
        unimplemented!()
    }

    /// One page of the streams.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub async fn streams(self: &Arc<Self>, _page: &StreamsPage) -> Result<Vec<StreamListed>> {
        unimplemented!()
    }

    /// All categories.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub async fn categories(self: &Arc<Self>) -> Result<Vec<CategoryListed>> {
        unimplemented!()
    }

    /// How much there is.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub async fn counts(self: &Arc<Self>) -> Result<Counts> {
        unimplemented!()
    }

    /// A subscription; it reads nothing before its first [`Subscription::next`].
    pub fn subscribe(self: &Arc<Self>, _subscribe: Subscribe) -> Subscription {
        unimplemented!()
    }
}
