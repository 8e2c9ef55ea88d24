//! The namespaces, and the log of each.

mod access;
mod background;
mod refused;
mod replacement;
mod self_test;
mod tokens;
mod trial;
mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use eventodb_protocol::Timestamp;
use eventodb_protocol::group::GroupsThen;
use eventodb_protocol::reply::{NamespaceInfo, NamespaceListed, Quota};
use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

pub use access::Access;
pub use replacement::Replacement;

use self::access::KnownTokens;
use self::refused::Refused;
use self::self_test::SelfTest;
use self::watch::Watch;
use crate::clock::{self, Leapt};
use crate::degraded::Degraded;
use crate::error::{Chain, Error, Result};
use crate::figures::{BackendFigures, Figures, GroupSample, Sample, SelfTests};
use crate::log::{Budget, Log, Reads};
use crate::model::{Incarnation, Meant, Namespace, NamespaceUpdate, NewNamespace};
use crate::name_locks::NameLocks;
use crate::settings::Settings;
use crate::storage::Backend;

/// Logs whose groups are asked for by one sample, at most.
const SAMPLED_LOGS: usize = 200;
/// Names of deleted namespaces that are remembered, at most.
const MOST_DELETED: usize = 10_000;

/// All namespaces of one database.
pub struct EventStore {
    backend: Arc<dyn Backend>,
    settings: Arc<Settings>,
    budget: Arc<Budget>,
    reads: Arc<Reads>,
    figures: Arc<Figures>,
    logs: RwLock<HashMap<Arc<str>, Arc<Log>>>,
    /// Held while a log is opened, so that a namespace never has two.
    opening: NameLocks,
    tokens: Arc<KnownTokens>,
    refused: Refused,
    deleted: Mutex<HashSet<String>>,
    /// Incarnations that this server is replacing.
    replacing: Mutex<HashSet<Incarnation>>,
    self_test: SelfTest,
    watch: Watch,
    leapt: Leapt,
    stop: CancellationToken,
}

impl std::fmt::Debug for EventStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStore").field("backend", &self.backend.kind()).finish_non_exhaustive()
    }
}

impl EventStore {
    /// Opens the store on a backend.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Failed`]; so for all methods here.
    pub async fn open(backend: Arc<dyn Backend>, settings: Settings) -> Result<Arc<Self>> {
        let store = Arc::new(Self {
            budget: Arc::new(Budget::new(settings.tail_bytes)),
            reads: Arc::new(Reads::new(backend.readers())),
            figures: Arc::default(),
            settings: Arc::new(settings),
            logs: RwLock::default(),
            opening: NameLocks::default(),
            tokens: Arc::default(),
            refused: Refused::default(),
            deleted: Mutex::default(),
            replacing: Mutex::default(),
            self_test: SelfTest::new(),
            watch: Watch::default(),
            leapt: Leapt::default(),
            stop: CancellationToken::new(),
            backend,
        });
        if let Err(error) = store.backend.tidy().await {
            tracing::warn!(error = %Chain(&error), "cannot tidy the registry now");
        }
        background::start(&store);
        Ok(store)
    }

