//! Ends what asks KDCs within one deadline: libkrb5 waits for a KDC that hangs for longer than anybody waits for the doctor, and
//! cannot be interrupted.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use kerbridge_wire::Span;
use tokio::time::Instant;

use super::finding::Finding;

/// How long all questions to KDCs may take together.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    began: Instant,
    within: Span,
}

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All was looked at.
    Done,
    /// The time was over before it began.
    NotBegun,
    /// The time is over; what was found until then is known. The thread ends with the process.
    Late,
    /// It ended without a word: a fault of this program.
    Failed,
}

impl Deadline {
    /// From now on.
    pub fn after(within: Span) -> Self {
        Self {
            began: Instant::now(),
            within,
        }
    }

    /// The whole of it.
    pub fn within(&self) -> Span {
        self.within
    }

    /// Looks on a thread of its own, and takes each finding as soon as it is known.
    pub fn look(&self, look: impl FnOnce(&mut dyn FnMut(Finding)) + Send + 'static) -> (Vec<Finding>, End) {
        let mut findings = Vec::new();
        if self.left().is_zero() {
            return (findings, End::NotBegun);
        }
        let (sender, receiver) = mpsc::channel();
        let looking = thread::spawn(move || {
            look(&mut |finding| {
                // Nobody may wait any more.
                drop(sender.send(finding));
            });
        });
        loop {
            match receiver.recv_timeout(self.left()) {
                Ok(finding) => findings.push(finding),
                Err(RecvTimeoutError::Timeout) => return (findings, End::Late),
                Err(RecvTimeoutError::Disconnected) => {
                    let end = looking.join().map_or(End::Failed, |()| End::Done);
                    return (findings, end);
                }
            }
        }
    }

    fn left(&self) -> Duration {
        Duration::from_secs(self.within.seconds().into()).saturating_sub(self.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(found: &str) -> Finding {
        Finding::good("check", "subject", found)
    }

    #[test]
    fn what_does_not_end_is_left_with_what_it_found_and_nothing_is_begun_after_it() {
        let deadline = Deadline::after("1s".parse().unwrap());
        let both = |found: &mut dyn FnMut(Finding)| {
            found(finding("one"));
            found(finding("two"));
        };
        assert_eq!(deadline.look(both), (vec![finding("one"), finding("two")], End::Done));
        let (_open, hangs) = mpsc::channel::<()>();
        let one_and_then = move |found: &mut dyn FnMut(Finding)| {
            found(finding("one"));
            assert!(hangs.recv().is_err(), "nobody sends");
        };
        assert_eq!(deadline.look(one_and_then), (vec![finding("one")], End::Late));
        assert_eq!(deadline.look(both), (Vec::new(), End::NotBegun));
    }
}
