//! `stream.write`, `stream.append`, `streams.append`.
//!
//! All of them may be repeated after a failure whose outcome is unknown, because every message has its id: the server
//! answers a repeated batch with the positions of the first time.

use eventodb_protocol::reply::{Appended, Written};
use eventodb_protocol::{Expected, Matching};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use crate::client::{Client, Repeat};
use crate::error::{Error, Result};
use crate::group::Commit;
use crate::new_message::{NewMessage, Sent};

impl Client {
    /// Writes one message.
    ///
    /// # Errors
    /// `VersionConflict` if the stream is not at the expected version, `IdConflict` if the id was written with other
    /// content, `Encode` if the data is not an object, and whatever else a call can fail with.
    pub async fn write<T: Serialize>(
        &self,
        stream: &str,
        message: &NewMessage<T>,
        expected: Expected,
    ) -> Result<Written> {
        let options = WriteOptions { id: Some(message.id), expected_version: expected };
        let call = ("stream.write", stream, message.as_sent(false)?, options);
        self.call(&call, Repeat::Always).await?.parse()
    }

    /// Writes 1 to 1,000 messages to one stream: all of them in order, or none.
    ///
    /// # Errors
    /// As [`Client::write`].
    pub async fn append<T: Serialize>(
        &self,
        stream: &str,
        messages: &[NewMessage<T>],
        expected: Expected,
    ) -> Result<Appended> {
        let options = WriteOptions { id: None, expected_version: expected };
        let call = ("stream.append", stream, all_sent(messages)?, options);
        self.call(&call, Repeat::Always).await?.parse()
    }

    /// Writes to several streams at once: everything, or nothing. Returns one result for each entry.
    ///
    /// # Errors
    /// As [`Client::write`]. A `VersionConflict` lists all failed expectations. `ConditionFailed` if only conditions failed.
    pub async fn append_many(&self, append: &AppendMany) -> Result<Vec<Appended>> {
        self.call(&append.call(), Repeat::Always).await?.parse()
    }
}

/// An atomic append to up to 100 streams, with up to 100 checks on others and on what must not have been written.
///
/// ```
/// # use eventodb_client::{AppendMany, Expected, Matching, NewMessage};
/// # use serde_json::json;
/// # fn main() -> Result<(), eventodb_client::Error> {
/// let transfer = AppendMany::new()
///     .entry("account-1", Expected::Version(4), &[NewMessage::new("Withdrawn", json!({"amount": 5}))])?
///     .entry("account-2", Expected::Any, &[NewMessage::new("Deposited", json!({"amount": 5}))])?
///     .check("limit-1", Expected::Version(0))
///     .check_absent(Matching::categories(["freeze"]).types(["Frozen"]));
/// # let _ = transfer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct AppendMany {
    entries: Vec<Box<RawValue>>,
    checks: Vec<Check>,
    commit: Option<Commit>,
}

/// Options of a write to one stream. Those that are not set are left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WriteOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
    #[serde(skip_serializing_if = "is_any")]
    expected_version: Expected,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    stream: &'a str,
    messages: Vec<Sent<'a>>,
    #[serde(skip_serializing_if = "is_any")]
    expected_version: Expected,
}

/// Something that must hold, or nothing is written.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Check {
    #[serde(rename_all = "camelCase")]
    Version {
        stream: String,
        expected_version: Expected,
    },
    Match {
        #[serde(rename = "match")]
        matching: Matching,
        after: i64,
    },
    Absent {
        absent: Matching,
    },
}

#[derive(Serialize)]
struct AppendOptions<'a> {
    #[serde(skip_serializing_if = "<[Check]>::is_empty")]
    checks: &'a [Check],
    /// `checkpoint`, `handled` or `fence`.
    #[serde(flatten)]
    commit: Option<&'a Commit>,
}

fn is_any(expected: &Expected) -> bool {
    *expected == Expected::Any
}

fn all_sent<T: Serialize>(messages: &[NewMessage<T>]) -> Result<Vec<Sent<'_>>> {
    messages.iter().map(|message| message.as_sent(true)).collect()
}

