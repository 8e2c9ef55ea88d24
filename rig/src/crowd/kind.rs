//! The kinds of clients of a crowd.

use std::sync::Arc;
use std::time::Duration;

use super::STREAM;
use super::http2::{self, Ends};

/// A kind of client.
#[derive(Debug)]
pub(super) struct Kind {
    /// The bytes that a client sends first, to this host and with this token.
    opening: fn(&str, &str) -> Vec<u8>,
    pub(super) then: Then,
}

/// What a client does after its opening.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// It sends nothing more, and reads.
    Wait,
    /// It sends nothing more, and does not read.
    Ignore,
    /// It sends a byte from time to time.
    Trickle,
    /// It sends the opening again after this time.
    Again(Duration),
}

const MIB: usize = 1024 * 1024;
/// Requests at once on one connection of HTTP/2.
const STREAMS: u32 = 32;

const fn kind(then: Then, opening: fn(&str, &str) -> Vec<u8>) -> Kind {
    Kind { opening, then }
}

/// Every kind. A body, a head and a line of an import have no end; strangers have no token.
pub(super) static KINDS: &[Kind] = &[
    // A head.
    kind(Then::Wait, |host, _| format!("POST /rpc HTTP/1.1\r\nHost: {host}\r\nX: {}", "x".repeat(60_000)).into_bytes()),
    // The body of a stranger, who has no token.
    kind(Then::Wait, |host, _| request(host, "/rpc", None, 4096, &" ".repeat(4000))),
    // A body.
    kind(Then::Wait, |host, token| request(host, "/rpc", Some(token), MIB, &" ".repeat(MIB - 100_000))),
    // A body, byte by byte.
    kind(Then::Trickle, |host, token| request(host, "/rpc", Some(token), MIB, " ")),
    // The line of an import.
    kind(Then::Wait, |host, token| import(host, token, 3 * MIB / 2)),
    // The same, byte by byte.
    kind(Then::Trickle, |host, token| import(host, token, 100_000)),
    // A million names, which are refused.
    kind(Then::Again(Duration::from_secs(20)), |host, token| {
        let names = vec![r#""abc""#; 1_000_000].join(",");
        call(host, token, &format!(r#"["category.get",[{names}],{{}}]"#))
    }),
    // Reads that wait.
    kind(Then::Again(Duration::from_secs(31)), |host, token| {
        let names: Vec<String> = (0..100).map(|n| format!(r#""{token}{n}""#)).collect();
        let wait = format!(r#"["category.get",[{}],{{"position":1000000,"waitMs":30000}}]"#, names.join(","));
        call(host, token, &wait)
    }),
    // Replies that are not taken.
    kind(Then::Ignore, |host, token| [call(host, token, &page()), call(host, token, &page())].concat()),
    // Replies for which HTTP/2 leaves no room.
    kind(Then::Wait, |_, token| {
        let reads = (0..STREAMS).map(|n| http2::request(n, Some(token), page().as_bytes(), Ends::Whole));
        reads.fold(http2::opening(0), |sent, read| [sent, read].concat())
    }),
    // Bodies over HTTP/2.
    kind(Then::Wait, |_, token| bodies(Some(token))),
    // The same of a stranger.
    kind(Then::Wait, |_, _| bodies(None)),
    // A head over HTTP/2.
    kind(Then::Wait, |_, _| [http2::opening(65_535), http2::unfinished_head(60_000)].concat()),
    // A subscription with long filters.
    kind(Then::Wait, |host, token| {
        let names: Vec<String> = (0..100).map(|n| format!("{}{n}", "n".repeat(200))).collect();
        let path = format!("/subscribe?category={}", names.join(","));
        head("GET", host, &path, Some(token), "").into_bytes()
    }),
];

impl Kind {
    /// The opening with each of the tokens.
    pub(super) fn openings(&self, address: &str, tokens: &[String]) -> Vec<Arc<[u8]>> {
        tokens.iter().map(|token| (self.opening)(address, token).into()).collect()
    }
}

fn page() -> String {
    format!(r#"["stream.get","{STREAM}"]"#)
}

fn bodies(token: Option<&str>) -> Vec<u8> {
    let bodies = (0..STREAMS).map(|n| http2::request(n, token, &[b' '; 2000], Ends::Never));
    bodies.fold(http2::opening(65_535), |sent, body| [sent, body].concat())
}

fn head(method: &str, host: &str, path: &str, token: Option<&str>, headers: &str) -> String {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}{headers}\r\n")
}

/// A request that announces a body of `length` bytes and has the beginning of it.
fn request(host: &str, path: &str, token: Option<&str>, length: usize, body: &str) -> Vec<u8> {
    (head("POST", host, path, token, &format!("Content-Length: {length}\r\n")) + body).into_bytes()
}

fn call(host: &str, token: &str, body: &str) -> Vec<u8> {
    request(host, "/rpc", Some(token), body.len(), body)
}

fn import(host: &str, token: &str, bytes: usize) -> Vec<u8> {
    request(host, "/import", Some(token), 15 * MIB, &"x".repeat(bytes))
}
