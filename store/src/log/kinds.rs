//! Which messages there are, by what conditions ask for: the last position of each category and of each type in it.
//!
//! A condition costs a look for each pair of its names, however many messages there are.

use eventodb_protocol::message::MessageRef;
use eventodb_protocol::{Filter, Scope, name};
use foldhash::HashMap;

/// The last message of some, of each category among them, and of each type in each.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    all: Last,
    categories: HashMap<Box<str>, Last>,
    /// How many pairs of a category and a type there are.
    pairs: usize,
}

/// The last message of all or of a category, and of each type in it.
#[derive(Clone, Debug, Default)]
struct Last {
    position: i64,
    types: HashMap<Box<str>, i64>,
}

impl Kinds {
    /// Notes a message, in any order.
    pub(super) fn note(&mut self, message: MessageRef<'_>) {
        self.note_as(name::category(message.stream), message.kind, message.global_position);
    }

    fn note_as(&mut self, category: &str, kind: &str, position: i64) {
        self.all.note(kind, position);
        let is_new = match self.categories.get_mut(category) {
            Some(last) => last.note(kind, position),
            None => self.categories.entry(category.into()).or_default().note(kind, position),
        };
        self.pairs += usize::from(is_new);
    }

    /// Notes what others have noted.
    pub(super) fn take(&mut self, others: &Self) {
        for (category, last) in &others.categories {
            for (kind, position) in &last.types {
                self.note_as(category, kind, *position);
            }
        }
    }

    /// How many pairs of a category and a type there are.
    pub(super) fn pairs(&self) -> usize {
        self.pairs
    }

    /// The last position above `after` of a message that matches. The filter has nothing but categories and types.
    pub(super) fn last(&self, filter: &Filter, after: i64) -> Option<i64> {
        let last = match &filter.scope {
            Scope::Categories(names) => {
                let places = names.iter().filter_map(|name| self.categories.get(&**name));
                places.filter_map(|last| last.of(&filter.types)).max()
            }
            // A condition names no stream.
            Scope::All | Scope::Stream(_) => self.all.of(&filter.types),
        };
        last.filter(|last| *last > after)
    }
}

impl Last {
    /// Returns whether the type is new.
    fn note(&mut self, kind: &str, position: i64) -> bool {
        self.position = self.position.max(position);
        match self.types.get_mut(kind) {
            Some(last) => *last = position.max(*last),
            None => {
                self.types.insert(kind.into(), position);
                return true;
            }
        }
        false
    }

    /// The last position of a message of one of these types; of any if there are none.
    fn of(&self, types: &[std::sync::Arc<str>]) -> Option<i64> {
        if types.is_empty() {
            return (self.position > 0).then_some(self.position);
        }
        types.iter().filter_map(|kind| self.types.get(&**kind)).copied().max()
    }
}

#[cfg(test)]
mod tests {
    use eventodb_protocol::Timestamp;

    use super::*;

    fn kinds(messages: &[(&str, &str, i64)]) -> Kinds {
        let mut kinds = Kinds::default();
        for (stream, kind, global_position) in messages {
            let message = MessageRef {
                id: uuid::Uuid::nil(),
                stream,
                kind,
                position: 0,
                global_position: *global_position,
                data: "{}",
                metadata: None,
                time: Timestamp::default(),
            };
            kinds.note(message);
        }
        kinds
    }

    fn last(kinds: &Kinds, categories: &[&str], types: &[&str], after: i64) -> Option<i64> {
        let scope = match categories {
            [] => Scope::All,
            names => Scope::Categories(names.iter().map(|name| (*name).into()).collect()),
        };
        let types = types.iter().map(|kind| (*kind).into()).collect();
        kinds.last(&Filter { types, ..Filter::new(scope) }, after)
    }

    #[test]
    fn the_last_match_counts_in_whatever_order_messages_are_noted() {
        let mut some = kinds(&[("a-1", "T", 7), ("a-2", "T", 3), ("b-1", "U", 5)]);
        some.take(&kinds(&[("a-1", "U", 2), ("b-9", "U", 4), ("c-1", "T", 1)]));
        for (categories, types, expected) in [
            (&["a"][..], &["T"][..], Some(7)),
            (&["a"], &["U"], Some(2)),
            (&["b", "c"], &["U", "T"], Some(5)),
            (&["c"], &[], Some(1)),
            (&[], &["U"], Some(5)),
            (&[], &["T"], Some(7)),
            (&["none"], &[], None),
            (&["c"], &["U"], None),
        ] {
            for after in 0..=7 {
                let found = last(&some, categories, types, after);
                assert_eq!(found, expected.filter(|at| *at > after), "{categories:?} {types:?} after {after}");
            }
        }
        assert_eq!(some.pairs(), 4);
    }
}
