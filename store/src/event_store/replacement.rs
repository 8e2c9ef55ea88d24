//! Replacing the messages of a namespace. None of them is destroyed before the replacement is whole.
//!
//! The new messages go into a staged incarnation, which cannot be found by its name, and whose storage is dropped if it
//! is given up. It takes the place of the living one in one step of the registry.

use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::group::GroupsThen;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::EventStore;
use crate::error::{Chain, Error, Result};
use crate::log::Log;
use crate::model::{Incarnation, Namespace};
use crate::storage::KEEP_EVERY;

/// How long a database that does not answer is asked whether the replacement has taken its place.
const PROMOTE_WITHIN: Duration = Duration::from_secs(10);
/// The pause between two attempts.
const PROMOTE_PAUSE: Duration = Duration::from_millis(100);

/// A replacement that is being filled. Dropped, it is discarded in the background.
pub struct Replacement {
    claim: Claim,
    groups: Option<GroupsThen>,
    staged: Option<Staged>,
}

/// The right of one replacement at a time in this server, during which it refuses other appends.
struct Claim {
    store: Arc<EventStore>,
    living: Arc<Log>,
}

/// The log that takes the place of the living one.
struct Staged {
    log: Arc<Log>,
    keeper: JoinHandle<()>,
}

impl Replacement {
    /// Stages an incarnation for the place of `living`, once the appends that were accepted there are written.
    ///
    /// # Errors
    /// [`Error::GroupsUndecided`] if there are groups, and it is not said what becomes of them.
    pub(super) async fn begin(store: Arc<EventStore>, living: Arc<Log>, groups: Option<GroupsThen>) -> Result<Self> {
        if !store.begin_replacing(&living) {
            return Err(Error::Replacing);
        }
        let claim = Claim { store, living };
        claim.living.writer.drain().await;
        let namespace = claim.store.backend().stage(claim.living.namespace().incarnation).await?;
        let incarnation = namespace.incarnation;
        let log = match claim.stage(namespace, groups).await {
            Ok(log) => log,
            Err(error) => {
                discard(&claim.store, incarnation).await;
                return Err(error);
            }
        };
        let keeper = tokio::spawn(keep(Arc::clone(&claim.store), Arc::clone(&log)));
        Ok(Self { claim, groups, staged: Some(Staged { log, keeper }) })
    }

    /// The log to be filled. It is closed as soon as it is known that it cannot take its place any more.
    pub fn log(&self) -> &Arc<Log> {
        &self.staged.as_ref().expect("only finish and discard take it").log
    }

    /// Has it take its place: the old log is closed and its subscriptions end.
    ///
    /// # Errors
    /// [`crate::Error::Protected`] and [`crate::Error::OverQuota`] if the namespace was protected, or has another quota,
    /// since it began; [`crate::Error::Overtaken`], [`crate::Error::Unavailable`], [`crate::Error::Failed`]: the namespace is as
    /// it was. [`crate::Error::Unknown`]: it holds the old messages or the new ones.
    pub async fn finish(mut self) -> Result<()> {
        let outcome = self.put_in_place().await;
        match outcome {
            Ok(()) => {
                // The place is taken: there is nothing to discard.
                if let Some(staged) = self.staged.take() {
                    staged.end();
                }
                self.claim.store.forget_incarnation(&self.claim.living);
            }
            Err(Error::Unknown(_)) => {
                // The next call finds out which of the two lives.
                self.claim.store.forget_incarnation(&self.claim.living);
                self.discard().await;
            }
            Err(_) => self.discard().await,
        }
        outcome
    }

    async fn put_in_place(&self) -> Result<()> {
        if self.groups == Some(GroupsThen::Keep) {
            let kept = self.log().groups().keep_all_of(self.claim.living.groups()).await;
            // Nothing shows before the replacement is in its place.
            kept.map_err(|error| match error {
                Error::Unknown(cause) => Error::Unavailable(cause),
                error => error,
            })?;
        }
        self.promote().await
    }

    async fn promote(&self) -> Result<()> {
        let incarnation = self.log().namespace().incarnation;
        let size = self.log().size().await.map_err(|error| match error {
            Error::Closed => Error::Overtaken,
            error => error,
        })?;
        let deadline = Instant::now() + PROMOTE_WITHIN;
        let mut unknown = None;
        loop {
            let error = match self.claim.store.backend().promote(incarnation, size).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error {
                Error::Unknown(ref cause) => unknown = Some(Arc::clone(cause)),
                Error::Unavailable(_) if unknown.is_some() => {}
                error => return Err(error),
            }
            if Instant::now() >= deadline {
                return Err(unknown.map_or(error, Error::Unknown));
            }
            tokio::time::sleep(PROMOTE_PAUSE).await;
        }
    }

    /// Gives it up: the namespace is as it was, and takes appends again.
    pub async fn discard(mut self) {
        if let Some(staged) = self.staged.take() {
            discard(&self.claim.store, staged.end()).await;
        }
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        let Some(staged) = self.staged.take() else { return };
        let (store, incarnation) = (Arc::clone(&self.claim.store), staged.end());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { discard(&store, incarnation).await });
        }
    }
}

impl Claim {
    /// The log that is to take the place of the living one, in which nothing changes any more.
    async fn stage(&self, staged: Namespace, groups: Option<GroupsThen>) -> Result<Arc<Log>> {
        if groups.is_none() && self.living.groups().are_there().await? {
            return Err(Error::GroupsUndecided);
        }
        self.store.open_log(staged).await
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.store.end_replacing(&self.living);
    }
}

impl Staged {
    /// Closes its log, and stops keeping it.
    fn end(self) -> Incarnation {
        self.keeper.abort();
        self.log.close();
        self.log.namespace().incarnation
    }
}

impl std::fmt::Debug for Replacement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replacement").field("living", &self.claim.living).finish_non_exhaustive()
    }
}

/// Keeps a staged incarnation until the backend has given it up, or the namespace that it replaces is gone.
async fn keep(store: Arc<EventStore>, staged: Arc<Log>) {
    loop {
        tokio::time::sleep(KEEP_EVERY).await;
        match store.backend().keep(staged.namespace().incarnation).await {
            Ok(()) => {}
            Err(Error::Overtaken) => return staged.close(),
            Err(error) => tracing::warn!(error = %Chain(&error), "cannot keep what is to replace a namespace"),
        }
    }
}

/// Gives a staged incarnation up. If that fails, the backend does so by itself once nobody has kept it for a while.
async fn discard(store: &EventStore, staged: Incarnation) {
    if let Err(error) = store.backend().discard(staged).await {
        tracing::warn!(error = %Chain(&error), "what was to replace a namespace is given up later");
    }
}
