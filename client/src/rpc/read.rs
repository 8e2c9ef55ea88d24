//! `stream.get`, `stream.last`, `stream.version`, `category.get`, `message.get`.

use std::time::Duration;

use eventodb_protocol::limits::POSITION_MAX;
use serde::Serialize;
use uuid::Uuid;

use crate::client::{Client, Repeat};
use crate::error::{Error, Result};
use crate::message::{Message, Page};
use crate::query::{CategoryQuery, StreamQuery};

impl Client {
    /// Reads a page of one stream. A stream without messages is an empty page.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn get(&self, stream: &str, query: &StreamQuery) -> Result<Page> {
        let answer = self.call_for_messages(&("stream.get", stream, query), query.wait_limit()).await?;
        Page::of_stream(stream, answer.text, answer.head)
    }

    /// Reads a page of one or several categories, or of everything, in global order.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn category_get(&self, query: &CategoryQuery) -> Result<Page> {
        let call = ("category.get", query.categories(), query);
        let answer = self.call_for_messages(&call, query.wait_limit()).await?;
        Page::of_category(answer.text, answer.head)
    }

    /// The last message of a stream, or the last of one type.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn last(&self, stream: &str, kind: Option<&str>) -> Result<Option<Message>> {
        #[derive(Serialize)]
        struct Options<'a> {
            #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
            kind: Option<&'a str>,
        }
        let call = ("stream.last", stream, Options { kind });
        Message::last_of_stream(stream, self.call_for_messages(&call, Duration::ZERO).await?.text)
    }

    /// The message with this id; none if there is none in a category that the token may read.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn message(&self, id: Uuid) -> Result<Option<Message>> {
        Message::found(self.call_for_messages(&("message.get", id), Duration::ZERO).await?.text)
    }

    /// The position of a stream's last message; none if it has no messages.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn stream_version(&self, stream: &str) -> Result<Option<i64>> {
        self.call(&("stream.version", stream), Repeat::Always).await?.parse()
    }

    /// The global position of the namespace's last message; 0 while it is empty.
    ///
    /// A server that does not send its head is searched for its last message by at most some sixty reads of one
    /// message.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn head(&self) -> Result<i64> {
        let probe = |from: i64| async move {
            let page = self.category_get(&CategoryQuery::all().from(from).limit(1)).await?;
            let found = page.messages.last().map(Message::global_position);
            // Without this the search would have no end.
            if found.is_some_and(|found| !(from..=POSITION_MAX).contains(&found)) {
                return Err(Error::protocol(format!("a read from {from} found a message that cannot be there")));
            }
            Ok::<_, Error>((found, page.head))
        };
        // No message is at this position, so that the reply is empty and has the head, if the server sends it.
        if let (None, Some(head)) = probe(i64::MAX).await? {
            return Ok(head);
        }
        let (mut known, mut step) = (0, 1i64);
        // Once no message is found from `known + step` on, every message is below it.
        while let (Some(found), _) = probe(known + step).await? {
            known = found;
            step = step.saturating_mul(2);
        }
        let mut beyond = known + step;
        while beyond - known > 1 {
            let middle = known + (beyond - known) / 2;
            match probe(middle).await? {
                (Some(found), _) => known = found,
                (None, _) => beyond = middle,
            }
        }
        Ok(known)
    }
}
