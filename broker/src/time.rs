//! Says what a moment is: whole seconds since 1970, always an argument, read from the clock in one place only.

pub mod moment;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z (`NumericDate` of RFC 7519 §2, without fractions).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    /// That many seconds after 1970 began.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970 began.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// This moment and some seconds; the end of time where there is no such moment.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Seconds from this moment until a later one, 0 if it is not later.
    pub const fn until(self, later: Self) -> u64 {
        later.0.saturating_sub(self.0)
    }
}

/// Where the server asks for the time: the machine's clock, or a fixed moment in a test.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// Always this moment.
    Fixed(UnixTime),
    /// What the test has set, in seconds.
    #[cfg(test)]
    Set(&'static std::sync::atomic::AtomicU64),
}

impl Clock {
    /// The moment now. A clock before 1970 reads as 1970, at which no ticket is valid.
    pub fn now(self) -> UnixTime {
        match self {
            Self::System => UnixTime(since_1970().as_secs()),
            Self::Fixed(moment) => moment,
            #[cfg(test)]
            Self::Set(seconds) => UnixTime(seconds.load(std::sync::atomic::Ordering::SeqCst)),
        }
    }

    /// Since 1970 began, as exactly as it is known: for what is measured and shown, never for what is judged.
    pub fn since_1970(self) -> Duration {
        match self {
            Self::System => since_1970(),
            Self::Fixed(moment) => Duration::from_secs(moment.0),
            #[cfg(test)]
            Self::Set(_) => Duration::from_secs(self.now().0),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the owner of the clock")]
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
