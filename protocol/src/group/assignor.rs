//! Which member of a group gets which partition.
//!
//! The assignor is a pure function of what the members hold. It is sticky: a member keeps what it holds up to its
//! share. The first pass collects what is held beyond the shares and asks it back; the second one deals out the
//! partitions that nobody holds. A partition that is asked back is dealt out by a later call, once its owner gave it
//! back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What the assignor knows of one partition. A member is its place in the order in which the members joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It has no owner.
    Nobody,
    /// This member owns it.
    Member(usize),
    /// It has an owner, but was asked back already.
    AskedBack,
}

/// What is to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Partitions without an owner, each with the member that gets it.
    pub give: Vec<(usize, usize)>,
    /// Partitions that their owners are to give back.
    pub ask_back: Vec<usize>,
}

/// How many partitions a member may hold, and has.
#[derive(Clone, Copy, Default)]
struct Share {
    most: usize,
    held: usize,
}

/// Assigns `partitions` to `members` members. Once all that is asked back was given back and dealt out, the shares
/// differ by at most one. The larger shares go to the members that hold most, so that as few partitions move as
/// possible; among equals to those that joined first.
///
/// # Panics
/// If a partition's owner is not below `members`.
pub fn assign(partitions: &[Holder], members: usize) -> Moves {
    if members == 0 {
        return Moves::default();
    }
    let mut shares = shares(partitions, members);
    let ask_back = collect_excess(partitions, &mut shares);
    Moves { give: deal_out(partitions, &shares), ask_back }
}

fn shares(partitions: &[Holder], members: usize) -> Vec<Share> {
    let mut shares = vec![Share::default(); members];
    for holder in partitions {
        if let Holder::Member(member) = *holder {
            shares[member].held += 1;
        }
    }
    let (low, larger) = (partitions.len() / members, partitions.len() % members);
    let mut by_holding: Vec<usize> = (0..members).collect();
    by_holding.sort_by_key(|member| Reverse(shares[*member].held));
    for (rank, member) in by_holding.into_iter().enumerate() {
        shares[member].most = low + usize::from(rank < larger);
    }
    shares
}

/// The partitions that their owners hold beyond their shares: of each owner those of the highest numbers.
fn collect_excess(partitions: &[Holder], shares: &mut [Share]) -> Vec<usize> {
    for share in &mut *shares {
        share.held = 0;
    }
    let mut excess = Vec::new();
    for (partition, holder) in partitions.iter().enumerate() {
        let Holder::Member(member) = *holder else { continue };
        let share = &mut shares[member];
        if share.held < share.most { share.held += 1 } else { excess.push(partition) }
    }
    excess
}

