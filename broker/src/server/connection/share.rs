//! Decides how many connections one source may have open at once, so that none can have them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kerbridge_gate::network::Network;

use crate::failure_limit::Source;

/// Counts open connections by source. Only who has one is in the table, which is bounded by the connections that there may be.
#[derive(Clone, Debug)]
pub struct SourceShare {
    most: NonZeroUsize,
    shared: Arc<[Network]>,
    open: Arc<Mutex<HashMap<Source, Open>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Open {
    connections: usize,
    /// One was refused already since the source came.
    is_told: bool,
}

/// A connection's place among those of its source, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    source: Source,
    open: Arc<Mutex<HashMap<Source, Open>>>,
}

/// A source has as many connections as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// It is the first that is refused, and worth a word to somebody.
    pub(super) is_news: bool,
}

impl SourceShare {
    /// Lets a source have so many at once; those of `shared` have as many as they want.
    pub fn new(most: NonZeroUsize, shared: Vec<Network>) -> Self {
        Self {
            most,
            shared: shared.into(),
            open: Arc::default(),
        }
    }

    /// A place for one more; none is needed where many clients share the address.
    pub(super) fn take(&self, address: IpAddr) -> Result<Option<Place>, Full> {
        if self.shared.iter().any(|network| network.contains(address)) {
            return Ok(None);
        }
        let source = Source::from(address);
        let mut table = lock(&self.open);
        let open = table.entry(source).or_default();
        if open.connections >= self.most.get() {
            let is_news = !std::mem::replace(&mut open.is_told, true);
            return Err(Full { is_news });
        }
        open.connections = open.connections.saturating_add(1);
        let open = Arc::clone(&self.open);
        Ok(Some(Place { source, open }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = lock(&self.open);
        if let Some(open) = table.get_mut(&self.source) {
            open.connections = open.connections.saturating_sub(1);
            if open.connections == 0 {
                table.remove(&self.source);
            }
        }
    }
}

fn lock(open: &Mutex<HashMap<Source, Open>>) -> MutexGuard<'_, HashMap<Source, Open>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(most: usize) -> SourceShare {
        let shared = Network::parse("192.0.2.9").unwrap();
        SourceShare::new(NonZeroUsize::new(most).unwrap(), vec![shared])
    }

    fn taken(share: &SourceShare, address: &str) -> Option<Place> {
        share.take(address.parse().unwrap()).unwrap()
    }

    fn is_full(share: &SourceShare, address: &str) -> bool {
        share.take(address.parse().unwrap()).is_err()
    }

    #[test]
    fn a_source_has_its_share_and_takes_nothing_of_anothers() {
        let share = share(2);
        let held = [taken(&share, "192.0.2.1"), taken(&share, "192.0.2.1")];
        assert!(is_full(&share, "192.0.2.1") && !is_full(&share, "192.0.2.2"));
        drop(held);
        assert!(!is_full(&share, "192.0.2.1"));
    }

    #[test]
    fn a_network_of_64_bits_is_one_source() {
        let share = share(1);
        let _one = taken(&share, "2001:db8::1");
        let _mapped = taken(&share, "::ffff:192.0.2.1");
        for (other, full) in [
            ("2001:db8::ffff:1:2:3", true),
            ("2001:db8:0:1::1", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
        ] {
            assert_eq!(is_full(&share, other), full, "{other}");
        }
    }

    #[test]
    fn many_clients_behind_one_address_are_not_counted() {
        let share = share(1);
        for _ in 0..3 {
            assert!(taken(&share, "192.0.2.9").is_none());
        }
    }

    #[test]
    fn the_first_that_is_refused_is_news_and_who_has_gone_leaves_nothing() {
        let share = share(1);
        let news = |address: &str| share.take(address.parse().unwrap()).unwrap_err().is_news;
        let one = taken(&share, "192.0.2.1");
        assert_eq!([news("192.0.2.1"), news("192.0.2.1")], [true, false]);
        drop(one);
        assert!(lock(&share.open).is_empty());
    }
}
