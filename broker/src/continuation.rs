//! Keeps handshakes that wait for their second leg: few, for seconds, each under a random handle that works once, and no
//! more of one source than its share.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

use crate::failure_limit::Source;

/// Handshakes that may wait at once. Each holds some kilobytes and no ticket.
pub const MOST: usize = 1000;
/// As many of them as one source may have: a first leg costs a stranger nothing and is no failure.
pub const MOST_OF_ONE: usize = MOST / 10;
/// How long a client has for its second leg. By a clock that nobody sets: one that is set back would keep the places taken.
pub const LIFE: Duration = Duration::from_secs(10);

/// The handshakes that wait. One more of a source that has its share pushes that source's own oldest out. Where all places are
/// taken the oldest of whoever holds the most of them makes room, so that a flood from a few addresses ends no handshakes but
/// its own; where nobody holds more than one, the new one is refused.
pub struct Continuations<T> {
    waiting: Mutex<Table<T>>,
    count: Gauge,
    pushed_out: Counter,
}

struct Table<T> {
    by_handle: HashMap<String, Waiting<T>>,
    /// How many were ever kept: the order in which they came.
    kept: u64,
}

struct Waiting<T> {
    what: T,
    /// Absent where the mesh said none: those share one share.
    source: Option<Source>,
    until: Instant,
    number: u64,
}

/// Why a handshake cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepError {
    /// As many wait as may, each of another source.
    Full,
    /// The operating system's source of randomness failed.
    NoRandomness,
}

impl<T> Continuations<T> {
    /// None yet; `count` shows how many there are, `pushed_out` how many had to make room.
    pub fn new(count: Gauge, pushed_out: Counter) -> Self {
        Self {
            waiting: Mutex::new(Table {
                by_handle: HashMap::new(),
                kept: 0,
            }),
            count,
            pushed_out,
        }
    }

    /// Keeps a handshake of this source until its time is over. Returns its handle: 128 random bits as 22 characters of
    /// base64url.
    pub fn keep(&self, what: T, source: Option<IpAddr>, now: Instant) -> Result<String, KeepError> {
        let mut handle = [0_u8; 16];
        SystemRandom::new()
            .fill(&mut handle)
            .map_err(|_| KeepError::NoRandomness)?;
        let handle = URL_SAFE_NO_PAD.encode(handle);
        let source = source.map(Source::from);
        let until = now.checked_add(LIFE).unwrap_or(now);
        let mut table = self.current(now);
        if let Some(oldest) = table.to_push_out(source)? {
            table.by_handle.remove(&oldest);
            self.pushed_out.inc();
        }
        let number = table.kept;
        table.kept = number.saturating_add(1);
        table.by_handle.insert(
            handle.clone(),
            Waiting {
                what,
                source,
                until,
                number,
            },
        );
        self.show(&table);
        Ok(handle)
    }

    /// The handshake with this handle, which then is spent; `None` where there is none, or its time is over.
    pub fn take(&self, handle: &str, now: Instant) -> Option<T> {
        let mut table = self.current(now);
        let taken = table.by_handle.remove(handle).map(|waiting| waiting.what);
        self.show(&table);
        taken
    }

    /// Those whose time is not over.
    fn current(&self, now: Instant) -> MutexGuard<'_, Table<T>> {
        let mut table = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        table.by_handle.retain(|_, waiting| now < waiting.until);
        table
    }

    fn show(&self, table: &Table<T>) {
        self.count.set(i64::try_from(table.by_handle.len()).unwrap_or(i64::MAX));
    }
}

impl<T> Table<T> {
    /// Whose place one more of this source takes: its own oldest one's where it has its share, the oldest one's of whoever
    /// has the most where all are taken, nobody's where there is room.
    fn to_push_out(&self, source: Option<Source>) -> Result<Option<String>, KeepError> {
        let mut counts: HashMap<Option<Source>, usize> = HashMap::new();
        for waiting in self.by_handle.values() {
            let count = counts.entry(waiting.source).or_default();
            *count = count.saturating_add(1);
        }
        if counts.get(&source).is_some_and(|count| *count >= MOST_OF_ONE) {
            return Ok(self.oldest_of(source));
        }
        if self.by_handle.len() < MOST {
            return Ok(None);
        }
        match counts.into_iter().max_by_key(|(_, count)| *count) {
            Some((most, count)) if count > 1 => Ok(self.oldest_of(most)),
            Some(_) | None => Err(KeepError::Full),
        }
    }

    fn oldest_of(&self, source: Option<Source>) -> Option<String> {
        let of_it = self.by_handle.iter().filter(|(_, waiting)| waiting.source == source);
        of_it
            .min_by_key(|(_, waiting)| waiting.number)
            .map(|(handle, _)| handle.clone())
    }
}

