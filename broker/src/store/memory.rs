//! Is the plainest reading of what a store promises, in memory: for tests of those who use one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use kerbridge_wire::feed::Hex;

use super::*;
use crate::keyring::random;

/// Keeps everything until it is dropped, or fails as told.
#[derive(Debug)]
pub(crate) struct MemoryStore(Mutex<State>);

#[derive(Debug)]
struct State {
    failure: Option<StoreError>,
    is_frozen: bool,
    tags: HashMap<ReplayTag, UnixTime>,
    epoch: [u8; 16],
    version: u64,
    continues_from: u64,
    tokens_end: UnixTime,
    revoked: BTreeMap<u64, Recorded>,
    versions: HashMap<Target, u64>,
    /// Commits that revoked something.
    changes: u64,
    reads: u64,
}

impl MemoryStore {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State {
            failure: None,
            is_frozen: false,
            tags: HashMap::new(),
            epoch: *random::<16>().unwrap(),
            version: 0,
            continues_from: 0,
            tokens_end: UnixTime::default(),
            revoked: BTreeMap::new(),
            versions: HashMap::new(),
            changes: 0,
            reads: 0,
        }))
    }

    /// Fails all calls from now on, or none.
    pub(crate) fn fail(&self, failure: Option<StoreError>) {
        self.0.lock().unwrap().failure = failure;
    }

    /// In how many commits something was revoked.
    pub(crate) fn changes(&self) -> u64 {
        self.0.lock().unwrap().changes
    }

    /// How often it was asked what was revoked.
    pub(crate) fn reads(&self) -> u64 {
        self.0.lock().unwrap().reads
    }

    /// Answers no call from now on.
    pub(crate) fn freeze(&self) {
        self.0.lock().unwrap().is_frozen = true;
    }

    fn answer<'a, T: Send + 'a>(&'a self, work: impl FnOnce(&mut State) -> T) -> Answer<'a, T> {
        let mut state = self.0.lock().unwrap();
        if state.is_frozen {
            return Box::pin(std::future::pending());
        }
        let answer = match state.failure.clone() {
            Some(failure) => Err(failure),
            None => Ok(work(&mut state)),
        };
        Box::pin(async { answer })
    }
}

impl State {
    fn position(&self) -> Position {
        Position {
            epoch: Hex(self.epoch),
            version: self.version,
        }
    }

    fn revoke(&mut self, revocation: &Revocation, at: UnixTime) -> Revoked {
        let mut merged = revocation.clone();
        if let Some(version) = self.version_of(&revocation.target) {
            let before = &self.revoked[&version].revocation;
            merged = merged.merged(before);
            if merged == *before {
                return Revoked {
                    position: self.position(),
                    revocation: merged,
                };
            }
            self.revoked.remove(&version);
        }
        self.version = self.version.saturating_add(1);
        let recorded = Recorded {
            version: self.version,
            at,
            revocation: merged.clone(),
        };
        self.versions.insert(merged.target.clone(), self.version);
        self.revoked.insert(self.version, recorded);
        Revoked {
            position: self.position(),
            revocation: merged,
        }
    }

    fn version_of(&self, target: &Target) -> Option<u64> {
        self.versions.get(target).copied()
    }
}

impl Store for MemoryStore {
    /// Two brokers of a test may have it.
    fn is_shared(&self) -> bool {
        true
    }

    fn consume_once(&self, tag: ReplayTag, until: UnixTime) -> Answer<'_, Consumed> {
        self.answer(|state| match state.tags.contains_key(&tag) {
            true => Consumed::Again,
            false => {
                state.tags.insert(tag, until);
                Consumed::First
            }
        })
    }

    fn revoke_all(&self, revocations: Vec<Revocation>, at: UnixTime) -> Answer<'_, Vec<Revoked>> {
        self.answer(|state| {
            state.changes = state.changes.saturating_add(1);
            let one = |revocation| state.revoke(revocation, at);
            revocations.iter().map(one).collect()
        })
    }

    fn lift(&self, target: Target) -> Answer<'_, Option<Position>> {
        self.answer(|state| {
            let version = state.versions.remove(&target)?;
            state.revoked.remove(&version);
            state.version = state.version.saturating_add(1);
            state.continues_from = state.version;
            Some(state.position())
        })
    }

    fn revoked_since(&self, version: u64, most: usize) -> Answer<'_, Changes> {
        self.answer(|state| {
            state.reads = state.reads.saturating_add(1);
            Changes {
                newest: state.position(),
                continues_from: state.continues_from,
                recorded: state
                    .revoked
                    .range(version.saturating_add(1)..)
                    .map(|(_, one)| one.clone())
                    .take(most)
                    .collect(),
            }
        })
    }

    fn tokens_end(&self, at_least: UnixTime) -> Answer<'_, UnixTime> {
        self.answer(|state| {
            state.tokens_end = state.tokens_end.max(at_least);
            state.tokens_end
        })
    }

    fn sweep(&self, now: UnixTime) -> Answer<'_, Swept> {
        self.answer(|state| {
            let (tags, revocations) = (state.tags.len(), state.revoked.len());
            state.tags.retain(|_, until| *until > now);
            let is_needed = |until: UnixTime| until.plus(KEPT_LONGER) >= now;
            let State {
                revoked,
                versions: known,
                ..
            } = state;
            revoked.retain(|_, one| {
                let stays = one.revocation.needed_until.is_none_or(is_needed);
                if !stays {
                    known.remove(&one.revocation.target);
                }
                stays
            });
            Swept {
                tags: tags.saturating_sub(state.tags.len()) as u64,
                revocations: revocations.saturating_sub(state.revoked.len()) as u64,
            }
        })
    }
}
