//! Builds the routes: which requests they are for.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use kerbridge_wire::clients::metadata_url;
use kerbridge_wire::policy::{Access, Deliver, Route as RawRoute};

use super::HeaderNames;
use super::check::Check;
use super::issuer::Issuer;
use crate::pointer::Pointer;
use crate::route::path::PathPattern;
use crate::route::{HostMatch, Need, Route};

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
}

pub(super) const ABSOLUTE: &str =
    "expected an absolute path without \"//\", \"..\", \";\", \"*\", query or escaped slashes";
