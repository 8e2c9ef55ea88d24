//! What a backend stores of a decision.

use std::sync::Arc;

use eventodb_protocol::group::Epoch;

use super::group::{Changes, Group, Moment};

/// A change of a group.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its name.
    pub group: Arc<str>,
    /// The version that was decided on; `None` creates the group with `definition`.
    pub known: Option<i64>,
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
}

impl Change {
    /// The change that was decided on a version of a group; without one the group is created. `before` is the
    /// namespace's last epoch as it was stored then.
    pub fn new(name: &Arc<str>, known: Option<i64>, group: &Group, before: Epoch, at: &Moment) -> Self {
        Self {
            group: Arc::clone(name),
            known,
            definition: serde_json::to_string(&**group.definition()).expect("names are texts"),
            epochs: (before, at.last_epoch),
            state: group.state(),
            changes: group.clone().into_changes(),
            now: at.now,
        }
    }

    /// The group's version once the change is stored. A group begins with its first epoch, so that no version comes
    /// twice under one name.
    pub fn version(&self) -> i64 {
        self.known.map_or(self.epochs.1.number(), |known| known + 1)
    }
}
