//! EventoDB over HTTP: calls, subscriptions and imports on one port, HTTP/1.1 and h2c alike.
//!
//! [`run`] serves until it is told to stop; the caller owns the socket, the store and the stop
//! signals. `connection/` keeps each client within its time limits, `service` sends a request on its
//! way: `POST /rpc` straight to `rpc/`, the rest by its path. Nothing here sees SQL.

mod accept;
mod auth;
mod body;
mod budget;
pub mod config;
mod connection;
mod cors;
mod error;
mod health;
mod import;
mod joined;
mod lifecycle;
mod linger;
mod observe;
mod origin;
mod query;
mod reply;
mod routes;
mod rpc;
mod sampler;
mod service;
mod state;
mod subscribe;
mod upload;

pub use config::{Bounds, Config, Mode, Timeouts};
pub use lifecycle::{Stop, run};
pub use origin::Pages;
pub use rpc::METHODS;