impl<T> fmt::Debug for Continuations<T> {
    /// Without the handles, which are as good as the handshakes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Continuations").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// The source with this number.
    fn source(number: usize) -> Option<IpAddr> {
        Some(Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into())
    }

    struct Place {
        waiting: Continuations<usize>,
        count: Gauge,
        pushed_out: Counter,
        began: Instant,
    }

    impl Place {
        fn new() -> Self {
            let (count, pushed_out) = (Gauge::default(), Counter::default());
            Self {
                waiting: Continuations::new(count.clone(), pushed_out.clone()),
                count,
                pushed_out,
                began: Instant::now(),
            }
        }

        fn after(&self, seconds: u64) -> Instant {
            self.began.checked_add(Duration::from_secs(seconds)).unwrap()
        }

        fn keep(&self, what: usize, source: Option<IpAddr>) -> Result<String, KeepError> {
            self.waiting.keep(what, source, self.began)
        }

        fn take(&self, handle: &str) -> Option<usize> {
            self.waiting.take(handle, self.began)
        }
    }

    #[test]
    fn a_handle_works_once_and_only_for_its_own() {
        let place = Place::new();
        let one = place.keep(1, source(1)).unwrap();
        let two = place.keep(2, source(1)).unwrap();
        assert_eq!((one.len(), place.count.get()), (22, 2));
        assert_ne!(one, two);
        assert_eq!(place.take(&one), Some(1));
        assert_eq!(place.take(&one), None);
        assert_eq!(place.take(""), None);
        assert_eq!(place.take(&two), Some(2));
        assert_eq!(place.count.get(), 0);
    }

    #[test]
    fn a_handle_is_spent_after_ten_seconds() {
        let place = Place::new();
        let (in_time, late) = (place.keep(1, None).unwrap(), place.keep(2, None).unwrap());
        let nearly = place.after(10) - Duration::from_nanos(1);
        assert_eq!(place.waiting.take(&in_time, nearly), Some(1));
        assert_eq!(place.waiting.take(&late, place.after(10)), None);
        // Those whose time is over make room, whoever asks.
        assert_eq!(place.count.get(), 0);
    }

    #[test]
    fn one_source_has_its_share_and_pushes_out_its_own_oldest_only() {
        let place = Place::new();
        let other = place.keep(0, source(2)).unwrap();
        let handles: Vec<String> = (0..MOST_OF_ONE + 3)
            .map(|number| place.keep(number, source(1)).unwrap())
            .collect();
        assert_eq!(place.count.get(), i64::try_from(MOST_OF_ONE).unwrap() + 1);
        assert_eq!(place.pushed_out.get(), 3);
        for gone in &handles[..3] {
            assert_eq!(place.take(gone), None);
        }
        assert_eq!(place.take(&handles[3]), Some(3));
        assert_eq!(place.take(&handles[MOST_OF_ONE + 2]), Some(MOST_OF_ONE + 2));
        assert_eq!(place.take(&other), Some(0));
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_so_are_those_of_whom_nothing_is_said() {
        let place = Place::new();
        for number in 0..2 * MOST_OF_ONE {
            let address = format!("2001:db8::{number:x}").parse().unwrap();
            place.keep(number, Some(address)).unwrap();
            place.keep(number, None).unwrap();
        }
        assert_eq!(place.count.get(), 2 * i64::try_from(MOST_OF_ONE).unwrap());
    }

    #[test]
    fn where_a_flood_has_all_places_it_makes_room_for_others_and_for_nobody_where_all_have_one() {
        let place = Place::new();
        let honest = place.keep(7, source(0)).unwrap();
        // Ten sources of a flood would fill the table.
        for number in 0..2 * MOST {
            place.keep(number, source(1 + number % 10)).unwrap();
        }
        assert_eq!(place.count.get(), i64::try_from(MOST).unwrap());
        for number in 0..50 {
            let late = place.keep(number, source(100 + number)).unwrap();
            assert_eq!(place.take(&late), Some(number));
            place.keep(number, source(100 + number)).unwrap();
        }
        assert_eq!(place.take(&honest), Some(7));

        let place = Place::new();
        let handles: Vec<String> = (0..MOST)
            .map(|number| place.keep(number, source(number)).unwrap())
            .collect();
        assert_eq!(place.keep(0, source(MOST)), Err(KeepError::Full));
        assert_eq!(place.pushed_out.get(), 0);
        assert_eq!(place.take(&handles[0]), Some(0));
        assert!(place.keep(0, source(MOST)).is_ok());
    }

    #[test]
    fn a_handle_does_not_show_in_debug_output() {
        let place = Place::new();
        let handle = place.keep(1, None).unwrap();
        assert!(!format!("{:?}", place.waiting).contains(&handle));
    }
}
