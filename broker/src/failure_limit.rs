//! Decides when one source has failed so often that it must wait, in a table that no flood of addresses makes grow.
//!
//! Each source has a moment at which all that it did wrong will be forgiven (the generic cell rate algorithm: a bucket of
//! `failures` that fills again within a minute). A failure moves that moment on; a success costs nothing.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kerbridge_gate::network::Network;
use tokio::time::Instant;

/// In which a source may fail so often.
const WINDOW: Duration = Duration::from_secs(60);
/// Sources that are remembered: SETS times WAYS.
const SETS: usize = 2048;
const WAYS: usize = 8;

/// Counts failures by source.
#[derive(Debug)]
pub struct FailureLimit {
    /// What one failure costs; absent where nobody is limited.
    cost: Option<Duration>,
    shared: Vec<Network>,
    /// Keyed, so that nobody can choose addresses that push one other out.
    keys: RandomState,
    sets: Mutex<Vec<[Option<Debt>; WAYS]>>,
}

#[derive(Clone, Copy, Debug)]
struct Debt {
    source: Source,
    forgiven: Instant,
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
        let cost = NonZeroU32::new(failures).and_then(|failures| WINDOW.checked_div(failures.get()));
        Self {
            cost,
            shared,
            keys: RandomState::new(),
            sets: Mutex::new(vec![[None; WAYS]; if cost.is_some() { SETS } else { 0 }]),
        }
    }

    /// Whether a source has to wait.
    pub fn is_exceeded(&self, source: IpAddr, now: Instant) -> bool {
        let Some(cost) = self.cost.filter(|_| !self.is_shared(source)) else {
            return false;
        };
        let source = Source::from(source);
        let debts = self.debts(source, |set| {
            set.iter().flatten().find(|debt| debt.source == source).copied()
        });
        // Less than the cost of one failure is left.
        debts.is_some_and(|debt| debt.forgiven.saturating_duration_since(now).saturating_add(cost) > WINDOW)
    }

    /// Counts a failure of a source. `true` where this one is the last before it has to wait.
    pub fn failed(&self, address: IpAddr, now: Instant) -> bool {
        let Some(cost) = self.cost.filter(|_| !self.is_shared(address)) else {
            return false;
        };
        let source = Source::from(address);
        let before = self.is_exceeded(address, now);
        self.debts(source, |set| {
            let known = set
                .iter()
                .position(|slot| slot.is_some_and(|debt| debt.source == source));
            // A new source takes the place of the one that is forgiven first: whoever must wait keeps its place against all
            // that owe less.
            let at =
                known.or_else(|| (0..WAYS).min_by_key(|&at| set.get(at).copied().flatten().map(|debt| debt.forgiven)));
            if let Some(slot) = at.and_then(|at| set.get_mut(at)) {
                let owed = known.and(*slot).map_or(now, |debt| debt.forgiven.max(now));
                // No more is owed than a whole window, or those that were let in together would owe for long.
                let forgiven = owed.checked_add(cost).zip(now.checked_add(WINDOW));
                *slot = forgiven.map(|(forgiven, most)| Debt {
                    source,
                    forgiven: forgiven.min(most),
                });
            }
        });
        !before && self.is_exceeded(address, now)
    }

    fn is_shared(&self, source: IpAddr) -> bool {
        self.shared.iter().any(|network| network.contains(source))
    }

    fn debts<T: Default>(&self, source: Source, look: impl FnOnce(&mut [Option<Debt>; WAYS]) -> T) -> T {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = self.keys.hash_one(source);
        let at = usize::try_from(hash).unwrap_or(usize::MAX).checked_rem(sets.len());
        at.and_then(|at| sets.get_mut(at)).map(look).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
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
        let sets = limit.sets.lock().unwrap();
        assert_eq!(sets.len(), SETS);
    }
}
