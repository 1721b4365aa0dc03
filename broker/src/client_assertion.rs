//! Decides which client an assertion is of (`private_key_jwt`, RFC 7523 §2.2): signed by a key of the client's, for this broker,
//! short-lived, and good once.

use std::sync::Arc;

use kerbridge_wire::{Fault, Reason};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::store::{Consumed, ReplayTag, Store, StoreError};
use crate::subject_token::{ASSERTION_AUDIENCE, NotVerified, Verifiers};
use crate::time::UnixTime;

/// The one type of assertion (RFC 7523 §2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Longest time until an assertion's `exp`, in seconds: for as long it has to be remembered.
const LONGEST_LIFE: u64 = 300;
/// Seconds that a used one is remembered beyond its `exp`: the clock may be set back a little.
const MARGIN: u64 = 60;

/// What a request says about its client beside its connection, none of which has been looked at.
pub enum ClientClaim {
    /// Nothing.
    Nothing,
    /// Its name (`client_id`), which proves nothing.
    Name(String),
    /// That it can sign.
    Assertion(Assertion),
}

/// A client's assertion of who it is.
pub struct Assertion {
    /// `client_assertion_type`
    pub kind: String,
    /// `client_assertion`
    pub token: Zeroizing<String>,
    /// `client_id`, which need not be there (RFC 7521 §4.2).
    pub client_id: Option<String>,
}

/// What knows the clients that have keys.
#[derive(Debug)]
pub struct AssertingClients {
    /// What verifies assertions, by the clients' keys.
    pub verifiers: Verifiers,
    /// What remembers those that were used.
    pub store: Arc<dyn Store>,
}

/// Why a client is not known. What stands here is for the log: whoever asks hears no more than the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAsserted {
    /// [`Reason::ClientUnauthenticated`], [`Reason::InvalidRequest`] where the connection is another client's, or what is our fault.
    pub reason: Reason,
    /// More about it.
    pub detail: Box<str>,
}

impl AssertingClients {
    /// The client's name, if the assertion is good. It is used up then. `connected` is the client that the connection's
    /// certificate is of: one request authenticates one client, in one way (RFC 6749 §2.3), so that beside an assertion a
    /// certificate is only what tokens are bound to (RFC 8705 §3), and the same client's.
    pub async fn name(
        &self,
        assertion: Assertion,
        connected: Option<&str>,
        now: UnixTime,
        deadline: Instant,
    ) -> Result<String, NotAsserted> {
        let Assertion { kind, token, client_id } = assertion;
        if kind != ASSERTION_TYPE {
            return Err(refused("the type of the client's assertion is another"));
        }
        let verified = self.verifiers.verify(token, now, deadline).await;
        let verified = verified.map_err(|NotVerified { reason }| match reason.fault() {
            Fault::Us => NotAsserted {
                reason,
                detail: "the client's assertion could not be verified".into(),
            },
            Fault::None | Fault::Client | Fault::Policy | Fault::ClientOrUs | Fault::Upstream => {
                refused(format!("the client's assertion: {reason}"))
            }
        })?;
        let client = verified.issuer();
        if verified.subject() != client || client_id.is_some_and(|named| named != client) {
            return Err(refused("iss, sub and client_id of the assertion are not one"));
        }
        if !verified.is_for(ASSERTION_AUDIENCE) {
            return Err(refused("the client's assertion is for somebody else"));
        }
        // Who else it is for could show it here.
        if verified.is_for_others() {
            return Err(refused("the client's assertion is for somebody else, too"));
        }
        if now.until(verified.expires()) > LONGEST_LIFE {
            return Err(refused("the client's assertion lives too long"));
        }
        let id = verified
            .token_id()
            .ok_or_else(|| refused("the client's assertion has no jti"))?;
        if connected.is_some_and(|connected| connected != client) {
            return Err(NotAsserted {
                reason: Reason::InvalidRequest,
                detail: "the assertion is one client's, and the certificate of its connection another's".into(),
            });
        }
        let tag = ReplayTag::of_assertion(client, id);
        let used = self.store.consume_once(tag, verified.expires().plus(MARGIN));
        match tokio::time::timeout_at(deadline, used).await {
            Ok(Ok(Consumed::First)) => Ok(client.to_owned()),
            Ok(Ok(Consumed::Again)) => Err(refused("the client's assertion was used before")),
            Ok(Err(error)) => Err(unknown(&error)),
            Err(_) => Err(unknown(&StoreError::Late)),
        }
    }
}

fn refused(detail: impl Into<Box<str>>) -> NotAsserted {
    NotAsserted {
        reason: Reason::ClientUnauthenticated,
        detail: detail.into(),
    }
}

fn unknown(error: &StoreError) -> NotAsserted {
    NotAsserted {
        reason: Reason::StoreUnavailable,
        detail: error.to_string().into(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
