//! A checkpoint in the event store itself, in the stream `<category>:position-<consumer>`.
//!
//! Every position is written with the expected version, so that two workers of one name notice each
//! other at the second one's next save. The worker that started first stays: when it meets the other's
//! message it writes over it, and the other, meeting that, sees an older worker there and stops.
//! Which one is older follows from ids that begin with the time of the start (UUID version 7).

use async_trait::async_trait;
use eventodb_schema::{ConsumerGroup, Expected};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{CheckpointError, CheckpointStore};
use crate::client::Client;
use crate::error::Error;
use crate::new_message::NewMessage;

/// A position in a stream.
#[derive(Debug)]
pub struct StreamCheckpoint {
    client: Client,
    stream: String,
    worker: String,
    version: Option<i64>,
}

/// The stream of a consumer's positions: Eventide's convention, with the member and the size of a group.
/// Several categories are joined by `+`; for everything nothing stands before the colon.
pub fn position_stream<S: AsRef<str>>(categories: &[S], consumer: &str, group: Option<ConsumerGroup>) -> String {
    let categories: Vec<&str> = categories.iter().map(AsRef::as_ref).collect();
    let mut name = format!("{}:position-{consumer}", categories.join("+"));
    if let Some(group) = group {
        name.push_str(&format!("-{}-{}", group.member(), group.size()));
    }
    name
}

/// Whether messages of this category are positions of some consumer.
pub(crate) fn is_position_category(category: &str) -> bool {
    category.ends_with(":position")
}

#[derive(Serialize, Deserialize)]
struct Recorded {
    position: i64,
}

#[derive(Serialize, Deserialize)]
struct By {
    /// A UUID in lower case: compares as text as it does as a number.
    worker: String,
}

impl StreamCheckpoint {
    /// The checkpoint of `consumer` in the namespace of `client`. Make a new one for every start.
    pub fn new<S: AsRef<str>>(client: &Client, categories: &[S], consumer: &str, group: Option<ConsumerGroup>) -> Self {
        let stream = position_stream(categories, consumer, group);
        Self { client: client.clone(), stream, worker: Uuid::now_v7().to_string(), version: None }
    }

    /// The stream it is in.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    async fn write(&mut self, position: i64) -> Result<(), Error> {
        let message =
            NewMessage::new("Recorded", Recorded { position }).with_metadata(&By { worker: self.worker.clone() })?;
        let expected = self.version.map_or(Expected::NoStream, Expected::Version);
        self.version = Some(self.client.write(&self.stream, &message, expected).await?.position);
        Ok(())
    }

    /// Somebody else wrote. Answers `Taken` if they are the ones to stay; else the version to go on at.
    async fn make_way(&mut self) -> Result<(), CheckpointError> {
        let last = self.client.last(&self.stream, None).await.map_err(|error| self.failed(error))?;
        let Some(last) = last else {
            self.version = None;
            return Ok(());
        };
        let other = last.metadata::<By>().ok().flatten().map(|by| by.worker);
        if other.is_none_or(|other| other <= self.worker) {
            let since = last.time_text();
            return Err(CheckpointError::Taken(format!("{} was written by it at {since}", self.stream)));
        }
        tracing::warn!(stream = self.stream, "a second worker uses this checkpoint and is about to be told");
        self.version = Some(last.position());
        Ok(())
    }

    fn failed(&self, error: Error) -> CheckpointError {
        CheckpointError::failed(self.stream.clone(), error)
    }
}

#[async_trait]
impl CheckpointStore for StreamCheckpoint {
    async fn load(&mut self) -> Result<Option<i64>, CheckpointError> {
        let last = self.client.last(&self.stream, None).await.map_err(|error| self.failed(error))?;
        let Some(last) = last else {
            self.version = None;
            return Ok(None);
        };
        self.version = Some(last.position());
        let recorded: Recorded = last.decode().map_err(|error| self.failed(error))?;
        Ok(Some(recorded.position))
    }

    async fn save(&mut self, position: i64) -> Result<(), CheckpointError> {
        // The other worker may write once more in between; it stops at its next save.
        for _ in 0..8 {
            match self.write(position).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_version_conflict() => self.make_way().await?,
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(CheckpointError::Taken(format!("{} is written all the time", self.stream)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_names_category_consumer_and_member() {
        assert_eq!(position_stream(&["account"], "balances", None), "account:position-balances");
        let group = ConsumerGroup::new(1, 4);
        assert_eq!(position_stream(&["account", "transfer"], "x", group), "account+transfer:position-x-1-4");
        let everything: [&str; 0] = [];
        assert_eq!(position_stream(&everything, "x", None), ":position-x");
        assert!(is_position_category(eventodb_schema::name::category("account:position-balances")));
    }
}