/// Gives each partition without an owner to the member that lacks most.
fn deal_out(partitions: &[Holder], shares: &[Share]) -> Vec<(usize, usize)> {
    let lacking = shares.iter().enumerate().map(|(member, share)| (share.most - share.held, Reverse(member)));
    let mut takers: BinaryHeap<(usize, Reverse<usize>)> = lacking.filter(|(lacks, _)| *lacks > 0).collect();
    let mut given = Vec::new();
    for (partition, holder) in partitions.iter().enumerate() {
        if *holder != Holder::Nobody {
            continue;
        }
        let (lacks, Reverse(member)) = takers.pop().expect("the shares have room for every partition");
        given.push((partition, member));
        if lacks > 1 {
            takers.push((lacks - 1, Reverse(member)));
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_newcomer_gets_its_whole_share_and_nothing_else_moves() {
        let held: Vec<Holder> = (0..16).map(|partition| Holder::Member(partition % 3)).collect();
        let moves = assign(&held, 4);
        assert_eq!(moves.ask_back.len(), 4, "16 partitions for 4 members: 4 each");
        assert!(moves.give.is_empty(), "nothing is free yet");
    }

    #[test]
    fn the_first_member_gets_everything() {
        assert_eq!(assign(&[Holder::Nobody; 3], 1).give, [(0, 0), (1, 0), (2, 0)]);
    }

    #[test]
    fn more_members_than_partitions_stand_by() {
        let held = [Holder::Member(4), Holder::Nobody, Holder::Member(2)];
        assert_eq!(assign(&held, 5), Moves { give: vec![(1, 0)], ask_back: vec![] });
    }

    #[test]
    fn without_members_nothing_moves() {
        assert_eq!(assign(&[Holder::Nobody, Holder::AskedBack], 0), Moves::default());
    }

    #[test]
    fn what_was_asked_back_is_not_asked_back_again() {
        let held = [Holder::Member(0), Holder::AskedBack, Holder::Member(0), Holder::AskedBack];
        assert_eq!(assign(&held, 2), Moves::default());
    }

    /// Carries out one call of the assignor: what is given has an owner, what is asked back is free at once.
    fn carry_out(partitions: &mut [Holder], moves: &Moves) {
        for &(partition, member) in &moves.give {
            partitions[partition] = Holder::Member(member);
        }
        for &partition in &moves.ask_back {
            partitions[partition] = Holder::Nobody;
        }
        for holder in partitions {
            if *holder == Holder::AskedBack {
                *holder = Holder::Nobody;
            }
        }
    }

    fn counts(partitions: &[Holder], members: usize) -> Vec<usize> {
        (0..members).map(|m| partitions.iter().filter(|holder| **holder == Holder::Member(m)).count()).collect()
    }

    /// The fewest partitions that must be asked back, over every choice of the members with the larger shares.
    fn fewest(held: &[usize], partitions: usize) -> usize {
        let (low, larger) = (partitions / held.len(), partitions % held.len());
        let choices = (0u32..1 << held.len()).filter(|choice| choice.count_ones() as usize == larger);
        let asked = choices.map(|choice| {
            let share = |member: usize| low + usize::from(choice >> member & 1 == 1);
            held.iter().enumerate().map(|(member, held)| held.saturating_sub(share(member))).sum()
        });
        asked.min().expect("there is a choice")
    }

    prop_compose! {
        /// Any state of a group, with its number of members: 1 to 6.
        fn state()(members in 1usize..7)(
            partitions in vec(prop_oneof![
                Just(Holder::Nobody),
                Just(Holder::AskedBack),
                (0..members).prop_map(Holder::Member),
            ], 1..24),
            members in Just(members),
        ) -> (Vec<Holder>, usize) {
            (partitions, members)
        }
    }

    proptest! {
        #[test]
        fn once_all_is_handed_over_the_shares_differ_by_at_most_one((mut partitions, members) in state()) {
            for _ in 0..2 {
                let moves = assign(&partitions, members);
                carry_out(&mut partitions, &moves);
            }
            let counts = counts(&partitions, members);
            let spread = counts.iter().max().expect("a member") - counts.iter().min().expect("a member");
            prop_assert!(spread <= 1, "{counts:?}");
            prop_assert_eq!(counts.iter().sum::<usize>(), partitions.len());
            prop_assert_eq!(assign(&partitions, members), Moves::default(), "a balanced group stays as it is");
        }

        #[test]
        fn no_more_is_asked_back_than_the_shares_need((partitions, members) in state()) {
            let held = counts(&partitions, members);
            prop_assert_eq!(assign(&partitions, members).ask_back.len(), fewest(&held, partitions.len()));
        }

        #[test]
        fn a_partition_is_given_only_if_it_is_free_and_asked_back_only_if_it_is_held((partitions, members) in state()) {
            let moves = assign(&partitions, members);
            let free: Vec<usize> = (0..partitions.len()).filter(|p| partitions[*p] == Holder::Nobody).collect();
            prop_assert_eq!(moves.give.iter().map(|(partition, _)| *partition).collect::<Vec<_>>(), free);
            prop_assert!(moves.give.iter().all(|(_, member)| *member < members));
            prop_assert!(moves.ask_back.is_sorted());
            prop_assert!(moves.ask_back.iter().all(|p| matches!(partitions[*p], Holder::Member(_))));
        }

        #[test]
        fn shares_do_not_depend_on_how_partitions_are_numbered(
            ((partitions, members), shuffled) in state().prop_flat_map(|state| {
                let shuffled = Just(state.0.clone()).prop_shuffle();
                (Just(state), shuffled)
            }),
        ) {
            let sizes = |partitions: &[Holder]| {
                let mut after = partitions.to_vec();
                let moves = assign(partitions, members);
                for &(partition, member) in &moves.give {
                    after[partition] = Holder::Member(member);
                }
                for partition in moves.ask_back {
                    after[partition] = Holder::AskedBack;
                }
                counts(&after, members)
            };
            prop_assert_eq!(sizes(&partitions), sizes(&shuffled));
        }
    }
}
