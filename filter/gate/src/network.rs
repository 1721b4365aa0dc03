//! Tells whether an address lies in a network (RFC 4632).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A block of addresses. IPv4 is kept as mapped IPv6 (RFC 4291 §2.5.5.2), so that either way of writing one matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: u128,
    /// Bits that count, 0 to 128.
    bits: u32,
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32` or one address.
    ///
    /// `None` for anything else, an address with bits beyond its length included: it would match other than it reads.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length: u32 = match length {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => whole,
        };
        if length > whole {
            return None;
        }
        let bits = length.checked_add(128_u32.checked_sub(whole)?)?;
        let first = u128::from(mapped(address));
        (first & mask(bits) == first).then_some(Self { first, bits })
    }

    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        u128::from(mapped(address)) & mask(self.bits) == self.first
    }
}

/// The address in Envoy's `source.address`, `10.1.2.3:4567` or `[2001:db8::1]:4567`; `None` for a Unix socket's.
pub fn address_of(source: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(source).ok()?;
    text.parse::<SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| text.parse::<IpAddr>())
        .ok()
}

const fn mask(bits: u32) -> u128 {
    match 128_u32.checked_sub(bits) {
        Some(shift) if shift < 128 => u128::MAX << shift,
        Some(_) | None => 0,
    }
}

const fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_lies_in_its_network_and_in_no_other() {
        for (network, address, lies) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let network = Network::parse(network).unwrap();
            assert_eq!(
                network.contains(address.parse().unwrap()),
                lies,
                "{network:?} {address}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "10",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "x/8",
            "/8",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_port_of_a_source_is_cut_off() {
        let address = |text: &str| address_of(text.as_bytes()).map(|address| address.to_string());
        assert_eq!(address("10.1.2.3:80").as_deref(), Some("10.1.2.3"));
        assert_eq!(address("[::1]:80").as_deref(), Some("::1"));
        assert_eq!(address("10.1.2.3").as_deref(), Some("10.1.2.3"));
        assert_eq!(address("/run/socket"), None);
        assert_eq!(address(""), None);
    }

    proptest! {
        #[test]
        fn every_address_lies_in_the_network_of_its_first_bits(address: u32, length in 0_u32..=32) {
            let masked = address & u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0);
            let network = Network::parse(&format!("{}/{length}", std::net::Ipv4Addr::from(masked))).unwrap();
            prop_assert!(network.contains(std::net::Ipv4Addr::from(address).into()));
        }
    }
}
