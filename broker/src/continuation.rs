//! Keeps handshakes that wait for their second leg: few, for seconds, each under a random handle that works once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prometheus_client::metrics::gauge::Gauge;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::time::UnixTime;

/// Handshakes that may wait at once. Each holds some kilobytes and no ticket.
pub const MOST: usize = 1000;
/// Seconds that a client has for its second leg.
pub const LIFE: u64 = 10;

/// The handshakes that wait. More than [`MOST`] are refused and none is pushed out: a flood of first legs must not end the
/// handshakes of others.
pub struct Continuations<T> {
    waiting: Mutex<HashMap<String, Waiting<T>>>,
    count: Gauge,
}

struct Waiting<T> {
    what: T,
    until: UnixTime,
}

/// Why a handshake cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepError {
    /// As many wait as may.
    Full,
    /// The operating system's source of randomness failed.
    NoRandomness,
}

impl<T> Continuations<T> {
    /// None yet; `count` shows how many there are.
    pub fn new(count: Gauge) -> Self {
        Self {
            waiting: Mutex::default(),
            count,
        }
    }

    /// Keeps a handshake until its time is over. Returns its handle: 128 random bits as 22 characters of base64url.
    pub fn keep(&self, what: T, now: UnixTime) -> Result<String, KeepError> {
        let mut handle = [0_u8; 16];
        SystemRandom::new()
            .fill(&mut handle)
            .map_err(|_| KeepError::NoRandomness)?;
        let handle = URL_SAFE_NO_PAD.encode(handle);
        let mut waiting = self.current(now);
        if waiting.len() >= MOST {
            return Err(KeepError::Full);
        }
        let until = now.plus(LIFE);
        waiting.insert(handle.clone(), Waiting { what, until });
        self.show(&waiting);
        Ok(handle)
    }

    /// The handshake with this handle, which then is spent; `None` where there is none, or its time is over.
    pub fn take(&self, handle: &str, now: UnixTime) -> Option<T> {
        let mut waiting = self.current(now);
        let taken = waiting.remove(handle).map(|waiting| waiting.what);
        self.show(&waiting);
        taken
    }

    /// Those whose time is not over.
    fn current(&self, now: UnixTime) -> MutexGuard<'_, HashMap<String, Waiting<T>>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, waiting| now < waiting.until);
        waiting
    }

    fn show(&self, waiting: &HashMap<String, Waiting<T>>) {
        self.count.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
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
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    #[test]
    fn a_handle_works_once_and_only_for_its_own() {
        let count = Gauge::default();
        let waiting = Continuations::new(count.clone());
        let one = waiting.keep("one", at(100)).unwrap();
        let two = waiting.keep("two", at(100)).unwrap();
        assert_eq!((one.len(), count.get()), (22, 2));
        assert_ne!(one, two);
        assert_eq!(waiting.take(&one, at(100)), Some("one"));
        assert_eq!(waiting.take(&one, at(100)), None);
        assert_eq!(waiting.take("", at(100)), None);
        assert_eq!(waiting.take(&two, at(100)), Some("two"));
        assert_eq!(count.get(), 0);
    }

    #[test]
    fn a_handle_is_spent_after_ten_seconds() {
        let waiting = Continuations::new(Gauge::default());
        let (in_time, late) = (waiting.keep(1, at(100)).unwrap(), waiting.keep(2, at(100)).unwrap());
        assert_eq!(waiting.take(&in_time, at(109)), Some(1));
        assert_eq!(waiting.take(&late, at(110)), None);
    }

    #[test]
    fn a_thousand_may_wait_and_none_is_pushed_out() {
        let count = Gauge::default();
        let waiting = Continuations::new(count.clone());
        let first = waiting.keep(0, at(100)).unwrap();
        for number in 1..MOST {
            waiting.keep(number, at(105)).unwrap();
        }
        assert_eq!(waiting.keep(MOST, at(109)), Err(KeepError::Full));
        assert_eq!(waiting.take(&first, at(109)), Some(0));
        assert!(waiting.keep(MOST, at(109)).is_ok());
        assert_eq!(waiting.keep(MOST, at(109)), Err(KeepError::Full));
        // Those whose time is over make room, whoever asks.
        assert_eq!(waiting.take("none", at(115)), None);
        assert_eq!(count.get(), 1);
    }

    #[test]
    fn a_handle_does_not_show_in_debug_output() {
        let waiting = Continuations::new(Gauge::default());
        let handle = waiting.keep(1, at(100)).unwrap();
        assert!(!format!("{waiting:?}").contains(&handle));
    }
}
