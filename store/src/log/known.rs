//! What this server knows of the groups of a log. Their calls and the appends that act on them share it.
//!
//! What is known spares reading a group again. It proves nothing: a decision is stored only if the group still has the
//! version that was decided on. Only where leases are not stored at all, memory is where they are, and renews them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Instant;

use eventodb_protocol::Timestamp;
use eventodb_protocol::group::Epoch;
use parking_lot::Mutex;
use rand::RngExt as _;
use tokio::sync::watch;

use crate::error::{Chain, Error, Result};
use crate::figures::Figures;
use crate::groups::{Group, Moment};
use crate::storage::groups::{Change, Compared, Found, GroupStorage, GroupTag, Looked, Question, Version};

/// Groups of which something is known, at most, unless members of more are alive.
const MOST: usize = 1_000;

/// How often new epochs are given to a group again because others were first.
const RENEWALS: u32 = 100;

/// The groups of one log.
pub(super) struct KnownGroups {
    pub(super) storage: Arc<dyn GroupStorage>,
    /// The clock in place of the database's; for tests.
    clock: Option<Arc<AtomicI64>>,
    /// Whether other servers may change groups.
    is_shared: bool,
    /// How far the clock of the database is ahead of this server's, in milliseconds.
    ahead: AtomicI64,
    known: Mutex<HashMap<Arc<str>, Arc<KnownGroup>>>,
    /// Where the groups were stored when the database was last asked.
    home: Mutex<Option<Arc<str>>>,
    figures: Arc<Figures>,
}

/// One group as this server knows it, whether it exists or not.
pub(super) struct KnownGroup {
    pub(super) name: Arc<str>,
    /// Held from a look at the group until what was decided is stored, so that this server's decisions do not overtake
    /// each other. Nothing is waited for meanwhile but the database, and a server that this one gives way to.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// The group with its version.
    seen: Mutex<Option<(Version, Arc<Group>)>>,
    /// Whether it gives way to another server, or did so in vain a moment ago.
    gives_way: AtomicBool,
    /// Whether a change may have been stored that is not in `seen`: the database is asked before anything is decided.
    is_doubtful: AtomicBool,
    /// Counts what happened to the group through this server, or was seen of others.
    changed: watch::Sender<u64>,
    /// Partitions of which messages were handed out here and not handled yet.
    handed_out: Mutex<HashMap<u32, HandedOut>>,
    figures: Arc<Figures>,
}

/// While this exists, a group does not begin to give way.
pub(super) struct GivesWay(Arc<KnownGroup>);

impl Drop for GivesWay {
    fn drop(&mut self) {
        self.0.gives_way.store(false, SeqCst);
    }
}

/// When the first messages of a partition were handed out above a checkpoint.
struct HandedOut {
    epoch: Epoch,
    checkpoint: i64,
    since: Instant,
}

impl KnownGroups {
    pub(super) fn new(
        storage: Arc<dyn GroupStorage>,
        clock: Option<Arc<AtomicI64>>,
        is_shared: bool,
        figures: Arc<Figures>,
    ) -> Self {
        Self {
            storage,
            clock,
            is_shared,
            ahead: AtomicI64::new(0),
            known: Mutex::default(),
            home: Mutex::default(),
            figures,
        }
    }

    /// The group of that name.
    pub(super) fn get(&self, name: &str) -> Arc<KnownGroup> {
        let mut known = self.known.lock();
        if let Some(group) = known.get(name) {
            return Arc::clone(group);
        }
        if known.len() >= MOST {
            // In use by nobody, and without members whose leases only memory has.
            known.retain(|_, group| {
                Arc::strong_count(group) > 1 || group.last_seen().is_some_and(|seen| seen.members() > 0)
            });
        }
        let group = Arc::new(KnownGroup::new(name.into(), Arc::clone(&self.figures)));
        known.insert(Arc::clone(&group.name), Arc::clone(&group));
        group
    }

    /// The groups with this tag.
    pub(super) fn tagged(&self, tag: GroupTag) -> Vec<Arc<KnownGroup>> {
        let known = self.known.lock();
        known.values().filter(|group| GroupTag::of(&group.name) == tag).cloned().collect()
    }

    /// The groups that somebody waits for.
    pub(super) fn waited_for(&self) -> Vec<Arc<KnownGroup>> {
        let known = self.known.lock();
        known.values().filter(|group| group.changed.receiver_count() > 0).cloned().collect()
    }

