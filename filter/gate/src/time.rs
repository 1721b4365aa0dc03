//! Gives time a type; the host's clock is read elsewhere.

use std::fmt;

/// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted (`NumericDate`, RFC 7519 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

/// 9999-12-31T23:59:59Z; what lies after it is no date but a mistake.
const LAST: u64 = 253_402_300_799;

impl UnixTime {
    /// A time, if it lies before the year 10000.
    pub const fn from_seconds(seconds: u64) -> Option<Self> {
        if seconds <= LAST { Some(Self(seconds)) } else { None }
    }

    /// Seconds since the epoch, at most 253,402,300,799.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// This time and so many seconds more; stops at the end of the year 9999.
    #[must_use]
    pub const fn plus(self, seconds: u64) -> Self {
        let sum = self.0.saturating_add(seconds);
        Self(if sum > LAST { LAST } else { sum })
    }

    /// Seconds from `earlier` to this, 0 where `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
