//! The arguments of reads: `stream.get`, `category.get`, `stream.last`, and lists of names.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{Call, Options, integer, string, strings};
use crate::filter::{Direction, Filter, Scope};
use crate::limits::{
    BATCH_SIZE_DEFAULT, BATCH_SIZE_MAX, CATEGORIES_MAX, FILTER_NAMES, STREAMS_DEFAULT, STREAMS_MAX, WAIT_MS,
};
use crate::rights::Span;
use crate::{ConsumerGroup, Error, Limits, Timestamp, name};

/// The options that both reads have.
macro_rules! page_options {
    ($($more:literal),*) => {
        &["position", "globalPosition", "batchSize", "direction", "types", "until", "waitMs", "time", $($more),*]
    };
}

const STREAM_OPTIONS: &[&str] = page_options!();
const CATEGORY_OPTIONS: &[&str] = page_options!("correlation", "consumerGroup");
const LAST_OPTIONS: &[&str] = &["type"];
const LIST_OPTIONS: &[&str] = &["prefix", "limit", "cursor"];
const GROUP_MEMBERS: &[&str] = &["member", "size"];

/// One page of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Which messages.
    pub filter: Filter,
    /// Whether `from` and `until` are positions in the stream instead of global positions. Only with [`Scope::Stream`].
    pub by_stream_position: bool,
    /// The position that the page begins at, inclusive; `None` is the start of a forward read and
    /// the end of a backward one.
    pub from: Option<i64>,
    /// A time that stands for `from`, which is `None` then: the page begins at the global position of the first message
    /// at or after it, or at the one behind the last message if there is no such message.
    pub time: Option<Timestamp>,
    /// The highest position wanted, inclusive.
    pub until: Option<i64>,
    /// Ascending or descending.
    pub direction: Direction,
    /// Most messages on the page.
    pub limit: usize,
    /// How long to wait for a first message if there is none.
    pub wait: Duration,
}

impl Read {
    /// A forward page of `filter` from global position `from`.
    pub fn forward(filter: Filter, from: i64, limit: usize) -> Self {
        Self {
            filter,
            by_stream_position: false,
            from: Some(from),
            time: None,
            until: None,
            direction: Direction::Forward,
            limit,
            wait: Duration::ZERO,
        }
    }

    /// Reads the arguments of `stream.get`: `stream, options`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument.
    pub fn stream_get(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        let stream = call.name("stream", limits)?;
        let options = call.options(STREAM_OPTIONS)?;
        let read = Self::page(Filter::new(Scope::Stream(stream.into())), &options, limits)?;
        let by_stream_position = options.raw("globalPosition").is_none() && read.time.is_none();
        Ok(Self { by_stream_position, ..read })
    }

    /// Reads the arguments of `category.get`: `category, options`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument.
    pub fn category_get(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        let scope = category_scope(call.required("category")?, limits)?;
        let options = call.options(CATEGORY_OPTIONS)?;
        let mut filter = Filter::new(scope);
        filter.group = consumer_group(&options)?;
        filter.correlation = asked(&options, "correlation", limits)?.map(Into::into);
        Self::page(filter, &options, limits)
    }

    /// Reads the arguments of `stream.last`: `stream, options`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument.
    pub fn stream_last(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        let stream = call.name("stream", limits)?;
        let mut filter = Filter::new(Scope::Stream(stream.into()));
        let kind = asked(&call.options(LAST_OPTIONS)?, "type", limits)?;
        filter.types = kind.filter(|kind| !kind.is_empty()).map(Into::into).into_iter().collect();
        Ok(Self { by_stream_position: true, from: None, direction: Direction::Backward, ..Self::forward(filter, 0, 1) })
    }

