//! How what this server knows of a log stands to what other servers may have written.

use crate::model::Head;

/// What is known of other servers' writes behind the known head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing: the known head may be the last.
    Level,
    /// They have written up to this global position, as a hint or the database told.
    Behind(i64),
    /// The known head may be wrong: the database told one that does not follow it, or a run panicked. The position is
    /// the highest that was told meanwhile.
    Suspect(i64),
}

/// The head that this server knows, and its standing. Only a run moves the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) head: Head,
    standing: Standing,
    /// How many hints and suspicions there were: news that comes while the database is asked may be younger than its
    /// answer.
    news: u64,
}

impl Known {
    pub(super) fn new(head: Head) -> Self {
        Self { head, standing: Standing::Level, news: 0 }
    }

    /// Other servers have written up to `position`, it is said. Returns whether there is something to follow.
    pub(super) fn hint(&mut self, position: i64) -> bool {
        self.standing = match self.standing {
            Standing::Level if position <= self.head.position => Standing::Level,
            Standing::Level => Standing::Behind(position),
            Standing::Behind(told) => Standing::Behind(told.max(position)),
            Standing::Suspect(told) => Standing::Suspect(told.max(position)),
        };
        self.news += 1;
        self.is_behind()
    }

    /// The known head may be wrong.
    pub(super) fn suspect(&mut self) {
        self.standing = match self.standing {
            Standing::Level => Standing::Suspect(self.head.position),
            Standing::Behind(told) | Standing::Suspect(told) => Standing::Suspect(told),
        };
        self.news += 1;
    }

    /// Whether the database has to be asked.
    pub(super) fn is_behind(&self) -> bool {
        match self.standing {
            Standing::Level => false,
            Standing::Behind(told) => told > self.head.position,
            Standing::Suspect(_) => true,
        }
    }

    /// The database ends at `head`, as it told after `before` was known. A hint that was there before, and says more,
    /// was false: any role of a shared database can send one, and this server must not look for it for ever. A hint or
    /// a suspicion that came meanwhile still counts.
    pub(super) fn followed(&mut self, before: Self, head: Head) {
        self.standing = match self.standing {
            _ if self.news == before.news => Standing::Level,
            Standing::Behind(told) if told <= head.position => Standing::Level,
            still => still,
        };
        self.head = head;
    }

    /// The database could not be asked. Readers who wait for more give up in their own time, and their next call is
    /// another hint: a run does not try again by itself.
    pub(super) fn gave_up(&mut self) {
        self.standing = Standing::Level;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: i64) -> Head {
        Head { position, ..Head::default() }
    }

    #[test]
    fn a_hint_counts_only_above_the_known_head() {
        let mut known = Known::new(at(5));
        assert!(!known.hint(5));
        assert!(known.hint(7));
        assert!(known.hint(6), "7 is still to be followed");
        known.head = at(7);
        assert!(!known.is_behind());
        assert!(!known.hint(7));
    }

    #[test]
    fn a_false_hint_is_looked_for_once() {
        let mut known = Known::new(at(5));
        known.hint(1_000);
        let before = known;
        known.followed(before, at(6));
        assert!(!known.is_behind());
        assert_eq!(known.head, at(6));
    }

    #[test]
    fn a_hint_that_comes_while_the_database_is_asked_still_counts() {
        let mut known = Known::new(at(5));
        known.suspect();
        let before = known;
        known.hint(9);
        known.followed(before, at(8));
        assert!(known.is_behind());
        let before = known;
        known.followed(before, at(9));
        assert!(!known.is_behind());
    }

    #[test]
    fn a_suspicion_that_comes_while_the_database_is_asked_still_counts() {
        for suspects_before in [false, true] {
            let mut known = Known::new(at(5));
            if suspects_before {
                known.suspect();
            }
            let before = known;
            known.suspect();
            known.followed(before, at(5));
            assert!(known.is_behind(), "{suspects_before}");
            let before = known;
            known.followed(before, at(5));
            assert!(!known.is_behind());
        }
    }

    #[test]
    fn suspicion_lasts_until_the_database_was_asked() {
        let mut known = Known::new(at(5));
        known.suspect();
        assert!(known.hint(3));
        let before = known;
        known.followed(before, at(2));
        assert!(!known.is_behind());
        known.suspect();
        known.gave_up();
        assert!(!known.is_behind());
    }
}
