//! What to read.

use std::time::Duration;

use eventodb_protocol::{ConsumerGroup, Direction};

use crate::call::{Options, write_strings};

/// Which messages of one stream to read. The default is everything from its start.
#[derive(Clone, Debug, Default)]
pub struct StreamQuery {
    position: Option<i64>,
    global_position: Option<i64>,
    page: PageOptions,
}

/// Which messages of some categories to read.
#[derive(Clone, Debug)]
pub struct CategoryQuery {
    categories: Vec<String>,
    position: Option<i64>,
    correlation: Option<String>,
    group: Option<ConsumerGroup>,
    page: PageOptions,
}

/// What both kinds of reads have in common.
#[derive(Clone, Debug, Default)]
struct PageOptions {
    limit: Option<i64>,
    direction: Direction,
    types: Vec<String>,
    until: Option<i64>,
    wait: Duration,
}

/// The settings that both kinds of reads have.
macro_rules! page_settings {
    () => {
        /// Most messages on the page: up to 10,000, which -1 stands for too. Default 1000.
        #[must_use]
        pub fn limit(mut self, limit: i64) -> Self {
            self.page.limit = Some(limit);
            self
        }

        /// Newest first.
        #[must_use]
        pub fn backward(mut self) -> Self {
            self.page.direction = Direction::Backward;
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

        /// Where there is nothing, lets the server wait for a first message for up to 30 s.
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

    /// From this global position, inclusive; wins over [`StreamQuery::from`].
    #[must_use]
    pub fn from_global(mut self, global_position: i64) -> Self {
        self.global_position = Some(global_position);
        self
    }

    page_settings!();

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut options = Options::new(out);
        options.integer("position", self.position).integer("globalPosition", self.global_position);
        self.page.write(&mut options);
        options.finish();
    }
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

    pub(crate) fn write_category(&self, out: &mut Vec<u8>) {
        match &self.categories[..] {
            [category] => eventodb_protocol::json::write_string(out, category),
            categories => write_strings(out, categories),
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut options = Options::new(out);
        options.integer("globalPosition", self.position).string("correlation", self.correlation.as_deref());
        if let Some(group) = self.group {
            options.raw("consumerGroup", |out| {
                let number = |number: u64| i64::try_from(number).ok();
                Options::new(out)
                    .integer("member", number(group.member()))
                    .integer("size", number(group.size()))
                    .finish();
            });
        }
        self.page.write(&mut options);
        options.finish();
    }
}

impl PageOptions {
    fn write(&self, options: &mut Options<'_>) {
        options.integer("batchSize", self.limit);
        if self.direction == Direction::Backward {
            options.string("direction", Some("backward"));
        }
        options.strings("types", &self.types).integer("until", self.until);
        if !self.wait.is_zero() {
            options.integer("waitMs", Some(i64::try_from(self.wait.as_millis()).unwrap_or(i64::MAX)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_is_sent() {
        let mut out = Vec::new();
        StreamQuery::new().write(&mut out);
        CategoryQuery::any_of(["a", "b\""])
            .from(7)
            .limit(5)
            .backward()
            .types(["T"])
            .until(9)
            .wait(Duration::from_millis(20))
            .correlation("c")
            .group(ConsumerGroup::new(1, 3).expect("a member"))
            .write(&mut out);
        CategoryQuery::any_of(["a", "b\""]).write_category(&mut out);
        CategoryQuery::all().write_category(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            concat!(
                r#"{}{"globalPosition":7,"correlation":"c","consumerGroup":{"member":1,"size":3},"batchSize":5,"#,
                r#""direction":"backward","types":["T"],"until":9,"waitMs":20}["a","b\""]"""#
            )
        );
    }
}
