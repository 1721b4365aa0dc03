//! Writes one event for each decision, without any token or ticket.

use std::net::IpAddr;

use kerbridge_wire::Reason;
use tracing::field::{DisplayValue, display};

use super::to_ticket::Delegated;
use super::to_token::Issued;
use super::{Caller, Hints, Refusal, source};
use crate::audit;
use crate::config::ListenerName;
use crate::log::KEPT;
use crate::metrics::Found;
use crate::subject_token::VerifiedToken;

/// The request that a log line is about, as far as it could be read.
pub(super) struct About<'a> {
    pub(super) caller: &'a Caller,
    pub(super) hints: &'a Hints,
    pub(super) audience: Option<&'a str>,
}

impl<'a> About<'a> {
    fn source(&self) -> Option<DisplayValue<IpAddr>> {
        source(self.caller, self.hints).map(display)
    }

    /// On `mesh` what Envoy was asked for, elsewhere what the broker was.
    fn server_name(&self) -> Option<&'a str> {
        match self.caller.listener {
            ListenerName::Mesh => self.hints.server_name.as_deref(),
            ListenerName::Public | ListenerName::Observe | ListenerName::Admin => {
                self.caller.peer.server_name.as_deref()
            }
        }
    }
}

/// A token was minted.
pub(super) fn exchanged(issued: &Issued, about: &About<'_>) {
    let Issued {
        grant, token, traded, ..
    } = issued;
    let About { caller, hints, .. } = about;
    tracing::info!(
        name: KEPT,
        target: audit::TARGET,
        reason = Reason::Ok.as_str(),
        principal = grant.identity().principal().as_str(),
        subject = grant.identity().subject().as_str(),
        audience = grant.audience().name(),
        scope = %grant.scopes(),
        jti = token.id(),
        sid = grant.identity().session().as_str(),
        expires = token.expires().seconds(),
        traded_issuer = traded.as_ref().map(VerifiedToken::issuer),
        traded_jti = traded.as_ref().and_then(VerifiedToken::token_id),
        actors = traded.is_some().then(|| grant.actors().count()),
        channel_bound = grant.identity().channel_bound(),
        enctype = grant.identity().enctype().map(display),
        listener = caller.listener.as_str(),
        client_id = caller.client.as_str(),
        source = about.source(),
        server_name = about.server_name(),
        request_id = hints.request_id.as_deref(),
        route = hints.route.as_deref(),
        "exchanged"
    );
}

/// A ticket was made in a user's name.
pub(super) fn delegated(delegated: &Delegated, about: &About<'_>) {
    let Delegated {
        grant,
        ticket,
        token,
        life: _,
    } = delegated;
    let About { caller, hints, .. } = about;
    tracing::info!(
        name: KEPT,
        target: audit::TARGET,
        reason = Reason::Ok.as_str(),
        principal = grant.user().as_str(),
        issuer = token.issuer(),
        subject = token.subject(),
        jti = token.token_id(),
        sid = token.names().and_then(|names| names.session),
        audience = grant.audience(),
        target_service = %grant.target(),
        expires = ticket.expires().seconds(),
        kdc_asked = ticket.found() == Found::Asked,
        listener = caller.listener.as_str(),
        client_id = caller.client.as_str(),
        source = about.source(),
        request_id = hints.request_id.as_deref(),
        route = hints.route.as_deref(),
        "delegated"
    );
}

/// A service asked what a token says. Where it was told nothing, the reason says why.
pub(super) fn introspected(token: Option<&VerifiedToken>, reason: Reason, caller: &Caller) {
    tracing::info!(
        name: KEPT,
        target: audit::TARGET,
        reason = reason.as_str(),
        subject = token.map(VerifiedToken::subject),
        jti = token.and_then(VerifiedToken::token_id),
        listener = caller.listener.as_str(),
        client_id = caller.client.as_str(),
        source = source(caller, &Hints::default()).map(display),
        "introspected"
    );
}

/// Somebody wanted a token taken back that is none of ours, or none any more.
pub(super) fn nothing_to_revoke(reason: Reason, caller: &Caller, hints: &Hints) {
    tracing::info!(
        target: audit::TARGET,
        reason = reason.as_str(),
        listener = caller.listener.as_str(),
        client_id = caller.client.as_str(),
        source = source(caller, hints).map(display),
        request_id = hints.request_id.as_deref(),
        route = hints.route.as_deref(),
        "nothing to revoke"
    );
}

/// A browser was logged out. Each session that was ended by it has an event of its own.
pub(super) fn logged_out(sessions: u32, caller: &Caller, hints: &Hints) {
    tracing::info!(
        name: KEPT,
        target: audit::TARGET,
        reason = Reason::Ok.as_str(),
        sessions,
        listener = caller.listener.as_str(),
        client_id = caller.client.as_str(),
        source = source(caller, hints).map(display),
        server_name = hints.server_name.as_deref(),
        request_id = hints.request_id.as_deref(),
        route = hints.route.as_deref(),
        "logged out"
    );
}

/// Nothing is given. Where the event of a gift came late, this one takes it back, and is kept as that one is; of others there may
/// be a flood.
pub(super) fn refused(refusal: &Refusal, about: &About<'_>) {
    let About {
        caller,
        hints,
        audience,
    } = about;
    macro_rules! refused {
        ($name:expr) => {
            tracing::info!(
                name: $name,
                target: audit::TARGET,
                reason = refusal.reason.as_str(),
                fault = refusal.reason.fault().as_str(),
                detail = details(&refusal.detail),
                principal = refusal.principal.as_deref(),
                subject = refusal.subject.as_deref(),
                jti = refusal.token_id.as_deref(),
                audience = audience.map(short),
                listener = caller.listener.as_str(),
                client_id = caller.client.as_str(),
                source = about.source(),
                server_name = about.server_name(),
                request_id = hints.request_id.as_deref(),
                route = hints.route.as_deref(),
                "refused"
            );
        };
    }
    if refusal.withheld {
        refused!(KEPT);
    } else {
        refused!("refused");
    }
}

/// As much of a text of somebody else's as a log line has room for. A ticket may name a service of 60 KB.
fn short(text: &str) -> &str {
    start_of(text, 255)
}

/// As much of what was found, which may name all keys of a service.
fn details(text: &str) -> &str {
    start_of(text, 600)
}

fn start_of(text: &str, characters: usize) -> &str {
    let end = text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}
