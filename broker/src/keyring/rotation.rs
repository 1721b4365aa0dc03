//! Replaces keys: when it is time, and when somebody asks; says each change in the log.

use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use super::content::{Content, Held, Seal};
use super::key_encryption::KeyEncryptionKey;
use super::stages::{Entry, Removed, Ring};
use super::{ChangeError, Kept, KeyRing, KeyringError, RotateError, Seen, destroy, make};
use crate::audit;
use crate::log::KEPT;
use crate::metrics::KeyMetrics;
use crate::revocation::Revocations;
use crate::store::StoreError;
use crate::time::{Clock, UnixTime};

/// Between two looks at the clock.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two questions to a database, and until every broker that can has heard of a change.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Before what failed is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// Who wants a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// It was time.
    Schedule,
    /// Whoever may open the admin socket; `uid` where the system says it.
    Administrator {
        /// The user at the other end.
        uid: Option<u32>,
    },
    /// Somebody with the state folder, while no broker runs.
    Offline {
        /// The user of the command.
        uid: u32,
    },
}

/// A key for a change.
struct Spare {
    held: Held,
    /// A change with it has failed before.
    was_tried: bool,
}

/// What it is time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// A key of which no token is valid any more.
    Forget,
    /// The next key has been published for long enough.
    Switch,
    /// A key is to be published, to sign when the present one has signed for long enough.
    Publish,
}

impl KeyRing {
    /// When a next key that was published then may sign. What another process published nobody could fetch while it was down.
    fn signs_from(&self, published: UnixTime) -> UnixTime {
        published
            .max(self.0.started)
            .plus(self.0.rotation.lead.seconds().into())
    }

    /// When the next key begins to sign; `None` where none is planned.
    pub fn next_switch(&self) -> Option<UnixTime> {
        let (seen, rotation) = (self.seen(), &self.0.rotation);
        match seen.ring.next_published() {
            Some(published) => Some(self.signs_from(published)),
            None => rotation
                .every
                .map(|every| seen.ring.signing_since().plus(every.seconds().into())),
        }
    }

    fn due(&self, now: UnixTime) -> Option<Due> {
        let (seen, rotation) = (self.seen(), &self.0.rotation);
        if seen.ring.has_ended(now) {
            return Some(Due::Forget);
        }
        if seen.ring.next_published().is_some() {
            return self.next_switch().filter(|at| *at <= now).map(|_| Due::Switch);
        }
        let signing = seen.ring.signing();
        let is_as_configured = signing.key.algorithm() == rotation.algorithm
            && signing.hardware_name().is_some() == rotation.hardware.is_some();
        let lead = u64::from(rotation.lead.seconds());
        let is_time = self.next_switch().is_some_and(|at| at <= now.plus(lead));
        (is_time || !is_as_configured).then_some(Due::Publish)
    }

    /// Publishes a new key, and says its identifier; it signs once it has been published for `lead`.
    pub fn publish(&self, now: UnixTime, by: By) -> Result<String, ChangeError> {
        self.publish_new(|| self.make(), now, by)
    }

    pub(super) fn publish_new(
        &self,
        make: impl FnOnce() -> Result<Held, KeyringError>,
        now: UnixTime,
        by: By,
    ) -> Result<String, ChangeError> {
        // A key takes its time, and hardware has room for so many.
        self.seen().ring.may_publish()?;
        let spare = self.spare_or(make)?;
        let id = spare.held.key.id().to_owned();
        let algorithm = spare.held.key.algorithm();
        self.change_with(Some(&spare), |ring| ring.publish(spare.held.clone(), now))?;
        log("signing key published", &id, by);
        tracing::debug!(kid = id, algorithm = algorithm.name(), "its algorithm");
        Ok(id)
    }

    /// Lets the next key sign that has been published for long enough, and says its identifier; refuses where there is none. The
    /// one that signed is published until `kept_until`, the last second in which a token of its may be valid.
    pub fn switch(&self, now: UnixTime, kept_until: UnixTime, by: By) -> Result<String, ChangeError> {
        let id = self.change(|ring| {
            // Decided again, by what is there now: since somebody saw that it is time, a command may have published another key.
            let published = ring.next_published().ok_or(RotateError::NoOther)?;
            if self.signs_from(published) > now || !ring.switch(now, kept_until) {
                return Err(RotateError::NoOther);
            }
            Ok(ring.signing().key.id().to_owned())
        })?;
        log("signing key in use", &id, by);
        Ok(id)
    }

