//! Decides whether the KDC is asked a question now: so that a realm whose KDC hangs keeps few threads, and for a deadline only.
//!
//! A question about a user of a trusted realm needs that realm's KDC too, and every question needs our own. So the questions about
//! each trusted realm may take half of the threads, and those about all of them together leave one: what hangs there never keeps
//! the users of our own realm waiting. Our own realm may have all threads, since where its KDC hangs nobody is served anyway.
//!
//! A realm that owes an answer for longer than a request may take is overdue: whoever wants to ask it is told so at once. One
//! question goes through each [`PAUSE`], to find out; the first answer that the KDC gives ends it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How long a realm that was overdue is not asked, but for one question each time.
const PAUSE: Duration = Duration::from_secs(5);

/// The questions under way. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Asking(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The realm of our own KDC.
    home: String,
    patience: Duration,
    /// How many questions about one trusted realm may be under way.
    most_of_one: usize,
    /// The same for all of them.
    abroad: Arc<Semaphore>,
    /// Questions about one trusted realm that may wait for a place.
    most_waiting: usize,
    /// Those of the configuration: nobody else's users are asked about.
    realms: Mutex<HashMap<String, Realm>>,
}

#[derive(Debug)]
struct Realm {
    places: Arc<Semaphore>,
    /// For those that wait for a place: each realm has its own, so that those of one that hangs take nobody else's.
    waiting: Arc<Semaphore>,
    under_way: Vec<Begun>,
    /// The question that began last of those that were answered.
    answered: Option<Instant>,
    /// Overdue, and not asked until then.
    until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begun(Instant);

/// A realm's KDC owes an answer: another question would wait as long, and keep one more thread from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overdue;

/// As many questions wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// The right to ask one question about a user of a realm.
#[derive(Debug)]
pub(super) struct Place {
    all: Asking,
    realm: String,
    _abroad: Option<[OwnedSemaphorePermit; 2]>,
}

/// A question under way, until it is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    place: Place,
    begun: Begun,
    is_answered: bool,
}

impl Asking {
    /// Questions for so many threads, as a service of the realm `home`; one that takes longer than `patience` is overdue. Of those
    /// about each other realm so many may wait for a thread.
    pub(super) fn new(home: &str, patience: Duration, threads: usize, waiting: usize) -> Self {
        Self(Arc::new(Inner {
            home: home.to_owned(),
            patience,
            most_of_one: threads.wrapping_div(2).max(1),
            abroad: Arc::new(Semaphore::new(threads.saturating_sub(1).max(1))),
            most_waiting: waiting.min(Semaphore::MAX_PERMITS),
            realms: Mutex::default(),
        }))
    }

    /// Whether a realm is not to be asked just now.
    pub(super) fn is_overdue(&self, realm: &str) -> bool {
        self.with(realm, |realm, patience| realm.look(patience).is_some())
    }

    /// Whether it may be asked: it is not overdue, or nobody has tried for a while.
    pub(super) fn may_ask(&self, realm: &str) -> Result<(), Overdue> {
        self.with(realm, |realm, patience| match realm.look(patience) {
            None => Ok(()),
            Some(until) if Instant::now() < until || realm.places.available_permits() == 0 => Err(Overdue),
            Some(_) => {
                realm.pause();
                Ok(())
            }
        })
    }

    /// Waits for the right to ask.
    pub(super) async fn place(&self, realm: &str) -> Result<Place, TooMany> {
        let place = |abroad| Place {
            all: self.clone(),
            realm: realm.to_owned(),
            _abroad: abroad,
        };
        let Inner { home, abroad, .. } = &*self.0;
        if realm == home {
            return Ok(place(None));
        }
        let (of_one, waiting) = self.with(realm, |realm, _| {
            (Arc::clone(&realm.places), Arc::clone(&realm.waiting))
        });
        let waits = waiting.try_acquire().map_err(|_| TooMany)?;
        // Neither is ever closed.
        let of_one = of_one.acquire_owned().await.map_err(|_| TooMany)?;
        let of_all = Arc::clone(abroad).acquire_owned().await.map_err(|_| TooMany)?;
        drop(waits);
        Ok(place(Some([of_one, of_all])))
    }

    fn with<T>(&self, realm: &str, look: impl FnOnce(&mut Realm, Duration) -> T) -> T {
        let mut realms = self.realms();
        if let Some(known) = realms.get_mut(realm) {
            return look(known, self.0.patience);
        }
        let known = realms.entry(realm.to_owned()).or_insert_with(|| Realm {
            places: Arc::new(Semaphore::new(self.0.most_of_one)),
            waiting: Arc::new(Semaphore::new(self.0.most_waiting)),
            under_way: Vec::new(),
            answered: None,
            until: None,
        });
        look(known, self.0.patience)
    }

