//! Builds the issuers: whose tokens are taken, for which audiences, by which keys.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kerbridge_wire::Span;
use kerbridge_wire::filter_config::{Algorithm, BrokerConfig, DelegationConfig, FeedConfig, IssuerConfig, JwksConfig};

use super::check::Check;
use crate::jwk::KeySet;
use crate::jwt::VerifiedClaims;
use crate::pointer::Pointer;
use crate::secret::Secret;
use crate::verified::percent_encoded;

/// One issuer, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    pub(crate) issuer: Rc<str>,
    /// The same as a header's value, which all that is remembered of its tokens shares.
    pub(crate) header: Secret,
    /// What statistics call it.
    pub name: Rc<str>,
    /// It is the broker: its tokens have exactly one audience, the route's own.
    pub(crate) is_broker: bool,
    /// By audience of a route: the `aud` values that stand for it.
    audiences: BTreeMap<Box<str>, Vec<Box<str>>>,
    pub(crate) algorithms: Vec<Algorithm>,
    /// In lower case; empty text for a token without `typ`.
    pub(crate) types: Vec<Box<str>>,
    /// Seconds.
    pub(crate) clock_skew: u64,
    /// Seconds.
    pub(crate) expiry_skew: u64,
    /// Seconds.
    pub(crate) max_lifetime: Option<u64>,
    /// `iat` must be there: its lifetime or its revocations are counted from it.
    pub(crate) needs_issued: bool,
    pub(crate) scope_claim: Pointer,
    pub(crate) groups_claim: Pointer,
    /// Keys that are there from the start.
    pub(crate) inline_keys: Option<KeySet>,
    /// Where its keys are fetched; `None` where the inline ones are all there is.
    pub keys: Option<Source>,
    /// Where its revocations are fetched.
    pub feed: Option<Source>,
    /// Pages of revocations to start with.
    pub inline_feed: Vec<Vec<u8>>,
}

/// Where something is fetched, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Envoy cluster.
    pub cluster: Box<str>,
    /// `:authority`
    pub authority: Box<str>,
    /// `:path`
    pub path: Box<str>,
    /// Seconds between two fetches.
    pub poll: u32,
    /// Seconds after which the last good answer is no longer used.
    pub max_staleness: u32,
}

/// The brokers, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Where tickets are exchanged for tokens.
    pub(crate) tokens: Endpoint,
    /// Where tokens are exchanged for tickets: the same, or another.
    pub(crate) tickets: Endpoint,
    /// Index of the issuer of its tokens.
    pub(crate) issuer: usize,
}

/// Where an exchange is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) cluster: Box<str>,
    pub(crate) authority: Box<str>,
    /// Seconds.
    pub(crate) timeout: u32,
}

impl Issuer {
    /// Whether some token of it can be for a route's audience.
    pub(super) fn may_vouch_for(&self, audience: &str) -> bool {
        self.is_broker || self.audiences.contains_key(audience)
    }

    /// Whether verified claims of this issuer are for a route's audience: its own tokens are for that one and no other, a
    /// foreign issuer's carry a value that the configuration lets stand for it.
    pub(crate) fn vouches_for(&self, audience: &str, claims: &VerifiedClaims) -> bool {
        let shown = claims.audiences();
        if self.is_broker {
            return matches!(shown, [one] if **one == *audience);
        }
        match self.audiences.get(audience) {
            Some(values) => shown.iter().any(|one| values.contains(one)),
            None => false,
        }
    }
}

impl Check {
    pub(super) fn issuers(&mut self, raw: Vec<IssuerConfig>, broker: Option<&BrokerConfig>) -> Vec<Issuer> {
        self.that((1..=100).contains(&raw.len()), "issuers", "expected 1 to 100 issuers");
        let mut issuers = HashSet::new();
        let mut names = HashSet::new();
        let mut built = Vec::with_capacity(raw.len());
        for (place, raw) in raw.into_iter().enumerate() {
            let at = format!("issuers[{place}]");
            let is_broker = broker.is_some_and(|broker| broker.issuer == raw.issuer);
            let issuer = self.issuer(&at, place, raw, is_broker);
            self.that(
                issuers.insert(Rc::clone(&issuer.issuer)),
                &format!("{at}.issuer"),
                "stands twice",
            );
            self.that(
                names.insert(Rc::clone(&issuer.name)),
                &format!("{at}.name"),
                "stands twice",
            );
            built.push(issuer);
        }
        built
    }

