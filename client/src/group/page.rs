//! What a read of a member brings.

use std::collections::BTreeMap;

use eventodb_protocol::group::reply::{Assigned, Drained, GroupRead, Revoking};

use crate::error::{Error, Result};
use crate::message::{Message, NumberedRow};

/// The answer to `group.read`.
#[derive(Clone, Debug)]
pub struct GroupPage {
    /// Counts every change of an assignment in the group. A lower one than before is an older reply.
    pub generation: i64,
    /// How long the lease lasts after a call, in milliseconds.
    pub session_ms: i64,
    /// Messages of the partitions, in order within each.
    pub messages: Vec<GroupMessage>,
    /// Messages of parked streams that are due.
    pub retries: Vec<RetryMessage>,
    /// Parked streams of which nothing is left.
    pub drained: Vec<Drained>,
    /// By partition, the global position up to which the page is complete.
    pub up_to: BTreeMap<u32, i64>,
    /// What the member owns.
    pub assigned: Vec<Assigned>,
    /// What it has to give back.
    pub revoking: Vec<Revoking>,
    /// Partitions that the call named with an epoch that is not the current one.
    pub fenced: Vec<u32>,
}

/// A message of a partition.
#[derive(Clone, Debug)]
pub struct GroupMessage {
    /// The message.
    pub message: Message,
    /// Its partition.
    pub partition: u32,
}

/// A message of a parked stream that is to be tried again.
#[derive(Clone, Debug)]
pub struct RetryMessage {
    /// The message.
    pub message: Message,
    /// Its partition.
    pub partition: u32,
    /// Which try of it this is.
    pub attempt: i64,
    /// The stream's number, for [`Settle`](super::Settle).
    pub rev: i64,
}

impl GroupPage {
    /// Reads the reply to `group.read`.
    pub(crate) fn parse(text: String) -> Result<Self> {
        let read: GroupRead<NumberedRow> = Message::of_group(text)?;
        Ok(Self {
            generation: read.generation,
            session_ms: read.session_ms,
            messages: read.messages.into_iter().map(GroupMessage::of).collect::<Result<_>>()?,
            retries: read.retries.into_iter().map(RetryMessage::of).collect::<Result<_>>()?,
            drained: read.drained,
            up_to: read.up_to,
            assigned: read.assigned,
            revoking: read.revoking,
            fenced: read.fenced,
        })
    }
}

impl GroupMessage {
    fn of((message, numbers): NumberedRow) -> Result<Self> {
        let [partition] = numbers[..] else { return Err(not_a_row()) };
        Ok(Self { message, partition: number(partition)? })
    }
}

impl RetryMessage {
    fn of((message, numbers): NumberedRow) -> Result<Self> {
        let [partition, attempt, rev] = numbers[..] else { return Err(not_a_row()) };
        Ok(Self { message, partition: number(partition)?, attempt, rev })
    }
}

fn number(partition: i64) -> Result<u32> {
    u32::try_from(partition).map_err(|_| Error::protocol(format!("{partition} is no partition")))
}

fn not_a_row() -> Error {
    Error::protocol("a row of group.read has other fields than it should")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str =
        r#""00000000-0000-0000-0000-000000000001","a-1","T",5,9,{"n":1.10},null,"2026-01-02T03:04:05.123456Z""#;

    fn page(messages: &str, retries: &str) -> Result<GroupPage> {
        GroupPage::parse(format!(
            r#"{{"generation":3,"sessionMs":1000,"messages":[{messages}],"retries":[{retries}],"drained":[],
            "upTo":{{"3":9}},"assigned":[{{"partition":3,"epoch":7,"checkpoint":1}}],"revoking":[],"fenced":[4]}}"#
        ))
    }

    #[test]
    fn messages_and_retries_have_their_numbers() {
        let page = page(&format!("[{ROW},3]"), &format!("[{ROW},3,2,17],[{ROW},4,1,18]")).expect("a page");
        let [GroupMessage { message, partition: 3 }] = &page.messages[..] else { panic!("one message") };
        assert_eq!((message.stream(), message.global_position(), message.data_json()), ("a-1", 9, r#"{"n":1.10}"#));
        let retries: Vec<_> = page.retries.iter().map(|r| (r.partition, r.attempt, r.rev)).collect();
        assert_eq!(retries, [(3, 2, 17), (4, 1, 18)]);
        assert_eq!((page.up_to[&3], &page.fenced[..]), (9, &[4][..]));
    }

    #[test]
    fn other_rows_are_an_error() {
        for (messages, retries) in [(format!("[{ROW}]"), String::new()), (String::new(), format!("[{ROW},3,2]"))] {
            assert!(matches!(page(&messages, &retries), Err(Error::Protocol { .. })));
        }
        assert!(page("[1]", "").is_err());
        assert!(page(&format!("[{ROW},-1]"), "").is_err());
    }
}
