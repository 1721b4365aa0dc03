//! Builds the rule of a route: what a request must prove, and what becomes of it then.

use std::collections::HashSet;
use std::rc::Rc;

use kerbridge_wire::Spn;
use kerbridge_wire::clients::metadata_url;
use kerbridge_wire::policy::{
    Access, ClaimCondition, ClaimToHeader, Deliver, HeaderCondition, KerberosUpstream, LongStreams, NegotiateOffer,
    Route as RawRoute, Scheme, Upstream,
};

use super::check::Check;
use super::route::{ABSOLUTE, Around};
use super::{HeaderNames, is_header_name, is_scope};
use crate::pointer::Pointer;
use crate::request::cookie_name;
use crate::route::path::PathPattern;
use crate::rule::{Condition, Offer, Rule};

impl Check {
    pub(super) fn rule(
        &mut self,
        raw: RawRoute,
        field: &dyn Fn(&str) -> String,
        around: &Around<'_>,
        pointers: &mut Vec<Pointer>,
        names: &mut HeaderNames,
    ) -> Rule {
        let accepts = |scheme| raw.accept.contains(&scheme);
        let mints = accepts(Scheme::Negotiate);
        self.that(
            !raw.accept.is_empty(),
            &field("accept"),
            "expected at least one of \"negotiate\", \"bearer\", \"cookie\", \"header\"",
        );
        self.that(
            !mints || around.has_broker,
            &field("accept"),
            "expected `broker` in the configuration where \"negotiate\" is accepted",
        );
        self.that(
            !accepts(Scheme::Header) || around.has_token_header,
            &field("accept"),
            "expected `token_header` in the configuration where \"header\" is accepted",
        );
        self.that(
            raw.deliver == Deliver::None || mints,
            &field("deliver"),
            "expected \"negotiate\" in `accept`: only a ticket makes a new token",
        );
        self.that(
            raw.deliver != Deliver::Cookie || accepts(Scheme::Cookie),
            &field("deliver"),
            "expected \"cookie\" in `accept`: else the cookie would never be read",
        );
        let upstream = raw
            .upstream
            .as_ref()
            .map(|upstream| self.upstream(&raw, upstream, field, around));
        let audience = self.audience(raw.audience.as_deref(), &field("audience"), around);
        for (name, scopes) in [("scopes_all", &raw.scopes_all), ("scopes_any", &raw.scopes_any)] {
            for (place, scope) in scopes.iter().enumerate() {
                self.that(
                    is_scope(scope),
                    &field(&format!("{name}[{place}]")),
                    "expected a scope (RFC 6749 §3.3)",
                );
            }
        }
        for (place, group) in raw.groups.iter().enumerate() {
            self.that(
                !group.is_empty(),
                &field(&format!("groups[{place}]")),
                "expected the name of a group",
            );
        }
        let claims = raw
            .claims
            .into_iter()
            .enumerate()
            .map(|(place, condition)| self.condition(condition, &field(&format!("claims[{place}]")), pointers))
            .collect();
        let mut headers = HashSet::new();
        let claim_headers = raw
            .claim_to_headers
            .into_iter()
            .enumerate()
            .map(
                |(
                    place,
                    ClaimToHeader {
                        header_name,
                        claim_name,
                    },
                )| {
                    let at = field(&format!("claim_to_headers[{place}]"));
                    let header = names.claim(self, &header_name, &format!("{at}.header_name"));
                    self.that(
                        headers.insert(Rc::clone(&header)),
                        &format!("{at}.header_name"),
                        "stands twice",
                    );
                    let pointer = self.pointer(&claim_name, &format!("{at}.claim_name"));
                    (header, place_of(pointer, pointers))
                },
            )
            .collect();
        self.that(
            raw.offer_negotiate.is_none() || mints,
            &field("offer_negotiate"),
            "expected \"negotiate\" in `accept`",
        );
        let offer = raw
            .offer_negotiate
            .map(|offer| self.offer(offer, &field("offer_negotiate")));
        Rule {
            cookie: raw
                .accept
                .contains(&Scheme::Cookie)
                .then(|| cookie_name(&audience).into()),
            accept: raw.accept,
            optional: raw.access == Access::Optional,
            resource_metadata: around
                .resources
                .get(&*audience)
                .and_then(|resource| metadata_url(resource))
                .map(Into::into),
            audience,
            scopes_all: boxed(raw.scopes_all),
            scopes_any: boxed(raw.scopes_any),
            groups: boxed(raw.groups),
            claims,
            claim_headers,
            offer: offer.unwrap_or_default(),
            deliver: raw.deliver,
            forward: raw.forward,
            upstream,
            allow_insecure: raw.allow_insecure,
            end_streams: raw.long_streams == LongStreams::End,
        }
    }