    /// The group as it is now, with its version and the moment. `gone` are members' ids and instances; how their
    /// memberships ended is learned. `shown` is the head that this server shows.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`], and as [`GroupStorage::look`].
    pub(super) async fn look(
        &self,
        group: &KnownGroup,
        gone: Vec<Arc<str>>,
        shown: i64,
    ) -> Result<(Version, Group, Moment)> {
        let seen = group.seen.lock().clone();
        let looked = self.ask(&group.name, seen.as_ref().map(|(version, _)| *version), gone, shown).await?;
        let at = self.moment(&looked);
        let (version, mut found) = match (looked.group, seen) {
            (Found::Changed(version, stored), _) => {
                let found = Group::load(*stored);
                group.learn(version, Arc::new(found.clone()), true);
                (version, found)
            }
            (Found::Same, Some((version, seen))) => (version, Group::clone(&seen)),
            (Found::Same | Found::Missing, _) => return Err(Error::GroupNotFound),
        };
        group.is_doubtful.store(false, SeqCst);
        found.learn_gone(looked.gone);
        Ok((version, found, at))
    }

    /// The same from memory, if that is certain to know it: nobody else changes groups, and all of `named` are living
    /// members. The moment has no last epoch.
    pub(super) fn remember(
        &self,
        group: &KnownGroup,
        named: &[Arc<str>],
        shown: i64,
    ) -> Option<(Version, Group, Moment)> {
        let clock = self.storage.lease_clock()?;
        let (version, seen) = group.certain(named)?;
        let now = self.clock.as_ref().map_or(clock, |clock| clock.load(Relaxed));
        Some((version, Group::clone(&seen), Moment { home: self.home.lock().clone(), ..Moment::of(now, shown) }))
    }

    /// Asks the database about a group.
    ///
    /// # Errors
    /// As [`GroupStorage::look`].
    pub(super) async fn ask(
        &self,
        name: &Arc<str>,
        known: Option<Version>,
        gone: Vec<Arc<str>>,
        shown: i64,
    ) -> Result<Looked> {
        let now = self.clock.as_ref().map(|clock| clock.load(Relaxed));
        let mut looked = self.storage.look(Question { group: Arc::clone(name), known, gone, now }).await?;
        if !self.is_shared {
            // What is committed here and not shown yet was not acknowledged.
            looked.head = shown;
        }
        self.ahead.store(looked.now.saturating_sub(local_now()), Relaxed);
        self.home.lock().clone_from(&looked.home);
        Ok(looked)
    }

    /// Gives new epochs to all groups, because the log went back: members may have positions of lost messages.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if others change a group all the time, and as [`GroupStorage::look`] and
    /// [`GroupStorage::change`].
    pub(super) async fn renew_all(&self) -> Result<()> {
        for name in self.storage.names().await? {
            let mut attempts = 0..RENEWALS;
            while !self.renew(&name).await? {
                attempts.next().ok_or_else(|| Error::unavailable("other servers change a group all the time"))?;
            }
        }
        Ok(())
    }

    /// Gives new epochs to a group. Returns whether no other change was first.
    async fn renew(&self, name: &Arc<str>) -> Result<bool> {
        let looked = match self.ask(name, None, Vec::new(), i64::MAX).await {
            Err(Error::Failed(error)) => {
                // A group that cannot be read takes no checkpoint either. Were this an error, the log would stay open, and
                // this server would stay at what was lost.
                tracing::error!(group = %name, error = %Chain(&*error), "a group cannot be read, and got no new epochs");
                return Ok(true);
            }
            looked => looked?,
        };
        let mut at = self.moment(&looked);
        if at.home.is_none() {
            // Nothing can be stored. Once it can, the group is found at another home than before.
            return Ok(true);
        }
        let Found::Changed(version, stored) = looked.group else { return Ok(true) };
        let (mut group, before) = (Group::load(*stored), at.last_epoch);
        group.renew(&mut at);
        let change = Change::new(name, Some(version), stamp(), &group, before, &at);
        Ok(self.storage.change(change).await?.is_some())
    }

    /// Asks the database which of these groups have other versions by now. Returns their names, and a moment for decisions
    /// about the others; `None` if nothing can be decided about any group of this log.
    ///
    /// # Errors
    /// As [`GroupStorage::compare`].
    pub(super) async fn compare(&self, known: &[(Arc<str>, Version)]) -> Result<Option<(Vec<Arc<str>>, Moment)>> {
        let now = self.clock.as_ref().map(|clock| clock.load(Relaxed));
        let Compared { now, head, last_epoch, changed, home } = self.storage.compare(known, now).await?;
        let Some(head) = head else { return Ok(None) };
        self.ahead.store(now.saturating_sub(local_now()), Relaxed);
        Ok(Some((changed, Moment { last_epoch, home, ..Moment::of(now, head) })))
    }