    fn page(mut filter: Filter, options: &Options<'_>, limits: &Limits) -> Result<Self, Error> {
        let (from, time) = start(options)?;
        let limit = batch_size(options.integer("batchSize")?)?;
        let direction = match options.string("direction")?.as_deref() {
            None | Some("forward") => Direction::Forward,
            Some("backward") => Direction::Backward,
            Some(_) => return Err(Error::invalid("direction must be \"forward\" or \"backward\"")),
        };
        // Nothing lies before the start: a caller that asks for what precedes position 0 has read everything.
        let from = if direction == Direction::Backward { from } else { from.map(|from| from.max(0)) };
        let types = options.strings("types", FILTER_NAMES)?.unwrap_or_default();
        checked("types", &types, limits)?;
        filter.types = types.into_iter().map(|kind| Arc::from(&*kind)).collect();
        let until = options.integer("until")?;
        let wait = match options.integer("waitMs")? {
            None => 0,
            Some(wait) => u64::try_from(wait)
                .ok()
                .filter(|wait| *wait <= WAIT_MS)
                .ok_or_else(|| Error::invalid(format!("waitMs must be between 0 and {WAIT_MS}")))?,
        };
        let wait = Duration::from_millis(wait);
        Ok(Self { filter, by_stream_position: false, from, time, until, direction, limit, wait })
    }
}

/// One page of a list of names: `ns.streams`, `ns.categories`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// Only names that begin with this, compared by bytes.
    pub prefix: String,
    /// Only names after this one, in byte order.
    pub after: Option<String>,
    /// Most entries.
    pub limit: usize,
}

impl ListPage {
    /// Reads the arguments of `ns.streams`: `options`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument.
    pub fn streams(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        Self::parse(call, limits, STREAMS_DEFAULT, STREAMS_MAX)
    }

    /// Reads the arguments of `ns.categories`: `options`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument.
    pub fn categories(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        Self::parse(call, limits, CATEGORIES_MAX, CATEGORIES_MAX)
    }

    fn parse(call: &mut Call<'_>, limits: &Limits, default: usize, most: usize) -> Result<Self, Error> {
        let options = call.options(LIST_OPTIONS)?;
        let limit = match options.integer("limit")? {
            None => default,
            Some(limit) => usize::try_from(limit)
                .ok()
                .filter(|limit| (1..=most).contains(limit))
                .ok_or_else(|| Error::invalid(format!("limit must be between 1 and {most}")))?,
        };
        Ok(Self {
            prefix: asked(&options, "prefix", limits)?.unwrap_or_default().into_owned(),
            after: asked(&options, "cursor", limits)?.filter(|cursor| !cursor.is_empty()).map(Into::into),
            limit,
        })
    }

    /// Whether a name is on this page or a later one. The category of the stream `-1` is the empty name.
    pub fn wants(&self, name: &str) -> bool {
        self.after.as_deref().is_none_or(|after| name > after) && name.starts_with(&self.prefix)
    }

    /// The part of this page that is in a span, `limit` entries of it at most. `None` if nothing of the page can be there.
    /// The entries for the span of one name may begin with another name, which is not in the span.
    pub fn within(&self, span: &Span<'_>, limit: usize) -> Option<Self> {
        match span {
            Span::Name(name) => {
                self.wants(name).then(|| Self { prefix: (*name).to_owned(), after: None, limit: limit.min(1) })
            }
            Span::Prefix(span) => {
                let (narrow, wide) =
                    if span.len() > self.prefix.len() { (&**span, &*self.prefix) } else { (&*self.prefix, &**span) };
                let after = self.after.as_deref().filter(|after| *after >= narrow);
                let is_over = after.is_some_and(|after| !after.starts_with(narrow));
                let is_apart = !narrow.starts_with(wide);
                (!is_over && !is_apart).then(|| Self {
                    prefix: narrow.to_owned(),
                    after: after.map(ToOwned::to_owned),
                    limit,
                })
            }
        }
    }

