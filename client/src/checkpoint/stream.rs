//! A checkpoint in the event store itself, in the stream `<category>:position-<consumer>`.
//!
//! Every start of a worker claims the stream by a message of its own, and every message is written with the expected
//! version. A write that a killed worker had sent and the server had not yet done therefore fails after a claim. If a
//! worker finds another worker's message after its own claim, the other is alive. The worker that claimed first stays:
//! it writes again after the other's message, and the other finds that message with an older claim and stops. Busy
//! workers find each other when they save. Idle workers look for each other.

use std::time::Duration;

use async_trait::async_trait;
use eventodb_protocol::{ConsumerGroup, Expected};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::{CheckpointError, CheckpointStore};
use crate::client::Client;
use crate::error::Error;
use crate::new_message::NewMessage;
use crate::query::StreamQuery;
use crate::rpc::StreamsQuery;

/// A position that is kept in a stream.
#[derive(Debug)]
pub struct StreamCheckpoint {
    client: Client,
    stream: String,
    /// The position of this start's claim in the stream.
    claim: Option<i64>,
    /// The position of this start's last message in the stream.
    version: Option<i64>,
    saved: Option<i64>,
    next_look: Instant,
}

/// After this many attempts at which others wrote meanwhile, another worker counts as alive.
const ATTEMPTS: usize = 8;
/// Least time between two looks for another worker.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// How long a look waits for a message of another worker. It is less than a worker's default poll interval, because a
/// poll ends the look.
const LOOK: Duration = Duration::from_secs(8);

/// The stream of a consumer's positions: Eventide's convention, with the member and the size of a group. Several
/// categories are joined by `+`. For all categories the name begins with the colon.
pub fn position_stream<S: AsRef<str>>(categories: &[S], consumer: &str, group: Option<ConsumerGroup>) -> String {
    let categories: Vec<&str> = categories.iter().map(AsRef::as_ref).collect();
    let mut name = format!("{}:position-{consumer}", categories.join("+"));
    if let Some(group) = group {
        name.push_str(&format!("-{}-{}", group.member(), group.size()));
    }
    name
}

/// A position that a consumer saved in the event store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedPosition {
    /// The member of a group whose position this is, if it is one.
    pub group: Option<ConsumerGroup>,
    /// Everything up to this position was handled. None if the consumer claimed its stream and saved nothing.
    pub position: Option<i64>,
}

/// All positions that `consumer` has saved: alone, and as a member of a group of any size.
///
/// # Errors
/// Whatever a call can fail with.
pub async fn saved_positions<S: AsRef<str>>(
    client: &Client,
    categories: &[S],
    consumer: &str,
) -> Result<Vec<SavedPosition>, Error> {
    const PAGE: u32 = 1000;
    let alone = position_stream(categories, consumer, None);
    let (mut saved, mut cursor) = (Vec::new(), None);
    loop {
        let query = StreamsQuery { prefix: Some(alone.clone()), limit: Some(PAGE), cursor: cursor.take() };
        let page = client.streams(&query).await?;
        for listed in &page {
            let Some(group) = member_of(&alone, &listed.stream) else { continue };
            let last = client.last(&listed.stream, None).await?;
            let place = last.and_then(|last| last.decode::<Place>().ok());
            saved.push(SavedPosition { group, position: place.and_then(|place| place.position) });
        }
        if page.len() < PAGE as usize {
            return Ok(saved);
        }
        cursor = page.last().map(|listed| listed.stream.clone());
    }
}

/// The member whose positions `stream` has; `alone` is the stream of the consumer without a group. None if it is the
/// stream of another consumer.
fn member_of(alone: &str, stream: &str) -> Option<Option<ConsumerGroup>> {
    let rest = stream.strip_prefix(alone)?;
    if rest.is_empty() {
        return Some(None);
    }
    let (member, size) = rest.strip_prefix('-')?.split_once('-')?;
    ConsumerGroup::new(member.parse().ok()?, size.parse().ok()?).map(Some)
}

/// Whether messages of this category are positions of some consumer.
pub(crate) fn is_position_category(category: &str) -> bool {
    category.ends_with(":position")
}

/// The data of both types: `Claimed` and `Recorded`.
#[derive(Serialize, Deserialize)]
struct Place {
    /// None before a position is recorded.
    position: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct By {
    /// The position of its writer's claim in the stream. A claim has its own position here.
    claim: i64,
}

impl StreamCheckpoint {
    /// The checkpoint of `consumer` in the namespace of `client`. Make a new one for every start.
    pub fn new<S: AsRef<str>>(client: &Client, categories: &[S], consumer: &str, group: Option<ConsumerGroup>) -> Self {
        let stream = position_stream(categories, consumer, group);
        Self { client: client.clone(), stream, claim: None, version: None, saved: None, next_look: Instant::now() }
    }

