//! What a token allows: rights, and the categories that they are limited to.
//!
//! Source: part 4 of the wire protocol.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Limits, name};

/// Most categories and prefixes that a token may be limited to.
pub const MOST_CATEGORIES: usize = 100;

/// One right of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Right {
    /// Reads, subscriptions, lists of streams and categories, conditions of writes.
    Read = 1,
    /// Writes, and imports that replace nothing.
    Write = 2,
    /// To be a member of a consumer group, and to read what the group reads.
    Consume = 4,
    /// Everything in the namespace, tokens and deletion included.
    Admin = 8,
}

/// A set of rights. `admin` includes all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

/// The categories to which rights are limited: a name, or a prefix followed by `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Categories {
    /// Every category, also of streams that are yet to come.
    #[default]
    All,
    /// These only: at least one, without duplicates, in the order of their bytes.
    Only(Arc<[Box<str>]>),
}

/// What a token allows in its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    rights: Rights,
    categories: Categories,
}

/// A part of a list of names in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span<'a> {
    /// This name alone.
    Name(&'a str),
    /// All names that begin with this.
    Prefix(Cow<'a, str>),
}

impl Right {
    /// All rights, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Consume, Self::Admin];

    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Consume => "consume",
            Self::Admin => "admin",
        }
    }

    /// The right of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.name() == name)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Rights {
    /// Every right.
    pub const EVERY: Self = Self(Right::Read as u8 | Right::Write as u8 | Right::Consume as u8 | Right::Admin as u8);

    /// The rights whose bits a store has kept; unknown bits are dropped.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & Self::EVERY.0)
    }

    /// For a store: 1 read, 2 write, 4 consume, 8 admin.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether this right is given, by itself or as a part of `admin`.
    pub fn has(self, right: Right) -> bool {
        self.0 & (right as u8 | Right::Admin as u8) != 0
    }

    /// The rights that were given by name, in the order of [`Right::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.into_iter().filter(move |right| self.0 & *right as u8 != 0)
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |bits, right| bits | right as u8))
    }
}

impl Serialize for Rights {
    /// Writes the names, as replies have them.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Right::name))
    }
}

impl<'de> Deserialize<'de> for Rights {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<Cow<'_, str>>::deserialize(deserializer)?;
        let unknown = |name: &str| serde::de::Error::custom(format!("unknown right {name}"));
        names.iter().map(|name| Right::named(name).ok_or_else(|| unknown(name))).collect()
    }
}

impl Categories {
    /// Limits to these names and prefixes. `limits` bounds their lengths.
    ///
    /// # Errors
    /// `INVALID_REQUEST`: none or more than [`MOST_CATEGORIES`], a name that no category can have, or `*` alone.
    pub fn only(names: impl IntoIterator<Item = String>, limits: &Limits) -> Result<Self, Error> {
        let mut only: Vec<Box<str>> = names.into_iter().map(String::into_boxed_str).collect();
        if only.is_empty() || only.len() > MOST_CATEGORIES {
            let message = format!("categories must name 1 to {MOST_CATEGORIES} categories; leave it out to allow all");
            return Err(Error::invalid(message));
        }
        only.iter().try_for_each(|name| check_pattern(name, limits))?;
        only.sort_unstable();
        only.dedup();
        Ok(Self::Only(only.into()))
    }

    /// Whether this category is allowed.
    pub fn contain(&self, category: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => only.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => category.starts_with(prefix),
                None => **pattern == *category,
            }),
        }
    }

    /// Whether every category that `other` allows is allowed here.
    pub fn include(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(wide), Self::Only(narrow)) => narrow.iter().all(|narrow| match narrow.strip_suffix('*') {
                Some(prefix) => {
                    wide.iter().filter_map(|wide| wide.strip_suffix('*')).any(|wide| prefix.starts_with(wide))
                }
                None => self.contain(narrow),
            }),
        }
    }

    /// Where the allowed categories are in a list of all categories: in byte order, without overlap. `None` if every
    /// category is allowed.
    pub fn spans(&self) -> Option<Vec<Span<'_>>> {
        let spans = self.names()?.iter().map(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => Span::Prefix(prefix.into()),
            None => Span::Name(pattern),
        });
        Some(disjoint(spans.collect()))
    }

    /// Where the streams of the allowed categories are in a list of all streams; as [`Categories::spans`].
    pub fn spans_of_streams(&self) -> Option<Vec<Span<'_>>> {
        let of_category = |span| match span {
            Span::Name(name) => vec![Span::Name(name), Span::Prefix(format!("{name}-").into())],
            prefix @ Span::Prefix(_) => vec![prefix],
        };
        Some(disjoint(self.spans()?.into_iter().flat_map(of_category).collect()))
    }

    /// The names and prefixes, or `None` if every category is allowed.
    pub fn names(&self) -> Option<&[Box<str>]> {
        match self {
            Self::All => None,
            Self::Only(only) => Some(only),
        }
    }
}

