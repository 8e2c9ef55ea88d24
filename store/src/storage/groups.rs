//! The contract of a database that holds the groups of a log.
//!
//! A group is loaded with a version. It is decided about in memory, and what changed is stored only if the group still
//! has that version. So no lock is held while a decision is made, and whoever was second decides again.

use std::sync::Arc;

use async_trait::async_trait;
use eventodb_protocol::group::Epoch;

use crate::error::Result;
use crate::groups::{AuditEntry, Gone, Stored};

pub use crate::groups::{Change, Version};

/// The groups of one incarnation.
///
/// # Contract
/// - [`GroupStorage::look`] returns one state of the group, its namespace's last epoch, and a head that is not older than
///   the call.
/// - [`GroupStorage::change`] changes everything or nothing, and is durable when it returns.
/// - A version never comes twice: not if a group of the same name is created again, and not if the database lost the
///   newest states. A database that cannot lose them while its log is open may compare the number alone.
/// - A change is stored only if the state that it follows is the newest one when it is committed, also if the call was
///   held up for long in between.
/// - Where the database can change while its servers run, a change is stored only where it was decided: see
///   [`Change::home`].
/// - Where a group is stored has another name after a failover or a restore, as far as the backend can tell, and the same
///   one otherwise. There is none while nothing can be stored.
/// - A group is created only if no epoch was given since it was decided. The changes of several groups do not exclude each
///   other otherwise: the last epoch of the namespace is the highest one.
#[async_trait]
pub trait GroupStorage: Send + Sync + 'static {
    /// The group as it is now, with what a decision has to know besides.
    ///
    /// # Errors
    /// [`crate::Error::Closed`] if the incarnation was deleted, [`crate::Error::Replacing`] while another is filled that
    /// is to take its place, [`crate::Error::Unavailable`], [`crate::Error::Failed`].
    async fn look(&self, question: Question) -> Result<Looked>;

    /// The clock of leases, in milliseconds since 1970, where leases are not stored: the caller's memory has them, nobody
    /// else changes groups, and a change that only renews leases is none here. `None` where they are stored with their
    /// group.
    fn lease_clock(&self) -> Option<i64> {
        None
    }

    /// Stores a change. Returns the group's version from then on, or `None` if another change was first: nothing was
    /// stored then.
    ///
    /// # Errors
    /// As above; [`crate::Error::Unknown`]: it may be stored.
    async fn change(&self, change: Change) -> Result<Option<Version>>;

    /// Whether [`Self::renew`] stores many changes for the price of few.
    fn renews_together(&self) -> bool {
        false
    }

    /// Stores changes of several groups that only renew leases, in the order of their names, each as [`Self::change`] does,
    /// or none of them if one is in the way. Returns what that returns for each.
    ///
    /// # Errors
    /// As above, for all of them.
    async fn renew(&self, changes: Vec<Change>) -> Result<Vec<Option<Version>>> {
        let mut versions = Vec::new();
        for change in changes {
            versions.push(self.change(change).await?);
        }
        Ok(versions)
    }

    /// Which of these groups have other versions by now, with what else a decision has to know: of one moment. The time is
    /// `now` if that is given. Where the backend is not shared, nothing is asked.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Failed`].
    async fn compare(&self, _known: &[(Arc<str>, Version)], _now: Option<i64>) -> Result<Compared> {
        Ok(Compared::default())
    }

    /// Other servers are always first to change this group: asks them to leave it alone for a moment.
    fn want(&self, _group: &str) {}

    /// Deletes a group that has this version. Returns whether it had.
    ///
    /// # Errors
    /// As above.
    async fn delete(&self, group: &str, version: Version) -> Result<bool>;

    /// A group of a log that changes no more because another takes its place, with the namespace's last epoch. `None` if
    /// there is none of that name.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Failed`].
    async fn last(&self, group: &str) -> Result<Option<(Stored, Epoch)>>;

    /// The names of all groups, in byte order.
    ///
    /// # Errors
    /// As [`Self::look`].
    async fn names(&self) -> Result<Vec<Arc<str>>>;

    /// A page of a group's audit, newest first: at most `limit` entries with lower ids than `below`.
    ///
    /// # Errors
    /// As [`Self::look`].
    async fn audit(&self, group: &str, below: i64, limit: usize) -> Result<Vec<AuditEntry>>;
}

/// What is asked about a group.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its name.
    pub group: Arc<str>,
    /// The version that the caller knows.
    pub known: Option<Version>,
    /// Members' ids and instances: how their memberships ended is wanted.
    pub gone: Vec<Arc<str>>,
    /// The time that counts instead of the clock's, in milliseconds since 1970; for tests.
    pub now: Option<i64>,
}

/// What is known about a group.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The time, in milliseconds since 1970.
    pub now: i64,
    /// Global position of the log's last message.
    pub head: i64,
    /// The last epoch that was given in the namespace.
    pub last_epoch: Epoch,
    /// The group.
    pub group: Found,
    /// How memberships ended that were asked about.
    pub gone: Vec<(Arc<str>, Gone)>,
    /// Where the group is stored: see [`crate::groups::Moment::home`].
    pub home: Option<Arc<str>>,
}

/// What is known about several groups.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// The time, in milliseconds since 1970.
    pub now: i64,
    /// Global position of the log's last message; `None` if the log has ended, or was not asked.
    pub head: Option<i64>,
    /// The last epoch that was given in the namespace.
    pub last_epoch: Epoch,
    /// The groups that have other versions, or are not there any more.
    pub changed: Vec<Arc<str>>,
    /// Where the groups are stored.
    pub home: Option<Arc<str>>,
}

/// A group as it was found.
#[derive(Clone, Debug)]
pub enum Found {
    /// There is none of that name.
    Missing,
    /// It still has the version that the caller knows.
    Same,
    /// It has this version.
    Changed(Version, Box<Stored>),
}

/// A short sign for a group's name, by which servers tell each other which group has changed. Two names may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupTag(pub u32);

impl GroupTag {
    /// That of a name.
    pub fn of(group: &str) -> Self {
        Self(crc32c::crc32c(group.as_bytes()))
    }
}

/// Entries of a group's audit that are kept.
pub const AUDIT_KEPT: i64 = eventodb_protocol::limits::AUDIT_ENTRIES as i64;
