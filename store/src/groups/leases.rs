//! The members of a group and how long their leases last.
//!
//! A lease ends one session after its member's last call. No call ever makes it end earlier.

use std::sync::Arc;

use eventodb_protocol::group::Fence;
use uuid::Uuid;

use super::refusal::Refusal;
use super::rows::{Changed, Rows};

/// For how long after its end a membership is known, in milliseconds.
const GONE_MS: i64 = 3_600_000;

/// The id of a member, which the server makes.
pub type MemberId = Arc<str>;

/// A living member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its label.
    pub name: Option<String>,
    /// The id that the client made for this membership.
    pub instance: Option<Uuid>,
    /// Its place in the order in which members joined.
    pub number: i64,
    /// When its lease ends, in milliseconds since 1970.
    pub lease_end: i64,
    /// When it joined.
    pub joined_at: i64,
    /// When its last call arrived.
    pub last_call: i64,
}

/// How a membership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// What its calls are told.
    pub reason: Fence,
    /// Until when they are told so, in milliseconds since 1970. The row may be deleted then.
    pub until: i64,
}

/// The members of a group, and those that it had.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    members: Rows<MemberId, Member>,
    /// By member, and by instance.
    gone: Rows<Arc<str>, Gone>,
}

impl Leases {
    pub(super) fn stored(
        members: impl IntoIterator<Item = (MemberId, Member)>,
        gone: impl IntoIterator<Item = (Arc<str>, Gone)>,
    ) -> Self {
        Self { members: Rows::stored(members), gone: Rows::stored(gone) }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    /// The members in the order in which they joined.
    pub(super) fn in_order(&self) -> Vec<(&MemberId, &Member)> {
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort_by_key(|(_, member)| member.number);
        members
    }

    pub(super) fn by_instance(&self, instance: Uuid) -> Option<MemberId> {
        self.find(|member| member.instance == Some(instance))
    }

    pub(super) fn by_name(&self, name: &str) -> Option<MemberId> {
        self.find(|member| member.name.as_deref() == Some(name))
    }

    /// The member with that id.
    ///
    /// # Errors
    /// `Fenced` with the reason why its membership ended.
    pub(super) fn living(&self, id: &str, now: i64) -> Result<&Member, Refusal> {
        self.members.get(id).ok_or_else(|| Refusal::fenced(self.end_of(id, now).unwrap_or(Fence::Unknown)))
    }

    /// How the membership of a member, or of an instance, ended; none if it lives, never was or is forgotten.
    pub(super) fn end_of(&self, id: &str, now: i64) -> Option<Fence> {
        self.gone.get(id).filter(|gone| gone.until > now).map(|gone| gone.reason)
    }

    pub(super) fn add(&mut self, id: MemberId, member: Member) {
        self.members.insert(id, member);
    }

    /// A call of the member arrived.
    pub(super) fn renew(&mut self, id: &str, session_ms: i64, now: i64) {
        if let Some(member) = self.members.change(id) {
            member.lease_end = member.lease_end.max(now + session_ms);
            member.last_call = now;
        }
    }

    /// No lease ends earlier than this long after the last call of its member.
    pub(super) fn last_at_least(&mut self, session_ms: i64) {
        let ends_earlier = |member: &Member| member.lease_end < member.last_call + session_ms;
        let short = self.members.iter().filter(|(_, member)| ends_earlier(member));
        let short: Vec<MemberId> = short.map(|(id, _)| id.clone()).collect();
        for id in short {
            if let Some(member) = self.members.change(&id) {
                member.lease_end = member.last_call + session_ms;
            }
        }
    }

    /// The member is no more.
    pub(super) fn remove(&mut self, id: &str, reason: Fence, now: i64) {
        let Some(member) = self.members.remove(id) else { return };
        let gone = Gone { reason, until: now + GONE_MS };
        self.gone.insert(id.into(), gone);
        if let Some(instance) = member.instance {
            self.gone.insert(instance.to_string().into(), gone);
        }
    }

    /// The members whose leases are over, in the order in which they joined.
    pub(super) fn ended(&self, now: i64) -> Vec<MemberId> {
        let members = self.in_order().into_iter();
        members.filter(|(_, member)| member.lease_end <= now).map(|(id, _)| id.clone()).collect()
    }

    /// When the next lease ends.
    pub(super) fn next_end(&self) -> Option<i64> {
        self.members.iter().map(|(_, member)| member.lease_end).min()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&MemberId, &Member)> {
        self.members.iter()
    }

    pub(super) fn settle(&mut self) {
        self.members.settle();
        self.gone = Rows::stored([]);
    }

    pub(super) fn learn_gone(&mut self, gone: impl IntoIterator<Item = (Arc<str>, Gone)>) {
        self.gone = Rows::stored(gone);
    }

    pub(super) fn changes(&self) -> (Changed<MemberId, Member>, Changed<Arc<str>, Gone>) {
        (self.members.changes(), self.gone.changes())
    }

    fn find(&self, is_it: impl Fn(&Member) -> bool) -> Option<MemberId> {
        self.members.iter().find(|(_, member)| is_it(member)).map(|(id, _)| id.clone())
    }
}
