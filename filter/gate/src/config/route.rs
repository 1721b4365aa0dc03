//! Builds the routes: which requests they are for, and the rule of each.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use kerbridge_wire::Spn;
use kerbridge_wire::clients::metadata_url;
use kerbridge_wire::policy::{
    Access, ClaimCondition, ClaimToHeader, Deliver, HeaderCondition, KerberosUpstream, LongStreams, NegotiateOffer,
    Route as RawRoute, Scheme, Upstream,
};

use super::check::Check;
use super::issuer::Issuer;
use super::{HeaderNames, is_header_name, is_scope};
use crate::pointer::Pointer;
use crate::request::cookie_name;
use crate::route::path::PathPattern;
use crate::route::{HostMatch, Need, Route};
use crate::rule::{Condition, Offer, Rule};

/// What the routes need to know of the rest of the configuration.
pub(super) struct Around<'c> {
    pub(super) issuers: &'c [Issuer],
    pub(super) has_broker: bool,
    /// By audience: its address.
    pub(super) resources: &'c BTreeMap<String, String>,
    pub(super) has_token_header: bool,
}

impl Check {
    /// Addresses that may stand in a header and in a document.
    pub(super) fn resources(&mut self, resources: &BTreeMap<String, String>) {
        for (audience, resource) in resources {
            let field = format!("resources.{audience}");
            self.text(resource, &field);
            self.that(
                metadata_url(resource).is_some(),
                &field,
                "expected an absolute URI without query and fragment, such as \"https://api.example.com/orders\"",
            );
        }
    }

    pub(super) fn routes(
        &mut self,
        raw: Vec<RawRoute>,
        around: &Around<'_>,
        pointers: &mut Vec<Pointer>,
        names: &mut HeaderNames,
    ) -> Vec<Rc<Route>> {
        self.that(
            (1..=10_000).contains(&raw.len()),
            "routes",
            "expected 1 to 10,000 routes",
        );
        let mut known = HashSet::new();
        let mut routes: Vec<Rc<Route>> = Vec::with_capacity(raw.len());
        for (at, raw) in raw.into_iter().enumerate() {
            let route = self.route(at, raw, around, pointers, names);
            self.that(
                known.insert(Rc::clone(&route.name)),
                &format!("routes[{at}].name"),
                "stands twice",
            );
            if let Some(earlier) = routes.iter().find(|earlier| earlier.covers(&route)) {
                let problem = format!("is never reached: \"{}\" above matches all of it", earlier.name);
                self.that(false, &format!("routes[{at}]"), &problem);
            }
            routes.push(Rc::new(route));
        }
        routes
    }

    fn route(
        &mut self,
        at: usize,
        raw: RawRoute,
        around: &Around<'_>,
        pointers: &mut Vec<Pointer>,
        names: &mut HeaderNames,
    ) -> Route {
        let field = |name: &str| format!("routes[{at}].{name}");
        let name = raw.name.clone().unwrap_or_else(|| format!("route-{at}"));
        self.word(&name, &field("name"), b"._-");
        for (place, method) in raw.methods.iter().enumerate() {
            let fits = (1..=32).contains(&method.len())
                && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
            self.that(
                fits,
                &field(&format!("methods[{place}]")),
                "expected a method in capitals, such as \"GET\"",
            );
        }
        let host = self.host(raw.host.as_deref(), &field("host"));
        let path = self.path(&raw, &field);
        Route {
            name: name.into(),
            host,
            path,
            methods: raw.methods.iter().map(|method| method.as_str().into()).collect(),
            cors_preflight: raw.cors_preflight,
            dry_run: raw.dry_run,
            need: match raw.access {
                Access::Open => {
                    self.open(&raw, &field);
                    Need::Open { forward: raw.forward }
                }
                Access::Required | Access::Optional => {
                    Need::Proof(Rc::new(self.rule(raw, &field, around, pointers, names)))
                }
            },
        }
    }

    fn host(&mut self, host: Option<&str>, field: &str) -> HostMatch {
        let Some(host) = host else { return HostMatch::Every };
        let (name, is_below) = match host.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (host, false),
        };
        let is_address = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|address| !is_below && address.parse::<std::net::Ipv6Addr>().is_ok());
        let is_name = (1..=253).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
            && !name.starts_with('.')
            && !name.ends_with('.');
        self.that(
            is_address || is_name,
            field,
            "expected a host name without port, such as \"api.example.com\" or \"*.example.com\"",
        );
        let name = name.to_ascii_lowercase().into();
        if is_below {
            HostMatch::Below(name)
        } else {
            HostMatch::Exact(name)
        }
    }

    fn path(&mut self, raw: &RawRoute, field: &dyn Fn(&str) -> String) -> PathPattern {
        let given = [
            ("path_prefix", raw.path_prefix.as_deref()),
            ("path", raw.path.as_deref()),
            ("path_template", raw.path_template.as_deref()),
        ];
        let mut given = given
            .into_iter()
            .filter_map(|(name, text)| text.map(|text| (name, text)));
        let pattern = match (given.next(), given.next()) {
            (Some((name, text)), None) => {
                let (pattern, expected) = match name {
                    "path_template" => (
                        PathPattern::template(text),
                        "expected a path of literal segments, {name} and, at the end, {name=**}, each name once",
                    ),
                    "path" => (PathPattern::exact(text), ABSOLUTE),
                    _ => (PathPattern::prefix(text), ABSOLUTE),
                };
                self.that(pattern.is_some(), &field(name), expected);
                pattern
            }
            (Some(_), Some(_)) | (None, _) => {
                self.that(
                    false,
                    &field("path_prefix"),
                    "expected exactly one of `path_prefix`, `path` and `path_template`",
                );
                None
            }
        };
        pattern.unwrap_or_else(PathPattern::nothing)
    }

    /// What an open route says beside where it is.
    fn open(&mut self, raw: &RawRoute, field: &dyn Fn(&str) -> String) {
        for (name, is_there) in [
            ("accept", !raw.accept.is_empty()),
            ("audience", raw.audience.is_some()),
            ("scopes_all", !raw.scopes_all.is_empty()),
            ("scopes_any", !raw.scopes_any.is_empty()),
            ("groups", !raw.groups.is_empty()),
            ("claims", !raw.claims.is_empty()),
            ("claim_to_headers", !raw.claim_to_headers.is_empty()),
            ("offer_negotiate", raw.offer_negotiate.is_some()),
            ("deliver", raw.deliver != Deliver::None),
            ("upstream", raw.upstream.is_some()),
            ("cors_preflight", raw.cors_preflight),
            ("dry_run", raw.dry_run),
        ] {
            self.that(!is_there, &field(name), "expected nothing where access = \"open\"");
        }
    }

    fn rule(
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

const ABSOLUTE: &str = "expected an absolute path without \"//\", \"..\", \";\", \"*\", query or escaped slashes";

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
