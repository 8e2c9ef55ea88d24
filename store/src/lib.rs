//! The durable log: one totally ordered, gap-free sequence of messages per namespace.
//!
//! [`EventStore`] knows the namespaces; each has a [`Log`], which takes appends, answers reads and
//! feeds subscriptions; a [`Backend`] keeps it all in a database. Nothing above this crate sees SQL.

pub mod backend;
mod clock;
#[cfg(feature = "testing")]
pub mod conformance;
mod degraded;
pub mod error;
mod event_store;
mod fault;
pub mod log;
mod replacement;
mod seldom;
mod self_test;
mod settings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod turns;

pub use backend::Backend;
pub use degraded::Degraded;
pub use error::{Conflict, Error, Result};
pub use event_store::EventStore;
pub use log::{Entry, Log, Page, Subscription};
pub use replacement::Replacement;
pub use settings::Settings;
