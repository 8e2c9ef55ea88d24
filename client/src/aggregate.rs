//! Aggregates: load, decide, append.
//!
//! The state of an aggregate is a fold over its stream. A decision takes the state and returns the messages to write.
//! They are appended only if the stream is still at the loaded version; otherwise the aggregate is loaded and decided
//! again.

use std::marker::PhantomData;

use eventodb_protocol::limits::APPEND_MESSAGES;
use eventodb_protocol::{Expected, name};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::message::Message;
use crate::new_message::NewMessage;
use crate::query::StreamQuery;
use crate::retry::{RetryPolicy, with_retry};

/// The state of one stream. [`Default`] is the state before the first message.
pub trait Aggregate: Default + Send {
    /// Applies the next message of the stream to the state. It must ignore unknown types.
    ///
    /// # Errors
    /// `Decode` if the data does not have the shape of its type.
    fn apply(&mut self, message: &Message) -> Result<()>;
}

/// A state and its version.
#[derive(Clone, Debug)]
pub struct Loaded<A> {
    /// The folded state.
    pub state: A,
    /// The position of the last message in the state; none if the stream has no messages.
    pub version: Option<i64>,
}

impl<A> Loaded<A> {
    /// The expected version for a write that was decided on this state.
    pub fn expected(&self) -> Expected {
        self.version.map_or(Expected::NoStream, Expected::Version)
    }
}

/// Why [`Aggregates::execute`] did not write.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecuteError<E> {
    /// The decision rejected the command.
    #[error("rejected")]
    Rejected(#[source] E),
    /// Loading or appending failed, or every attempt met a conflict.
    #[error(transparent)]
    Client(#[from] Error),
}

/// Loads aggregates of one kind and appends to their streams.
pub struct Aggregates<A> {
    client: Client,
    retry: RetryPolicy,
    snapshots: Option<Snapshots<A>>,
    kind: PhantomData<fn() -> A>,
}

/// How to serialise a state, and how often. Functions are stored, so that an aggregate without snapshots need not be
/// serialisable.
struct Snapshots<A> {
    every: i64,
    encode: fn(&A, i64) -> Result<NewMessage>,
    decode: fn(&Message) -> Result<(A, i64)>,
}

#[derive(Serialize, Deserialize)]
struct Snapshot<S> {
    version: i64,
    state: S,
}

const SNAPSHOT_TYPE: &str = "Snapshot";

impl<A: Aggregate> Aggregates<A> {
    /// Aggregates in the namespace of `client`.
    pub fn new(client: &Client) -> Self {
        Self { client: client.clone(), retry: RetryPolicy::default(), snapshots: None, kind: PhantomData }
    }

    /// How conflicts are retried. Default: with backoff, for 30 s.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Loads the state of `stream`.
    ///
    /// # Errors
    /// `Decode` from the aggregate, and whatever a read can fail with.
    pub async fn load(&self, stream: &str) -> Result<Loaded<A>> {
        let mut loaded = self.load_snapshot(stream).await?;
        loop {
            let from = loaded.version.map_or(0, |version| version + 1);
            let page = self.client.get(stream, &StreamQuery::new().from(from)).await?;
            for message in &page.messages {
                loaded.state.apply(message)?;
                loaded.version = Some(message.position());
            }
            if page.is_last() {
                return Ok(loaded);
            }
        }
    }

    /// Loads the state, calls `decide` for the messages to write, and appends them. After a conflict it begins again
    /// with loading. Returns the state with the new messages and its version. If `decide` returns no messages, nothing
    /// is written.
    ///
    /// # Errors
    /// `Rejected` with the error of `decide`, or `Client` with any other failure.
    pub async fn execute<T, E, F>(&self, stream: &str, decide: F) -> Result<Option<i64>, ExecuteError<E>>
    where
        T: Serialize,
        F: Fn(&A) -> Result<Vec<NewMessage<T>>, E>,
    {
        with_retry(self.retry, || self.execute_once(stream, &decide)).await.map_err(|Attempt(error)| error)
    }

    async fn execute_once<T, E, F>(&self, stream: &str, decide: &F) -> Result<Option<i64>, Attempt<E>>
    where
        T: Serialize,
        F: Fn(&A) -> Result<Vec<NewMessage<T>>, E>,
    {
        let loaded = self.load(stream).await.map_err(ExecuteError::Client).map_err(Attempt)?;
        let messages = decide(&loaded.state).map_err(|error| Attempt(ExecuteError::Rejected(error)))?;
        if messages.is_empty() {
            return Ok(loaded.version);
        }
        let appended = self.append(stream, &messages, &loaded).await;
        appended.map(Some).map_err(ExecuteError::Client).map_err(Attempt)
    }

    async fn append<T: Serialize>(&self, stream: &str, messages: &[NewMessage<T>], loaded: &Loaded<A>) -> Result<i64> {
        if messages.len() > APPEND_MESSAGES {
            return Err(Error::TooLarge {
                message: format!("a decision writes at most {APPEND_MESSAGES} messages at once"),
            });
        }
        let version = match messages {
            [message] => self.client.write(stream, message, loaded.expected()).await?.position,
            messages => self.client.append(stream, messages, loaded.expected()).await?.last_position,
        };
        self.snapshot_if_due(stream, loaded.version, version).await;
        Ok(version)
    }

    async fn load_snapshot(&self, stream: &str) -> Result<Loaded<A>> {
        let fresh = Loaded { state: A::default(), version: None };
        let Some(snapshots) = &self.snapshots else { return Ok(fresh) };
        let Some(message) = self.client.last(&snapshot_stream(stream), Some(SNAPSHOT_TYPE)).await? else {
            return Ok(fresh);
        };
        match (snapshots.decode)(&message) {
            Ok((state, version)) => Ok(Loaded { state, version: Some(version) }),
            // A snapshot only saves time: one of an older shape is ignored.
            Err(error) => {
                tracing::debug!(%error, stream, "snapshot passed over");
                Ok(fresh)
            }
        }
    }

    /// Writes a snapshot if the append passed a multiple of the interval. A failure is ignored: the append has
    /// succeeded, and the next load only takes longer.
    async fn snapshot_if_due(&self, stream: &str, before: Option<i64>, version: i64) {
        let Some(snapshots) = &self.snapshots else { return };
        if before.map_or(0, |before| (before + 1) / snapshots.every) == (version + 1) / snapshots.every {
            return;
        }
        let written = async {
            let loaded = self.load(stream).await?;
            let Some(version) = loaded.version else { return Ok(()) };
            let message = (snapshots.encode)(&loaded.state, version)?;
            self.client.write(&snapshot_stream(stream), &message, Expected::Any).await.map(drop)
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, stream, "snapshot not written");
        }
    }
}

