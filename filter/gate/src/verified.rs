//! Keeps what a verified token says, and the key by which it was verified: what is remembered is judged anew each time.

use std::rc::Rc;

use kerbridge_wire::Reason;

use crate::config::Config;
use crate::json::{Json, write_text};
use crate::jwk::KeySet;
use crate::jwt::VerifiedClaims;
use crate::jwt::signature::VerifyingKey;
use crate::revocation::RevocationKeys;
use crate::rule::Rule;
use crate::secret::Secret;
use crate::snapshot::Snapshot;
use crate::step::{HeaderEdit, HeaderEdits};
use crate::time::UnixTime;

/// A verified token's claims, with what every use of it needs worked out once.
#[derive(Debug)]
pub struct Verified {
    claims: VerifiedClaims,
    key_id: Rc<str>,
    key: VerifyingKey,
    /// The set in which its key was found: as long as the issuer has that very set, the key need not be looked up again.
    keys: Rc<KeySet>,
    /// What the issuer's feed could name it by; `None` where there is no feed.
    revocation: Option<RevocationKeys>,
    identity: Box<[HeaderEdit]>,
}

impl Verified {
    pub(crate) fn new(
        config: &Config,
        claims: VerifiedClaims,
        key_id: Rc<str>,
        key: VerifyingKey,
        keys: Rc<KeySet>,
    ) -> Self {
        let issuer = config.issuers.get(claims.issuer());
        let revocation = issuer
            .filter(|issuer| issuer.feed.is_some())
            .map(|issuer| RevocationKeys::new(&issuer.issuer, claims.token_id(), claims.session(), claims.subject()));
        Self {
            identity: identity(config, &claims),
            claims,
            key_id,
            key,
            keys,
            revocation,
        }
    }

    /// The claims.
    pub const fn claims(&self) -> &VerifiedClaims {
        &self.claims
    }

    pub(crate) fn identity(&self) -> &[HeaderEdit] {
        &self.identity
    }

    /// Whether the key that signed it is one of its issuer's now.
    ///
    /// # Errors
    /// `keys_unavailable` where the issuer's keys are too old to tell.
    pub(crate) fn is_signed_by_a_key_of(&self, snapshot: &Snapshot, now: UnixTime) -> Result<bool, Reason> {
        let keys = snapshot.fresh_keys(self.claims.issuer(), now)?;
        Ok(Rc::ptr_eq(keys, &self.keys)
            || keys
                .find(&self.key_id, self.key.algorithm().name())
                .is_ok_and(|key| key == self.key))
    }

    /// Whether neither it, nor its session, nor its subject was revoked.
    ///
    /// # Errors
    /// `revoked`, `feed_stale`.
    pub(crate) fn is_not_revoked(&self, snapshot: &Snapshot, now: UnixTime) -> Result<(), Reason> {
        match &self.revocation {
            Some(keys) => snapshot.check_revocation(self.claims.issuer(), keys, self.claims.issued(), now),
            None => Ok(()),
        }
    }

    /// Whether a token that was good is still: its key is its issuer's, and nobody took it back. Its end is its owner's to see.
    ///
    /// # Errors
    /// `unknown_key`, `keys_unavailable`, `revoked`, `feed_stale`.
    pub(crate) fn still_stands(&self, snapshot: &Snapshot, now: UnixTime) -> Result<(), Reason> {
        if !self.is_signed_by_a_key_of(snapshot, now)? {
            return Err(Reason::UnknownKey);
        }
        self.is_not_revoked(snapshot, now)
    }

    /// Headers with the claims that a rule wants sent on. A claim that is not there, or cannot be a header, is removed: what
    /// stands in that header is never what the client sent.
    pub(crate) fn claim_edits(&self, rule: &Rule) -> HeaderEdits {
        rule.claim_headers
            .iter()
            .map(|(name, place)| match self.claims.value(*place).and_then(header_value) {
                Some(value) => HeaderEdit::Set(Rc::clone(name), Secret::new(value)),
                None => HeaderEdit::Remove(Rc::clone(name)),
            })
            .collect()
    }

    /// Bytes that it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        let identity: usize = self
            .identity
            .iter()
            .map(|edit| match edit {
                HeaderEdit::Set(_, value) | HeaderEdit::Add(_, value) => value.expose().len().saturating_add(64),
                HeaderEdit::Remove(_) => 64,
            })
            .sum();
        self.claims.weight().saturating_add(identity).saturating_add(256)
    }
}

/// Who calls, for the upstream.
fn identity(config: &Config, claims: &VerifiedClaims) -> Box<[HeaderEdit]> {
    let names = &config.identity;
    let issuer = config.issuers.get(claims.issuer()).map(|issuer| issuer.header.clone());
    let subject = if claims.subject().bytes().all(is_plain) {
        Secret::from(Rc::clone(claims.subject()))
    } else {
        Secret::new(percent_encoded(claims.subject()))
    };
    let scopes = claims.scopes().join(" ").into_bytes();
    let edits = [
        (&names.subject, Some(subject)),
        (&names.issuer, issuer),
        (&names.scope, (!scopes.is_empty()).then(|| Secret::new(scopes))),
        (
            &names.groups,
            (!claims.groups().is_empty()).then(|| Secret::new(list(claims.groups()))),
        ),
    ];
    edits
        .into_iter()
        .filter_map(|(name, value)| name.clone().zip(value))
        .map(|(name, value)| HeaderEdit::Set(name, value))
        .collect()
}

/// A claim as a header value: text percent-encoded, lists and objects as JSON. `None` for what cannot be one: nothing, an
/// empty text, control characters, more than 8 KiB.
fn header_value(claim: &Json) -> Option<Vec<u8>> {
    let value = match claim {
        Json::Null => return None,
        Json::String(text) if text.chars().any(char::is_control) => return None,
        Json::String(text) => percent_encoded(text),
        Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => claim.to_text()?.into_bytes(),
    };
    (1..=8192).contains(&value.len()).then_some(value)
}

fn list(texts: &[Box<str>]) -> Vec<u8> {
    let mut out = String::from("[");
    for (at, text) in texts.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(text, &mut out);
    }
    out.push(']');
    out.into_bytes()
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'%'
}

/// A text as a header value: visible ASCII as it is, everything else and the percent sign itself as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            out.push(byte);
        } else {
            out.extend(format!("%{byte:02X}").into_bytes());
        }
    }
    out
}
