//! Marks of the logs' heads in the registry. A log that ends below its mark has lost acknowledged messages.
//!
//! A head is marked once it is on the disk, and later than its messages are acknowledged, because no append waits for a
//! mark. Messages that were written within [`MARK_EVERY`] before a crash may be above the mark.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::Sqlite;
use super::registry::Registry;
use crate::fault::Fault;
use crate::model::Incarnation;

/// How often heads that have moved are marked.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// The head of one open log, and the head that is marked.
#[derive(Debug)]
pub(super) struct Mark {
    incarnation: Incarnation,
    head: AtomicI64,
    marked: AtomicI64,
}

impl Mark {
    /// The log has reached this head, on the disk.
    pub(super) fn reached(&self, head: i64) {
        self.head.store(head, SeqCst);
    }

    /// The head, if it is above the mark.
    pub(super) fn due(&self) -> Option<i64> {
        let head = self.head.load(SeqCst);
        (head > self.marked.load(SeqCst)).then_some(head)
    }
}

/// The marks of all open logs.
#[derive(Debug)]
pub(super) struct Marks {
    open: Mutex<Vec<Weak<Mark>>>,
    pub(super) fault: Fault,
}

impl Marks {
    pub(super) fn new() -> Self {
        Self { open: Mutex::default(), fault: Fault::of("marking the heads of logs in the registry") }
    }

    /// A log was opened. Its head is marked while the returned value is kept.
    pub(super) fn open(&self, incarnation: Incarnation, head: i64, marked: i64) -> Arc<Mark> {
        let mark = Mark { incarnation, head: AtomicI64::new(head), marked: AtomicI64::new(marked) };
        let mark = Arc::new(mark);
        self.open.lock().push(Arc::downgrade(&mark));
        mark
    }

    /// Writes the marks that are due, in one transaction.
    fn write(&self, registry: &Registry) {
        let open: Vec<Arc<Mark>> = {
            let mut open = self.open.lock();
            open.retain(|mark| mark.strong_count() > 0);
            open.iter().filter_map(Weak::upgrade).collect()
        };
        let due: Vec<(&Mark, i64)> = open.iter().filter_map(|mark| Some((&**mark, mark.due()?))).collect();
        let Some((first, _)) = due.first() else { return };
        let heads: Vec<_> = due.iter().map(|(mark, head)| (mark.incarnation, *head)).collect();
        match registry.mark_heads(&heads) {
            Ok(()) => {
                due.iter().for_each(|(mark, head)| mark.marked.store(*head, SeqCst));
                self.fault.mended(first.incarnation.0);
            }
            Err(error) => self.fault.failed(first.incarnation.0, &error),
        }
    }
}

impl Sqlite {
    /// Marks heads for as long as the backend is open.
    pub(super) fn keep_marks(&self) {
        let shared = Arc::downgrade(&self.shared);
        let stop = self.housekeeping.clone();
        self.shared.threads.write(Box::pin(async move {
            while stop.run_until_cancelled(tokio::time::sleep(MARK_EVERY)).await.is_some() {
                let Some(shared) = shared.upgrade() else { return };
                // The write waits for the disk, and therefore takes a thread that no append needs.
                let written = tokio::task::spawn_blocking(move || {
                    shared.look_at_room();
                    shared.marks.write(&shared.registry);
                });
                if let Err(error) = written.await {
                    tracing::error!(%error, "heads of logs were not marked");
                }
            }
        }));
    }
}
