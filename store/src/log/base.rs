//! Everything that both writing and reading a log stand on.

use std::sync::Arc;

use eventodb_protocol::reply::Quota;
use parking_lot::RwLock;
use tokio::sync::OwnedSemaphorePermit;

use super::known::KnownGroups;
use super::reads::Reads;
use super::survey::Survey;
use super::window::{Found, Window};
use crate::error::Result;
use crate::figures::Figures;
use crate::model::{Select, Slice};
use crate::pauses::Pauses;
use crate::settings::Settings;
use crate::storage::Storage;
use crate::storage::groups::GroupStorage;

/// The storage and the window of one log.
pub(super) struct Base {
    /// Name of the namespace, for the server's log.
    pub(super) namespace: Arc<str>,
    pub(super) settings: Arc<Settings>,
    pub(super) storage: Arc<dyn Storage>,
    /// Whether other servers may write to the log.
    pub(super) is_shared: bool,
    pub(super) window: Window,
    /// What all logs count together.
    pub(super) figures: Arc<Figures>,
    /// The reads of the storage that run at once, of all logs.
    reads: Arc<Reads>,
    pub(super) pauses: Pauses,
    /// How much the namespace may hold, as far as this server knows.
    pub(super) quota: RwLock<Quota>,
    /// What is known of the groups.
    pub(super) groups: KnownGroups,
    /// What is known of the messages, for conditions.
    pub(super) survey: Survey,
}

impl Base {
    #[expect(clippy::too_many_arguments, reason = "each is another part, and one caller puts them together")]
    pub(super) fn new(
        namespace: Arc<str>,
        settings: Arc<Settings>,
        storage: Arc<dyn Storage>,
        is_shared: bool,
        window: Window,
        quota: Quota,
        reads: Arc<Reads>,
        groups: Arc<dyn GroupStorage>,
        figures: Arc<Figures>,
    ) -> Self {
        let pauses = Pauses::new(settings.pause_seed);
        let groups = KnownGroups::new(groups, settings.group_clock.clone(), is_shared, Arc::clone(&figures));
        let quota = RwLock::new(quota);
        Self {
            namespace,
            settings,
            storage,
            is_shared,
            window,
            figures,
            reads,
            pauses,
            quota,
            groups,
            survey: Survey::default(),
        }
    }

    /// The slice, if all of it is in memory; `select.to` is at most the head.
    pub(super) fn recent(&self, select: &Select) -> Option<Found> {
        let found = self.window.read(select);
        found.inspect(|found| self.figures.reads.tail.count(found.entries.len()))
    }

    /// The slice from the storage.
    ///
    /// # Errors
    /// As [`Storage::read`].
    pub(super) async fn stored(&self, select: &Select) -> Result<Slice> {
        let slice = self.storage.read(select).await?;
        self.figures.reads.storage.count(slice.rows.len());
        Ok(slice)
    }

    /// Waits until a call may read the storage.
    ///
    /// # Errors
    /// As [`Reads::of_call`].
    pub(super) async fn call_reads(&self) -> Result<OwnedSemaphorePermit> {
        self.reads.of_call(self.storage.node()).await
    }

    /// Waits until a subscription may read the storage.
    pub(super) async fn subscription_reads(&self) -> OwnedSemaphorePermit {
        self.reads.of_subscription(self.storage.node()).await
    }
}
