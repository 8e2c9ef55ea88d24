//! Work for a log beside the calls to it: its entries are indexed, and its write-ahead log is written back.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::failure::is_damage;
use super::files::Files;
use super::storage::SqliteStorage;

/// How long entries wait for others, from the last append on, before the indexer takes them.
const INDEX_AFTER: Duration = Duration::from_millis(50);

/// How long after its last use a log keeps spare connections open.
const SPARE_FOR: Duration = Duration::from_secs(1);

/// Clears a flag once the work that it stands for ends, also by a panic.
struct AtWork<'a>(&'a AtomicBool);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

impl SqliteStorage {
    /// Indexes messages that have waited long enough, and closes connections that are not needed. Called now and then.
    pub(super) fn look_after(self: &Arc<Self>) {
        let Some(files) = self.opened_files() else { return };
        if files.connections.want_reopening() {
            drop(files);
            // The next call opens them. While they are in use, they are not closed, and this is tried again.
            self.close_idle(false);
            return;
        }
        if files.backlog.len() > 0 && files.last_append.lock().elapsed() >= INDEX_AFTER {
            self.start_indexer(&files, 1);
        }
        self.start_backfill(&files);
        let last_use = *files.last_use.lock();
        if last_use.elapsed() >= SPARE_FOR {
            files.connections.close_spare_readers();
        }
    }

    /// Has the rest indexed as soon as no append came for a while. If it misses messages, [`Self::look_after`] indexes
    /// them.
    pub(super) fn index_when_quiet(self: &Arc<Self>, files: &Arc<Files>) {
        if files.indexing.awaits_quiet.swap(true, SeqCst) {
            return;
        }
        // The files are not held meanwhile, so that they can be closed.
        let storage = Arc::downgrade(self);
        self.shared.threads.write(Box::pin(async move {
            let mut quiet_at = Instant::now() + INDEX_AFTER;
            loop {
                tokio::time::sleep_until(quiet_at.into()).await;
                let Some(storage) = storage.upgrade() else { return };
                // [`Self::look_after`] indexes messages that are missed here.
                let Some(files) = storage.opened_files() else { return };
                quiet_at = *files.last_append.lock() + INDEX_AFTER;
                if quiet_at > Instant::now() {
                    continue;
                }
                // Cleared before it starts, so that an append from now on waits for quiet again.
                files.indexing.awaits_quiet.store(false, SeqCst);
                if storage.start_indexer(&files, 1) || files.indexing.awaits_quiet.swap(true, SeqCst) {
                    return;
                }
                // The indexer is at work on messages that came before.
                quiet_at = Instant::now() + INDEX_AFTER;
            }
        }));
    }

    /// Has the indexer run while at least `at_least` messages wait, and then for whole batches. Returns whether it was
    /// not at work already.
    pub(super) fn start_indexer(self: &Arc<Self>, files: &Arc<Files>, at_least: usize) -> bool {
        if files.indexing.is_at_work.swap(true, SeqCst) {
            return false;
        }
        let (storage, files) = (self.clone(), files.clone());
        self.shared.threads.index(move || {
            let mut wanted = at_least;
            loop {
                let at_work = AtWork(&files.indexing.is_at_work);
                let could = storage.index_batches(&files, wanted);
                drop(at_work);
                wanted = storage.shared.settings.whole_batch();
                // An append that came until now found it at work, and did not start it.
                if !could || files.backlog.len() < wanted || files.indexing.is_at_work.swap(true, SeqCst) {
                    return;
                }
            }
        });
        true
    }

    /// Writes the log's write-ahead log back, if that is due and nobody does so already.
    pub(super) fn start_checkpoint(self: &Arc<Self>, files: &Arc<Files>) {
        if !files.write_back.is_due(&files.connections) || files.write_back.is_at_work.swap(true, SeqCst) {
            return;
        }
        let (storage, files) = (self.clone(), files.clone());
        self.shared.threads.index(move || {
            let _at_work = AtWork(&files.write_back.is_at_work);
            let done = files.write_back.do_most(&files.connections, &storage.shared, storage.incarnation);
            if let Err(error) = done {
                files.write_back.fault.failed(storage.incarnation.0, &error);
            }
        });
    }

    /// Indexes whole batches while at least this number of messages wait. Returns whether it succeeded.
    fn index_batches(&self, files: &Files, mut wanted: usize) -> bool {
        while files.backlog.len() >= wanted {
            if let Err(error) = files.index_batch(&self.shared, self.incarnation) {
                self.index_failed(files, error);
                return false;
            }
            wanted = self.shared.settings.whole_batch();
        }
        true
    }

    /// Indexing failed. A duplicate stops the writes, damage has the index built anew, anything else is tried again.
    fn index_failed(&self, files: &Files, error: rusqlite::Error) {
        let incarnation = self.incarnation.0;
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => {
                tracing::error!(incarnation, %error, "the log holds an id or a position twice: no more writes; run `eventodb repair`");
                files.obstacles.stop(Arc::new(error));
            }
            _ if matches!(error, rusqlite::Error::QueryReturnedNoRows)
                || is_damage(&error) && self.index_is_damaged() =>
            {
                tracing::error!(incarnation, %error, "the index is damaged and will be built anew");
                files.indexing.damaged();
            }
            _ => {
                files.connections.failed(&error);
                files.indexing.failed(self.incarnation, &error);
            }
        }
        files.backlog.wake();
    }
}