    fn issuer(&mut self, at: &str, place: usize, raw: IssuerConfig, is_broker: bool) -> Issuer {
        let IssuerConfig {
            issuer,
            name,
            audiences,
            algorithms,
            types,
            jwks,
            feed,
            clock_skew_seconds,
            expiry_skew_seconds,
            max_lifetime,
            scope_claim,
            groups_claim,
        } = raw;
        let field = |name: &str| format!("{at}.{name}");
        self.text(&issuer, &field("issuer"));
        let name = name.unwrap_or_else(|| {
            if is_broker {
                "kerbridge".into()
            } else {
                format!("issuer-{place}")
            }
        });
        self.word(&name, &field("name"), b"_-");
        self.that(
            is_broker || !audiences.is_empty(),
            &field("audiences"),
            "expected the audiences of routes that it may vouch for, such as {\"orders\": [\"client-123\"]}",
        );
        self.that(
            !is_broker || audiences.is_empty(),
            &field("audiences"),
            "expected none for the broker's issuer, which mints for each audience under its own name",
        );
        let audiences = audiences
            .into_iter()
            .map(|(audience, values)| {
                let place = field(&format!("audiences.{audience}"));
                self.text(&audience, &place);
                for value in &values {
                    self.text(value, &place);
                }
                let values = if values.is_empty() {
                    vec![audience.clone()]
                } else {
                    values
                };
                (audience.into(), values.into_iter().map(Into::into).collect())
            })
            .collect();
        self.that(
            !algorithms.is_empty(),
            &field("algorithms"),
            "expected at least one, such as \"ES256\"",
        );
        self.that(
            !types.is_empty() && types.iter().all(|typ| is_jwt(typ)),
            &field("types"),
            "expected at least one of \"JWT\", \"at+jwt\" or another type that ends with \"+jwt\", \"\" for a token without",
        );
        self.that(
            !is_broker || types == ["at+jwt"],
            &field("types"),
            "expected nothing for the broker's issuer, whose tokens are \"at+jwt\" (RFC 9068 §2.1)",
        );
        self.that(
            clock_skew_seconds <= 300,
            &field("clock_skew_seconds"),
            "expected 0 to 300",
        );
        self.that(
            expiry_skew_seconds <= 300,
            &field("expiry_skew_seconds"),
            "expected 0 to 300",
        );
        self.that(
            !is_broker || expiry_skew_seconds == 0,
            &field("expiry_skew_seconds"),
            "expected 0 for the broker's issuer: a token never outlives its ticket",
        );
        let (keys, inline_keys) = self.keys(&field("jwks"), jwks, &algorithms);
        let needs_issued = is_broker || max_lifetime.is_some() || feed.is_some();
        let (feed, inline_feed) = match feed {
            Some(feed) => self.feed(&field("feed"), feed),
            None => (None, Vec::new()),
        };
        Issuer {
            header: Secret::new(percent_encoded(&issuer)),
            issuer: issuer.into(),
            name: name.into(),
            is_broker,
            audiences,
            algorithms,
            types: types.iter().map(|typ| normalised_type(typ)).collect(),
            clock_skew: u64::from(clock_skew_seconds),
            expiry_skew: u64::from(expiry_skew_seconds),
            max_lifetime: max_lifetime.map(|span| u64::from(span.seconds())),
            needs_issued,
            scope_claim: self.pointer(&scope_claim, &field("scope_claim")),
            groups_claim: self.pointer(&groups_claim, &field("groups_claim")),
            inline_keys,
            keys,
            feed,
            inline_feed,
        }
    }

