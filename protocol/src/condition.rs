//! Conditions of an append on messages that it did not read by the names of their streams.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::filter::{Filter, Scope};

/// Messages of one of these categories and of one of these types. A list that is left out is empty, and everything
/// matches it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matching {
    /// The categories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// The types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
}

/// The condition that no message matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The messages that must not be there.
    pub matching: Matching,
    /// Only messages above this global position count; `None` if all of them do.
    pub after: Option<i64>,
}

impl Matching {
    /// Messages of these categories; with an empty list, of all.
    pub fn categories<S: Into<String>>(categories: impl IntoIterator<Item = S>) -> Self {
        Self { categories: categories.into_iter().map(Into::into).collect(), types: Vec::new() }
    }

    /// Only those of them that have one of these types.
    #[must_use]
    pub fn types<S: Into<String>>(self, types: impl IntoIterator<Item = S>) -> Self {
        Self { types: types.into_iter().map(Into::into).collect(), ..self }
    }

    /// Its scope.
    pub fn scope(&self) -> Scope {
        if self.categories.is_empty() {
            return Scope::All;
        }
        Scope::of_categories(self.categories.iter().map(String::as_str))
    }

    /// The same as a filter.
    pub fn filter(&self) -> Filter {
        Filter { types: self.types.iter().map(|kind| Arc::from(kind.as_str())).collect(), ..Filter::new(self.scope()) }
    }

    /// How many names it has.
    pub fn len(&self) -> usize {
        self.categories.len() + self.types.len()
    }

    /// Whether both lists are left out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
