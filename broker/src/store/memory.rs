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
        }))
    }

    /// Fails all calls from now on, or none.
    pub(crate) fn fail(&self, failure: Option<StoreError>) {
        self.0.lock().unwrap().failure = failure;
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

    fn version_of(&self, target: &Target) -> Option<u64> {
        let mut all = self.revoked.values();
        all.find(|one| one.revocation.target == *target).map(|one| one.version)
    }
}

impl Store for MemoryStore {
    fn consume_once(&self, tag: ReplayTag, until: UnixTime) -> Answer<'_, Consumed> {
        self.answer(|state| match state.tags.contains_key(&tag) {
            true => Consumed::Again,
            false => {
                state.tags.insert(tag, until);
                Consumed::First
            }
        })
    }

    fn revoke(&self, revocation: Revocation, at: UnixTime) -> Answer<'_, Revoked> {
        self.answer(|state| {
            let mut merged = revocation.clone();
            if let Some(version) = state.version_of(&revocation.target) {
                let before = &state.revoked[&version].revocation;
                merged = merged.merged(before);
                if merged == *before {
                    return Revoked {
                        position: state.position(),
                        revocation: merged,
                    };
                }
                state.revoked.remove(&version);
            }
            state.version = state.version.saturating_add(1);
            let recorded = Recorded {
                version: state.version,
                at,
                revocation: merged.clone(),
            };
            state.revoked.insert(state.version, recorded);
            Revoked {
                position: state.position(),
                revocation: merged,
            }
        })
    }

    fn lift(&self, target: Target) -> Answer<'_, Option<Position>> {
        self.answer(|state| {
            let version = state.version_of(&target)?;
            state.revoked.remove(&version);
            state.version = state.version.saturating_add(1);
            state.continues_from = state.version;
            Some(state.position())
        })
    }

    fn revoked_since(&self, version: u64, most: usize) -> Answer<'_, Changes> {
        self.answer(|state| Changes {
            newest: state.position(),
            continues_from: state.continues_from,
            recorded: state
                .revoked
                .range(version.saturating_add(1)..)
                .map(|(_, one)| one.clone())
                .take(most)
                .collect(),
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
            state
                .revoked
                .retain(|_, one| one.revocation.needed_until.is_none_or(is_needed));
            Swept {
                tags: tags.saturating_sub(state.tags.len()) as u64,
                revocations: revocations.saturating_sub(state.revoked.len()) as u64,
            }
        })
    }
}