    /// The name to begin at among names sorted by bytes: no wanted name is less.
    pub fn first(&self) -> &str {
        self.prefix.as_str().max(self.after.as_deref().unwrap_or_default())
    }
}

/// The position or the time at which a read begins. Of two positions the global one counts.
fn start(options: &Options<'_>) -> Result<(Option<i64>, Option<Timestamp>), Error> {
    let positions =
        [("globalPosition", options.integer("globalPosition")?), ("position", options.integer("position")?)];
    let given = positions.into_iter().find_map(|(name, value)| Some((name, value?)));
    match (given, options.time("time")?) {
        (Some((name, _)), Some(_)) => {
            Err(Error::invalid(format!("time and {name} must not be given together: each says where to begin")))
        }
        (given, time) => Ok((given.map(|(_, position)| position), time)),
    }
}

/// `batchSize`: the default if absent, the maximum for -1.
fn batch_size(given: Option<i64>) -> Result<usize, Error> {
    match given {
        None => Ok(BATCH_SIZE_DEFAULT),
        Some(-1) => Ok(BATCH_SIZE_MAX),
        Some(size) => usize::try_from(size)
            .ok()
            .filter(|size| *size <= BATCH_SIZE_MAX)
            .ok_or_else(|| Error::invalid(format!("batchSize must be between -1 and {BATCH_SIZE_MAX}"))),
    }
}

/// An option that is a name, or the beginning of one, or `""`.
fn asked<'a>(options: &Options<'a>, name: &str, limits: &Limits) -> Result<Option<Cow<'a, str>>, Error> {
    let Some(text) = options.string(name)? else { return Ok(None) };
    name::check_asked(name, &text, limits)?;
    Ok(Some(text))
}

