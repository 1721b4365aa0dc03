//! Decides which of the published pages a VM reads next, and when it gives them up for a new series.
//!
//! A page that was good when it was published need not stay so: its key may be taken back since. Whoever read it then knows what
//! it says, but who comes later cannot read it, and nothing that builds on it. Such a VM says so on the board, and the one
//! that polls fetches all anew; that one says so itself where a key goes that signed what it published.

use std::rc::Rc;

use super::board::Pages;
use crate::time::UnixTime;

/// Seconds after which a VM that could not read a page reads all that is published once more. Twice as many each time.
const AGAIN: u64 = 5;
/// The most doublings of it.
const DOUBLINGS: u32 = 6;
/// How often a VM tries to read a series before it gives it up.
const ATTEMPTS: u32 = 2;

/// What a VM reads next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing before something else is published.
    Nothing,
    /// This page of the series.
    Page(u32),
    /// The newest page that changed nothing but the time.
    Newest,
}

/// What one VM has read of an issuer's published pages.
#[derive(Debug, Default)]
pub struct Reader {
    read: Pages,
    /// Keys that signed the pages which were read of this series.
    signers: Vec<Rc<str>>,
    /// Since when it cannot go on.
    stuck: Option<UnixTime>,
    /// The series that could not be read, and how often.
    failed: (u64, u32),
    /// Failures since it last read all that was published.
    failures: u32,
}

impl Reader {
    /// What of the published pages was read.
    pub const fn read(&self) -> Pages {
        self.read
    }

    /// Begins with the first page again.
    pub fn restart(&mut self) {
        self.skip_to(Pages::default());
    }

    /// Takes these pages for read.
    pub fn skip_to(&mut self, pages: Pages) {
        self.read = pages;
        self.signers.clear();
        self.stuck = None;
    }

    /// Whether it could not go on when it last tried, so that it must begin again.
    pub const fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    /// Whether it is time to read: it is not stuck, or was for long enough, or there is another series.
    pub fn may_read(&self, published: Option<Pages>, now: UnixTime) -> bool {
        let (series, _) = self.failed;
        let is_another = published.is_some_and(|pages| pages.series != series);
        let doublings = self.failures.saturating_sub(1).min(DOUBLINGS);
        let pause = AGAIN.saturating_mul(1_u64.wrapping_shl(doublings));
        self.stuck
            .is_none_or(|since| is_another || since > now || now.since(since) >= pause)
    }

    /// What to read next of what is published.
    pub fn next(&mut self, published: Pages) -> Next {
        if published.series != self.read.series {
            self.signers.clear();
            self.read = Pages {
                series: published.series,
                count: 0,
                ..self.read
            };
        }
        if self.read.count < published.count {
            return Next::Page(self.read.count);
        }
        self.failures = 0;
        if self.read.newest == published.newest {
            Next::Nothing
        } else {
            Next::Newest
        }
    }

    /// What was to be read was, or will not be missed.
    pub fn took(&mut self, next: Next, published: Pages, signer: Option<Rc<str>>) {
        match next {
            Next::Nothing => {}
            Next::Page(page) => {
                self.read.count = page.saturating_add(1);
                self.signed_by(signer);
            }
            Next::Newest => self.read.newest = published.newest,
        }
    }

    /// This VM published a page itself: it stands on the board like this now.
    pub fn published(&mut self, now_read: Pages, signer: Rc<str>) {
        if now_read.series != self.read.series {
            self.signers.clear();
        }
        if (now_read.series, now_read.count) != (self.read.series, self.read.count) {
            self.signed_by(Some(signer));
        }
        self.read = now_read;
    }

    fn signed_by(&mut self, signer: Option<Rc<str>>) {
        if let Some(signer) = signer.filter(|signer| !self.signers.contains(signer)) {
            self.signers.push(signer);
        }
    }

    /// It cannot go on with what is published.
    pub fn failed(&mut self, published: Pages, now: UnixTime) {
        let (series, times) = self.failed;
        let times = if series == published.series { times } else { 0 };
        self.failed = (published.series, times.saturating_add(1));
        self.failures = self.failures.saturating_add(1);
        self.stuck = Some(now);
    }

    /// Whether it tried often enough, so that nobody who comes later is to begin with this series.
    pub fn gives_up(&self, published: Pages) -> bool {
        let (series, times) = self.failed;
        self.stuck.is_some() && !published.is_void && series == published.series && times >= ATTEMPTS
    }

    /// Whether a key that signed a page of the series is none of the issuer's any more.
    pub fn has_lost_a_signer(&self, is_known: impl Fn(&str) -> bool) -> bool {
        self.signers.iter().any(|signer| !is_known(signer))
    }
}

#[cfg(test)]
mod tests;