    /// The moment of a decision, with the last epoch as it is stored.
    pub(super) fn moment(&self, looked: &Looked) -> Moment {
        let random = if self.has_test_clock() { 0 } else { rand::rng().random() };
        let Looked { now, head, last_epoch, ref home, .. } = *looked;
        Moment { now, head, random, last_epoch, home: home.clone(), token: None }
    }

    /// The time of messages, if a test gives it.
    pub(super) fn test_time(&self) -> Option<Timestamp> {
        self.clock.as_ref().map(|clock| Timestamp::from_micros(clock.load(Relaxed) * 1000))
    }

    pub(super) fn has_test_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// The time by the clock of the database, about.
    pub(super) fn about_now(&self) -> i64 {
        self.storage.lease_clock().unwrap_or_else(|| local_now().saturating_add(self.ahead.load(Relaxed)))
    }
}

impl KnownGroup {
    fn new(name: Arc<str>, figures: Arc<Figures>) -> Self {
        Self {
            name,
            turn: Arc::default(),
            gives_way: AtomicBool::new(false),
            seen: Mutex::default(),
            is_doubtful: AtomicBool::new(false),
            changed: watch::Sender::new(0),
            handed_out: Mutex::default(),
            figures,
        }
    }

    /// Begins to give way to another server, unless it does already.
    pub(super) fn begin_to_give_way(self: &Arc<Self>) -> Option<GivesWay> {
        (!self.gives_way.swap(true, SeqCst)).then(|| GivesWay(Arc::clone(self)))
    }

    /// Messages of these partitions are handed out.
    pub(super) fn hands_out(&self, group: &Group, partitions: impl Iterator<Item = u32>) {
        let mut handed_out = self.handed_out.lock();
        for partition in partitions {
            let Some((epoch, checkpoint)) = group.standing_of(partition) else { continue };
            let is_new = handed_out.get(&partition).is_none_or(|before| before.epoch != epoch);
            if is_new {
                handed_out.insert(partition, HandedOut { epoch, checkpoint, since: Instant::now() });
            }
        }
    }

    /// Counts how long the messages of partitions took whose checkpoints have moved.
    fn observe_handling(&self, group: &Group) {
        let mut handed_out = self.handed_out.lock();
        handed_out.retain(|partition, of| match group.standing_of(*partition) {
            Some((epoch, checkpoint)) if epoch == of.epoch => {
                let has_moved = checkpoint > of.checkpoint;
                if has_moved {
                    let now = Instant::now();
                    self.figures.groups.handling.observe(now.saturating_duration_since(of.since), now);
                }
                !has_moved
            }
            _ => false,
        });
    }

    /// The group as it was last seen.
    pub(super) fn last_seen(&self) -> Option<Arc<Group>> {
        self.seen.lock().as_ref().map(|(_, group)| Arc::clone(group))
    }

    /// The group as it was last seen, with its version.
    pub(super) fn seen(&self) -> Option<(Version, Arc<Group>)> {
        self.seen.lock().clone()
    }

    /// The group as it was last seen, with its version, unless a change of it is in doubt or not all of `named` are living
    /// members: why a membership ended is only stored.
    pub(super) fn certain(&self, named: &[Arc<str>]) -> Option<(Version, Arc<Group>)> {
        if self.is_doubtful.load(SeqCst) {
            return None;
        }
        self.seen().filter(|(_, seen)| named.iter().all(|member| seen.has_member(member)))
    }

    /// The group is as it was found or decided. Whoever waits for it looks again if that is news.
    pub(super) fn learn(&self, version: Version, group: Arc<Group>, is_news: bool) {
        self.observe_handling(&group);
        self.is_doubtful.store(false, SeqCst);
        *self.seen.lock() = Some((version, group));
        if is_news {
            self.wake();
        }
    }

    /// A change of the group may be stored that is not known here. Whoever has its turn says so.
    pub(super) fn doubt(&self) {
        self.is_doubtful.store(true, SeqCst);
    }

    /// Nothing is known of the group any more.
    pub(super) fn forget(&self) {
        *self.seen.lock() = None;
        self.wake();
    }

    /// Tells of what happens from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whoever waits for the group looks again.
    pub(super) fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// A random number for a state that is stored.
pub(super) fn stamp() -> i64 {
    rand::rng().random()
}

/// The time by this server's clock, in milliseconds since 1970.
fn local_now() -> i64 {
    Timestamp::now().as_micros() / 1000
}
