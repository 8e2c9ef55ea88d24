//! Following other servers: reading what they wrote behind the known head, and showing it.

use std::sync::Arc;

use eventodb_protocol::{Direction, Filter, Scope};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::base::Base;
use super::standing::Known;
use super::versions::Versions;
use crate::error::Result;
use crate::model::{Axis, Batch, Columns, Entry, Head, Lineage, Select};

/// Knows where a log ends for this server, and brings it to where the log ends for all.
pub(super) struct Follower {
    base: Arc<Base>,
    known: Mutex<Known>,
    /// Tells a run that waits for its turn to append that there is something to follow.
    hinted: Notify,
}

impl Follower {
    pub(super) fn new(base: Arc<Base>, head: Head) -> Self {
        Self { base, known: Mutex::new(Known::new(head)), hinted: Notify::new() }
    }

    /// The head that this server knows.
    pub(super) fn head(&self) -> Head {
        self.known.lock().head
    }

    /// Whether the database has to be asked for more.
    pub(super) fn is_behind(&self) -> bool {
        self.known.lock().is_behind()
    }

    /// Other servers have written up to `position`, it is said. Returns whether a run has to look at that.
    pub(super) fn hint(&self, position: i64) -> bool {
        let is_behind = self.known.lock().hint(position);
        if is_behind {
            self.hinted.notify_one();
        }
        is_behind
    }

    /// The known head may be wrong: a run has to look at that.
    pub(super) fn suspect(&self) {
        self.known.lock().suspect();
        self.hinted.notify_one();
    }

    /// A batch is committed, with these messages: shows them, and remembers the versions of their streams.
    pub(super) fn committed(&self, batch: &Batch, entries: &[Arc<Entry>], versions: &mut Versions) {
        let mut head = batch.head();
        if let (Some(last), false) = (entries.last(), batch.keep_times) {
            head.time = last.message().time;
        }
        self.known.lock().head = head;
        let figures = &self.base.figures.appends;
        figures.batch.observe(entries.len() as u64);
        figures.messages.add(entries.len() as u64);
        figures.bytes.add(entries.iter().map(|entry| entry.message().size() as u64).sum());
        self.show(entries, versions);
    }

    fn show(&self, entries: &[Arc<Entry>], versions: &mut Versions) {
        for entry in entries {
            let message = entry.message();
            versions.put(&message.stream, message.position);
        }
        self.base.window.show(entries);
    }

    /// Waits for this server's `turn` to append, if there is one to wait for, and shows meanwhile what other servers
    /// write; then the rest of it.
    ///
    /// # Errors
    /// As [`Self::follow`].
    pub(super) async fn catch_up(&self, turn: Option<BoxFuture<'_, ()>>, versions: &mut Versions) -> Result<()> {
        if let Some(mut turn) = turn {
            loop {
                tokio::select! {
                    biased;
                    () = &mut turn => break,
                    () = self.hinted.notified() => {}
                }
                if self.is_behind() {
                    self.follow(versions).await?;
                }
            }
        }
        // The hint of what was written last may still be on its way.
        self.follow(versions).await
    }

    /// Shows what other servers wrote behind the known head. If the log went back to an earlier head, closes the
    /// window: what was shown is gone.
    ///
    /// # Errors
    /// As [`crate::storage::Storage::head_since`] and [`crate::storage::Storage::read`]; nothing has changed then.
    pub(super) async fn follow(&self, versions: &mut Versions) -> Result<()> {
        let before = *self.known.lock();
        let known = before.head;
        let (head, lineage) = self.base.storage.head_since(&known).await?;
        match lineage {
            Lineage::Diverged => {
                tracing::error!(
                    namespace = %self.base.namespace, known = known.position, found = head.position,
                    "the log lacks messages that were seen: a failover lost them, or a backup was restored"
                );
                self.base.groups.renew_all().await?;
                versions.clear();
                self.base.window.skip_to(head.position);
                self.base.window.close();
            }
            Lineage::Forgotten => {
                versions.clear();
                self.base.survey.forget();
                self.base.window.skip_to(head.position);
            }
            Lineage::Follows if head.position > known.position => match self.foreign(&known, &head).await? {
                Some(entries) => self.show(&entries, versions),
                None => {
                    versions.clear();
                    self.base.window.skip_to(head.position);
                }
            },
            Lineage::Follows => {}
        }
        self.known.lock().followed(before, head);
        Ok(())
    }

    /// Following failed. Nobody tries again before there is another hint.
    pub(super) fn gave_up(&self) {
        self.known.lock().gave_up();
    }

    /// Whether what was decided on the known head holds, because nobody else wrote meanwhile. If somebody did, that is
    /// shown.
    ///
    /// # Errors
    /// As [`Self::follow`].
    pub(super) async fn is_current(&self, versions: &mut Versions) -> Result<bool> {
        if !self.base.is_shared {
            return Ok(true);
        }
        let known = self.head();
        let (head, _) = self.base.storage.head_since(&known).await?;
        if (head.batch, head.id) == (known.batch, known.id) {
            return Ok(true);
        }
        self.follow(versions).await?;
        Ok(false)
    }

    /// The messages that other servers wrote between two heads, or `None` if they are more than the tail would hold.
    async fn foreign(&self, known: &Head, head: &Head) -> Result<Option<Vec<Arc<Entry>>>> {
        if head.position - known.position > self.base.settings.tail_messages as i64 {
            return Ok(None);
        }
        entries_between(&self.base, known.position, head.position).await.map(Some)
    }
}

/// The messages above a global position and up to another one, from the storage.
///
/// # Errors
/// As [`crate::storage::Storage::read`].
pub(super) async fn entries_between(base: &Base, after: i64, upto: i64) -> Result<Vec<Arc<Entry>>> {
    let mut select = Select {
        filter: Arc::new(Filter::new(Scope::All)),
        axis: Axis::Global,
        from: after + 1,
        to: upto,
        head: upto,
        direction: Direction::Forward,
        rows: base.settings.slice_rows,
        bytes: base.settings.slice_bytes,
        columns: Columns::All,
    };
    let mut entries = Vec::new();
    loop {
        let slice = base.stored(&select).await?;
        entries.extend(slice.rows.iter().map(|message| {
            let starts_stream = message.position == 0;
            Arc::new(Entry::new(message.to_message(), starts_stream))
        }));
        match slice.covered.checked_add(1) {
            Some(next) if next <= upto => select.from = next,
            _ => return Ok(entries),
        }
    }
}
