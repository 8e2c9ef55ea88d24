//! Queries: which messages to read.

use std::time::Duration;

use eventodb_protocol::{ConsumerGroup, Timestamp};
use serde::{Serialize, Serializer};

/// Which messages of one stream to read. The default is everything from its start.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    global_position: Option<i64>,
    #[serde(flatten)]
    page: PageOptions,
}

/// Which messages of some categories to read.
#[derive(Clone, Debug, Serialize)]
pub struct CategoryQuery {
    #[serde(skip)]
    categories: Vec<String>,
    #[serde(rename = "globalPosition", skip_serializing_if = "Option::is_none")]
    position: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<String>,
    #[serde(rename = "consumerGroup", skip_serializing_if = "Option::is_none")]
    group: Option<ConsumerGroup>,
    #[serde(flatten)]
    page: PageOptions,
}

/// The categories of a read, as the call has them: one name, or a list.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Categories<'a> {
    One(&'a str),
    Several(&'a [String]),
}

/// The options that both kinds of reads have.
#[derive(Clone, Debug, Default, Serialize)]
struct PageOptions {
    #[serde(rename = "batchSize", skip_serializing_if = "Option::is_none")]
    limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    types: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    #[serde(rename = "waitMs", serialize_with = "milliseconds", skip_serializing_if = "Duration::is_zero")]
    wait: Duration,
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// The setters that both kinds of reads have.
macro_rules! page_settings {
    () => {
        /// Most messages on the page, up to 10,000. With -1 it is 10,000. Default 1000.
        #[must_use]
        pub fn limit(mut self, limit: i64) -> Self {
            self.page.limit = Some(limit);
            self
        }

        /// From the first message at or after this time, in place of a position. The server refuses both at once.
        #[must_use]
        pub fn from_time(mut self, time: Timestamp) -> Self {
            self.page.time = Some(time);
            self
        }

        /// Newest first.
        #[must_use]
        pub fn backward(mut self) -> Self {
            self.page.direction = Some("backward");
            self
        }

        /// Only messages of these types.
        #[must_use]
        pub fn types<S: Into<String>>(mut self, types: impl IntoIterator<Item = S>) -> Self {
            self.page.types = types.into_iter().map(Into::into).collect();
            self
        }

        /// Up to this position, inclusive.
        #[must_use]
        pub fn until(mut self, position: i64) -> Self {
            self.page.until = Some(position);
            self
        }

        /// If there are no messages, the server waits this long for a first one, at most 30 s.
        #[must_use]
        pub fn wait(mut self, wait: Duration) -> Self {
            self.page.wait = wait;
            self
        }

        pub(crate) fn wait_limit(&self) -> Duration {
            self.page.wait
        }
    };
}

impl StreamQuery {
    /// Everything from the start.
    pub fn new() -> Self {
        Self::default()
    }

    /// From this position in the stream, inclusive.
    #[must_use]
    pub fn from(mut self, position: i64) -> Self {
        self.position = Some(position);
        self
    }

    /// From this global position, inclusive. It takes precedence over [`StreamQuery::from`].
    #[must_use]
    pub fn from_global(mut self, global_position: i64) -> Self {
        self.global_position = Some(global_position);
        self
    }

    page_settings!();
}

impl CategoryQuery {
    /// Everything in one category.
    pub fn new(category: impl Into<String>) -> Self {
        Self::any_of([category])
    }

    /// Every message of the namespace.
    pub fn all() -> Self {
        Self::new("")
    }

    /// Everything in several categories.
    pub fn any_of<S: Into<String>>(categories: impl IntoIterator<Item = S>) -> Self {
        Self {
            categories: categories.into_iter().map(Into::into).collect(),
            position: None,
            correlation: None,
            group: None,
            page: PageOptions::default(),
        }
    }

    /// From this global position, inclusive.
    #[must_use]
    pub fn from(mut self, global_position: i64) -> Self {
        self.position = Some(global_position);
        self
    }

    /// Only messages whose `metadata.correlationStreamName` is of this category.
    #[must_use]
    pub fn correlation(mut self, category: impl Into<String>) -> Self {
        self.correlation = Some(category.into());
        self
    }

    /// Only streams of this member of a consumer group.
    #[must_use]
    pub fn group(mut self, group: ConsumerGroup) -> Self {
        self.group = Some(group);
        self
    }

    page_settings!();

    pub(crate) fn categories(&self) -> Categories<'_> {
        match &self.categories[..] {
            [category] => Categories::One(category),
            categories => Categories::Several(categories),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_sent_in_place_of_a_position() {
        let time = "2026-01-02T03:04:05Z".parse().expect("a time");
        let sent = (StreamQuery::new().from_time(time), CategoryQuery::all().from_time(time));
        let text = r#"{"time":"2026-01-02T03:04:05.000000Z"}"#;
        assert_eq!(serde_json::to_string(&sent).expect("JSON"), format!("[{text},{text}]"));
    }

    #[test]
    fn only_what_was_set_is_sent() {
        let query = CategoryQuery::any_of(["a", "b\""])
            .from(7)
            .limit(5)
            .backward()
            .types(["T"])
            .until(9)
            .wait(Duration::from_millis(20))
            .correlation("c")
            .group(ConsumerGroup::new(1, 3).expect("a member"));
        let all = CategoryQuery::all();
        let sent = (StreamQuery::new(), &query, query.categories(), all.categories());
        assert_eq!(
            serde_json::to_string(&sent).expect("JSON"),
            concat!(
                r#"[{},{"globalPosition":7,"correlation":"c","consumerGroup":{"member":1,"size":3},"batchSize":5,"#,
                r#""direction":"backward","types":["T"],"until":9,"waitMs":20},["a","b\""],""]"#
            )
        );
    }
}