    /// `sqlite` or `postgres`.
    pub fn backend_kind(&self) -> &'static str {
        self.backend.kind()
    }

    /// What all logs count.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The store's tests of itself.
    pub fn self_tests(&self) -> &SelfTests {
        &self.self_test.figures
    }

    /// What the backend tells of itself.
    pub fn backend_figures(&self) -> BackendFigures {
        self.backend.figures()
    }

    /// What the logs are like now. The time that it takes grows with the number of open logs and subscriptions.
    pub fn sample(&self) -> Sample {
        let logs: Vec<Arc<Log>> = self.logs.read().values().cloned().collect();
        let (used, most) = self.budget.used();
        let lag = logs.iter().map(|log| log.lag()).max().unwrap_or_default();
        Sample {
            heads: logs
                .iter()
                .map(|log| (Arc::clone(&log.namespace().name), u64::try_from(log.head()).unwrap_or_default()))
                .collect(),
            queued: logs.iter().map(|log| log.writer.waiting() as u64).sum(),
            tail_bytes: (used as u64, most as u64),
            lag: u64::try_from(lag).unwrap_or_default(),
        }
    }

    /// What metrics tell of the groups of open logs: of the first `most` by their namespaces and names. It looks at a bounded
    /// number of messages of each. A log that cannot be asked is left out.
    pub async fn sample_groups(&self, most: usize) -> Vec<GroupSample> {
        let mut logs: Vec<Arc<Log>> = self.logs.read().values().cloned().collect();
        logs.sort_unstable_by(|a, b| a.namespace().name.cmp(&b.namespace().name));
        let mut samples = Vec::new();
        for log in logs.iter().take(SAMPLED_LOGS) {
            match log.groups().sample(most - samples.len()).await {
                Ok(more) => samples.extend(more),
                Err(error) => tracing::debug!(error = %Chain(&error), "the groups of a log have no metrics now"),
            }
            if samples.len() >= most {
                break;
            }
        }
        samples
    }

    /// Whether an acknowledged write survives a crash of the machine.
    pub fn is_durable(&self) -> bool {
        self.backend.is_durable()
    }

    /// Whether there is a namespace of that name.
    pub async fn exists(&self, name: &str) -> Result<bool> {
        Ok(self.backend.namespace(name).await?.is_some())
    }

    /// The log of a namespace.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`].
    pub async fn log(&self, name: &str) -> Result<Arc<Log>> {
        if let Some(log) = self.known(name) {
            return Ok(log);
        }
        self.log_of(self.namespace(name).await?).await
    }

    fn known(&self, name: &str) -> Option<Arc<Log>> {
        self.logs.read().get(name).filter(|log| !log.is_closed()).cloned()
    }

    async fn namespace(&self, name: &str) -> Result<Namespace> {
        if name == Namespace::OF_SELF_TESTS {
            return Err(Error::NamespaceNotFound);
        }
        self.backend.namespace(name).await?.ok_or(Error::NamespaceNotFound)
    }

    /// The namespace that is meant, as the registry has it just now.
    async fn meant(&self, meant: Meant<'_>) -> Result<Namespace> {
        let living = self.namespace(meant.name).await?;
        if meant.admits(living.origin) { Ok(living) } else { Err(Error::NamespaceNotFound) }
    }

    /// The log of a namespace, which the registry had when the caller asked it. If it was replaced since then, the log of
    /// what has its place.
    ///
    /// # Errors
    /// [`Error::NamespaceNotFound`] if it was deleted since then.
    pub(crate) async fn log_of(&self, namespace: Namespace) -> Result<Arc<Log>> {
        let _opening = self.opening.lock(&namespace.name).await;
        let mut namespace = namespace;
        loop {
            if let Some(log) = self.known(&namespace.name) {
                if log.namespace().incarnation != namespace.incarnation {
                    // Either of the two may be outdated.
                    namespace = self.still(&namespace).await?;
                }
                if log.namespace().incarnation == namespace.incarnation {
                    return Ok(log);
                }
                self.forget(&log);
            }
            let log = self.open_log(namespace.clone()).await?;
            self.keep(&log);
            if self.backend.is_shared() {
                // What happens to it through this server or another one is noticed by `refresh`.
                return Ok(log);
            }
            // Whoever ended the incarnation before the log was kept here could not close it.
            namespace = self.still(&namespace).await.inspect_err(|_| self.forget(&log))?;
            if log.namespace().incarnation == namespace.incarnation {
                return Ok(log);
            }
            self.forget(&log);
        }
    }

    /// What has the place of a namespace that the registry had a moment ago: itself, or its replacement.
    async fn still(&self, namespace: &Namespace) -> Result<Namespace> {
        self.meant(Meant { name: &namespace.name, origin: Some(namespace.origin) }).await
    }

    /// From now on the log is found by its name.
    fn keep(&self, log: &Arc<Log>) {
        let namespace = log.namespace();
        let time = log.writer.known().time;
        if clock::is_ahead(time) {
            clock::warn_of(&namespace.name, time);
        }
        let mut logs = self.logs.write();
        log.writer.set_replacing(self.replacing.lock().contains(&namespace.incarnation));
        logs.insert(namespace.name.clone(), Arc::clone(log));
    }

    /// A log of its own, which is not found by its name.
    pub(crate) async fn open_log(&self, namespace: Namespace) -> Result<Arc<Log>> {
        let opened = self.backend.open(namespace.incarnation).await?;
        let (settings, budget, reads) = (self.settings.clone(), self.budget.clone(), self.reads.clone());
        let figures = Arc::clone(&self.figures);
        Log::open(namespace, opened, self.backend.is_shared(), settings, budget, reads, figures).await
    }

    /// Closes a log and forgets it, if it is still the one of its name.
    fn forget(&self, log: &Arc<Log>) {
        log.close();
        let mut logs = self.logs.write();
        if logs.get(&log.namespace().name).is_some_and(|known| Arc::ptr_eq(known, log)) {
            logs.remove(&log.namespace().name);
        }
    }

    /// Whether a namespace of that name was deleted through this server, and not created again. Where very many are deleted,
    /// the earlier ones are forgotten.
    pub fn was_deleted(&self, name: &str) -> bool {
        self.deleted.lock().contains(name)
    }

    /// Creates a namespace.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceExists`].
    pub async fn create(&self, new: NewNamespace) -> Result<Namespace> {
        let created = self.backend.create(&new).await;
        self.refused.forget();
        let namespace = created?;
        self.deleted.lock().remove(&new.name);
        Ok(namespace)
    }

    /// Deletes a namespace: its log is closed and its subscriptions end. Returns the time of the deletion, and how many
    /// messages the namespace held.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`], [`crate::Error::Protected`].
    pub async fn delete(&self, meant: impl Into<Meant<'_>>) -> Result<(Timestamp, u64)> {
        let meant = meant.into();
        let outcome = self.delete_living(meant).await;
        if matches!(outcome, Err(Error::NamespaceNotFound | Error::Closed)) {
            // A caller that repeats a deletion whose outcome was unknown takes this for its success.
            self.backend.end_deleted(meant.name).await?;
        }
        outcome
    }

    async fn delete_living(&self, meant: Meant<'_>) -> Result<(Timestamp, u64)> {
        let namespace = self.meant(meant).await?;
        if namespace.protected {
            return Err(Error::Protected);
        }
        let origin = namespace.origin;
        let log = self.log_of(namespace).await?;
        let outcome = self.delete_log(&log).await;
        self.forget_incarnation(&log);
        if matches!(outcome, Ok(_) | Err(Error::Unknown(_))) {
            self.tokens.end_of(origin);
        }
        let (deleted, messages) = outcome?;
        let at = deleted.ok_or(Error::NamespaceNotFound)?;
        let mut deleted = self.deleted.lock();
        if deleted.len() >= MOST_DELETED {
            deleted.clear();
        }
        deleted.insert(meant.name.to_owned());
        drop(deleted);
        Ok((at, messages))
    }

    async fn delete_log(&self, log: &Arc<Log>) -> Result<(Option<Timestamp>, u64)> {
        // Appends that were accepted are written before messages are counted; later ones are refused.
        log.writer.refuse();
        log.writer.drain().await;
        let counted = log.counts().await?.messages;
        let deleted = self.backend.delete(log.namespace().incarnation).await?;
        if !self.backend.is_shared() {
            return Ok((deleted, counted));
        }
        // Another server may have appended until the deletion; from then on the count does not change. A poll may have
        // closed the log here by now.
        let counted = log.counts_of_ended().await.map_or(counted, |counts| counts.messages);
        Ok((deleted, counted))
    }

    /// Begins to replace the messages of a namespace. Until the replacement is finished or discarded, the old messages
    /// are read, and appends are refused with [`crate::Error::Replacing`]. `groups` tells what becomes of the groups of
    /// the namespace.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`]; [`crate::Error::Replacing`] if another replacement has begun;
    /// [`crate::Error::Protected`]; [`crate::Error::GroupsUndecided`].
    pub async fn replace(
        self: &Arc<Self>,
        meant: impl Into<Meant<'_>>,
        groups: Option<GroupsThen>,
    ) -> Result<Replacement> {
        let living = self.log_of(self.meant(meant.into()).await?).await?;
        let begun = tokio::spawn(Replacement::begin(Arc::clone(self), living, groups));
        // A task of its own: if the caller goes away in the middle, all that was begun is given up.
        begun.await.unwrap_or_else(|_| Err(Error::failed("the start of a replacement panicked")))
    }

    /// Tests the store by an append and its poke, and returns the log of such tests.
    #[cfg(feature = "testing")]
    pub(crate) async fn test_itself(&self) -> Result<Arc<Log>> {
        let trial = &self.self_test.trial;
        trial.run(self).await?;
        // It is gone if the test has made it long enough.
        match trial.opened() {
            Some(log) => Ok(log),
            None => trial.log(self).await,
        }
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Refuses appends to a log that is being replaced. Returns whether no other replacement does so already.
    fn begin_replacing(&self, log: &Log) -> bool {
        let incarnation = log.namespace().incarnation;
        let begins = self.replacing.lock().insert(incarnation);
        log.writer.set_replacing(true);
        // It may have been opened anew before that was noted.
        let opened_anew = self.known(&log.namespace().name);
        opened_anew
            .filter(|known| known.namespace().incarnation == incarnation)
            .inspect(|known| known.writer.set_replacing(true));
        begins
    }

    /// Forgets a log that has ended, also if it was opened anew meanwhile.
    fn forget_incarnation(&self, log: &Arc<Log>) {
        self.leapt.forget(log.namespace().incarnation);
        self.forget(log);
        let opened_anew = self.known(&log.namespace().name);
        opened_anew
            .filter(|known| known.namespace().incarnation == log.namespace().incarnation)
            .inspect(|known| self.forget(known));
    }

    /// Takes appends again.
    fn end_replacing(&self, log: &Log) {
        self.replacing.lock().remove(&log.namespace().incarnation);
        log.writer.set_replacing(false);
        if let Some(known) = self.known(&log.namespace().name) {
            known.writer.set_replacing(self.replacing.lock().contains(&known.namespace().incarnation));
        }
    }

    /// Changes what is noted about a namespace, and returns what it is now.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`].
    pub async fn update(&self, meant: impl Into<Meant<'_>>, update: &NamespaceUpdate) -> Result<Namespace> {
        let meant = meant.into();
        let namespace = self.backend.update(meant, update).await?;
        if let Some(log) = self.known(meant.name).filter(|log| log.namespace().incarnation == namespace.incarnation) {
            log.set_quota(namespace.quota);
        }
        Ok(namespace)
    }

    /// All namespaces, by name.
    pub async fn list(&self) -> Result<Vec<NamespaceListed>> {
        let namespaces = self.backend.namespaces().await?;
        let counts: HashMap<Incarnation, u64> = self.backend.message_counts().await?.into_iter().collect();
        let listed = namespaces.into_iter().filter(|namespace| &*namespace.name != Namespace::OF_SELF_TESTS);
        let listed = listed.filter_map(|namespace| {
            // One that was created or deleted in between is left out.
            let message_count = *counts.get(&namespace.incarnation)?;
            Some(NamespaceListed {
                namespace: namespace.name.as_ref().to_owned(),
                description: namespace.description,
                created_at: namespace.created_at,
                message_count,
            })
        });
        Ok(listed.collect())
    }

    /// One namespace.
    ///
    /// # Errors
    /// [`crate::Error::NamespaceNotFound`].
    pub async fn info(&self, meant: impl Into<Meant<'_>>) -> Result<NamespaceInfo> {
        let namespace = self.meant(meant.into()).await?;
        let counts = self.log_of(namespace.clone()).await?.counts().await?;
        Ok(NamespaceInfo {
            namespace: namespace.name.as_ref().to_owned(),
            description: namespace.description,
            created_at: namespace.created_at,
            message_count: counts.messages,
            stream_count: counts.streams,
            last_activity: counts.last_activity,
            protected: namespace.protected,
            quota: namespace.quota,
        })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.backend.ping().await
    }

    /// Whether a server of a version before 0.2.0 uses the same database, as far as can be told.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn is_beside_older(&self) -> Result<bool> {
        self.backend.is_beside_older().await
    }

    /// Returns once the threads that commit batches have taken up something new. A full disk or a lost database does not
    /// hold it up.
    pub async fn beat(&self) {
        self.backend.beat().await;
    }

    /// Closes files that nobody uses now, because the process has no descriptor left for a connection.
    pub async fn give_up_files(&self) {
        let backend = Arc::clone(&self.backend);
        // It fails if the process ends.
        let _ = tokio::task::spawn_blocking(move || backend.give_up_files()).await;
    }

    /// Why writes are refused at the moment, or soon will be, although reads are answered.
    pub fn degraded(&self) -> Vec<Degraded> {
        let mut degraded = self.backend.degraded();
        degraded.extend(self.self_test.degraded());
        degraded.extend(self.watch.degraded());
        let own = self.self_test.trial.opened();
        let is_ahead = |log: &Arc<Log>| clock::is_ahead(log.writer.known().time);
        if self.leapt.is_any() || self.logs.read().values().chain(&own).any(is_ahead) {
            let message =
                "the last time of a namespace lies more than a minute ahead of the clock: new messages get that time";
            degraded.push(Degraded::new("CLOCK_BEHIND", message));
        }
        degraded
    }

    /// Finishes what was accepted, then closes. New appends are refused from the call on.
    pub async fn close(&self) {
        self.stop.cancel();
        let logs: Vec<Arc<Log>> = self.logs.read().values().cloned().chain(self.self_test.trial.opened()).collect();
        logs.iter().for_each(|log| log.writer.refuse());
        join_all(logs.iter().map(|log| log.writer.drain())).await;
        logs.iter().for_each(|log| log.close());
        self.backend.close().await;
    }

    /// Asks the registry which tokens and namespaces live, and what namespaces may hold. Closes the logs of others.
    async fn refresh(&self) -> Result<()> {
        self.refresh_tokens().await?;
        let living = self.backend.namespaces().await?;
        let living: HashMap<Incarnation, Quota> =
            living.into_iter().map(|namespace| (namespace.incarnation, namespace.quota)).collect();
        let logs: Vec<Arc<Log>> = self.logs.read().values().cloned().collect();
        for log in logs {
            let incarnation = log.namespace().incarnation;
            match living.get(&incarnation) {
                Some(quota) => log.set_quota(*quota),
                None => {
                    self.leapt.forget(incarnation);
                    self.forget(&log);
                }
            }
        }
        Ok(())
    }

    /// Asks about everything that other servers may have done. What they wrote to the logs is looked at in the background.
    async fn poll(&self) -> Result<()> {
        self.logs.read().values().for_each(|log| log.poll());
        self.refresh().await
    }
}
