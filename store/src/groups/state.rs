//! The part of a group that changes with nearly every call, as one text: its own row, its partitions and its members.
//!
//! Both backends store it whole with each decision. A partition refers to its owner by the owner's place among the
//! members, so that a partition takes some fifty bytes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use eventodb_protocol::group::Epoch;
use eventodb_protocol::limits::SESSION_MAX_MS;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::group::{Group, Settings};
use super::leases::{Member, MemberId};
use super::partitions::{Ownership, Partition};

/// What of a group is stored as one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The group's own row.
    pub settings: Settings,
    /// By number, without gaps.
    pub partitions: Vec<(u32, Partition)>,
    /// By id.
    pub members: Vec<(MemberId, Member)>,
}

/// Why a text is no state.
#[derive(Debug, thiserror::Error)]
#[error("the stored state of a group cannot be read")]
pub struct Unreadable(#[from] serde_json::Error);

/// Epoch, checkpoint, when that moved, the owner's place, and until when the owner has to give it back.
type PartitionRow = (i64, i64, i64, Option<usize>, Option<i64>);
/// Id, label, instance, number, when it joined, when its lease ends, when its last call arrived.
type MemberRow = (String, Option<String>, Option<Uuid>, i64, i64, i64, i64);

#[derive(Serialize, Deserialize)]
struct Form {
    settings: Settings,
    partitions: Vec<PartitionRow>,
    members: Vec<MemberRow>,
}

impl Group {
    /// Its state as a text.
    pub fn state(&self) -> String {
        let members: Vec<_> = self.leases.iter().collect();
        let places: HashMap<&str, usize> = members.iter().map(|(id, _)| &***id).zip(0..).collect();
        let partition = |partition: &Partition| {
            let owner = partition.owner.as_ref();
            let place = owner.and_then(|owner| places.get(&*owner.member).copied());
            let give_back_by = owner.and_then(|owner| owner.give_back_by);
            (partition.epoch.number(), partition.checkpoint, partition.moved_at, place, give_back_by)
        };
        let member = |(id, member): &(&MemberId, &Member)| {
            let Member { name, instance, number, lease_end, joined_at, last_call } = member;
            (id.to_string(), name.clone(), *instance, *number, *joined_at, *lease_end, *last_call)
        };
        let form = Form {
            settings: self.settings.clone(),
            partitions: self.partitions.iter().map(|(_, row)| partition(row)).collect(),
            members: members.iter().map(member).collect(),
        };
        serde_json::to_string(&form).expect("rows have no keys but texts")
    }
}

impl State {
    /// Reads a text that [`Group::state`] made.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        let form: Form = serde_json::from_str(text)?;
        let ids: Vec<MemberId> = form.members.iter().map(|row| Arc::from(&*row.0)).collect();
        let no_member = || serde_json::Error::custom("a partition has an owner that is no member");
        let partition = |(epoch, checkpoint, moved_at, place, give_back_by): PartitionRow| {
            let member = place.map(|place: usize| ids.get(place).ok_or_else(no_member)).transpose()?;
            let owner = member.map(|member| Ownership { member: Arc::clone(member), give_back_by });
            Ok(Partition { epoch: Epoch::from_number(epoch), checkpoint, moved_at, owner })
        };
        let member = |(_, name, instance, number, joined_at, lease_end, last_call): MemberRow| Member {
            name,
            instance,
            number,
            lease_end,
            joined_at,
            last_call,
        };
        let partitions = form.partitions.into_iter().map(partition).collect::<Result<Vec<_>, serde_json::Error>>()?;
        let partitions = (0..).zip(partitions).collect();
        let members = ids.iter().cloned().zip(form.members.into_iter().map(member)).collect();
        Ok(Self { settings: form.settings, partitions, members })
    }

    /// What cannot be, in a namespace with this head and this last epoch.
    pub fn faults(&self, head: i64, last_epoch: Epoch) -> Vec<String> {
        let mut faults = Vec::new();
        let mut epochs = HashSet::new();
        for (number, partition) in &self.partitions {
            if partition.checkpoint > head {
                faults.push(format!(
                    "partition {number} has a checkpoint above the head {head}: {}",
                    partition.checkpoint
                ));
            }
            if partition.epoch > last_epoch || !epochs.insert(partition.epoch) {
                faults.push(format!("partition {number} has an epoch that was not given to it: {}", partition.epoch));
            }
        }
        faults
    }

    /// Gives each member a fresh session that begins now, because it is not known when its lease ends. One that was given
    /// when a session was longer ends no earlier for it; the clock may have leapt back, so that none lasts longer than the
    /// longest session.
    pub fn begin_sessions(&mut self, now: i64) {
        let fresh = now + self.settings.session_ms;
        let begin = |end: &mut i64| *end = (*end).clamp(fresh, now + SESSION_MAX_MS);
        for (_, member) in &mut self.members {
            begin(&mut member.lease_end);
            member.last_call = now;
        }
        for (_, partition) in &mut self.partitions {
            if let Some(deadline) = partition.owner.as_mut().and_then(|owner| owner.give_back_by.as_mut()) {
                begin(deadline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use eventodb_protocol::request::group::{CreateGroup, Join, MemberCall, Presented, Start, UpdateGroup};

    use super::super::{Changed, Moment};
    use super::*;

    fn group() -> (Group, Moment) {
        let new = CreateGroup {
            categories: ["a".to_owned()].into(),
            types: [].into(),
            partitions: 3,
            start: Start::After(0),
            session_ms: 1000,
            max_parked: 2,
            description: "\"quoted\"".to_owned(),
        };
        let mut at = Moment { now: 50, head: 9, random: 1, last_epoch: Epoch::default(), home: None, token: None };
        let mut group = Group::create("g", &new, 0, &mut at).expect("it is good");
        let join = Join { name: Some("n\u{e9}\"".to_owned()), instance: Some(Uuid::from_u128(7)) };
        group.join(&join, "m-1".into(), &mut at).expect("it joins");
        group.join(&Join::default(), "m-2".into(), &mut at).expect("it joins");
        (group, at)
    }

    fn group_state() -> String {
        group().0.state()
    }

    #[test]
    fn what_cannot_be_is_told() {
        let state = State::read(&group_state()).expect("it was just written");
        let highest = state.partitions.iter().map(|(_, partition)| partition.epoch).max().expect("there are some");
        assert!(state.faults(9, highest).is_empty());
        assert_eq!(state.faults(-1, highest).len(), 3, "checkpoints above the head");
        assert_eq!(state.faults(9, Epoch::default()).len(), 3, "epochs that were not given");
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let (group, _) = group();
        let state = State::read(&group.state()).expect("it was just written");
        let changes = group.changes();
        assert_eq!(changes.settings, Some(state.settings));
        assert_eq!(changes.partitions, Changed { save: state.partitions, forget: vec![] });
        assert_eq!(changes.members, Changed { save: state.members, forget: vec![] });
        assert!(State::read("{}").is_err());
        let nobody = |state: String| state.replacen(",50,0,", ",50,7,", 1);
        assert!(State::read(&nobody(group_state())).is_err(), "an owner that is no member");
    }

    #[test]
    fn a_checkpoint_above_the_head_is_cut_and_its_epoch_changes() {
        let (mut group, mut at) = group();
        at.head = 20;
        let epochs = group.epochs_of("m-1");
        let checkpoints = epochs.iter().map(|(n, epoch)| (*n, Presented { epoch: *epoch, position: 15 })).collect();
        let beat = MemberCall { checkpoints, ..MemberCall::default() };
        assert!(group.heartbeat("m-1", &beat, &mut at).expect("it lives").fenced.is_empty());
        group.settle();
        group.fit(&mut at);
        assert!(group.changes().is_empty(), "all is below the head");
        at.head = 12;
        group.fit(&mut at);
        let assigned = group.heartbeat("m-1", &MemberCall::default(), &mut at).expect("it lives").membership;
        assert!(assigned.assigned.iter().all(|a| a.checkpoint == 12 && a.epoch > epochs[&a.partition]));
        assert_eq!(group.heartbeat("m-1", &beat, &mut at).expect("it lives").fenced.len(), epochs.len());
    }

    #[test]
    fn a_group_that_is_found_elsewhere_gives_new_epochs_once() {
        let (mut group, mut at) = group();
        let found = |group: &mut Group, home: &str, at: &mut Moment| {
            at.home = Some(home.into());
            let before = group.epochs_of("m-1");
            group.fit(at);
            let after = group.epochs_of("m-1");
            group.settle();
            assert!(before.keys().eq(after.keys()));
            before.values().zip(after.values()).filter(|(before, after)| before < after).count()
        };
        assert_eq!(found(&mut group, "here", &mut at), 0, "it was not known where it is");
        assert!(State::read(&group.state()).expect("it was just written").settings.home.is_some());
        assert_eq!(found(&mut group, "here", &mut at), 0);
        assert!(!group.has_moved(&at));
        assert_eq!(found(&mut group, "there", &mut at), group.epochs_of("m-1").len());
        assert_eq!(found(&mut group, "there", &mut at), 0);
        at.home = None;
        group.fit(&mut at);
        assert!(group.changes().is_empty(), "nothing can be stored");
    }

    #[test]
    fn a_longer_session_lengthens_the_leases_that_run() {
        let (mut group, mut at) = group();
        at.now = 500;
        let ends = |group: &Group| group.leases.iter().map(|(_, member)| member.lease_end).collect::<Vec<_>>();
        for (session_ms, expected) in [(5000, 5050), (2000, 5050)] {
            group.update(&UpdateGroup { session_ms: Some(session_ms), ..UpdateGroup::default() }, &at);
            assert_eq!(ends(&group), [expected; 2], "a reply under way may tell the longer one");
        }
    }

    #[test]
    fn fresh_sessions_end_a_session_from_now() {
        let (group, _) = group();
        let mut state = State::read(&group.state()).expect("it was just written");
        state.begin_sessions(5000);
        assert!(state.members.iter().all(|(_, member)| (member.lease_end, member.last_call) == (6000, 5000)));
        let asked = state.partitions.iter().filter_map(|(_, partition)| partition.owner.as_ref()?.give_back_by);
        assert!(asked.clone().count() > 0 && asked.clone().all(|deadline| deadline == 6000));
        let ends = |state: &State| state.members.iter().map(|(_, member)| member.lease_end).collect::<Vec<_>>();
        state.members[0].1.lease_end = 90_000;
        state.begin_sessions(7000);
        assert_eq!(ends(&state), [90_000, 8000], "it was given when a session was longer");
        state.members[0].1.lease_end = 90_000_000;
        state.begin_sessions(7000);
        assert_eq!(ends(&state), [607_000, 8000], "the clock has leapt back");
    }
}
