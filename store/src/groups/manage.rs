//! The calls of operators about a group as a whole, but for its reset.

use std::collections::BTreeSet;
use std::sync::Arc;

use eventodb_protocol::group::reply::{GroupDeleted, GroupListed, GroupSummary};
use eventodb_protocol::limits::{CARRIED, GROUPS};
use eventodb_protocol::request::group::{CreateGroup, ResizeGroup, Start, UpdateGroup};
use serde_json::json;

use super::carried::{Carried, CarriedOver, Void};
use super::group::{Definition, Group, Moment, Settings, time};
use super::leases::Leases;
use super::parked::Park;
use super::partitions::Partitions;
use super::refusal::Refusal;

impl Group {
    /// `group.create` of a group that does not exist. The namespace has `others` groups.
    ///
    /// # Errors
    /// `Invalid` if a position is above the head; `TooMany`.
    pub fn create(name: &str, new: &CreateGroup, others: usize, at: &mut Moment) -> Result<Self, Refusal> {
        let (start, adopted) = match &new.start {
            Start::End => (at.head, None),
            Start::After(position) => (*position, None),
            Start::Adopt(adopted) => {
                let lowest = adopted.0.iter().copied().min().unwrap_or_default();
                (lowest, Some(Carried { checkpoints: adopted.0.clone(), void: Void::new() }))
            }
        };
        let highest = adopted.iter().flat_map(|carried| &carried.checkpoints).copied().max().unwrap_or(start);
        if highest > at.head {
            let what = if adopted.is_some() { "adopt.checkpoints" } else { "start" };
            return Err(Refusal::above_head(what, highest, at.head));
        }
        if others >= GROUPS {
            return Err(Refusal::TooMany { most: GROUPS, what: "groups" });
        }
        let mut group = Self::empty(name, new, at.now);
        group.partitions.begin(new.partitions, start, at.now);
        if let Some(carried) = adopted {
            group.carried.add(carried);
        }
        group.begin_epochs(&Vec::from_iter(0..new.partitions), at);
        group.forget_carried();
        Ok(group)
    }

    /// `group.create` of a group that exists: it stays as it is.
    ///
    /// # Errors
    /// `Exists` if it reads something else.
    pub fn create_again(&self, new: &CreateGroup, at: &Moment) -> Result<GroupSummary, Refusal> {
        let differing = |known: &BTreeSet<String>, asked| (known != asked).then(|| known.iter().cloned().collect());
        let categories = differing(&self.definition.categories, &new.categories);
        let types = differing(&self.definition.types, &new.types);
        if categories.is_some() || types.is_some() {
            return Err(Refusal::Exists { categories, types });
        }
        Ok(self.summary(at))
    }

    /// `group.update`. A shorter session shortens no lease and no deadline that runs.
    pub fn update(&mut self, update: &UpdateGroup, at: &Moment) -> GroupSummary {
        let settings = &mut self.settings;
        settings.session_ms = update.session_ms.unwrap_or(settings.session_ms);
        // A reply that is under way may tell the longer session to a member whose call came before.
        self.leases.last_at_least(settings.session_ms);
        settings.max_parked = update.max_parked.unwrap_or(settings.max_parked);
        if let Some(description) = &update.description {
            settings.description.clone_from(description);
        }
        self.summary(at)
    }

    /// `group.pause` and `group.resume`.
    pub fn set_paused(&mut self, is_paused: bool, at: &Moment) -> GroupSummary {
        if self.settings.is_paused != is_paused {
            self.settings.is_paused = is_paused;
            self.record(at, if is_paused { "pause" } else { "resume" }, json!({}));
        }
        self.summary(at)
    }

    /// `group.resize`.
    ///
    /// # Errors
    /// `Carrying` if too many earlier partition counts are carried over.
    pub fn resize(&mut self, resize: ResizeGroup, at: &mut Moment) -> Result<GroupSummary, Refusal> {
        let count = resize.partitions;
        if count == self.settings.resizing_to.unwrap_or(self.partitions.count()) {
            return Ok(self.summary(at));
        }
        if self.carried.len() >= CARRIED {
            return Err(Refusal::Carrying);
        }
        self.record(at, "resize", json!({ "partitions": count }));
        self.settings.resizing_to = Some(count);
        self.rebalance(at);
        Ok(self.summary(at))
    }

    /// The reply to `group.delete`. The backend deletes its rows.
    pub fn deleted(&self, at: &Moment) -> GroupDeleted {
        GroupDeleted { group: self.definition.name.clone(), deleted_at: time(at.now) }
    }

    /// Its entry in `group.list`.
    pub fn listed(&self) -> GroupListed {
        GroupListed {
            group: self.definition.name.clone(),
            description: self.settings.description.clone(),
            categories: self.definition.categories.iter().cloned().collect(),
            partition_count: self.partitions.count(),
            members: self.leases.len(),
            paused: self.settings.is_paused,
            created_at: time(self.definition.created_at),
        }
    }

    fn empty(name: &str, new: &CreateGroup, now: i64) -> Self {
        let definition = Definition {
            name: name.to_owned(),
            categories: new.categories.clone(),
            types: new.types.clone(),
            created_at: now,
        };
        let settings = Settings {
            description: new.description.clone(),
            session_ms: new.session_ms,
            max_parked: new.max_parked,
            is_paused: false,
            resizing_to: None,
            generation: 0,
            last_member: 0,
            last_rev: 0,
            last_audit: 0,
            home: None,
        };
        Self {
            definition: Arc::new(definition),
            settings,
            partitions: Partitions::stored([]),
            leases: Leases::stored([], []),
            park: Park::stored([]),
            carried: CarriedOver::stored([]),
            audit: Vec::new(),
            stored: None,
        }
    }
}
