//! What the KDC gave, how long it is used, and the token that is made of it: one for each who asks.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_gss::{ChannelBindings, DelegationTarget};
use kerbridge_wire::Reason;
use zeroize::Zeroizing;

use super::kdc::{Acting, NoTicket};
use crate::metrics::Found;
use crate::negotiate::FirstToken;
use crate::time::UnixTime;

/// What acts for a user, and since when.
#[derive(Debug)]
pub(super) struct Acquired {
    pub(super) acting: Acting,
    pub(super) since: UnixTime,
}

/// One finished token for the target, in a user's name. Only [`super::Delegation::ticket`] makes one.
pub struct ServiceTicket {
    pub(super) token: Zeroizing<String>,
    pub(super) expires: UnixTime,
    pub(super) found: Found,
}

impl Acquired {
    /// Whether a token is made of it now, for who may use it for so long: well before its end, but in the first half of a life
    /// that is shorter than twice the margin.
    pub(super) fn is_good(&self, now: UnixTime, max_life: u64, margin: u64) -> bool {
        let end = self.acting.ticket_end();
        let margin = margin.min(self.since.until(end).wrapping_div(2));
        now < self.until(max_life) && now.plus(margin) < end
    }

    /// How long it is used by who may use one for so long.
    pub(super) fn until(&self, max_life: u64) -> UnixTime {
        self.acting.ticket_end().min(self.since.plus(max_life))
    }
}

/// One token in base64, and when its ticket ends. It is read as a service reads it: what is not for the target does not leave.
pub(super) fn token_for(
    acting: &Acting,
    target: &DelegationTarget,
    bindings: Option<&ChannelBindings>,
) -> Result<(Zeroizing<String>, UnixTime), NoTicket> {
    let made = acting.token(target, bindings)?;
    let text = Zeroizing::new(STANDARD.encode(made.token.as_bytes()));
    match FirstToken::parse(&text) {
        Ok(FirstToken::Ticket(token)) if token.service() == target.service().as_principal() => {
            Ok((text, made.ticket_end))
        }
        Ok(FirstToken::Ticket(token)) => Err(NoTicket::new(
            Reason::Internal,
            format!("the KDC gave a ticket for {} and not for {target}", token.service()),
        )),
        Ok(FirstToken::Opening(_)) => Err(NoTicket::new(Reason::Internal, "the token has no ticket")),
        Err(error) => Err(NoTicket::new(Reason::Internal, format!("the token is {error}"))),
    }
}

impl ServiceTicket {
    /// The token in base64, as it follows `Negotiate `.
    pub fn into_token(self) -> Zeroizing<String> {
        self.token
    }

    /// Until when it is of use.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// Seconds from a moment until then.
    pub fn life(&self, now: UnixTime) -> u64 {
        now.until(self.expires)
    }

    /// How its ticket was come by.
    pub fn found(&self) -> Found {
        self.found
    }
}

impl fmt::Debug for ServiceTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceTicket")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
