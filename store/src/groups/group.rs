//! A group as a decision sees it: all its rows, of one version.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eventodb_protocol::group::reply::GroupSummary;
use eventodb_protocol::group::{Epoch, partition_of, partition_of_hash};
use eventodb_protocol::{Filter, Scope, Timestamp, name};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::carried::{Carried, CarriedOver};
use super::hashes::stream_hash;
use super::leases::{Gone, Leases, Member, MemberId};
use super::marker::MARKER;
use super::parked::{Park, Parked};
use super::partitions::{Partition, Partitions};
use super::refusal::Refusal;
use super::rows::Changed;

/// What a decision takes from outside, and the one row that all groups of a namespace share.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The time, in milliseconds since 1970, by the clock of the database.
    pub now: i64,
    /// Position of the namespace's last message. It must not be older than the call: a position above it is refused.
    pub head: i64,
    /// Random bits for epochs.
    pub random: u16,
    /// The last epoch that was given in the namespace. It is stored with the decision if it changed.
    pub last_epoch: Epoch,
    /// Where the group is stored: see [`Settings::home`]. `None` while nothing can be stored, and where it is not asked for.
    pub home: Option<Arc<str>>,
    /// The public name of the token that the call came with, for the audit.
    pub token: Option<String>,
}

impl Moment {
    /// One in which no epoch is given, of a call whose token is not known.
    pub fn of(now: i64, head: i64) -> Self {
        Self { now, head, random: 0, last_epoch: Epoch::default(), home: None, token: None }
    }

    pub(super) fn next_epoch(&mut self) -> Epoch {
        self.last_epoch = self.last_epoch.next(self.now, self.random).expect("64 bits hold epochs for a million years");
        self.last_epoch
    }
}

/// What never changes about a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// The categories that it reads; empty if it reads all.
    pub categories: BTreeSet<String>,
    /// The types that it reads; empty if it reads all.
    pub types: BTreeSet<String>,
    /// When it was created, in milliseconds since 1970.
    pub created_at: i64,
}

impl Definition {
    /// Whether the group reads messages of this type in this stream. Markers are read whatever its types are.
    pub fn reads(&self, stream: &str, kind: &str) -> bool {
        let admits = |names: &BTreeSet<String>, name: &str| names.is_empty() || names.contains(name);
        admits(&self.categories, name::category(stream)) && (admits(&self.types, kind) || kind == MARKER)
    }

    /// What the group reads of a scope. Nobody knows what type a message had in whose place a marker stands.
    pub fn filter(&self, scope: Scope) -> Filter {
        let mut types: Vec<Arc<str>> = self.types.iter().map(|kind| Arc::from(&**kind)).collect();
        if !types.is_empty() {
            types.push(MARKER.into());
        }
        Filter { types, ..Filter::new(scope) }
    }
}

/// The group's own row, but for its [`Definition`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Free text.
    pub description: String,
    /// How long a lease lasts after a call of its member, in milliseconds.
    pub session_ms: i64,
    /// How many streams may be parked at once.
    pub max_parked: i64,
    /// Whether it hands out nothing.
    pub is_paused: bool,
    /// The partition count for which the partitions are asked back.
    pub resizing_to: Option<u32>,
    /// Counts every change of an assignment.
    pub generation: i64,
    /// The highest number that a member got.
    pub last_member: i64,
    /// The highest number that a parked stream got.
    pub last_rev: i64,
    /// The highest id of the audit.
    pub last_audit: i64,
    /// The database, since its last start, or the file in which the group was when it was last decided about. After a
    /// failover or a restore it is another one: members may hold positions of a log that went on elsewhere, although all
    /// that is stored fits together. `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
}

/// An entry of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number.
    pub id: i64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The token that was used, by its public name.
    pub token: Option<String>,
    /// What was done.
    pub act: Cow<'static, str>,
    /// With what.
    pub details: Value,
}

/// A group's rows as a backend stores them. The audit is never loaded; `gone` needs only the rows of the member and
/// the instance that the call names.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What never changes.
    pub definition: Arc<Definition>,
    /// The group's own row.
    pub settings: Settings,
    /// By number, without gaps.
    pub partitions: Vec<(u32, Partition)>,
    /// By id.
    pub members: Vec<(MemberId, Member)>,
    /// By member's id or instance.
    pub gone: Vec<(Arc<str>, Gone)>,
    /// By stream.
    pub parked: Vec<(Arc<str>, Parked)>,
    /// By number.
    pub carried: Vec<(i64, Carried)>,
}

