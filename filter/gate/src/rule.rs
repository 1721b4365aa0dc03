//! Says what a verified token must be to open a route, and what becomes of it then.

use std::net::IpAddr;
use std::rc::Rc;

use kerbridge_wire::policy::{Deliver, Scheme};
use kerbridge_wire::{Reason, Spn};

use crate::json::Json;
use crate::jwt::VerifiedClaims;
use crate::network::Network;
use crate::request::RequestHead;
use crate::route::path::{PathPattern, unambiguous};

/// What a credential must be for a route, and what is done with it. Built by the configuration only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(crate) accept: Vec<Scheme>,
    /// Nothing need be shown; what is shown must verify.
    pub(crate) optional: bool,
    pub(crate) audience: Rc<str>,
    /// Where clients learn how to get a token (RFC 9728); `None` where the audience has no address.
    pub(crate) resource_metadata: Option<Box<str>>,
    pub(crate) scopes_all: Vec<Box<str>>,
    pub(crate) scopes_any: Vec<Box<str>>,
    pub(crate) groups: Vec<Box<str>>,
    pub(crate) claims: Vec<Condition>,
    /// Headers and the places of their claims among [`VerifiedClaims::value`].
    pub(crate) claim_headers: Vec<(Rc<str>, usize)>,
    pub(crate) offer: Offer,
    pub(crate) deliver: Deliver,
    pub(crate) forward: bool,
    /// The Kerberos service behind it; `None` where it is none.
    pub(crate) upstream: Option<Spn>,
    pub(crate) allow_insecure: bool,
    /// The audience's cookie, where the route takes one.
    pub(crate) cookie: Option<Box<str>>,
    /// Whether a request still open at its token's end is ended.
    pub(crate) end_streams: bool,
}

/// A condition on one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Its place among [`VerifiedClaims::value`].
    pub(crate) place: usize,
    pub(crate) any_of: Vec<Box<str>>,
    pub(crate) all_of: Vec<Box<str>>,
}

/// Who is offered a Negotiate challenge; all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) never: bool,
    pub(crate) paths: Vec<PathPattern>,
    pub(crate) sources: Vec<Network>,
    /// Name and text.
    pub(crate) header: Option<(Box<str>, Box<str>)>,
}

impl Rule {
    /// Whether this scheme is a proof here.
    pub fn accepts(&self, scheme: Scheme) -> bool {
        self.accept.contains(&scheme)
    }

    /// The audience that a token must be for.
    pub const fn audience(&self) -> &Rc<str> {
        &self.audience
    }

    /// The parameter of a Bearer challenge that says where clients learn how to get a token (RFC 9728 §5.1), or nothing.
    pub(crate) fn metadata_parameter(&self) -> String {
        let metadata = self.resource_metadata.as_ref();
        metadata.map_or_else(String::new, |url| format!(", resource_metadata=\"{url}\""))
    }

    /// Name of the audience's cookie, where the route takes one.
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// Whether claims that were verified, and are for this audience, open the route.
    ///
    /// # Errors
    /// `insufficient_scope`, `denied_by_policy`.
    pub(crate) fn permits(&self, claims: &VerifiedClaims) -> Result<(), Reason> {
        let has = |scope: &str| claims.scopes().iter().any(|own| **own == *scope);
        let scopes = self.scopes_all.iter().all(|scope| has(scope))
            && (self.scopes_any.is_empty() || self.scopes_any.iter().any(|scope| has(scope)));
        if !scopes {
            return Err(Reason::InsufficientScope);
        }
        let is_member = |group: &str| claims.groups().iter().any(|own| **own == *group);
        let groups = self.groups.is_empty() || self.groups.iter().any(|group| is_member(group));
        if groups && self.claims.iter().all(|condition| condition.holds(claims)) {
            Ok(())
        } else {
            Err(Reason::DeniedByPolicy)
        }
    }
}

impl Condition {
    fn holds(&self, claims: &VerifiedClaims) -> bool {
        let Some(value) = claims.value(self.place) else {
            return false;
        };
        let has = |wanted: &str| match value {
            Json::Array(items) => items.iter().any(|item| reads(item, wanted)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_) => reads(value, wanted),
        };
        (self.any_of.is_empty() || self.any_of.iter().any(|wanted| has(wanted)))
            && self.all_of.iter().all(|wanted| has(wanted))
    }
}

/// Whether a value is this text; numbers and booleans as JSON writes them.
fn reads(value: &Json, wanted: &str) -> bool {
    match value {
        Json::String(text) => text == wanted,
        Json::Bool(value) => wanted == if *value { "true" } else { "false" },
        Json::Number(_) => value.to_text().is_some_and(|text| text == wanted),
        Json::Null | Json::Array(_) | Json::Object(_) => false,
    }
}

impl Offer {
    /// Whether this client is offered the challenge.
    pub(crate) fn is_for(&self, head: &RequestHead<'_>, source: Option<IpAddr>) -> bool {
        let path = self.paths.is_empty()
            || unambiguous(head.path()).is_some_and(|path| self.paths.iter().any(|own| own.matches(&path)));
        let source = self.sources.is_empty()
            || source.is_some_and(|source| self.sources.iter().any(|network| network.contains(source)));
        let header = self.header.as_ref().is_none_or(|(name, text)| {
            head.headers
                .values(name.as_bytes())
                .any(|value| value.windows(text.len()).any(|part| part == text.as_bytes()))
        });
        !self.never && path && source && header
    }
}
