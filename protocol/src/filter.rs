//! Filters: which messages a read or a subscription returns.

use std::sync::Arc;

use crate::group::{ConsumerGroup, stream_hash};
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

/// Which messages of a namespace are wanted. All conditions must hold.
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
        let (stream, categories): (Option<&str>, &[Arc<str>]) = match &self.scope {
            Scope::All => (None, &[]),
            Scope::Stream(stream) => (Some(stream), &[]),
            Scope::Categories(categories) => (None, categories),
        };
        let lists = categories.iter().chain(&self.types).map(|name| &**name);
        lists.chain(stream).chain(self.correlation.as_deref())
    }

    /// Everything in `scope`.
    pub fn new(scope: Scope) -> Self {
        Self { scope, group: None, correlation: None, types: Vec::new() }
    }

    /// Whether a message with these properties is wanted. `correlation` is the category of its
    /// `metadata.correlationStreamName`.
    pub fn matches(&self, stream: &str, kind: &str, correlation: Option<&str>) -> bool {
        self.scope.contains(stream)
            && self.types_match(kind)
            && self.correlation.as_deref().is_none_or(|wanted| correlation == Some(wanted))
            && self.group.is_none_or(|group| group.owns_hash(stream_hash(stream)))
    }

    /// Whether the filter's types include this one.
    pub fn types_match(&self, kind: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|wanted| **wanted == *kind)
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
