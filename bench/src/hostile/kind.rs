//! What each client holds.

use std::sync::Arc;
use std::time::Duration;

use super::http2::{self, Ends};
use crate::wire::Address;

pub(super) const STREAM: &str = "held-1";

/// What a client holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A head of which the end does not come.
    Head,
    /// A small body without a token of which the end does not come.
    StrangersBody,
    /// A large body of which the end does not come.
    Body,
    /// A body of which a byte comes each second.
    Trickle,
    /// A line of an import of which the end does not come.
    Import,
    /// A line of an import of which a byte comes each second.
    TrickledImport,
    /// A read of a million categories, again and again.
    Names,
    /// A read that waits for a hundred categories.
    Wait,
    /// Pages that are not taken.
    Reply,
    /// The same over HTTP/2, with a window of nothing.
    Window,
    /// Bodies over HTTP/2 of which the ends do not come.
    Http2Bodies,
    /// The same without a token.
    Http2StrangersBodies,
    /// A head over HTTP/2 of which the end does not come.
    Http2Head,
    /// A subscription to a hundred categories.
    Subscription,
}

/// What a client does once it has sent its opening.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    Wait,
    /// Sends a byte from time to time.
    Trickle,
    /// Sends the same again after so long.
    Again(Duration),
}

const MIB: usize = 1024 * 1024;
/// Requests at once on one connection of HTTP/2.
const STREAMS: u32 = 32;

impl Kind {
    pub(super) const ALL: &[Self] = &[
        Self::Head,
        Self::StrangersBody,
        Self::Body,
        Self::Trickle,
        Self::Import,
        Self::TrickledImport,
        Self::Names,
        Self::Wait,
        Self::Reply,
        Self::Window,
        Self::Http2Bodies,
        Self::Http2StrangersBodies,
        Self::Http2Head,
        Self::Subscription,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::StrangersBody => "strangers' body",
            Self::Body => "body",
            Self::Trickle => "trickle",
            Self::Import => "import",
            Self::TrickledImport => "trickled import",
            Self::Names => "names",
            Self::Wait => "wait",
            Self::Reply => "reply",
            Self::Window => "window",
            Self::Http2Bodies => "HTTP/2 bodies",
            Self::Http2StrangersBodies => "HTTP/2 strangers' bodies",
            Self::Http2Head => "HTTP/2 head",
            Self::Subscription => "subscription",
        }
    }

    pub(super) fn then(self) -> Then {
        match self {
            Self::Trickle | Self::TrickledImport => Then::Trickle,
            Self::Names => Then::Again(Duration::from_secs(20)),
            Self::Wait => Then::Again(Duration::from_secs(31)),
            _ => Then::Wait,
        }
    }

    /// Whether it takes what is sent to it.
    pub(super) fn reads(self) -> bool {
        self != Self::Reply
    }

    /// What it sends first, with each of the tokens.
    pub(super) fn openings(self, address: &Address, tokens: &[String]) -> Vec<Arc<[u8]>> {
        tokens.iter().map(|token| self.opening(&address.authority, token).into()).collect()
    }

    fn opening(self, host: &str, token: &str) -> Vec<u8> {
        let known = Some(token);
        match self {
            Self::Head => format!("POST /rpc HTTP/1.1\r\nHost: {host}\r\nX: {}", "x".repeat(60_000)).into_bytes(),
            Self::StrangersBody => request(host, "/rpc", None, 4096, &" ".repeat(4000)),
            Self::Body => request(host, "/rpc", known, MIB, &" ".repeat(MIB - 100_000)),
            Self::Trickle => request(host, "/rpc", known, MIB, " "),
            Self::Import => request(host, "/import", known, 15 * MIB, &"x".repeat(3 * MIB / 2)),
            Self::TrickledImport => request(host, "/import", known, 15 * MIB, &"x".repeat(100_000)),
            Self::Names => {
                let names = vec![r#""abc""#; 1_000_000].join(",");
                call(host, token, &format!(r#"["category.get",[{names}],{{}}]"#))
            }
            Self::Wait => {
                let names: Vec<String> = (0..100).map(|n| format!(r#""{token}{n}""#)).collect();
                let wait = format!(r#"["category.get",[{}],{{"position":1000000,"waitMs":30000}}]"#, names.join(","));
                call(host, token, &wait)
            }
            Self::Reply => [call(host, token, &page()), call(host, token, &page())].concat(),
            Self::Window => {
                let reads = (0..STREAMS).map(|n| http2::request(n, known, page().as_bytes(), Ends::Whole));
                reads.fold(http2::opening(0), |sent, read| [sent, read].concat())
            }
            Self::Http2Bodies => bodies(known),
            Self::Http2StrangersBodies => bodies(None),
            Self::Http2Head => [http2::opening(65_535), http2::unfinished_head(60_000)].concat(),
            Self::Subscription => {
                let names: Vec<String> = (0..100).map(|n| format!("{}{n}", "n".repeat(200))).collect();
                let path = format!("/subscribe?category={}", names.join(","));
                head("GET", host, &path, known, "").into_bytes()
            }
        }
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

/// A request whose body has a length, and what comes of it.
fn request(host: &str, path: &str, token: Option<&str>, length: usize, body: &str) -> Vec<u8> {
    (head("POST", host, path, token, &format!("Content-Length: {length}\r\n")) + body).into_bytes()
}

fn call(host: &str, token: &str, body: &str) -> Vec<u8> {
    request(host, "/rpc", Some(token), body.len(), body)
}
