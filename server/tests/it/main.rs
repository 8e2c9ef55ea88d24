//! The server as a client sees it, over a socket: one binary, each test with a server of its own on
//! a free port and a store in memory.

mod auth;
mod bounds;
mod client;
mod errors;
mod events;
mod fuzz;
mod import;
mod limits;
mod load;
mod memory;
mod metrics;
mod pages;
mod performance;
mod rights;
mod rpc;
mod server;
#[cfg(feature = "otel")]
mod spans;
mod stop;
mod subscribe;
mod transport;
