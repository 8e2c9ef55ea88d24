//! What a subscriber asks for, read from its query and headers.

use std::time::Duration;

use eventodb_protocol::{ConsumerGroup, Filter, Limits, Scope, Timestamp, name};
use eventodb_store::log::{Start, Subscribe};
use http::{HeaderMap, HeaderName};

use crate::api::errors::Failure;
use crate::api::query::Query;
use crate::config::Config;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// What the query string of a subscription may have.
pub(super) const PARAMETERS: &[&str] = &[
    "stream",
    "category",
    "all",
    "position",
    "time",
    "consumer",
    "size",
    "consumerGroupMember",
    "consumerGroupSize",
    "lastEventId",
    "coalesce",
    "token",
];
/// Longest window in which pokes may be merged, in milliseconds.
const COALESCE_MS: i64 = 60_000;

/// What a subscriber asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) subscribe: Subscribe,
    /// A time that stands for the start: it begins at the global position of the first message at or after it.
    pub(super) time: Option<Timestamp>,
}

/// Reads a subscription's parameters.
///
/// # Errors
/// `INVALID_REQUEST` naming the parameter.
pub(super) fn parse(query: &Query, headers: &HeaderMap, config: &Config) -> Result<Wanted, Failure> {
    let mut filter = Filter::new(scope(query, &config.limits)?);
    filter.group = group(query, &filter.scope)?;
    let position = integer("position", query.get("position"))?;
    let time = time(query)?;
    if position.is_some() && time.is_some() {
        return Err(Failure::invalid("time and position must not be given together: each says where to begin"));
    }
    let (start, time) = match last_event_id(query, headers)? {
        Some(id) => (Start::Global(id.max(0).saturating_add(1)), None),
        None => (start(&filter.scope, is_all(query), position.unwrap_or(0).max(0)), time),
    };
    let subscribe = Subscribe { filter, start, coalesce: coalesce(query)?, heartbeat: config.timeouts.heartbeat };
    Ok(Wanted { subscribe, time })
}

fn is_all(query: &Query) -> bool {
    query.get("all") == Some("true")
}

fn scope(query: &Query, limits: &Limits) -> Result<Scope, Failure> {
    match (query.get("stream"), query.get("category"), is_all(query)) {
        (Some(stream), None, false) => {
            name::check("stream", stream, limits)?;
            Ok(Scope::Stream(stream.into()))
        }
        (None, Some(list), false) => Ok(Scope::from_category_list(list, limits)?),
        (None, None, true) => Ok(Scope::All),
        _ => Err(Failure::invalid("exactly one of stream, category and all=true is required")),
    }
}

fn group(query: &Query, scope: &Scope) -> Result<Option<ConsumerGroup>, Failure> {
    let member = integer("consumer", query.first(&["consumer", "consumerGroupMember"]))?;
    let size = integer("size", query.first(&["size", "consumerGroupSize"]))?;
    match (member, size) {
        (None, None) => Ok(None),
        (Some(member), Some(size)) if matches!(scope, Scope::Categories(_)) => ConsumerGroup::new(member, size)
            .map(Some)
            .ok_or_else(|| Failure::invalid("a consumer group needs 0 <= consumer < size")),
        (Some(_), Some(_)) => Err(Failure::invalid("consumer and size are for a category")),
        _ => Err(Failure::invalid("consumer and size come together")),
    }
}

fn start(scope: &Scope, is_all: bool, position: i64) -> Start {
    match scope {
        Scope::Stream(_) => Start::Stream(position),
        _ if is_all && position == 0 => Start::Now,
        _ => Start::Global(position),
    }
}

/// The header is newer than the query: a browser that reconnects sends the address it began with.
fn last_event_id(query: &Query, headers: &HeaderMap) -> Result<Option<i64>, Failure> {
    let header = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?"));
    let header = header.filter(|value| !value.is_empty());
    integer("Last-Event-ID", header.or_else(|| query.get("lastEventId")))
}

fn coalesce(query: &Query) -> Result<Option<Duration>, Failure> {
    match integer("coalesce", query.get("coalesce"))? {
        None | Some(0) => Ok(None),
        Some(ms @ 1..=COALESCE_MS) => Ok(Some(Duration::from_millis(ms.unsigned_abs()))),
        Some(_) => Err(Failure::invalid(format!("coalesce must be between 0 and {COALESCE_MS} milliseconds"))),
    }
}

fn time(query: &Query) -> Result<Option<Timestamp>, Failure> {
    let parse = |text: &str| text.parse().map_err(|error| Failure::invalid(format!("time: {error}")));
    query.get("time").map(parse).transpose()
}

