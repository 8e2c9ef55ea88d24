//! The address of the client that a request comes from.
//!
//! It is the peer of the connection, unless that is a proxy which the operator trusts. Such a proxy names the address
//! from which the request came to it, in `X-Forwarded-For` or in `Forwarded` (RFC 7239), behind what the request had there
//! already. A client may have written that itself, so the list is read from its end: the last address that is not a trusted
//! proxy's is the client's.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName};

use crate::http::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies that a request may have passed. A longer list is not believed.
const MOST_HOPS: usize = 32;

/// The address of a request's client. Where the headers are malformed, or name two different clients, it is the peer.
pub(super) fn of(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(peer, proxies) {
        return peer;
    }
    let plain = named(headers, &X_FORWARDED_FOR, proxies, address);
    let standard = named(headers, &FORWARDED, proxies, forwarded_for);
    match (plain, standard) {
        (Named::Client(client), Named::Nobody) | (Named::Nobody, Named::Client(client)) => client,
        // The proxy writes one of them, and passes on what the client wrote as the other.
        (Named::Client(plain), Named::Client(standard)) if plain == standard => plain,
        _ => peer,
    }
}

fn is_trusted(address: IpAddr, proxies: &[Network]) -> bool {
    proxies.iter().any(|network| network.contains(address))
}

/// Whom a header names.
enum Named {
    /// There is no such header.
    Nobody,
    /// It is malformed.
    Unclear,
    Client(IpAddr),
}

/// The last address of a header's list that is no trusted proxy's, or the first address if all are.
fn named(headers: &HeaderMap, name: &HeaderName, proxies: &[Network], parse: fn(&str) -> Option<IpAddr>) -> Named {
    let lines = headers.get_all(name).iter().rev();
    let hops = lines.flat_map(|line| unquoted_from_end(line.to_str().unwrap_or("not ASCII"), b','));
    let mut named = Named::Nobody;
    for (number, hop) in hops.enumerate() {
        let Some(address) = parse(hop.trim()).filter(|_| number < MOST_HOPS) else { return Named::Unclear };
        named = Named::Client(address);
        if !is_trusted(address, proxies) {
            break;
        }
    }
    named
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.ok().or_else(bracketed).map(|address| address.to_canonical())
}

/// The parts of a text between the separators that stand in no quoted string (RFC 7230, 3.2.6), the last part first. Quotes
/// are counted from the end, too: one that a client leaves open swallows nothing that a proxy adds behind it.
fn unquoted_from_end(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut is_quoted = false;
        let cut = text.bytes().enumerate().rev().find(|&(at, byte)| match byte {
            b'"' if is_quoted && is_escaped(&text[..at]) => false,
            b'"' => {
                is_quoted = !is_quoted;
                false
            }
            byte => byte == separator && !is_quoted,
        });
        rest = cut.map(|(at, _)| &text[..at]);
        Some(cut.map_or(text, |(at, _)| &text[at + 1..]))
    })
}

/// Whether what follows this part of a quoted string is escaped.
fn is_escaped(before: &str) -> bool {
    before.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

/// The address of one element of `Forwarded`, such as `for="[2001:db8::1]:4711";proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = unquoted_from_end(element, b';').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for")).map(|(_, value)| value.trim());
    let (value, None) = (values.next()?, values.next()) else { return None };
    address(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    /// The client of a request that has these header fields and comes from `peer`.
    fn client(peer: &str, fields: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a header"));
        }
        let proxies = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network"));
        of(peer.parse().expect("an address"), &headers, &proxies).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        for name in ["x-forwarded-for", "forwarded"] {
            let value = if name == "forwarded" { "for=192.0.2.1" } else { "192.0.2.1" };
            assert_eq!(client("198.51.100.7", &[(name, value)]), "198.51.100.7");
            assert_eq!(client(PROXY, &[(name, value)]), "192.0.2.1");
            assert_eq!(client("::ffff:10.0.0.1", &[(name, value)]), "192.0.2.1");
        }
        assert_eq!(client(PROXY, &[]), PROXY);
    }

    #[test]
    fn the_last_address_that_is_not_trusted_is_the_clients() {
        for (list, expected) in [
            ("192.0.2.1, 192.0.2.2", "192.0.2.2"),
            ("192.0.2.1, 192.0.2.2, 10.1.1.1", "192.0.2.2"),
            ("nonsense, 192.0.2.2:4711,10.1.1.1", "192.0.2.2"),
            ("10.2.2.2, 10.1.1.1", "10.2.2.2"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:80, fd00::1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(client(PROXY, &[("x-forwarded-for", list)]), expected, "{list}");
        }
        assert_eq!(client(PROXY, &[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2")]), "192.0.2.2");
    }

    #[test]
    fn the_standard_header_is_read_alike() {
        for (list, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            (r#"For="[2001:db8:cafe::17]:4711""#, "2001:db8:cafe::17"),
            (r#"for=192.0.2.1, proto=https; for="192.0.2.2:80""#, "192.0.2.2"),
            // A quote that a client leaves open swallows nothing that a proxy adds.
            (r#"for="192.0.2.1, for=192.0.2.2"#, "192.0.2.2"),
            ("for=192.0.2.1, for=10.1.1.1", "192.0.2.1"),
        ] {
            assert_eq!(client(PROXY, &[("forwarded", list)]), expected, "{list}");
        }
    }

    /// A proxy may add the `Host` that the client sent.
    #[test]
    fn what_stands_in_quotes_is_nobodys_address() {
        for host in ["a,for=192.0.2.9;x=", ";for=192.0.2.9", r#"a\",for=192.0.2.9;x=\""#, r"a\\", ""] {
            for list in
                [format!(r#"for=192.0.2.1;proto=http;host="{host}""#), format!(r#"host="{host}";for=192.0.2.1"#)]
            {
                assert_eq!(client(PROXY, &[("forwarded", &list)]), "192.0.2.1", "{list}");
                let behind = format!("{list}, for=10.1.1.1");
                assert_eq!(client(PROXY, &[("forwarded", &behind)]), "192.0.2.1", "{behind}");
            }
        }
    }

    #[test]
    fn a_malformed_header_counts_for_the_proxy() {
        let long = vec!["10.1.1.1"; MOST_HOPS + 1].join(",");
        for list in
            ["", "unknown", "192.0.2.1,", "192.0.2.1, _hidden", "192.0.2.256", "192.0.2.1 192.0.2.2", "é", &long]
        {
            assert_eq!(client(PROXY, &[("x-forwarded-for", list)]), PROXY, "{list}");
        }
        for list in [
            "",
            "for",
            "for=",
            "for=unknown",
            "proto=https",
            r#"for="192.0.2.1"#,
            r#"for=192.0.2.1;host="a"#,
            "for=192.0.2.1;for=192.0.2.2",
        ] {
            assert_eq!(client(PROXY, &[("forwarded", list)]), PROXY, "{list}");
        }
    }

    #[test]
    fn two_headers_that_disagree_are_not_believed() {
        let both = |plain, standard| client(PROXY, &[("x-forwarded-for", plain), ("forwarded", standard)]);
        assert_eq!(both("192.0.2.1", "for=192.0.2.1"), "192.0.2.1");
        assert_eq!(both("192.0.2.1", "for=192.0.2.2"), PROXY);
        assert_eq!(both("192.0.2.1", "for=unknown"), PROXY);
    }
}
