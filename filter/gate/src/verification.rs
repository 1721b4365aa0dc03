//! Verifies a token against a snapshot, in one way for all who do: the gate, which asks the host for the signature check, and
//! the broker, which has native crypto of its own.

use std::rc::Rc;

use kerbridge_wire::Reason;

use crate::config::{Config, Issuer};
use crate::jwk::KeySet;
use crate::jwt::claims::unverified_issuer;
use crate::jwt::signature::VerifyingKey;
use crate::jwt::{CompactJws, SignatureInput, UnverifiedClaims, VerifiedClaims};
use crate::pointer::Pointer;
use crate::snapshot::Snapshot;
use crate::time::UnixTime;

/// Claims that nobody has vouched for, and the key that must have signed them.
#[derive(Debug)]
pub(crate) struct Unverified {
    claims: UnverifiedClaims,
    issuer: usize,
    pub(crate) key_id: Rc<str>,
    pub(crate) key: VerifyingKey,
    pub(crate) keys: Rc<KeySet>,
}

/// What a signature check needs, and what waits for it.
pub(crate) struct Found {
    pub(crate) input: SignatureInput,
    pub(crate) pending: Unverified,
}

/// Why no key was found.
pub(crate) enum Missing {
    /// There is none, whatever comes.
    Refused(Reason),
    /// The issuer's set, of a fetch that began at `as_of`, lacks this one, and may have it when it is fetched anew.
    Key {
        issuer: usize,
        key_id: Rc<str>,
        as_of: UnixTime,
    },
}

impl From<Reason> for Missing {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

/// Finds the issuer whose token it says it is, among those whom `may_be_of` allows.
pub(crate) fn find_issuer<'c>(
    config: &'c Config,
    jws: &CompactJws,
    may_be_of: impl FnOnce(&Issuer) -> bool,
) -> Result<(usize, &'c Issuer), Reason> {
    let place = config
        .issuer_place(unverified_issuer(&jws.payload)?)
        .ok_or(Reason::UnknownIssuer)?;
    let issuer = config.issuers.get(place).filter(|issuer| may_be_of(issuer));
    issuer.map(|issuer| (place, issuer)).ok_or(Reason::UnknownIssuer)
}

/// Finds the key that must have signed a token of this issuer, by `kid` in its set, and reads the claims, of which `wanted`
/// are kept.
pub(crate) fn find_key(
    snapshot: &Snapshot,
    now: UnixTime,
    jws: &CompactJws,
    (place, issuer): (usize, &Issuer),
    wanted: &[Pointer],
) -> Result<Found, Missing> {
    let typ = jws.typ.as_deref().unwrap_or_default();
    if !issuer.types.iter().any(|own| **own == *typ) {
        return Err(Reason::WrongType.into());
    }
    if !issuer
        .algorithms
        .iter()
        .any(|algorithm| algorithm.name() == jws.algorithm)
    {
        return Err(Reason::AlgorithmNotAllowed.into());
    }
    let claims = UnverifiedClaims::read(&jws.payload, place, issuer, wanted)?;
    let keys = snapshot.fresh_keys(place, now)?;
    let key_id = jws.key_id.as_deref().ok_or(Reason::UnknownKey)?;
    let (key_id, key) = match keys.find_named(key_id, &jws.algorithm) {
        Ok(named) => named.clone(),
        // Keys that are never fetched will not have it later either.
        Err(Reason::UnknownKey) if issuer.keys.is_some() => {
            return Err(Missing::Key {
                issuer: place,
                key_id: key_id.into(),
                as_of: snapshot.keys_as_of(place),
            });
        }
        Err(reason) => return Err(reason.into()),
    };
    Ok(Found {
        pending: Unverified {
            claims,
            issuer: place,
            key_id,
            key: key.clone(),
            keys: Rc::clone(keys),
        },
        input: SignatureInput::new(key, jws)?,
    })
}

impl Unverified {
    /// The claims, once the signature was checked: `valid` is the answer.
    pub(crate) fn verify(self, config: &Config, now: UnixTime, valid: bool) -> Result<VerifiedClaims, Reason> {
        match config.issuers.get(self.issuer) {
            Some(issuer) if valid => self.claims.verify(now, issuer),
            Some(_) => Err(Reason::BadSignature),
            None => Err(Reason::Internal),
        }
    }
}

/// Verifies a token, its signature by `is_good`, and keeps the claims at the places of `wanted`. Whether it is for an audience
/// ([`Snapshot::vouches_for`]) and whether it was revoked is asked after it.
///
/// # Errors
/// What the gate refuses such a token for. A key that is not in the issuer's set is `unknown_key` at once.
pub fn verify(
    snapshot: &Snapshot,
    now: UnixTime,
    token: &[u8],
    wanted: &[Pointer],
    is_good: impl FnOnce(&SignatureInput) -> bool,
) -> Result<VerifiedClaims, Reason> {
    let config = snapshot.config().ok_or(Reason::Internal)?;
    let jws = CompactJws::parse(token)?;
    let issuer = find_issuer(config, &jws, |_| true)?;
    let Found { input, pending } = find_key(snapshot, now, &jws, issuer, wanted).map_err(|missing| match missing {
        Missing::Refused(reason) => reason,
        Missing::Key { .. } => Reason::UnknownKey,
    })?;
    let valid = is_good(&input);
    pending.verify(config, now, valid)
}

impl Snapshot {
    /// Whether verified claims are for this audience of the policy, by what their issuer may vouch for.
    pub fn vouches_for(&self, claims: &VerifiedClaims, audience: &str) -> bool {
        self.config()
            .and_then(|config| config.issuers.get(claims.issuer()))
            .is_some_and(|issuer| issuer.vouches_for(audience, claims))
    }
}
