//! Holds a request while a signature is checked or an issuer's keys are fetched. Each state is consumed by its answer.

use std::rc::Rc;

use kerbridge_wire::Reason;

use super::{Gate, Requirements, pass};
use crate::config::Issuer;
use crate::demand::{Demand, Turn};
use crate::jwt::CompactJws;
use crate::refusal::{Asked, Refusal};
use crate::response::Minted;
use crate::secret::Secret;
use crate::step::Step;
use crate::time::UnixTime;
use crate::verification::{self, Found, Missing, Unverified, find_issuer};
use crate::verified::Verified;

/// Seconds that a request waits for keys.
const KEY_PATIENCE: u64 = 2;

/// A token whose signature is being checked. Consumed by the answer.
#[derive(Debug)]
pub struct PendingSignature {
    asked: Asked,
    requirements: Requirements,
    unverified: Unverified,
    origin: Origin,
}

/// A request whose token was signed by a key that is being looked for. Consumed when the keys came or its time is over.
#[derive(Debug)]
pub struct PendingKeys {
    asked: Asked,
    requirements: Requirements,
    origin: Origin,
    deadline: UnixTime,
}

/// Where a token came from: a bad one from a client is its fault, a bad one from the broker is ours.
#[derive(Debug)]
pub(crate) enum Origin {
    Shown(Secret),
    Exchanged(Minted),
}

/// Goes on with a token that is not known: asks for its signature to be checked, or for its key to be fetched.
pub(super) fn verify(gate: &mut Gate, asked: Asked, requirements: Requirements, now: UnixTime, origin: Origin) -> Step {
    let deadline = now.plus(KEY_PATIENCE);
    look_for_key(gate, asked, requirements, now, origin, (Turn::First, deadline))
}

fn look_for_key(
    gate: &mut Gate,
    mut asked: Asked,
    requirements: Requirements,
    now: UnixTime,
    origin: Origin,
    (turn, deadline): (Turn, UnixTime),
) -> Step {
    match find_key(&mut asked, &requirements, now, &origin) {
        Ok(Found { input, pending }) => Step::Verify(
            input,
            PendingSignature {
                asked,
                requirements,
                unverified: pending,
                origin,
            },
        ),
        Err(Missing::Refused(reason)) => asked.refuse(origin.blame(reason)),
        Err(Missing::Key { issuer, key_id, as_of }) => match gate.demand.ask(issuer, &key_id, as_of, now, turn) {
            Demand::Wait if now < deadline => Step::Wait(PendingKeys {
                asked,
                requirements,
                origin,
                deadline,
            }),
            Demand::Refuse => asked.refuse(origin.blame(Reason::UnknownKey)),
            // Who waited in vain was not told that there is no such key.
            Demand::Wait | Demand::Unavailable => asked.refuse(Reason::KeysUnavailable),
        },
    }
}

/// Takes the token apart and finds the key that must have signed it: by issuer, then by `kid` in that issuer's set.
fn find_key(asked: &mut Asked, requirements: &Requirements, now: UnixTime, origin: &Origin) -> Result<Found, Missing> {
    let Requirements {
        snapshot,
        config,
        rule: _,
    } = requirements;
    let jws = CompactJws::parse(origin.token())?;
    let (place, issuer) = find_issuer(config, &jws, |issuer| origin.may_be_of(issuer))?;
    asked.issuer = Some(Rc::clone(&issuer.name));
    verification::find_key(snapshot, now, &jws, (place, issuer), &config.pointers)
}

impl PendingSignature {
    /// Goes on with the answer of the signature check.
    pub fn resume(self, gate: &mut Gate, now: UnixTime, valid: bool) -> Step {
        let Self {
            asked,
            requirements,
            unverified,
            origin,
        } = self;
        let config = &requirements.config;
        let (key_id, key) = (Rc::clone(&unverified.key_id), unverified.key.clone());
        let keys = Rc::clone(&unverified.keys);
        let claims = match unverified.verify(config, now, valid) {
            Ok(claims) => claims,
            Err(reason) => return asked.refuse(origin.blame(reason)),
        };
        let verified = Rc::new(Verified::new(config, claims, key_id, key, keys));
        gate.remember(origin.token(), &verified, now);
        pass(asked, &requirements, now, &verified, origin)
    }
}

impl PendingKeys {
    /// When it is to be resumed at the latest.
    pub const fn deadline(&self) -> UnixTime {
        self.deadline
    }

    /// Goes on, because an issuer's keys changed or the time is over. The request is judged against the snapshot of now.
    pub fn resume(self, gate: &mut Gate, now: UnixTime) -> Step {
        let Self {
            asked,
            mut requirements,
            origin,
            deadline,
        } = self;
        // Another configuration may have other issuers: the one that the request began with has no newer keys then.
        let is_same = gate
            .snapshot
            .config()
            .is_some_and(|config| Rc::ptr_eq(config, &requirements.config));
        if is_same {
            requirements.snapshot = Rc::clone(&gate.snapshot);
            look_for_key(gate, asked, requirements, now, origin, (Turn::Again, deadline))
        } else {
            asked.refuse(Reason::KeysUnavailable)
        }
    }
}

impl Origin {
    pub(super) const fn secret(&self) -> &Secret {
        match self {
            Self::Shown(token) | Self::Exchanged(Minted { token, negotiate: _ }) => token,
        }
    }

    pub(super) fn token(&self) -> &[u8] {
        self.secret().expose()
    }

    /// Whether a token from there can be this issuer's: the broker mints in its own name only.
    pub(super) const fn may_be_of(&self, issuer: &Issuer) -> bool {
        match self {
            Self::Shown(_) => true,
            Self::Exchanged(_) => issuer.is_broker,
        }
    }

    /// A token that we were just handed by the broker and cannot verify is no fault of the client's.
    pub(super) fn blame(&self, reason: Reason) -> Refusal {
        let ours = match (self, reason) {
            (Self::Shown(_), _) => return reason.into(),
            (Self::Exchanged(_), Reason::UnknownKey | Reason::KeysUnavailable) => Reason::KeysUnavailable,
            (Self::Exchanged(_), _) => Reason::BrokerUnavailable,
        };
        Refusal {
            because: Some(reason).filter(|because| *because != ours),
            ..Refusal::from(ours)
        }
    }
}