impl<A: Aggregate + Serialize + DeserializeOwned> Aggregates<A> {
    /// Writes a snapshot after every `every` messages of a stream, into the stream `<category>:snapshot-<id>`, and
    /// loads from it.
    #[must_use]
    pub fn with_snapshots(mut self, every: u32) -> Self {
        self.snapshots = Some(Snapshots {
            every: i64::from(every.max(1)),
            encode: |state, version| NewMessage::new(SNAPSHOT_TYPE, Snapshot { version, state }).to_raw(),
            decode: |message| {
                let snapshot: Snapshot<A> = message.decode()?;
                Ok((snapshot.state, snapshot.version))
            },
        });
        self
    }
}

impl<A> std::fmt::Debug for Aggregates<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aggregates").field("client", &self.client).finish_non_exhaustive()
    }
}

/// The failure of one attempt, in the form that [`with_retry`] takes.
struct Attempt<E>(ExecuteError<E>);

impl<E> AsRef<Error> for Attempt<E> {
    fn as_ref(&self) -> &Error {
        match &self.0 {
            ExecuteError::Client(error) => error,
            // An error that is not retried.
            ExecuteError::Rejected(_) => &Error::Closed,
        }
    }
}

/// The stream of snapshots of `stream`, by Eventide's convention.
fn snapshot_stream(stream: &str) -> String {
    match name::id(stream) {
        Some(id) => format!("{}:snapshot-{id}", name::category(stream)),
        None => format!("{stream}:snapshot"),
    }
}