    /// The same at once, however short the next key was published, and with one that is made where none is: verifiers hear of it with
    /// their next fetch.
    pub fn switch_now(&self, now: UnixTime, kept_until: UnixTime, by: By) -> Result<String, ChangeError> {
        match self.seen().ring.may_publish() {
            Ok(()) | Err(RotateError::AlreadyPublished) => {}
            Err(full) => return Err(full.into()),
        }
        let mut spare = self.spare()?;
        if let (true, Some(made)) = (self.0.place.is_shared(), &spare) {
            // A filter that is shown an unknown key asks once, and perhaps another broker: that one must know it by then.
            self.change_with(Some(made), |ring| ring.publish(made.held.clone(), now))?;
            spare = None;
            thread::sleep(ASK_EVERY.saturating_mul(2));
        }
        let id = self.change_with(spare.as_ref(), |ring| {
            if let Some(spare) = &spare {
                ring.publish(spare.held.clone(), now)?;
            }
            if ring.switch(now, kept_until) {
                Ok(ring.signing().key.id().to_owned())
            } else {
                Err(RotateError::NoOther)
            }
        })?;
        log("signing key in use", &id, by);
        Ok(id)
    }

    /// Forgets the keys of which no token can be valid any more.
    pub fn forget(&self, now: UnixTime, by: By) -> Result<(), ChangeError> {
        for gone in self.change(|ring| Ok(ring.forget(now)))? {
            log("signing key no longer published", gone.key.id(), by);
            self.destroy(&gone);
        }
        Ok(())
    }

    /// Takes a key out at once, and with it all tokens that it signed. Where it is the one that signs, the next does from now on,
    /// or one that is made. Says which key signs then.
    pub fn retire(&self, id: &str, now: UnixTime, by: By) -> Result<String, ChangeError> {
        let all = self.seen().ring.entries();
        let retired = all.into_iter().map(|entry| entry.key).find(|held| held.key.id() == id);
        let retired = retired.ok_or(RotateError::Unknown)?;
        let is_signing = self.signing().id() == id;
        let spare = if is_signing { self.spare()? } else { None };
        let removed = self.change_with(spare.as_ref(), |ring| {
            if let Some(spare) = &spare {
                // The place of the one that goes is its own.
                ring.remove_then_publish(|held| held.key.id() == id, spare.held.clone(), now)
            } else {
                ring.remove(|held| held.key.id() == id, now)
            }
        })?;
        log("signing key retired", id, by);
        let signing = self.signing().id().to_owned();
        if removed == Removed::Signing {
            log("signing key in use", &signing, by);
        }
        self.destroy(&retired);
        Ok(signing)
    }

    /// Takes every key out at once, and with them all tokens: one that is made signs from now on. Says which they were.
    pub fn retire_all(&self, now: UnixTime, by: By) -> Result<Vec<String>, ChangeError> {
        let spare = self.spare_or(|| self.make())?;
        let entries = self.change_with(Some(&spare), |ring| {
            let before = ring.entries();
            *ring = Ring::new(spare.held.clone(), now);
            Ok(before)
        })?;
        let mut retired = Vec::with_capacity(entries.len());
        for Entry { key, .. } in entries {
            let id = key.key.id();
            log("signing key retired", id, by);
            self.destroy(&key);
            retired.push(id.to_owned());
        }
        log("signing key in use", spare.held.key.id(), by);
        Ok(retired)
    }

    /// Lets another key-encryption key open the file, too; it is the newest from now on.
    pub fn add_kek(&self, key: &KeyEncryptionKey, by: By) -> Result<(), ChangeError> {
        self.reseal(|seal| Ok(seal.add(key)?))?;
        log_kek("keys sealed under one key-encryption key more", key, by);
        Ok(())
    }