impl AppendMany {
    /// An append without entries and checks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds messages for one stream. Each stream may be named once.
    ///
    /// # Errors
    /// `Encode` if the data of a message is not a JSON object.
    pub fn entry<T: Serialize>(mut self, stream: &str, expected: Expected, messages: &[NewMessage<T>]) -> Result<Self> {
        let entry = Entry { stream, messages: all_sent(messages)?, expected_version: expected };
        self.entries.push(to_raw_value(&entry).map_err(Error::encode)?);
        Ok(self)
    }

    /// Adds an expectation about a stream that is not written.
    #[must_use]
    pub fn check(mut self, stream: &str, expected: Expected) -> Self {
        self.checks.push(Check::Version { stream: stream.to_owned(), expected_version: expected });
        self
    }

    /// Adds the condition that no such message was written after a global position: the [`head`](crate::Page::head) of the
    /// page that the decision stands on; of several pages, the smallest.
    #[must_use]
    pub fn check_absent_after(mut self, matching: Matching, global_position: i64) -> Self {
        self.checks.push(Check::Match { matching, after: global_position });
        self
    }

    /// Adds the condition that there is no such message at all.
    #[must_use]
    pub fn check_absent(mut self, matching: Matching) -> Self {
        self.checks.push(Check::Absent { absent: matching });
        self
    }

    /// Adds what is to happen to a consumer group in the same commit. A later one takes the place of an earlier one.
    #[must_use]
    pub fn commit(mut self, commit: Commit) -> Self {
        self.commit = Some(commit);
        self
    }

    fn call(&self) -> impl Serialize {
        let options = AppendOptions { checks: &self.checks, commit: self.commit.as_ref() };
        ("streams.append", &self.entries, options)
    }
}

#[cfg(test)]
mod tests {
    use eventodb_protocol::group::Epoch;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn several_streams_make_one_call() {
        let message = NewMessage::new("T", json!({})).with_id(Uuid::from_u128(1));
        let append = AppendMany::new()
            .entry("a-1", Expected::Version(4), std::slice::from_ref(&message))
            .and_then(|append| append.entry("b-1", Expected::Any, &[message]))
            .expect("objects")
            .check("c-1", Expected::Exists)
            .check("d-1", Expected::Any)
            .check_absent_after(Matching::categories(["e"]), 7)
            .check_absent(Matching::categories(["f"]).types(["T"]));
        assert_eq!(
            serde_json::to_string(&append.call()).expect("JSON"),
            concat!(
                r#"["streams.append",[{"stream":"a-1","messages":[{"type":"T","data":{},"id":"00000000-0000-0000-0000-000000000001"}],"expectedVersion":4},"#,
                r#"{"stream":"b-1","messages":[{"type":"T","data":{},"id":"00000000-0000-0000-0000-000000000001"}]}],"#,
                r#"{"checks":[{"stream":"c-1","expectedVersion":"exists"},{"stream":"d-1","expectedVersion":"any"},"#,
                r#"{"match":{"categories":["e"]},"after":7},{"absent":{"categories":["f"],"types":["T"]}}]}]"#
            )
        );
    }

    #[test]
    fn a_group_moves_in_the_same_call() {
        let commit = Commit::Checkpoint { group: "g".into(), partition: 3, epoch: Epoch::from_number(7), position: 9 };
        assert_eq!(
            serde_json::to_string(&AppendMany::new().commit(commit).call()).expect("JSON"),
            r#"["streams.append",[],{"checkpoint":{"group":"g","partition":3,"epoch":7,"position":9}}]"#
        );
        let commit = Commit::Handled {
            group: "g".into(),
            partition: 3,
            epoch: Epoch::from_number(7),
            stream: "a-1".into(),
            position: 9,
            read_to: 12,
        };
        assert_eq!(
            serde_json::to_string(&AppendMany::new().commit(commit).call()).expect("JSON"),
            r#"["streams.append",[],{"handled":{"group":"g","partition":3,"epoch":7,"stream":"a-1","position":9,"readTo":12}}]"#
        );
    }
}