    fn keys(&mut self, at: &str, raw: JwksConfig, algorithms: &[Algorithm]) -> (Option<Source>, Option<KeySet>) {
        let JwksConfig {
            cluster,
            authority,
            path,
            poll,
            max_staleness,
            inline,
        } = raw;
        self.that(
            cluster.is_some() || inline.is_some(),
            &format!("{at}.cluster"),
            "expected a cluster to fetch keys from, or `inline` keys",
        );
        let source = cluster.map(|cluster| {
            self.place(&cluster, &authority, &path, at);
            self.that(
                poll < max_staleness,
                &format!("{at}.max_staleness"),
                "expected more than `poll`, or keys grow stale between two fetches",
            );
            Source {
                cluster: cluster.into(),
                authority: authority.into(),
                path: path.into(),
                poll: poll.seconds(),
                max_staleness: max_staleness.seconds(),
            }
        });
        let inline = inline.and_then(|text| {
            let keys = KeySet::parse(text.as_bytes(), algorithms)
                .ok()
                .filter(|keys| !keys.is_empty());
            self.that(
                keys.is_some(),
                &format!("{at}.inline"),
                "expected a JSON Web Key Set with at least one key for the issuer's algorithms (RFC 7517 §5)",
            );
            keys
        });
        (source, inline)
    }

    fn feed(&mut self, at: &str, raw: FeedConfig) -> (Option<Source>, Vec<Vec<u8>>) {
        let FeedConfig {
            cluster,
            authority,
            path,
            poll,
            max_staleness,
            inline,
        } = raw;
        self.place(&cluster, &authority, &path, at);
        self.that(
            poll < max_staleness,
            &format!("{at}.max_staleness"),
            "expected more than `poll`, or revocations grow stale between two fetches",
        );
        let mut pages = Vec::with_capacity(inline.len());
        for (place, page) in inline.iter().enumerate() {
            let page = STANDARD.decode(page);
            self.that(
                page.is_ok(),
                &format!("{at}.inline[{place}]"),
                "expected a signed page in base64 (RFC 4648 §4)",
            );
            pages.extend(page);
        }
        let source = Source {
            cluster: cluster.into(),
            authority: authority.into(),
            path: path.into(),
            poll: poll.seconds(),
            max_staleness: max_staleness.seconds(),
        };
        (Some(source), pages)
    }

    pub(super) fn broker(&mut self, raw: Option<BrokerConfig>, issuers: &[Issuer]) -> Option<Broker> {
        let BrokerConfig {
            cluster,
            authority,
            timeout,
            issuer,
            delegation,
        } = raw?;
        let tokens = self.endpoint("broker", cluster, authority, timeout);
        let tickets = delegation.map(|another| {
            let DelegationConfig {
                cluster,
                authority,
                timeout,
            } = another;
            self.endpoint("broker.delegation", cluster, authority, timeout)
        });
        let place = issuers.iter().position(|known| *known.issuer == *issuer);
        self.that(
            place.is_some(),
            "broker.issuer",
            "expected the `issuer` of one of `issuers`",
        );
        Some(Broker {
            tickets: tickets.unwrap_or_else(|| tokens.clone()),
            tokens,
            issuer: place.unwrap_or_default(),
        })
    }

    fn endpoint(&mut self, at: &str, cluster: String, authority: String, timeout: Span) -> Endpoint {
        self.text(&cluster, &format!("{at}.cluster"));
        self.text(&authority, &format!("{at}.authority"));
        let is_brief = timeout.seconds() <= 60;
        self.that(is_brief, &format!("{at}.timeout"), "expected \"1s\" to \"60s\"");
        Endpoint {
            cluster: cluster.into(),
            authority: authority.into(),
            timeout: timeout.seconds(),
        }
    }
}

/// A type that a JWT can have (RFC 8725 §3.11), or none.
fn is_jwt(typ: &str) -> bool {
    let typ = normalised_type(typ);
    typ.len() <= 64 && typ.is_ascii() && (typ.is_empty() || &*typ == "jwt" || typ.ends_with("+jwt"))
}

/// A media type as `typ` has it, in lower case, without the `application/` that RFC 7515 §4.1.9 lets stand before it.
fn normalised_type(typ: &str) -> Box<str> {
    let typ = typ.to_ascii_lowercase();
    match typ.strip_prefix("application/") {
        Some(rest) if !rest.contains('/') => rest.into(),
        Some(_) | None => typ.into(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An issuer of these members, checked, being the broker's.
    pub(crate) fn issuer(members: &str) -> Issuer {
        let text = format!(r#"{{{members},"jwks":{{"cluster":"c"}}}}"#);
        let raw: IssuerConfig = serde_json::from_str(&text).unwrap();
        Check::default().issuer("issuers[0]", 0, raw, true)
    }
}
