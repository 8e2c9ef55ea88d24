//! A consumer group whose size was changed between two starts.
//!
//! A member of the new size has other streams than any member of the old size, and no checkpoint or an old one. Up to
//! the smallest checkpoint of all members of the old size every message is handled. A member therefore begins after
//! that position, if its own checkpoint is lower.

use std::collections::BTreeMap;

use async_trait::async_trait;
use eventodb_client::ConsumerGroup;
use eventodb_client::checkpoint::{CheckpointError, CheckpointStore, SavedPosition};

use super::notices::say;

/// A checkpoint that is at least the position up to which another size of the group has handled everything.
pub(super) struct Resized<S> {
    store: S,
    least: Option<i64>,
}

impl<S: CheckpointStore> Resized<S> {
    /// The checkpoint `store` of a member of `group`, given the positions that members of all sizes have `saved`. Warns
    /// of a change of the size.
    pub(super) fn new(store: S, name: &str, group: Option<ConsumerGroup>, saved: &[SavedPosition]) -> Self {
        let mine = saved.iter().find(|saved| saved.group == group).and_then(|saved| saved.position);
        let before = furthest(saved, size(group)).filter(|before| mine.is_none_or(|mine| mine < before.position));
        if let Some(Before { size, position }) = before {
            say(&format!(
                "{name} ran with {} before, and runs with {} now: it begins behind global position {position}, the \
                 smallest checkpoint of the former; what they handled above it is HANDLED AGAIN. None of them may run any more",
                members(size),
                members(self::size(group)),
            ));
        } else if mine.is_none()
            && saved.iter().any(|saved| saved.group != group && self::size(saved.group) != size(group))
        {
            say(&format!(
                "{name} ran with another number of members before, and not all of them have a checkpoint: what they handled \
                 is HANDLED AGAIN"
            ));
        }
        Self { store, least: before.map(|before| before.position) }
    }
}

#[async_trait]
impl<S: CheckpointStore> CheckpointStore for Resized<S> {
    async fn load(&mut self) -> Result<Option<i64>, CheckpointError> {
        Ok(self.store.load().await?.max(self.least))
    }

    async fn save(&mut self, position: i64) -> Result<(), CheckpointError> {
        self.store.save(position).await
    }

    async fn taken(&mut self) -> CheckpointError {
        self.store.taken().await
    }
}

/// Another size of the group, which has handled everything up to `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Before {
    size: u64,
    position: i64,
}

/// The number of members; 0 for a consumer without a group.
fn size(group: Option<ConsumerGroup>) -> u64 {
    group.map_or(0, ConsumerGroup::size)
}

fn members(size: u64) -> String {
    match size {
        0 => "no group".to_owned(),
        1 => "1 member".to_owned(),
        _ => format!("{size} members"),
    }
}

/// Among the other sizes than `own` whose members all have a checkpoint, the one with the highest position.
fn furthest(saved: &[SavedPosition], own: u64) -> Option<Before> {
    let mut sizes: BTreeMap<u64, BTreeMap<u64, i64>> = BTreeMap::new();
    for SavedPosition { group, position } in saved {
        let (member, size) = (group.map_or(0, ConsumerGroup::member), size(*group));
        if let Some(position) = position {
            let furthest = sizes.entry(size).or_default().entry(member).or_insert(*position);
            *furthest = (*furthest).max(*position);
        }
    }
    let whole = sizes.into_iter().filter(|(size, members)| *size != own && (*size).max(1) == members.len() as u64);
    let ends =
        whole.filter_map(|(size, members)| members.into_values().min().map(|position| Before { size, position }));
    ends.max_by_key(|before| before.position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(member: i64, size: i64, position: i64) -> SavedPosition {
        SavedPosition { group: ConsumerGroup::new(member, size), position: Some(position) }
    }

    #[test]
    fn the_smallest_checkpoint_of_the_furthest_whole_size_counts() {
        let alone = SavedPosition { group: None, position: Some(7) };
        let claimed = SavedPosition { position: None, ..saved(2, 3, 0) };
        let all = [alone, saved(0, 2, 30), saved(1, 2, 20), saved(0, 3, 90), saved(1, 3, 90), claimed];
        assert_eq!(furthest(&all, 4), Some(Before { size: 2, position: 20 }), "of three members one has saved nothing");
        assert_eq!(furthest(&all, 2), Some(Before { size: 0, position: 7 }), "its own size does not count");
        assert_eq!(furthest(&[saved(0, 2, 9)], 3), None);
    }
}
