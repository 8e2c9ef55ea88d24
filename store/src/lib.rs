//! The durable log: one totally ordered, gap-free sequence of messages per namespace.
//!
//! [`EventStore`] knows the namespaces; each has a [`Log`], which takes appends, answers reads and
//! feeds subscriptions; a [`Backend`] keeps it all in a database. Nothing above this crate sees SQL.

mod clock;
#[cfg(feature = "testing")]
pub mod conformance;
mod degraded;
pub mod error;
mod event_store;
mod fault;
pub mod figures;
pub mod groups;
pub mod log;
pub mod model;
mod name_locks;
mod pauses;
pub mod postgres;
mod seldom;
mod settings;
pub mod sqlite;
pub mod storage;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use degraded::Degraded;
pub use error::{Chain, Conflict, Error, Result};
pub use event_store::{Access, EventStore, Replacement};
pub use log::{Allowed, Log, Named, Page, Subscription};
pub use model::Entry;
pub use seldom::database_is_lost;
pub use settings::Settings;
pub use storage::Backend;
