//! Cases that take turns: those that are compared with the same other case share its rounds.
//!
//! Five kinds of writes are each compared with the plain one. All of them are measured within each round, so that they
//! are of the same minutes, and the plain one is measured once a round instead of five times.

use std::collections::BTreeSet;

use crate::args::Backend;
use crate::scenario::Case;
use crate::target;

/// The cases in blocks, in the order in which their first ones come. The cases of a block take turns in each round,
/// beginning with the one that the others are compared with.
pub(crate) fn blocks(cases: &[Case], backend: Option<Backend>) -> Vec<Vec<Case>> {
    let mut blocks: Vec<(Case, Vec<Case>)> = Vec::new();
    for &case in cases {
        let peer = references(case, backend).into_iter().find(|other| !other.scenario.is_ceiling());
        let key = peer.unwrap_or(case);
        match blocks.iter_mut().find(|(known, _)| *known == key) {
            Some((_, block)) if key == case => block.insert(0, case),
            Some((_, block)) => block.push(case),
            None => blocks.push((key, vec![case])),
        }
    }
    blocks.into_iter().map(|(_, block)| block).collect()
}

/// The cases that a case is compared with.
pub(crate) fn references(case: Case, backend: Option<Backend>) -> BTreeSet<Case> {
    target::targets(case, backend).iter().flat_map(|target| target.beside()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario::{Append, CategoryGet, CategoryMember, FanOutWrites, Write, WriteExpected};

    #[test]
    fn what_is_held_against_the_same_takes_turns() {
        let case = Case::new;
        let cases = [
            case(Write, 1),
            case(Write, 64),
            case(WriteExpected, 64),
            case(Append, 8),
            case(CategoryMember, 16),
            case(CategoryGet, 16),
            case(FanOutWrites, 64),
        ];
        let expected = [
            vec![case(Write, 1)],
            vec![case(Write, 64), case(WriteExpected, 64), case(FanOutWrites, 64)],
            vec![case(Append, 8)],
            vec![case(CategoryGet, 16), case(CategoryMember, 16)],
        ];
        assert_eq!(blocks(&cases, Some(Backend::Sqlite)), expected);
        assert_eq!(blocks(&cases, None).len(), cases.len(), "a foreign server has no targets");
    }
}
