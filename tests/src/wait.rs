//! Waits for a condition instead of sleeping, and says which condition it was that did not come.

use std::time::{Duration, Instant};

use crate::error::HarnessError;

/// The pause between two looks at a condition.
pub const POLL: Duration = Duration::from_millis(10);

/// A moment by which something must have happened.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: Instant,
    within: Duration,
}

impl Deadline {
    /// The moment `within` from now.
    #[expect(clippy::disallowed_methods, reason = "the harness owns the clock of its time limits")]
    #[must_use]
    pub fn after(within: Duration) -> Self {
        Self {
            start: Instant::now(),
            within,
        }
    }

    /// Whether the moment is over.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.start.elapsed() >= self.within
    }

    /// The time since [`Deadline::after`] was called.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The whole time that was allowed.
    #[must_use]
    pub fn within(&self) -> Duration {
        self.within
    }
}

/// Counts from the moment at which it was started.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts to count.
    #[must_use]
    pub fn start() -> Self {
        Self(moment())
    }

    /// Milliseconds until now.
    #[must_use]
    pub fn ms(&self) -> u64 {
        milliseconds(self.0.elapsed())
    }

    /// Milliseconds until that moment; 0 where it came before.
    #[must_use]
    pub fn ms_at(&self, moment: Instant) -> u64 {
        milliseconds(moment.saturating_duration_since(self.0))
    }
}

fn milliseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// This moment, for what is recorded.
#[expect(clippy::disallowed_methods, reason = "the harness owns the clock of what it records")]
#[must_use]
pub fn moment() -> Instant {
    Instant::now()
}

/// Looks at `condition` every 10 ms until it is true.
///
/// # Errors
///
/// [`HarnessError::TimedOut`], naming `what`, when it is still false after `within`.
pub fn wait_until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) -> Result<(), HarnessError> {
    wait_for(what, within, || condition().then_some(()))
}

/// Looks every 10 ms until `probe` has a value, and returns it.
///
/// # Errors
///
/// [`HarnessError::TimedOut`], naming `what`, when there is none after `within`.
pub fn wait_for<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T, HarnessError> {
    let deadline = Deadline::after(within);
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if deadline.passed() {
            return Err(HarnessError::TimedOut {
                what: what.to_owned(),
                within,
                log: String::new(),
            });
        }
        std::thread::sleep(POLL);
    }
}
