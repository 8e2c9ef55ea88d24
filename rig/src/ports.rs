//! Ports for servers that must be told theirs before they listen.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below the ports that Linux gives to outgoing connections (32768 to 60999). One of those may be taken by a connection
/// after it was found free and before the server listens on it.
const PORTS: Range<u16> = 10_000..32_000;
const ATTEMPTS: usize = 100;

/// A port of 127.0.0.1 on which nobody listens.
///
/// # Errors
/// The last attempt's, if none is found.
pub fn free() -> io::Result<u16> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..ATTEMPTS {
        let port = rand::random_range(PORTS);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}
