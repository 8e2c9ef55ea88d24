//! Filters: which messages a read or a subscription returns.

use std::collections::HashSet;
use std::sync::Arc;

use crate::group::ConsumerGroup;
use crate::name;

/// The part of a namespace that a read or a subscription looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every message.
    All,
    /// One stream.
    Stream(Arc<str>),
    /// The streams of these categories: at least one, without repetition.
    Categories(Vec<Arc<str>>),
}

impl Scope {
    /// The scope of these categories. If `""` is among them, it is everything. A name with a `-` is no category's.
    pub fn of_categories<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut seen = HashSet::new();
        let mut kept: Vec<Arc<str>> = Vec::new();
        for name in names {
            if name.is_empty() {
                return Self::All;
            }
            if name::is_category(name) && seen.insert(name) {
                kept.push(name.into());
            }
        }
        Self::Categories(kept)
    }

    /// Whether messages of `stream` are in it.
    pub fn contains(&self, stream: &str) -> bool {
        match self {
            Self::All => true,
            Self::Stream(name) => **name == *stream,
            Self::Categories(names) => {
                let category = name::category(stream);
                names.iter().any(|name| **name == *category)
            }
        }
    }
}

/// What a filter looks at of a message.
#[derive(Clone, Copy, Debug)]
pub struct Traits<'a> {
    /// The name of its stream.
    pub stream: &'a str,
    /// Its type.
    pub kind: &'a str,
    /// The category of its `metadata.correlationStreamName`.
    pub correlation: Option<&'a str>,
}

/// Which messages of a namespace are wanted. All conditions must hold.
///
/// [`Filter::matches`] alone says what a condition means. A store may look for matches in an index, which may find too
/// much, and applies it to what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The part of the namespace.
    pub scope: Scope,
    /// Only streams of this member of a consumer group.
    pub group: Option<ConsumerGroup>,
    /// Only messages whose `metadata.correlationStreamName` has this category.
    pub correlation: Option<Arc<str>>,
    /// Only messages of one of these types; empty means any.
    pub types: Vec<Arc<str>>,
}

impl Filter {
    /// Every name in the filter: of the stream or the categories, of the types, and of the correlation.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let Self { scope, group: _, correlation, types } = self;
        let (stream, categories): (Option<&str>, &[Arc<str>]) = match scope {
            Scope::All => (None, &[]),
            Scope::Stream(stream) => (Some(stream), &[]),
            Scope::Categories(categories) => (None, categories),
        };
        let lists = categories.iter().chain(types).map(|name| &**name);
        lists.chain(stream).chain(correlation.as_deref())
    }

    /// Everything in `scope`.
    pub fn new(scope: Scope) -> Self {
        Self { scope, group: None, correlation: None, types: Vec::new() }
    }

    /// Whether it has conditions beyond its scope and its group.
    pub fn has_conditions(&self) -> bool {
        let Self { scope: _, group: _, correlation, types } = self;
        correlation.is_some() || !types.is_empty()
    }

    /// Whether every message of its scope is wanted.
    pub fn is_open(&self) -> bool {
        self.group.is_none() && !self.has_conditions()
    }

    /// Whether a message is wanted.
    pub fn matches(&self, message: Traits<'_>) -> bool {
        let Self { scope, group, correlation, types } = self;
        scope.contains(message.stream)
            && (types.is_empty() || types.iter().any(|wanted| **wanted == *message.kind))
            && correlation.as_deref().is_none_or(|wanted| message.correlation == Some(wanted))
            && group.is_none_or(|group| group.owns(message.stream))
    }
}

/// The order of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Ascending positions.
    #[default]
    Forward,
    /// Descending positions.
    Backward,
}