    /// What a route to a Kerberos service may not say: without a verified caller there is nobody to get a ticket for.
    fn upstream(
        &mut self,
        raw: &RawRoute,
        upstream: &Upstream,
        field: &dyn Fn(&str) -> String,
        around: &Around<'_>,
    ) -> Spn {
        let Upstream {
            kerberos: KerberosUpstream { spn },
        } = upstream;
        for (name, is_there) in [
            ("forward", raw.forward),
            ("dry_run", raw.dry_run),
            ("cors_preflight", raw.cors_preflight),
        ] {
            self.that(
                !is_there,
                &field(name),
                "expected nothing where `upstream` is: its service gets a ticket for a verified caller, and nothing else",
            );
        }
        self.that(
            raw.access == Access::Required,
            &field("access"),
            "expected \"required\" where `upstream` is: there is no ticket for nobody",
        );
        self.that(
            around.has_broker,
            &field("upstream"),
            "expected `broker` in the configuration: tickets are asked of it",
        );
        spn.clone()
    }

    fn audience(&mut self, audience: Option<&str>, field: &str, around: &Around<'_>) -> Rc<str> {
        self.that(
            audience.is_some(),
            field,
            "expected the audience that a token must be for",
        );
        let audience = audience.unwrap_or("-");
        self.text(audience, field);
        self.that(
            !audience.contains(['"', '\\']),
            field,
            "expected no quotation mark or backslash",
        );
        self.that(
            around.issuers.iter().any(|issuer| issuer.may_vouch_for(audience)),
            field,
            "expected an audience that one of the issuers may vouch for: nobody gets through",
        );
        audience.into()
    }

    fn condition(&mut self, raw: ClaimCondition, at: &str, pointers: &mut Vec<Pointer>) -> Condition {
        let ClaimCondition { claim, any_of, all_of } = raw;
        self.that(
            !any_of.is_empty() || !all_of.is_empty(),
            &format!("{at}.any_of"),
            "expected values, here or in `all_of`",
        );
        let pointer = self.pointer(&claim, &format!("{at}.claim"));
        Condition {
            place: place_of(pointer, pointers),
            any_of: boxed(any_of),
            all_of: boxed(all_of),
        }
    }

    fn offer(&mut self, raw: NegotiateOffer, at: &str) -> Offer {
        let NegotiateOffer {
            never,
            path_prefixes,
            sources,
            header,
        } = raw;
        let is_idle = path_prefixes.is_empty() && sources.is_empty() && header.is_none();
        self.that(never == is_idle, at, "expected either `never = true` or conditions");
        let mut paths = Vec::with_capacity(path_prefixes.len());
        for (place, prefix) in path_prefixes.iter().enumerate() {
            let pattern = PathPattern::prefix(prefix);
            self.that(pattern.is_some(), &format!("{at}.path_prefixes[{place}]"), ABSOLUTE);
            paths.extend(pattern);
        }
        let header = header.map(|HeaderCondition { name, contains }| {
            self.that(
                is_header_name(&name),
                &format!("{at}.header.name"),
                "expected a lower-case header name",
            );
            self.that(
                !contains.is_empty(),
                &format!("{at}.header.contains"),
                "expected a text",
            );
            (name.into(), contains.into())
        });
        Offer {
            never,
            paths,
            sources: self.networks(&sources, &format!("{at}.sources")),
            header,
        }
    }
}

fn boxed(texts: Vec<String>) -> Vec<Box<str>> {
    texts.into_iter().map(Into::into).collect()
}

/// The place of a pointer among those of the configuration, each there once.
fn place_of(pointer: Pointer, pointers: &mut Vec<Pointer>) -> usize {
    match pointers.iter().position(|known| *known == pointer) {
        Some(place) => place,
        None => {
            pointers.push(pointer);
            pointers.len().saturating_sub(1)
        }
    }
}
