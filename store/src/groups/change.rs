//! What a backend stores of a decision.

use std::sync::Arc;

use eventodb_protocol::group::Epoch;

use super::group::{Changes, Group, Moment};

/// Tells one stored state of a group from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// One more with each change. A group begins with its first epoch.
    pub number: i64,
    /// Random. After a failover that lost the newest states a number comes once more, with another stamp.
    pub stamp: i64,
}

impl Version {
    /// That of the next state.
    pub fn following(self, stamp: i64) -> Self {
        Self { number: self.number + 1, stamp }
    }
}

/// A change of a group.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its name.
    pub group: Arc<str>,
    /// The version that was decided on; `None` creates the group with `definition`.
    pub known: Option<Version>,
    /// The version from then on.
    pub next: Version,
    /// What never changes about it, as JSON.
    pub definition: String,
    /// The namespace's last epoch before and after.
    pub epochs: (Epoch, Epoch),
    /// The state as it is from then on: see [`super::State`].
    pub state: String,
    /// What was changed.
    pub changes: Changes,
    /// The time of the decision, in milliseconds since 1970.
    pub now: i64,
    /// Where the group was stored when it was decided about: see [`Moment::home`].
    pub home: Option<Arc<str>>,
}

impl Change {
    /// The change that was decided on a version of a group; without one the group is created. `before` is the
    /// namespace's last epoch as it was stored then, `stamp` a random number.
    pub fn new(name: &Arc<str>, known: Option<Version>, stamp: i64, group: &Group, before: Epoch, at: &Moment) -> Self {
        let first = Version { number: at.last_epoch.number(), stamp };
        Self {
            group: Arc::clone(name),
            known,
            next: known.map_or(first, |known| known.following(stamp)),
            definition: serde_json::to_string(&**group.definition()).expect("names are texts"),
            epochs: (before, at.last_epoch),
            state: group.state(),
            changes: group.changes(),
            now: at.now,
            home: at.home.clone(),
        }
    }
}
