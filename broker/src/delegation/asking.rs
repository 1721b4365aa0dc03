//! Knows which questions the KDC is asked just now, and so whether it is worth asking it another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The realms whose KDCs a question may need: the user's and the target's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Realms(pub(super) String, pub(super) String);

/// The questions under way. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    under_way: Arc<Mutex<Vec<Begun>>>,
    patience: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Begun {
    realms: Realms,
    at: Instant,
}

/// A question under way, until it is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    all: Asking,
    own: Begun,
}

impl Asking {
    /// A question that takes longer than `patience` is overdue.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            under_way: Arc::default(),
            patience,
        }
    }

    /// Notes one more.
    pub(super) fn begin(&self, realms: Realms) -> UnderWay {
        let own = Begun {
            realms,
            at: Instant::now(),
        };
        self.under_way().push(own.clone());
        UnderWay { all: self.clone(), own }
    }

    /// Whether these realms' KDCs owe an answer: another question would wait as long, and keep one more thread from others.
    pub(super) fn is_overdue(&self, realms: &Realms) -> bool {
        self.under_way()
            .iter()
            .any(|begun| begun.realms == *realms && begun.at.elapsed() > self.patience)
    }

    fn under_way(&self) -> MutexGuard<'_, Vec<Begun>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.all.under_way();
        // Those that are alike count alike: any of them will do.
        if let Some(at) = under_way.iter().position(|begun| *begun == self.own) {
            under_way.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_realm_that_owes_an_answer_is_not_asked_and_others_are() {
        let asking = Asking::new(Duration::from_secs(1));
        let realms = |user: &str| Realms(user.into(), "A".into());
        let (first, second) = (asking.begin(realms("A")), asking.begin(realms("A")));
        assert!(!asking.is_overdue(&realms("A")));
        tokio::time::advance(Duration::from_millis(1001)).await;
        assert!(asking.is_overdue(&realms("A")));
        assert!(!asking.is_overdue(&realms("B")));
        drop(first);
        assert!(asking.is_overdue(&realms("A")));
        drop(second);
        assert!(!asking.is_overdue(&realms("A")));
    }
}
