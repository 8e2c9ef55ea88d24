//! HTTP/1.1 as cheap as can be: requests built beforehand, replies read where they lie.
//!
//! It speaks to servers that answer correctly and to nothing else: what it does not understand is an error.

mod body;
mod connection;
mod events;
mod request;

pub(crate) use self::connection::{Connection, Reply, connect_from};
pub(crate) use self::events::{Events, pokes};
pub(crate) use self::request::{Address, Template};
