//! A group in a log that takes the place of its own.

use super::carried::CarriedOver;
use super::group::{Group, Moment, Stored};
use super::leases::{Leases, MemberId};
use super::parked::Park;
use super::partitions::Partitions;
use eventodb_protocol::group::Fence;

impl Group {
    /// The group in a new log, whose head is that of `at`. It keeps its checkpoints and its parked streams, both at most up
    /// to the head. All memberships end, so that a resize that was under way is carried out, and all epochs change. Its
    /// rows are yet to be stored.
    pub fn keep(stored: Stored, at: &mut Moment) -> Self {
        let Stored { definition, settings, partitions, members, parked, carried, .. } = stored;
        let mut group = Self {
            definition,
            stored: None,
            settings,
            partitions: Partitions::stored(partitions),
            leases: Leases::stored(members, []),
            park: Park::stored([]),
            carried: CarriedOver::stored([]),
            audit: Vec::new(),
        };
        parked.into_iter().for_each(|(stream, parked)| group.park.add(stream, parked));
        carried.into_iter().for_each(|(_, carried)| group.carried.add(carried));
        let members: Vec<MemberId> = group.leases.iter().map(|(id, _)| id.clone()).collect();
        members.iter().for_each(|member| group.end(member, Fence::Unknown, at.now));
        group.rebalance(at);
        group.fit(at);
        group.begin_epochs(&Vec::from_iter(0..group.partitions.count()), at);
        group.forget_carried();
        group
    }
}

#[cfg(test)]
mod tests {
    use eventodb_protocol::group::Epoch;
    use eventodb_protocol::request::group::{CreateGroup, Join, ResizeGroup, Start};

    use super::super::{Carried, Parked, State, Void};
    use super::*;

    fn stored() -> (Stored, Epoch) {
        let new = CreateGroup {
            categories: ["a".to_owned()].into(),
            types: [].into(),
            partitions: 3,
            start: Start::After(15),
            session_ms: 1000,
            max_parked: 2,
            description: "about it".to_owned(),
        };
        let mut at = Moment { now: 50, head: 20, random: 1, last_epoch: Epoch::default(), home: None, token: None };
        let mut group = Group::create("g", &new, 0, &mut at).expect("it is good");
        group.join(&Join::default(), "m-1".into(), &mut at).expect("it joins");
        group.resize(ResizeGroup { partitions: 5 }, &mut at).expect("nothing is carried over");
        let State { settings, partitions, members } = State::read(&group.state()).expect("it was just written");
        let parked =
            Parked { handled: 18, attempts: 2, reason: "why".into(), since: 40, due: Some(9000), rev: 1, is_out: true };
        let parked = vec![("a-1".into(), parked)];
        let carried = vec![(3, Carried { checkpoints: vec![16, 19], void: Void::new() })];
        let definition = group.definition().clone();
        (Stored { definition, settings, partitions, members, gone: vec![], parked, carried }, at.last_epoch)
    }

    #[test]
    fn a_kept_group_has_no_members_and_new_epochs_and_nothing_above_the_head() {
        let (stored, last_epoch) = stored();
        let before: Vec<Epoch> = stored.partitions.iter().map(|(_, partition)| partition.epoch).collect();
        let mut at = Moment { now: 90, head: 17, random: 1, last_epoch, home: None, token: None };
        let group = Group::keep(stored.clone(), &mut at);
        assert_eq!((group.members(), group.partitions.count()), (0, 5), "the resize is carried out");
        let (partitions, description) = (group.partitions.clone(), group.settings.description.clone());
        assert_eq!(description, "about it");
        assert!(partitions.iter().all(|(_, p)| p.owner.is_none() && p.checkpoint == 15 && p.epoch > last_epoch));
        assert!(partitions.iter().all(|(_, p)| !before.contains(&p.epoch) && p.epoch <= at.last_epoch));
        assert_eq!(group.known("a-7"), 15.max(group.carried.of(eventodb_protocol::group::stream_hash("a-7"))));
        let changes = group.changes();
        let (stream, parked) = &changes.parked.save[0];
        assert_eq!((&**stream, parked.handled, parked.is_out, parked.due), ("a-1", 17, false, Some(90)));
        assert!(changes.carried.save.iter().all(|(_, carried)| carried.checkpoints.iter().all(|c| *c <= 17)));
        assert!(!changes.carried.save.is_empty() && changes.settings.is_some());
        assert_eq!(changes.gone.save[0].1.reason, Fence::Unknown);
        let empty = Group::keep(stored, &mut Moment { head: 0, ..at });
        assert!(empty.partitions.iter().all(|(_, partition)| partition.checkpoint == 0));
    }
}