    /// Lets this key-encryption key alone open the file, under a new data key; it must open it already, and be the newest. A file of
    /// an earlier format that was kept aside opens under the old one, and goes.
    pub fn only_kek(&self, key: &KeyEncryptionKey, by: By) -> Result<(), ChangeError> {
        self.reseal(|seal| {
            if !seal.opens_under(key.id()) {
                return Err(RotateError::NotSealedUnder.into());
            }
            // Whoever has not put the newest in its place yet would be left with a key that opens nothing.
            if !seal.is_newest(key.id()) {
                return Err(RotateError::NewerKek.into());
            }
            *seal = Seal::new(key)?;
            Ok(())
        })?;
        self.0.place.forget_aside()?;
        log_kek("keys sealed under one key-encryption key alone", key, by);
        Ok(())
    }

    /// Writes what is in use down in the format of this release.
    pub(super) fn write_anew(&self) -> Result<(), KeyringError> {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let seal = kept.seal.clone();
        self.write_under(&mut kept, seal)
    }

    fn reseal(&self, work: impl FnOnce(&mut Seal) -> Result<(), ChangeError>) -> Result<(), ChangeError> {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seal = kept.seal.clone();
        work(&mut seal)?;
        Ok(self.write_under(&mut kept, seal)?)
    }

    fn write_under(&self, kept: &mut Kept, seal: Seal) -> Result<(), KeyringError> {
        let seen = self.seen();
        let content = Content {
            ring: seen.ring.clone(),
            sessions: seen.sessions.clone(),
        };
        kept.stamp = self.0.place.replace(&seal.seal(&content)?, kept.stamp)?;
        *self.0.keks.lock().unwrap_or_else(PoisonError::into_inner) = seal.keks();
        kept.seal = seal;
        Ok(())
    }

    fn change<T>(&self, work: impl FnOnce(&mut Ring<Held>) -> Result<T, RotateError>) -> Result<T, ChangeError> {
        self.change_with(None, work)
    }

    /// Writes a changed ring down, and only then puts it in use. A key that was made for it and is not in it then is kept for the
    /// next change where what is written down may name it all the same (a broker without a key that its file names does not
    /// start), and is destroyed where nothing names it.
    fn change_with<T>(
        &self,
        spare: Option<&Spare>,
        work: impl FnOnce(&mut Ring<Held>) -> Result<T, RotateError>,
    ) -> Result<T, ChangeError> {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Spare { held, was_tried }) = spare else {
            return self.write(&mut kept, work);
        };
        let is_it = |other: &Held| other.key.id() == held.key.id();
        if *was_tried && !kept.spares.iter().any(is_it) {
            // It is another change's by now.
            let path = self.0.place.path().to_owned();
            return Err(KeyringError::Meanwhile { path }.into());
        }
        kept.spares.retain(|spare| !is_it(spare));
        let changed = self.write(&mut kept, work);
        let is_named_perhaps = match &changed {
            Ok(_) | Err(ChangeError::Refused(_) | ChangeError::Failed(KeyringError::Meanwhile { .. })) => *was_tried,
            Err(ChangeError::Failed(_)) => true,
        };
        if self.seen().ring.has(is_it) {
            return changed;
        }
        if is_named_perhaps {
            kept.spares.push(held.clone());
        } else {
            drop(kept);
            self.destroy(held);
        }
        changed
    }

    fn write<T>(
        &self,
        kept: &mut Kept,
        work: impl FnOnce(&mut Ring<Held>) -> Result<T, RotateError>,
    ) -> Result<T, ChangeError> {
        let before = self.seen();
        let mut content = Content {
            ring: before.ring.clone(),
            sessions: before.sessions.clone(),
        };
        let done = work(&mut content.ring)?;
        kept.stamp = self.0.place.replace(&kept.seal.seal(&content)?, kept.stamp)?;
        self.0.seen.send_replace(Arc::new(Seen::of(content)));
        Ok(done)
    }

    fn make(&self) -> Result<Held, KeyringError> {
        make(&self.0.rotation, self.0.hardware.as_ref(), self.0.place.path())
    }

    /// A key that is left of a change that failed, or a new one.
    fn spare_or(&self, make: impl FnOnce() -> Result<Held, KeyringError>) -> Result<Spare, KeyringError> {
        let left = {
            let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.spares.last().cloned()
        };
        Ok(match left {
            Some(held) => Spare { held, was_tried: true },
            None => Spare {
                held: make()?,
                was_tried: false,
            },
        })
    }

    /// A key that can sign next, where none is published for that.
    fn spare(&self) -> Result<Option<Spare>, KeyringError> {
        match self.seen().ring.next_published() {
            Some(_) => Ok(None),
            None => self.spare_or(|| self.make()).map(Some),
        }
    }

    fn destroy(&self, held: &Held) {
        destroy(held, self.0.hardware.as_ref());
    }
}

