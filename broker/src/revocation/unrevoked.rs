//! Decides whether a token may be minted for a grant, and with which `iat`, so that no revocation of before takes it.

use kerbridge_wire::feed::RevocationKey;

use super::RevocationError;
use super::view::View;
use crate::policy::Grant;
use crate::store::Kind;
use crate::time::UnixTime;

/// Seconds by which an `iat` may lie ahead: as many as verifiers allow by default. Revocations are never of a later time than
/// that at which they came, so it is one second, unless the clock was set back.
const AHEAD: u64 = 60;

/// A grant whose session and subject are not revoked, for a token that is issued at this moment. Only
/// [`Revocations::admit`](super::Revocations::admit) makes one.
#[derive(Clone, Copy, Debug)]
pub struct Unrevoked<'g> {
    grant: &'g Grant,
    issued: UnixTime,
}

impl<'g> Unrevoked<'g> {
    pub(super) fn of(grant: &'g Grant, view: &View, issuer: &str, now: UnixTime) -> Result<Self, RevocationError> {
        let identity = grant.identity();
        let named = [
            (
                Kind::Session,
                RevocationKey::session(issuer, identity.session().as_str()),
            ),
            (
                Kind::Subject,
                RevocationKey::subject(issuer, identity.subject().as_str()),
            ),
        ];
        let mut issued = now;
        for (kind, key) in named {
            if let Some(found) = view.find(&key, now) {
                let up_to = found.up_to().ok_or(RevocationError::Revoked(kind))?;
                // Who comes back within the second of the revocation gets a token of the next one, or it would be revoked.
                issued = issued.max(up_to.plus(1));
                if issued > now.plus(AHEAD) {
                    return Err(RevocationError::Revoked(kind));
                }
            }
        }
        Ok(Self { grant, issued })
    }

    /// What was granted.
    pub const fn grant(&self) -> &'g Grant {
        self.grant
    }

    /// `iat` of the token.
    pub const fn issued(&self) -> UnixTime {
        self.issued
    }

    #[cfg(test)]
    pub(crate) const fn for_test(grant: &'g Grant, issued: UnixTime) -> Self {
        Self { grant, issued }
    }
}
