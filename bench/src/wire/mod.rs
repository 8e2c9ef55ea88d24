//! HTTP/1.1 at little cost: requests built beforehand, replies read where they lie in the buffer.
//!
//! The generator shares the machine's cores with the server that it measures. A client library would make each request
//! anew and hand each reply from task to task, and the server would have less of the cores.
//!
//! It speaks to servers that answer correctly, and reports everything else as an error.

mod body;
mod connection;
mod events;
mod http2;
mod request;
mod tls;

pub(crate) use self::connection::{Connection, Reply};
pub(crate) use self::events::{Events, pokes};
pub(crate) use self::request::{Address, NUMBER, Template};