/// Replaces keys when it is time, for ever. What fails is tried again; what is in use goes on.
pub async fn follow_schedule(ring: KeyRing, revocations: Arc<Revocations>, metrics: KeyMetrics, clock: Clock) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut complaint = None;
    loop {
        if complaint.is_some() {
            tokio::time::sleep(PAUSE).await;
        }
        ticks.tick().await;
        let refreshed = if ring.unheard() < ASK_EVERY {
            Ok(false)
        } else {
            refresh(&ring, clock.now()).await
        };
        let outcome = match refreshed {
            Ok(_) => tend(&ring, &revocations, &metrics, clock.now()).await,
            Err(problem) => Err(problem),
        };
        let found = outcome.err();
        metrics.stand(&ring.list(), ring.next_switch(), found.is_some());
        if found != complaint {
            match &found {
                Some(problem) => tracing::error!(problem, "the signing keys stay as they are"),
                None => tracing::info!("signing keys are replaced again"),
            }
            complaint = found;
        }
    }
}

/// Takes over what another broker has done, and says whether there was anything.
async fn refresh(ring: &KeyRing, now: UnixTime) -> Result<bool, String> {
    let ring = ring.clone();
    let refreshed = tokio::task::spawn_blocking(move || ring.refresh(now)).await;
    match refreshed {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Does what it is time for.
pub(super) async fn tend(
    ring: &KeyRing,
    revocations: &Revocations,
    metrics: &KeyMetrics,
    now: UnixTime,
) -> Result<(), String> {
    while let Some(due) = ring.due(now) {
        let kept_until = match due {
            Due::Switch => revocations
                .tokens_end(now)
                .await
                .map_err(|error: StoreError| error.to_string())?,
            Due::Forget | Due::Publish => now,
        };
        let (again, ring) = (ring.clone(), ring.clone());
        // The disk, and RSA keys, take their time.
        let work = move || match due {
            Due::Forget => ring.forget(now, By::Schedule),
            Due::Switch => ring.switch(now, kept_until, By::Schedule).map(drop),
            Due::Publish => ring.publish(now, By::Schedule).map(drop),
        };
        let done = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| error.to_string())?;
        match done {
            Ok(()) if due == Due::Switch => metrics.switched(),
            Ok(()) => {}
            // A command came in between: it is looked at anew what it is time for.
            Err(ChangeError::Refused(RotateError::NoOther | RotateError::AlreadyPublished)) => {}
            // So did another broker.
            Err(ChangeError::Failed(KeyringError::Meanwhile { .. })) => {
                if !refresh(&again, now).await? {
                    return Err("the keys are no longer where they were".to_owned());
                }
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

fn log(what: &'static str, kid: &str, by: By) {
    let (by, uid) = by.words();
    tracing::info!(name: KEPT, target: audit::TARGET, kid, by, uid, "{what}");
}

fn log_kek(what: &'static str, key: &KeyEncryptionKey, by: By) {
    let (by, uid) = by.words();
    tracing::info!(name: KEPT, target: audit::TARGET, key_encryption_key = key.id().as_str(), by, uid, "{what}");
}

impl By {
    const fn words(self) -> (&'static str, Option<u32>) {
        match self {
            Self::Schedule => ("schedule", None),
            Self::Administrator { uid } => ("administrator", uid),
            Self::Offline { uid } => ("offline", Some(uid)),
        }
    }
}
