//! Async client for EventoDB: typed calls, subscriptions, aggregates, a buffered writer, and workers that remember
//! their position.

pub mod checkpoint;
pub mod error;
pub mod group;
pub mod import;
pub mod read_model;
pub mod record;
pub mod retry;
pub mod worker;

mod aggregate;
mod buffered;
mod client;
mod message;
mod new_message;
mod query;
mod rpc;
mod sse;
mod subscription;
mod transport;

pub use aggregate::{Aggregate, Aggregates, ExecuteError, Loaded};
pub use buffered::{BufferSettings, BufferedWriter, Receipt};
pub use client::{CallObserver, Client, ClientBuilder};
pub use error::{Conflict, Error, FailedCondition, Result};
pub use eventodb_protocol::performance;
pub use eventodb_protocol::reply::{
    Appended, CategoryListed, DegradedReason, Health, NamespaceCreated, NamespaceDeleted, NamespaceInfo,
    NamespaceListed, Quota, Readiness, StreamListed, TokenAbout, TokenCreated, TokenListed, TokenRevoked, Written,
};
pub use eventodb_protocol::{ConsumerGroup, Expected, Matching, Right, Rights, Timestamp};
pub use message::{Message, Page, Raw};
pub use new_message::NewMessage;
pub use query::{CategoryQuery, StreamQuery};
pub use retry::{RetryPolicy, with_retry};
pub use rpc::{AppendMany, CreateNamespace, CreateToken, RotateToken, StreamsQuery, UpdateNamespace};
pub use subscription::{Event, Poke, Subscribe, Subscription};