impl Span<'_> {
    /// Whether this name is in it.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Name(only) => name == *only,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }

    /// Its first name, if there is such a name.
    pub fn first(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// Sorts spans, and drops those that a wider one contains. Two spans overlap only if one contains the other.
fn disjoint(mut spans: Vec<Span<'_>>) -> Vec<Span<'_>> {
    spans.sort_by(|a, b| (a.first(), matches!(a, Span::Name(_))).cmp(&(b.first(), matches!(b, Span::Name(_)))));
    spans.dedup_by(|later, kept| kept.contains(later.first()));
    spans
}

fn check_pattern(pattern: &str, limits: &Limits) -> Result<(), Error> {
    let name = match pattern.strip_suffix('*') {
        Some("") => {
            return Err(Error::invalid("categories must not contain \"*\" alone; leave categories out to allow all"));
        }
        Some(prefix) => prefix,
        None => pattern,
    };
    name::check("categories", name, limits)?;
    if !name::is_category(name) {
        return Err(Error::invalid("categories must not contain names with \"-\": no category has one"));
    }
    Ok(())
}

impl Grant {
    /// Every right in every category.
    pub const fn everything() -> Self {
        Self { rights: Rights::EVERY, categories: Categories::All }
    }

    /// These rights in these categories.
    ///
    /// # Errors
    /// `INVALID_REQUEST`: no right, or `admin` limited to categories.
    pub fn new(rights: Rights, categories: Categories) -> Result<Self, Error> {
        if rights == Rights::default() {
            return Err(Error::invalid("rights must name at least one of read, write, consume, admin"));
        }
        if rights.has(Right::Admin) && categories != Categories::All {
            return Err(Error::invalid("the right admin cannot be limited to categories: leave categories out"));
        }
        Ok(Self { rights, categories })
    }

    /// As a store has kept it: it was checked when it was made.
    pub fn stored(rights: Rights, categories: Categories) -> Self {
        Self { rights, categories }
    }

    /// The rights, wherever they apply.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Where the rights apply.
    pub fn categories(&self) -> &Categories {
        &self.categories
    }

    /// Whether this right is given in all categories.
    pub fn allows_everywhere(&self, right: Right) -> bool {
        self.rights.has(right) && self.categories == Categories::All
    }

    /// Whether this right is given in that category.
    pub fn allows(&self, right: Right, category: &str) -> bool {
        self.rights.has(right) && self.categories.contain(category)
    }

    /// Whether everything that `other` allows is allowed here.
    pub fn includes(&self, other: &Self) -> bool {
        other.rights.iter().all(|right| self.rights.has(right)) && self.categories.include(&other.categories)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn only(names: &[&str]) -> Categories {
        Categories::only(names.iter().map(|name| (*name).to_owned()), &Limits::default()).expect("categories")
    }

    #[test]
    fn admin_includes_every_right() {
        let admin: Rights = [Right::Admin].into_iter().collect();
        assert!(Right::ALL.into_iter().all(|right| admin.has(right)));
        let reader: Rights = [Right::Read].into_iter().collect();
        assert_eq!(Right::ALL.map(|right| reader.has(right)), [true, false, false, false]);
        assert_eq!(reader.iter().map(Right::name).collect::<Vec<_>>(), ["read"]);
        assert_eq!(Rights::from_bits(reader.bits()), reader);
        assert_eq!(Rights::from_bits(0xff), Rights::EVERY);
    }

    #[test]
    fn a_star_at_the_end_makes_a_prefix() {
        let categories = only(&["account", "order*"]);
        for (category, allowed) in
            [("account", true), ("accounts", false), ("order", true), ("orderLine", true), ("", false), ("ord", false)]
        {
            assert_eq!(categories.contain(category), allowed, "{category}");
        }
    }

    #[test]
    fn limits_of_a_limited_token_include_only_narrower_ones() {
        let wide = only(&["account", "order*"]);
        for (narrow, included) in [
            (only(&["account"]), true),
            (only(&["orderLine", "order*"]), true),
            (only(&["orderLine*"]), true),
            (only(&["account*"]), false),
            (only(&["ord*"]), false),
            (Categories::All, false),
        ] {
            assert_eq!(wide.include(&narrow), included, "{narrow:?}");
        }
        assert!(Categories::All.include(&wide));
    }

    #[test]
    fn spans_are_in_byte_order_and_do_not_overlap() {
        let prefix = |prefix: &'static str| Span::Prefix(prefix.into());
        let categories = only(&["order*", "orders", "account", "accounts", "orderLine*", "account!"]);
        assert_eq!(
            categories.spans().expect("limited"),
            [Span::Name("account"), Span::Name("account!"), Span::Name("accounts"), prefix("order")]
        );
        assert_eq!(
            categories.spans_of_streams().expect("limited"),
            [
                Span::Name("account"),
                Span::Name("account!"),
                prefix("account!-"),
                prefix("account-"),
                Span::Name("accounts"),
                prefix("accounts-"),
                prefix("order"),
            ]
        );
        assert_eq!(Categories::All.spans(), None);
    }

    proptest! {
        #[test]
        fn a_stream_is_in_a_span_if_its_category_is_allowed(
            patterns in vec("[ab!]{1,2}[*]?", 1..5),
            stream in "[ab!-]{0,4}",
        ) {
            let categories = Categories::only(patterns, &Limits::default()).expect("categories");
            let category = name::category(&stream);
            let spans = |spans: Option<Vec<Span<'_>>>, name: &str| {
                spans.expect("limited").iter().filter(|span| span.contains(name)).count()
            };
            let expected = usize::from(categories.contain(category));
            prop_assert_eq!(spans(categories.spans(), category), expected);
            prop_assert_eq!(spans(categories.spans_of_streams(), &stream), expected);
        }
    }

    #[test]
    fn what_limits_nothing_is_refused() {
        let refused =
            |names: &[&str]| Categories::only(names.iter().map(|name| (*name).to_owned()), &Limits::default());
        for names in [&[][..], &["*"], &[""], &["a-b"], &["a-*"], &["a\n"]] {
            assert!(refused(names).is_err(), "{names:?}");
        }
        assert!(Grant::new(Rights::default(), Categories::All).is_err());
        assert!(Grant::new(Rights::EVERY, only(&["a"])).is_err());
    }
}
