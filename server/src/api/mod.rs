//! The application: answers requests with what the store holds. It sees no socket.

mod appends;
mod arrival;
mod auth;
mod client_address;
mod conclusion;
mod cors;
mod departure;
mod errors;
mod group_samples;
mod headers;
mod import;
mod memory;
mod methods;
mod metrics;
mod operator;
mod origin;
mod performance;
mod places;
mod probes;
mod query;
mod rates;
mod reply;
mod router;
mod rpc;
mod service;
mod state;
mod subscribe;

pub use auth::Need;
pub use router::ROUTES;
pub use rpc::{METHODS, NEEDS};
pub(crate) use service::Api;
pub(crate) use state::AppState;
