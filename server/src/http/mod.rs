//! Sockets: accepts connections, speaks TLS, HTTP/1.1 and HTTP/2, keeps clients to time limits and memory bounds, and ends.
//!
//! Nothing here knows the application. [`Server::serve`] is the door: it hands each request to a [`Service`] and sends
//! what that answers.

mod accept;
mod addresses;
mod arriving;
mod budget;
mod certificates;
mod connection;
mod drive;
mod events;
mod exchange;
mod gauge;
mod handshake;
mod joined;
mod limits;
mod linger;
mod outgoing;
mod request_id;
mod room;
mod server;
mod service;
mod socket;
mod takeover;
mod tally;
mod tls;
mod traffic;
mod unwanted;
pub(crate) mod upload;
mod vitals;
mod watch;
mod wire;

pub(crate) use addresses::Subnet;
pub use addresses::{Network, ParseNetworkError};
pub(crate) use arriving::Arriving;
#[cfg(test)]
pub(crate) use budget::Holder;
pub(crate) use budget::{Account, Budget, Exhausted, Permit, SMALL};
pub use certificates::{TlsError, TlsFiles};
pub(crate) use exchange::Exchange;
pub(crate) use joined::Joined;
pub(crate) use limits::Limits;
pub(crate) use linger::{Linger, Patience};
pub(crate) use request_id::RequestId;
pub(crate) use server::Server;
pub use server::Stop;
pub(crate) use service::{Answer, Service};
pub(crate) use tally::{Counted, Tally};
pub use tls::Tls;
pub(crate) use upload::{Beginning, Broken, Terms, Upload};
pub(crate) use watch::Watch;
