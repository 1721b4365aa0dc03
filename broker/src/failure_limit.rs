//! Decides when one source has failed so often that it must wait; a success costs nothing.

use std::net::IpAddr;

use kerbridge_gate::network::Network;
use tokio::time::Instant;

use crate::rate_limit::RateLimit;

/// Counts failures by source.
#[derive(Debug)]
pub struct FailureLimit {
    limit: RateLimit<Source>,
    shared: Vec<Network>,
}

/// Who a limit is for: an IPv4 address, or the /64 of an IPv6 address, all of which one customer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << 64);
                Self(std::net::Ipv6Addr::from_bits(network).into())
            }
        }
    }
}

impl FailureLimit {
    /// Lets a source fail so often in a minute, 0 for no limit; those of `shared` fail as often as they do.
    pub fn new(failures: u32, shared: Vec<Network>) -> Self {
        Self {
            limit: RateLimit::new(failures),
            shared,
        }
    }

    /// Whether a source has to wait.
    pub fn is_exceeded(&self, source: IpAddr, now: Instant) -> bool {
        !self.is_shared(source) && self.limit.is_exceeded(source.into(), now)
    }

    /// Counts a failure of a source. `true` where this one is the last before it has to wait.
    pub fn failed(&self, address: IpAddr, now: Instant) -> bool {
        if self.is_shared(address) {
            return false;
        }
        let before = self.is_exceeded(address, now);
        self.limit.spend(address.into(), now);
        !before && self.is_exceeded(address, now)
    }

    fn is_shared(&self, source: IpAddr) -> bool {
        self.shared.iter().any(|network| network.contains(source))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start.checked_add(Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn so_many_failures_pass_and_no_more_until_some_are_forgiven() {
        let (limit, start) = (FailureLimit::new(3, Vec::new()), Instant::now());
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        for last in [false, false, true] {
            assert!(!limit.is_exceeded(bad, start));
            assert_eq!(limit.failed(bad, start), last);
        }
        assert!(limit.is_exceeded(bad, start));
        assert!(!limit.is_exceeded(good, start));
        // A third of a minute forgives one.
        assert!(limit.is_exceeded(bad, after(start, 19)));
        assert!(!limit.is_exceeded(bad, after(start, 20)));
        assert!(limit.failed(bad, after(start, 20)));
        assert!(limit.is_exceeded(bad, after(start, 20)));
        assert!(!limit.is_exceeded(bad, after(start, 40)));
    }

    #[test]
    fn what_comes_while_one_waits_does_not_lengthen_the_wait_past_the_window() {
        let (limit, start) = (FailureLimit::new(2, Vec::new()), Instant::now());
        let bad = address("192.0.2.1");
        for _ in 0..1000 {
            limit.failed(bad, start);
        }
        assert!(limit.is_exceeded(bad, after(start, 29)));
        assert!(!limit.is_exceeded(bad, after(start, 30)));
    }

    #[test]
    fn a_shared_source_is_not_limited() {
        let start = Instant::now();
        let limit = FailureLimit::new(1, vec![Network::parse("2001:db8::1/128").unwrap()]);
        for (source, exceeded) in [("2001:db8::1", false), ("2001:db8::2", true), ("2001:db8::1", false)] {
            limit.failed(address(source), start);
            assert_eq!(limit.is_exceeded(address(source), start), exceeded, "{source}");
        }
    }

    #[test]
    fn zero_limits_nobody() {
        let (limit, start) = (FailureLimit::new(0, Vec::new()), Instant::now());
        for _ in 0..1000 {
            assert!(!limit.failed(address("192.0.2.1"), start));
        }
        assert!(!limit.is_exceeded(address("192.0.2.1"), start));
    }

    #[test]
    fn a_network_of_64_bits_is_one_source_and_a_mapped_address_is_its_own() {
        let (limit, start) = (FailureLimit::new(1, Vec::new()), Instant::now());
        limit.failed(address("2001:db8::1"), start);
        limit.failed(address("::ffff:192.0.2.1"), start);
        for (other, exceeded) in [
            ("2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::1", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
        ] {
            assert_eq!(limit.is_exceeded(address(other), start), exceeded, "{other}");
        }
    }

    #[test]
    fn a_flood_of_addresses_neither_grows_the_table_nor_frees_who_must_wait() {
        let (limit, start) = (FailureLimit::new(2, Vec::new()), Instant::now());
        let bad = address("192.0.2.1");
        limit.failed(bad, start);
        limit.failed(bad, start);
        for flood in 0..200_000_u32 {
            limit.failed(std::net::Ipv4Addr::from_bits(0x0a00_0000 + flood).into(), start);
        }
        assert!(limit.is_exceeded(bad, start));
        assert_eq!(limit.limit.sets(), 2048);
    }
}