    /// The stream it is in.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Writes the next message behind `last`.
    async fn write(&mut self, kind: &str, position: Option<i64>, last: Option<i64>) -> Result<(), Error> {
        let by = By { claim: self.claim.unwrap_or(last.map_or(0, |last| last + 1)) };
        self.write_as(by, kind, position, last.map_or(Expected::NoStream, Expected::Version)).await
    }

    async fn write_as(&mut self, by: By, kind: &str, position: Option<i64>, expected: Expected) -> Result<(), Error> {
        let message = NewMessage::new(kind, Place { position }).with_metadata(&by)?;
        let written = self.client.write(&self.stream, &message, expected).await?;
        (self.claim, self.version, self.saved) = (Some(by.claim), Some(written.position), position);
        self.next_look = Instant::now() + BETWEEN_LOOKS;
        Ok(())
    }

    /// The position of the last message. If this worker wrote it, or there is no claim yet, its saved position is taken
    /// over. `Taken` if an older worker wrote it.
    async fn look(&mut self) -> Result<Option<i64>, CheckpointError> {
        let last = self.client.last(&self.stream, None).await.map_err(|error| self.failed(error))?;
        let Some(last) = last else {
            (self.version, self.saved) = (None, None);
            return Ok(None);
        };
        if let Some(mine) = self.claim {
            let claim = last.metadata::<By>().ok().flatten().map(|by| by.claim);
            if claim.is_none_or(|claim| claim < mine) {
                let since = last.time_text();
                return Err(CheckpointError::Taken(format!("{} was written by it at {since}", self.stream)));
            }
            if claim != self.claim {
                tracing::warn!(stream = self.stream, "a second worker uses this checkpoint and is about to be told");
                return Ok(Some(last.position()));
            }
        }
        let place: Place = last.decode().map_err(|error| self.failed(error))?;
        (self.version, self.saved) = (Some(last.position()), place.position);
        Ok(self.version)
    }

    /// Waits a while for messages of other workers, and shows a younger worker that the name is taken.
    async fn look_for_others(&mut self) -> Result<(), CheckpointError> {
        self.next_look = Instant::now() + BETWEEN_LOOKS;
        let query = StreamQuery::new().from(self.version.map_or(0, |version| version + 1)).limit(1).wait(LOOK);
        let page = self.client.get(&self.stream, &query).await.map_err(|error| self.failed(error))?;
        if page.messages.is_empty() {
            return Ok(());
        }
        let last = self.look().await?;
        if last == self.version {
            return Ok(());
        }
        match self.write("Claimed", self.saved, last).await {
            Err(error) if !error.is_version_conflict() => Err(self.failed(error)),
            // After a conflict the next look finds what was written.
            _ => Ok(()),
        }
    }

    fn written_all_the_time(&self) -> CheckpointError {
        CheckpointError::Taken(format!("{} is written all the time", self.stream))
    }

    fn failed(&self, error: Error) -> CheckpointError {
        CheckpointError::failed(self.stream.clone(), error)
    }
}

#[async_trait]
impl CheckpointStore for StreamCheckpoint {
    async fn load(&mut self) -> Result<Option<i64>, CheckpointError> {
        for _ in 0..ATTEMPTS {
            let last = self.look().await?;
            if self.claim.is_some() {
                return Ok(self.saved);
            }
            match self.write("Claimed", self.saved, last).await {
                Ok(()) => return Ok(self.saved),
                Err(error) if error.is_version_conflict() => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(self.written_all_the_time())
    }

    async fn save(&mut self, position: i64) -> Result<(), CheckpointError> {
        match self.write("Recorded", Some(position), self.version).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_version_conflict() => {}
            Err(error) => return Err(self.failed(error)),
        }
        self.look().await?;
        // All messages after this worker's own are a younger worker's. That worker may write several times before this
        // write succeeds, and stops at its first save after it.
        let by = By { claim: self.claim.or(self.version).unwrap_or(0) };
        let written = self.write_as(by, "Recorded", Some(position), Expected::Any).await;
        written.map_err(|error| self.failed(error))
    }

    async fn taken(&mut self) -> CheckpointError {
        loop {
            sleep_until(self.next_look).await;
            match self.look_for_others().await {
                Ok(()) => {}
                Err(taken @ CheckpointError::Taken(_)) => return taken,
                Err(error) => tracing::debug!(%error, "cannot look for other workers"),
            }
        }
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
        assert!(is_position_category(eventodb_protocol::name::category("account:position-balances")));
    }

    #[test]
    fn a_members_stream_is_told_from_another_consumers() {
        let member = |stream| member_of("account:position-x", stream);
        assert_eq!(member("account:position-x"), Some(None));
        assert_eq!(member("account:position-x-1-4"), Some(ConsumerGroup::new(1, 4)));
        for other in ["account:position-xy", "account:position-x-4-4", "account:position-x-1", "account:position-x-a-4"]
        {
            assert_eq!(member(other), None, "{other}");
        }
    }
}