    fn realms(&self) -> MutexGuard<'_, HashMap<String, Realm>> {
        self.0.realms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Realm {
    /// Until when it is not asked, where it is overdue.
    fn look(&mut self, patience: Duration) -> Option<Instant> {
        if self.until.is_none() && self.under_way.iter().any(|begun| self.is_late(*begun, patience)) {
            self.pause();
        }
        self.until
    }

    /// Whether a question takes too long, and none that began later was answered meanwhile.
    fn is_late(&self, begun: Begun, patience: Duration) -> bool {
        let Begun(at) = begun;
        at.elapsed() > patience && self.answered.is_none_or(|answered| answered < at)
    }

    fn pause(&mut self) {
        self.until = Instant::now().checked_add(PAUSE);
    }
}

impl Place {
    /// The question is asked from now on.
    pub(super) fn begin(self) -> UnderWay {
        let begun = Begun(Instant::now());
        self.all.with(&self.realm, |realm, _| realm.under_way.push(begun));
        UnderWay {
            place: self,
            begun,
            is_answered: false,
        }
    }
}

impl UnderWay {
    /// A KDC has answered, in whatever words.
    pub(super) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Self {
            place,
            begun,
            is_answered,
        } = self;
        place.all.with(&place.realm, |realm, patience| {
            // Those that are alike count alike: any of them will do.
            if let Some(at) = realm.under_way.iter().position(|other| *other == *begun) {
                realm.under_way.swap_remove(at);
            }
            if *is_answered {
                realm.answered = realm.answered.max(Some(begun.0));
                realm.until = None;
            } else if realm.is_late(*begun, patience) {
                realm.pause();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);
    const LATE: Duration = Duration::from_millis(1001);

    fn asking(threads: usize) -> Asking {
        Asking::new("HOME", PATIENCE, threads, 8)
    }

    async fn begin(asking: &Asking, realm: &str) -> UnderWay {
        asking.place(realm).await.unwrap().begin()
    }

    /// Whether there is a place at once.
    async fn has_room(asking: &Asking, realm: &str) -> bool {
        tokio::time::timeout(Duration::ZERO, asking.place(realm)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_realm_that_owes_an_answer_is_not_asked_and_others_are() {
        let asking = asking(8);
        let (first, second) = (begin(&asking, "A").await, begin(&asking, "A").await);
        assert_eq!(asking.may_ask("A"), Ok(()));
        tokio::time::advance(LATE).await;
        assert_eq!(asking.may_ask("A"), Err(Overdue));
        assert!(asking.is_overdue("A") && !asking.is_overdue("B"));
        assert_eq!(asking.may_ask("B"), Ok(()));
        // The other one hangs still; what was asked no earlier has been answered.
        first.answered();
        assert_eq!(asking.may_ask("A"), Ok(()));
        drop(second);
        assert_eq!(asking.may_ask("A"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_realm_that_was_overdue_is_asked_one_question_at_a_time_until_it_answers() {
        let asking = asking(8);
        let hanging = begin(&asking, "A").await;
        tokio::time::advance(LATE).await;
        assert_eq!(asking.may_ask("A"), Err(Overdue));
        // Whoever hung gave up without an answer.
        drop(hanging);
        for _ in 0..3 {
            assert_eq!(asking.may_ask("A"), Err(Overdue));
            tokio::time::advance(PAUSE).await;
            assert_eq!(asking.may_ask("A"), Ok(()), "the one that tries");
            let tries = begin(&asking, "A").await;
            assert_eq!(asking.may_ask("A"), Err(Overdue), "the next one");
            tokio::time::advance(LATE).await;
            drop(tries);
        }
        tokio::time::advance(PAUSE).await;
        assert_eq!(asking.may_ask("A"), Ok(()));
        begin(&asking, "A").await.answered();
        assert_eq!((asking.may_ask("A"), asking.is_overdue("A")), (Ok(()), false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_nobody_waited_for_has_told_of_a_realm_that_hangs() {
        let asking = asking(8);
        let hanging = begin(&asking, "A").await;
        tokio::time::advance(LATE).await;
        drop(hanging);
        assert_eq!(asking.may_ask("A"), Err(Overdue));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_fails_at_once_is_no_sign_of_a_realm_that_hangs() {
        let asking = asking(8);
        drop(begin(&asking, "A").await);
        assert_eq!(asking.may_ask("A"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trusted_realm_has_half_of_the_threads_and_all_of_them_leave_one_to_our_own() {
        let asking = asking(4);
        let mut hanging = vec![begin(&asking, "A").await, begin(&asking, "A").await];
        assert!(!has_room(&asking, "A").await);
        hanging.push(begin(&asking, "B").await);
        assert!(!has_room(&asking, "B").await && !has_room(&asking, "C").await);
        for _ in 0..4 {
            hanging.push(begin(&asking, "HOME").await);
        }
        hanging.remove(0).answered();
        assert!(has_room(&asking, "C").await);
        // Nobody tries a realm whose places are all taken.
        tokio::time::advance(PAUSE).await;
        hanging.push(begin(&asking, "A").await);
        tokio::time::advance(PAUSE).await;
        assert_eq!(asking.may_ask("A"), Err(Overdue));
        tokio::time::advance(PAUSE).await;
        assert_eq!(asking.may_ask("A"), Err(Overdue));
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_for_a_realm_that_hangs_take_no_place_of_those_that_wait_for_another() {
        let asking = Asking::new("HOME", PATIENCE, 4, 1);
        let _hanging = [begin(&asking, "A").await, begin(&asking, "A").await];
        let waits = asking.clone();
        let waits = tokio::spawn(async move { waits.place("A").await.map(drop) });
        tokio::task::yield_now().await;
        assert_eq!(asking.place("A").await.err(), Some(TooMany));
        let in_time = tokio::time::timeout(PATIENCE, asking.place("B"));
        assert!(in_time.await.unwrap().is_ok());
        waits.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn one_thread_is_everybodys_and_no_more_wait_for_it_than_may() {
        let asking = Asking::new("HOME", PATIENCE, 1, 1);
        let only = begin(&asking, "A").await;
        let waits = asking.clone();
        let waits = tokio::spawn(async move { waits.place("A").await.map(drop) });
        tokio::task::yield_now().await;
        assert_eq!(asking.place("A").await.err(), Some(TooMany));
        only.answered();
        assert_eq!(waits.await.unwrap(), Ok(()));
    }
}