fn integer(name: &str, value: Option<&str>) -> Result<Option<i64>, Failure> {
    let invalid = || Failure::invalid(format!("{name} must be an integer within 64 bits"));
    value.map(|value| value.parse().ok().filter(|_| !value.starts_with('+')).ok_or_else(invalid)).transpose()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn subscribe(query: &str, header: Option<&'static str>) -> Result<Subscribe, Failure> {
        wanted(query, header).map(|wanted| wanted.subscribe)
    }

    fn wanted(query: &str, header: Option<&'static str>) -> Result<Wanted, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(LAST_EVENT_ID, HeaderValue::from_static(header));
        }
        parse(&Query::parse(Some(query), PARAMETERS).expect("a query"), &headers, &Config::default())
    }

    fn starts(query: &str, header: Option<&'static str>) -> Start {
        subscribe(query, header).expect("a subscription").start
    }

    #[test]
    fn positions_are_of_the_kind_of_the_subscription() {
        assert_eq!(starts("stream=a-1", None), Start::Stream(0));
        assert_eq!(starts("stream=a-1&position=5", None), Start::Stream(5));
        assert_eq!(starts("category=a&position=-5", None), Start::Global(0));
        assert_eq!(starts("category=a&position=7", None), Start::Global(7));
        assert_eq!(starts("all=true", None), Start::Now);
        assert_eq!(starts("all=true&position=-1", None), Start::Now);
        assert_eq!(starts("all=true&position=1", None), Start::Global(1));
        assert_eq!(starts("category=&all=true", None), Start::Now);
    }

    #[test]
    fn the_last_event_id_wins() {
        assert_eq!(starts("stream=a-1&position=5&lastEventId=9", None), Start::Global(10));
        assert_eq!(starts("all=true&lastEventId=0", None), Start::Global(1));
        assert_eq!(starts("all=true&lastEventId=3", Some("8")), Start::Global(9));
        assert_eq!(starts("all=true&lastEventId=3", Some("")), Start::Global(4));
        assert_eq!(starts("all=true&lastEventId=-3", None), Start::Global(1));
        assert_eq!(starts("all=true", Some("9223372036854775807")), Start::Global(i64::MAX));
    }

    #[test]
    fn a_time_takes_the_place_of_a_position_and_gives_way_to_the_last_event_id() {
        let time = |query, header| wanted(query, header).expect("a subscription").time;
        let given = "2026-01-02T03:04:05Z".parse().ok();
        assert_eq!(time("all=true&time=2026-01-02T03:04:05Z", None), given);
        assert_eq!(time("stream=a-1&time=2026-01-02T04:04:05%2B01:00", None), given);
        assert_eq!(time("stream=a-1&time=", None), None);
        assert_eq!(time("category=a&time=2026-01-02T03:04:05Z", Some("7")), None);
        assert_eq!(starts("category=a&time=2026-01-02T03:04:05Z", Some("7")), Start::Global(8));
    }

    #[test]
    fn groups_are_for_categories() {
        let group = subscribe("category=a&consumer=1&size=4", None).expect("a subscription").filter.group;
        assert_eq!(group, ConsumerGroup::new(1, 4));
        let group = subscribe("category=a&consumerGroupMember=1&consumerGroupSize=4", None);
        assert_eq!(group.expect("a subscription").filter.group, ConsumerGroup::new(1, 4));
        let scope = subscribe("category=a-b", None).expect("a subscription").filter.scope;
        assert!(scope.is_nothing());
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for bad in [
            "",
            "all=false",
            "all=1",
            "stream=a&category=b",
            "stream=a&all=true",
            "stream=a&consumer=0&size=1",
            "all=true&consumer=0&size=1",
            "category=a&consumer=0",
            "category=a&size=1",
            "category=a&consumer=1&size=1",
            "category=a&consumer=-1&size=1",
            "category=a&consumer=x&size=1",
            "category=a&position=x",
            "category=a&position=1.0",
            "category=a&position=%2B1",
            "category=a&position=9223372036854775808",
            "category=a&lastEventId=x",
            "category=a&coalesce=-1",
            "category=a&coalesce=60001",
            "category=a&time=yesterday",
            "category=a&time=2026-01-02",
            "category=a&time=2026-01-02T03:04:05Z&position=0",
            "stream=a%00",
            "stream=a%0Ab",
            "category=a%7F",
            "category=a,b%C2%85",
            &format!("stream={}", "x".repeat(256)),
            &format!("category={}", "x".repeat(256)),
            &format!("category={}", vec!["a"; 101].join(",")),
        ] {
            assert!(subscribe(bad, None).is_err(), "{bad}");
        }
        assert!(subscribe("category=a", Some("x")).is_err());
    }

    mod fuzz {
        use eventodb_protocol::testing::mangled_text;
        use proptest::prelude::*;
        use proptest::sample::select;

        use super::*;

        const QUERIES: &[&str] = &[
            "stream=account-1&position=3",
            "category=a,b&consumer=1&size=2&position=5&lastEventId=7",
            "all=true&position=-1&coalesce=10",
            "all=true&time=2026-01-02T03:04:05.678901Z",
            "category=%C3%A9&consumerGroupMember=0&consumerGroupSize=1",
        ];

        proptest! {
            #[test]
            fn any_query_is_refused_or_asks_for_something(
                query in mangled_text(select(QUERIES).prop_map(str::to_owned)),
                last_event_id in mangled_text(Just("12".to_owned())),
            ) {
                let Ok(query) = Query::parse(Some(&query), PARAMETERS) else { return Ok(()) };
                let mut headers = HeaderMap::new();
                if let Ok(value) = last_event_id.parse() {
                    headers.insert(LAST_EVENT_ID, value);
                }
                let Ok(wanted) = super::super::parse(&query, &headers, &Config::default()) else { return Ok(()) };
                let from = match wanted.subscribe.start {
                    Start::Stream(position) | Start::Global(position) => position,
                    Start::Now => 0,
                };
                prop_assert!(from >= 0);
            }
        }
    }
}