fn checked(field: &str, names: &[Cow<'_, str>], limits: &Limits) -> Result<(), Error> {
    names.iter().enumerate().try_for_each(|(at, name)| name::check_asked(&format!("{field}[{at}]"), name, limits))
}

/// A category's name, `""` for everything, or an array of names. A name with a `-` matches nothing.
fn category_scope(argument: &str, limits: &Limits) -> Result<Scope, Error> {
    if !argument.starts_with('[') {
        let name = string("category", argument)
            .map_err(|_| Error::invalid("category must be a string or an array of strings"))?;
        name::check_asked("category", &name, limits)?;
        return Ok(Scope::of_categories([&*name]));
    }
    let names = strings("category", argument, FILTER_NAMES)?;
    if names.is_empty() {
        return Err(Error::invalid("category must name at least one category"));
    }
    checked("category", &names, limits)?;
    Ok(Scope::of_categories(names.iter().map(|name| &**name)))
}

fn consumer_group(options: &Options<'_>) -> Result<Option<ConsumerGroup>, Error> {
    let Some(text) = options.object("consumerGroup")? else { return Ok(None) };
    let group = Options::parse("consumerGroup", "consumerGroup.", text, GROUP_MEMBERS)?;
    let number = |name: &str| {
        group
            .raw(name)
            .ok_or_else(|| Error::invalid(format!("consumerGroup.{name} is required")))
            .and_then(|value| integer(&format!("consumerGroup.{name}"), value))
    };
    let (member, size) = (number("member")?, number("size")?);
    ConsumerGroup::new(member, size).map(Some).ok_or_else(|| Error::invalid("consumerGroup needs 0 <= member < size"))
}

impl Scope {
    /// The categories named in a query parameter, separated by commas. A category whose name has a comma cannot be
    /// named this way.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if there are more than [`FILTER_NAMES`], or no write would accept one of the names.
    pub fn from_category_list(list: &str, limits: &Limits) -> Result<Self, Error> {
        let names = || list.split(',').filter(|name| !name.is_empty());
        let count = names().count();
        if count > FILTER_NAMES {
            return Err(Error::invalid(format!("category must have at most {FILTER_NAMES} names, got {count}")));
        }
        names().try_for_each(|name| name::check("category", name, limits))?;
        Ok(Self::of_categories(names()))
    }

    /// Whether no message can match the filter.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Categories(names) if names.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::{btree_set, vec};
    use proptest::{option, prelude::*};

    use super::*;
    use crate::rights::Categories;

    fn category_get(body: &str) -> Result<Read, Error> {
        Read::category_get(&mut Call::parse(body).expect("a call"), &Limits::default())
    }

    #[test]
    fn a_read_names_at_most_100_categories_and_types() {
        let names =
            |count: usize| format!("[{}]", (0..count).map(|at| format!("\"n{at}\"")).collect::<Vec<_>>().join(","));
        let read =
            category_get(&format!(r#"["category.get",{},{{"types":{}}}]"#, names(100), names(100))).expect("a read");
        assert_eq!(read.filter.types.len(), 100);
        for bad in [
            format!(r#"["category.get",{}]"#, names(101)),
            format!(r#"["category.get",{}]"#, names(90_000)),
            format!(r#"["category.get","a",{{"types":{}}}]"#, names(101)),
            format!(r#"["category.get",[{}""]]"#, r#""","#.repeat(100)),
        ] {
            let error = category_get(&bad).expect_err("too many");
            assert!(error.message.contains("must have at most 100 names"), "{}", error.message);
        }
        let list = |count: usize| vec!["a"; count].join(",");
        assert!(Scope::from_category_list(&list(100), &Limits::default()).is_ok());
        assert!(Scope::from_category_list(&list(101), &Limits::default()).is_err());
    }

    #[test]
    fn a_name_that_no_write_accepts_is_refused_in_reads() {
        let long = "x".repeat(256);
        for bad in [r"a\u0000b", r"a\n", r"\u0085", &long] {
            for body in [
                format!(r#"["category.get","{bad}"]"#),
                format!(r#"["category.get",["a","{bad}"]]"#),
                format!(r#"["category.get",["","{bad}"]]"#),
                format!(r#"["category.get","a",{{"types":["{bad}"]}}]"#),
                format!(r#"["category.get","a",{{"correlation":"{bad}"}}]"#),
            ] {
                assert!(category_get(&body).is_err(), "{body}");
            }
            for body in
                [format!(r#"["ns.streams",{{"prefix":"{bad}"}}]"#), format!(r#"["ns.streams",{{"cursor":"{bad}"}}]"#)]
            {
                assert!(
                    ListPage::streams(&mut Call::parse(&body).expect("a call"), &Limits::default()).is_err(),
                    "{body}"
                );
            }
            let body = format!(r#"["stream.last","a",{{"type":"{bad}"}}]"#);
            assert!(Read::stream_last(&mut Call::parse(&body).expect("a call"), &Limits::default()).is_err(), "{body}");
        }
    }

    #[test]
    fn global_position_wins() {
        let read = category_get(r#"["category.get","a",{"position":3,"globalPosition":7}]"#).expect("a read");
        assert_eq!(read.from, Some(7));
        let mut call = Call::parse(r#"["stream.get","a",{"position":3,"globalPosition":7}]"#).expect("a call");
        let read = Read::stream_get(&mut call, &Limits::default()).expect("a read");
        assert!(!read.by_stream_position);
    }

    #[test]
    fn a_negative_position_is_the_start_and_has_nothing_before_it() {
        let from = |direction: &str| {
            let body = format!(r#"["category.get","a",{{"position":-1,"direction":"{direction}"}}]"#);
            category_get(&body).expect("a read").from
        };
        assert_eq!((from("forward"), from("backward")), (Some(0), Some(-1)));
    }

    #[test]
    fn a_time_takes_the_place_of_a_position() {
        let stream_get = |body: &str| Read::stream_get(&mut Call::parse(body).expect("a call"), &Limits::default());
        let read = category_get(r#"["category.get","a",{"time":"2026-01-02T03:04:05.6789Z"}]"#).expect("a read");
        assert_eq!((read.from, read.time), (None, "2026-01-02T03:04:05.6789Z".parse().ok()));
        let read = stream_get(r#"["stream.get","a",{"time":"2026-01-02T03:04:05Z","until":7}]"#).expect("a read");
        assert!(!read.by_stream_position, "until is a global position then");
        for (bad, message) in [
            (r#"{"time":"2026-01-02T03:04:05Z","position":0}"#, "time and position must not be given together"),
            (r#"{"time":"2026-01-02T03:04:05Z","globalPosition":-1}"#, "time and globalPosition must not"),
            (r#"{"time":"2026-01-02"}"#, "time: expected an RFC 3339 time"),
            (r#"{"time":"9999-12-31T00:00:00Z"}"#, "time: a time is at most 9999-12-30T22:00"),
            (r#"{"time":1767323045}"#, "time must be a string"),
        ] {
            for method in ["stream.get", "category.get"] {
                let body = format!(r#"["{method}","a",{bad}]"#);
                let read = if method == "stream.get" { stream_get(&body) } else { category_get(&body) };
                let error = read.expect_err(bad);
                assert!(error.message.starts_with(message), "{}", error.message);
            }
        }
    }

    #[test]
    fn names_that_are_no_categories_match_nothing() {
        let read = category_get(r#"["category.get","a-b"]"#).expect("a read");
        assert!(read.filter.scope.is_nothing());
        let read = category_get(r#"["category.get",["a","b","a"]]"#).expect("a read");
        assert_eq!(read.filter.scope, Scope::Categories(vec!["a".into(), "b".into()]));
        assert_eq!(category_get(r#"["category.get",""]"#).expect("a read").filter.scope, Scope::All);
    }

    /// A store with these names.
    fn listed(names: &BTreeSet<String>, page: &ListPage) -> Vec<String> {
        names.iter().filter(|name| page.wants(name)).take(page.limit).cloned().collect()
    }

    proptest! {
        #[test]
        fn the_parts_of_a_page_are_the_page_of_what_is_in_the_spans(
            names in btree_set("[ab-]{0,4}", 0..30),
            patterns in vec("[ab]{1,2}[*]?", 1..4),
            prefix in "[ab-]{0,2}",
            after in option::of("[ab-]{1,3}"),
            limit in 1..8usize,
        ) {
            let categories = Categories::only(patterns, &Limits::default()).expect("categories");
            let page = ListPage { prefix, after, limit };
            let allowed = names.iter().filter(|stream| categories.contain(name::category(stream))).cloned().collect();
            let mut joined = Vec::new();
            for span in categories.spans_of_streams().expect("limited") {
                let Some(part) = page.within(&span, page.limit - joined.len()) else { continue };
                prop_assert!(part.limit <= page.limit);
                joined.extend(listed(&names, &part).into_iter().filter(|name| span.contains(name)));
            }
            prop_assert_eq!(joined, listed(&allowed, &page));
        }
    }

    #[test]
    fn sizes_are_checked() {
        for (size, limit) in [("null", Some(1000)), ("-1", Some(10_000)), ("0", Some(0)), ("10001", None), ("-2", None)]
        {
            let read = category_get(&format!(r#"["category.get","a",{{"batchSize":{size}}}]"#));
            assert_eq!(read.as_ref().ok().map(|read| read.limit), limit);
            assert!(read.is_ok() || read.is_err_and(|error| error.message.contains("batchSize")));
        }
    }

    #[test]
    fn a_group_needs_both_numbers() {
        for bad in
            [r#"{"member":0}"#, r#"{"size":1}"#, r#"{"member":1,"size":1}"#, r#"{"member":-1,"size":1}"#, "[]", "3"]
        {
            assert!(category_get(&format!(r#"["category.get","a",{{"consumerGroup":{bad}}}]"#)).is_err(), "{bad}");
        }
    }
}