/// What a decision changed. It is stored whole, also if the call was refused: a refused call renews its member's
/// lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The group's own row, if it changed.
    pub settings: Option<Settings>,
    /// Partitions, by number.
    pub partitions: Changed<u32, Partition>,
    /// Members, by id.
    pub members: Changed<MemberId, Member>,
    /// Memberships that ended, by member's id and by instance.
    pub gone: Changed<Arc<str>, Gone>,
    /// Parked streams, by name.
    pub parked: Changed<Arc<str>, Parked>,
    /// What is carried over, by number.
    pub carried: Changed<i64, Carried>,
    /// Entries to be added to the audit.
    pub audit: Vec<AuditEntry>,
}

/// A group, about which calls are decided.
#[derive(Clone, Debug)]
pub struct Group {
    pub(super) definition: Arc<Definition>,
    pub(super) settings: Settings,
    pub(super) partitions: Partitions,
    pub(super) leases: Leases,
    pub(super) park: Park,
    pub(super) carried: CarriedOver,
    pub(super) audit: Vec<AuditEntry>,
    /// The settings as they are stored; none of a group that is not stored yet.
    pub(super) stored: Option<Settings>,
}

impl Group {
    /// The group whose rows these are.
    pub fn load(stored: Stored) -> Self {
        Self {
            definition: stored.definition,
            stored: Some(stored.settings.clone()),
            settings: stored.settings,
            partitions: Partitions::stored(stored.partitions),
            leases: Leases::stored(stored.members, stored.gone),
            park: Park::stored(stored.parked),
            carried: CarriedOver::stored(stored.carried),
            audit: Vec::new(),
        }
    }

    /// What was changed since it was loaded.
    pub fn changes(&self) -> Changes {
        let (members, gone) = self.leases.changes();
        let settings = (self.stored.as_ref() != Some(&self.settings)).then(|| self.settings.clone());
        Changes {
            settings,
            partitions: self.partitions.changes(),
            members,
            gone,
            parked: self.park.changes(),
            carried: self.carried.changes(),
            audit: self.audit.clone(),
        }
    }

    /// Its rows count as stored from now on.
    pub fn settle(&mut self) {
        self.stored = Some(self.settings.clone());
        self.partitions.settle();
        self.leases.settle();
        self.park.settle();
        self.carried.settle();
        self.audit.clear();
    }

    /// Learns how memberships ended of which a call may speak, and forgets about all others.
    pub fn learn_gone(&mut self, gone: Vec<(Arc<str>, Gone)>) {
        self.leases.learn_gone(gone);
    }

    /// Cuts what lies above the head, because the end of the log was lost: whoever acted on it begins anew. If the group
    /// was found at another home, everybody does.
    pub fn fit(&mut self, at: &mut Moment) {
        self.begin_at(self.has_moved(at), at);
    }

    /// The same if everybody begins anew, because the end of the log was lost.
    pub fn renew(&mut self, at: &mut Moment) {
        self.begin_at(true, at);
    }

    fn begin_at(&mut self, all_begin: bool, at: &mut Moment) {
        if at.home.is_some() {
            self.settings.home = at.home.as_deref().map(str::to_owned);
        }
        let checkpoints = (0u32..).zip(self.partitions.checkpoints());
        let beyond: Vec<u32> = checkpoints.filter(|(_, checkpoint)| *checkpoint > at.head).map(|(n, _)| n).collect();
        let parked = self.park.iter().filter(|(_, parked)| parked.handled > at.head);
        let parked: Vec<Arc<str>> = parked.map(|(stream, _)| Arc::clone(stream)).collect();
        for stream in parked {
            if let Some(parked) = self.park.change(&stream) {
                parked.handled = at.head;
            }
        }
        self.carried.cut(at.head);
        for &partition in &beyond {
            self.partitions.set_checkpoint(partition, at.head, at.now);
        }
        let anew = if all_begin { (0..self.partitions.count()).collect() } else { beyond };
        if anew.is_empty() {
            return;
        }
        self.settings.generation += 1;
        self.begin_epochs(&anew, at);
    }

    /// Whether the group was somewhere else when it was last decided about, so that no epoch counts that a member has.
    pub fn has_moved(&self, at: &Moment) -> bool {
        matches!((&self.settings.home, &at.home), (Some(before), Some(home)) if **before != **home)
    }

    /// The epoch and the checkpoint of a partition, if there is one of this number.
    pub fn standing_of(&self, partition: u32) -> Option<(Epoch, i64)> {
        self.partitions.get(partition).map(|partition| (partition.epoch, partition.checkpoint))
    }

    /// How often partitions were asked back or dealt out.
    pub fn generation(&self) -> i64 {
        self.settings.generation
    }

