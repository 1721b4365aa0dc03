//! Brings each leg of a handshake to the acceptors, and keeps what waits for its second leg.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_gss::MechToken;
use kerbridge_wire::Reason;
use tokio::time::Instant;

use super::to_token::TicketToToken;
use super::{Caller, Refusal};
use crate::acceptor::{Accepted, Leg, Progress, Rejection};
use crate::channel_bindings::Channel;
use crate::config::ListenerName;
use crate::continuation::KeepError;
use crate::negotiate::{FirstToken, NegotiateError, NegotiateToken, OpeningToken};

/// What a client sent to prove itself, and where.
pub(super) struct Shown<'a> {
    /// The base64 of the Negotiate header.
    pub(super) token: &'a str,
    /// The handle of the handshake that it belongs to, where it is not the first of one.
    pub(super) continuation: Option<&'a str>,
    /// What it came through.
    pub(super) channel: Channel,
    /// Who sent it, as far as that is known.
    pub(super) source: Option<IpAddr>,
    /// When it came.
    pub(super) came: Instant,
}

impl TicketToToken {
    /// Who came, and by which token, once the last leg is there.
    pub(super) async fn accept(
        &self,
        shown: Shown<'_>,
        caller: &Caller,
    ) -> Result<(Accepted, Arc<NegotiateToken>), Refusal> {
        let Shown {
            token,
            continuation,
            channel,
            source,
            came,
        } = shown;
        let (leg, token) = match continuation {
            Some(handle) => {
                // Spent whatever comes of it.
                let half_open = self.continuations.take(handle, came);
                let half_open = half_open.ok_or(NegotiateError::LaterLeg)?;
                let token = Arc::new(NegotiateToken::parse_second(token)?);
                (Leg::Second(half_open, Arc::clone(&token)), token)
            }
            None => match FirstToken::parse(token)? {
                FirstToken::Ticket(token) => {
                    let token = Arc::new(token);
                    (Leg::Only(Arc::clone(&token)), token)
                }
                FirstToken::Opening(token) => {
                    // Elsewhere there is no connection that the second leg could be held to.
                    if caller.listener != ListenerName::Mesh {
                        return Err(Refusal::new(Reason::MechUnsupported, "two legs are for the mesh only"));
                    }
                    return Err(self.open(token, channel, source, came).await);
                }
            },
        };
        match self.acceptors.accept(leg, channel).await? {
            Progress::Established(accepted) => Ok((accepted, token)),
            Progress::ContinueNeeded(_) => Err(Refusal::new(Reason::Internal, "a leg with a ticket led to no end")),
        }
    }

    /// Asks a client for its ticket. That is a refusal, too: this leg gets nobody in.
    async fn open(&self, token: OpeningToken, channel: Channel, source: Option<IpAddr>, came: Instant) -> Refusal {
        let half_open = match self.acceptors.accept(Leg::First(token), channel).await {
            Ok(Progress::ContinueNeeded(half_open)) => half_open,
            Ok(Progress::Established(_)) => return Refusal::new(Reason::Internal, "a leg without a ticket got in"),
            Err(rejection) => return rejection.into(),
        };
        let negotiate = encoded(half_open.reply());
        match self.continuations.keep(half_open, source, came) {
            Ok(handle) => Refusal {
                negotiate: Some(negotiate.into()),
                continuation: Some(handle.into()),
                ..Refusal::new(
                    Reason::ContinueNeeded,
                    "Kerberos is offered and its ticket was asked for",
                )
            },
            Err(KeepError::Full) => Refusal::new(Reason::BrokerOverloaded, "too many handshakes wait for a second leg"),
            Err(KeepError::NoRandomness) => Refusal::new(Reason::Internal, "the system has no random numbers"),
        }
    }
}

impl From<NegotiateError> for Refusal {
    fn from(error: NegotiateError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let Rejection { reason, detail, reply } = rejection;
        Self {
            negotiate: reply.as_ref().map(|reply| encoded(reply).into()),
            ..Self::new(reason, detail)
        }
    }
}

/// As it stands in the header.
pub(super) fn encoded(token: &MechToken) -> String {
    STANDARD.encode(token.as_bytes())
}
