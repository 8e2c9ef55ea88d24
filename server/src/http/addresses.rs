//! Addresses of clients: which of them count as one, and networks of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// What is counted as one address: an IPv4 address, or the /64 of an IPv6 address, because every host of IPv6 can use as
/// many addresses of its /64 as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subnet(IpAddr);

impl Subnet {
    /// The one that an address belongs to.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
            address => address,
        })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A network of addresses, such as `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    /// Bits that all its addresses have in common.
    prefix: u32,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNetworkError {
    /// It has another form.
    #[error("a network is an address, or the first address and a length, such as 10.0.0.0/8")]
    Form,
    /// The address has bits behind the prefix, so that it is not clear whether one address is meant or a network.
    #[error("the address is not the first one of its network: say {0}, or leave the length out for the one address")]
    NotFirst(Network),
}

impl Network {
    /// Whether an address is one of the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => self.first_of(address) == self.first,
            _ => false,
        }
    }

    /// Whether every address of its kind belongs to it.
    pub fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    /// The first address of the network of this size that an address belongs to.
    fn first_of(&self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(u32::BITS - self.prefix).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(u128::BITS - self.prefix).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        }
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| ParseNetworkError::Form)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = length.map_or(Ok(bits), str::parse).map_err(|_| ParseNetworkError::Form)?;
        if prefix > bits || address != address.to_canonical() {
            return Err(ParseNetworkError::Form);
        }
        let network = Self { first: address, prefix };
        let first = network.first_of(address);
        if first == address { Ok(network) } else { Err(ParseNetworkError::NotFirst(Self { first, prefix })) }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_ipv6_address_counts_by_its_64() {
        let of = |text| Subnet::of(address(text));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("::ffff:10.0.0.1"), of("::ffff:10.0.0.2"), "IPv4 over an IPv6 socket is not one /64");
    }

    #[test]
    fn a_network_has_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "2001:db9::", "10.0.0.1"),
            ("fe80::1/128", "fe80::1", "fe80::2"),
        ] {
            let parsed: Network = network.parse().expect(network);
            assert!(parsed.contains(address(inside)), "{inside} in {network}");
            assert!(!parsed.contains(address(outside)), "{outside} in {network}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "/", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/-1", "10.0.0.0/8/8", "a"] {
            assert_eq!(text.parse::<Network>(), Err(ParseNetworkError::Form), "{text}");
        }
        let error = "10.1.2.3/8".parse::<Network>().expect_err("it may be meant either way");
        assert!(error.to_string().contains("say 10.0.0.0/8"), "{error}");
    }
}