    /// How many members live.
    pub fn members(&self) -> usize {
        self.leases.len()
    }

    /// Whether this member lives.
    pub fn has_member(&self, member: &str) -> bool {
        self.leases.get(member).is_some()
    }

    /// Whether it hands out nothing.
    pub fn is_paused(&self) -> bool {
        self.settings.is_paused
    }

    /// The epochs of the partitions that a member owns.
    pub fn epochs_of(&self, member: &str) -> BTreeMap<u32, Epoch> {
        let owned = self.partitions.iter().filter(|(_, partition)| partition.is_of(member));
        owned.map(|(number, partition)| (number, partition.epoch)).collect()
    }

    /// # Errors
    /// `Fenced` if the membership has ended.
    pub fn check_member(&self, member: &str, at: &Moment) -> Result<(), Refusal> {
        self.leases.living(member, at.now).map(|_| ())
    }

    /// How long a lease lasts after a call of its member, in milliseconds.
    pub fn session_ms(&self) -> i64 {
        self.settings.session_ms
    }

    /// When the next parked stream is due that is not handed out at `now`.
    pub fn next_due(&self, now: i64) -> Option<i64> {
        self.park.iter().filter_map(|(_, parked)| parked.due).filter(|due| *due > now).min()
    }

    /// What never changes about it.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// The reply to a call that creates or changes the group.
    pub fn summary(&self, at: &Moment) -> GroupSummary {
        GroupSummary {
            group: self.definition.name.clone(),
            description: self.settings.description.clone(),
            categories: self.definition.categories.iter().cloned().collect(),
            types: self.definition.types.iter().cloned().collect(),
            partition_count: self.partitions.count(),
            session_ms: self.settings.session_ms,
            max_parked: self.settings.max_parked,
            created_at: time(self.definition.created_at),
            paused: self.settings.is_paused,
            resizing: self.settings.resizing_to.is_some(),
            resizing_to: self.settings.resizing_to,
            head: at.head,
        }
    }

    /// The partition of a stream.
    pub(super) fn partition_of(&self, stream: &str) -> u32 {
        partition_of(stream, self.partitions.count())
    }

    /// The position up to which the messages of a stream that is not parked are handled: the checkpoint, or what is
    /// carried over for the stream.
    pub(super) fn known(&self, stream: &str) -> i64 {
        self.known_of(stream_hash(stream))
    }

    fn known_of(&self, hash: i64) -> i64 {
        let partition = partition_of_hash(hash, self.partitions.count());
        self.partitions.at(partition).checkpoint.max(self.carried.of(hash))
    }

    /// Whether a message is handled.
    pub(super) fn is_handled(&self, stream: &str, position: i64) -> bool {
        position <= self.handled_up_to(stream)
    }

    /// The position up to which the messages of a stream are handled.
    pub(super) fn handled_up_to(&self, stream: &str) -> i64 {
        self.park.get(stream).map_or_else(|| self.known(stream), |parked| parked.handled)
    }

    /// Whether as many streams are parked as may be.
    pub(super) fn is_park_full(&self) -> bool {
        i64::try_from(self.park.len()).is_ok_and(|count| count >= self.settings.max_parked)
    }

    /// The partition of a message that the group reads and that is neither handled nor in a parked stream.
    pub(super) fn waiting(&self, stream: &str, kind: &str, position: i64) -> Option<u32> {
        if !self.definition.reads(stream, kind) || self.park.get(stream).is_some() {
            return None;
        }
        let hash = stream_hash(stream);
        (position > self.known_of(hash)).then(|| partition_of_hash(hash, self.partitions.count()))
    }

    pub(super) fn record(&mut self, at: &Moment, act: &'static str, details: Value) {
        self.settings.last_audit += 1;
        let (id, token) = (self.settings.last_audit, at.token.clone());
        self.audit.push(AuditEntry { id, at: at.now, token, act: act.into(), details });
    }
}

impl Changes {
    /// Whether only leases were renewed.
    pub fn only_renew(&self) -> bool {
        self.members.forget.is_empty() && self.keeps_all_but_members()
    }

    /// Whether nothing has to be stored.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.keeps_all_but_members()
    }

    fn keeps_all_but_members(&self) -> bool {
        self.settings.is_none()
            && self.partitions.is_empty()
            && self.gone.is_empty()
            && self.parked.is_empty()
            && self.carried.is_empty()
            && self.audit.is_empty()
    }
}

/// Milliseconds since 1970 as replies have them.
pub(super) fn time(ms: i64) -> Timestamp {
    Timestamp::from_micros(ms.saturating_mul(1000))
}
