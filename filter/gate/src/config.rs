//! Turns the JSON from Envoy into a configuration that cannot be wrong, or says all that is wrong with it at once.

use std::collections::HashSet;
use std::fmt;
use std::rc::Rc;

use kerbridge_wire::filter_config::{Algorithm, BrokerConfig, FilterConfig, IdentityHeaders, IssuerConfig, JwksConfig};
use kerbridge_wire::policy::{Access, Deliver, Route as RawRoute, Scheme};

use crate::jwk::KeySet;
use crate::route::{Need, PathMatch, Proof, Route};

/// The filter's configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) broker: Broker,
    pub(crate) routes: Vec<Rc<Route>>,
    pub(crate) identity: IdentityHeaders,
    /// Seconds.
    pub(crate) retry_after: u32,
}

/// One issuer, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    pub(crate) name: Box<str>,
    pub(crate) algorithms: Vec<Algorithm>,
    /// Seconds.
    pub(crate) clock_skew: u64,
    /// Where its keys are fetched, and how often.
    pub keys: KeySource,
}

/// Where an issuer's keys are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    /// Envoy cluster.
    pub cluster: Box<str>,
    /// `:authority`
    pub authority: Box<str>,
    /// `:path`
    pub path: Box<str>,
    /// Seconds between two fetches.
    pub poll: u32,
    /// Seconds after which the last good set is no longer used.
    pub max_staleness: u32,
    pub(crate) inline: Option<KeySet>,
}

/// The broker, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub(crate) cluster: Box<str>,
    pub(crate) authority: Box<str>,
    /// Seconds.
    pub(crate) timeout: u32,
    /// Index of its issuer.
    pub(crate) issuer: usize,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The field, as a path: `routes[2].audience`.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

/// All that is wrong with a configuration; at least one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, ConfigProblem { field, problem }) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{field}: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Response headers in which a token is handed back; also taken off every request and every upstream's answer.
pub const TOKEN_HEADER: &str = "x-kerbridge-token";
/// Seconds of life left in the token of [`TOKEN_HEADER`].
pub const TOKEN_EXPIRES_HEADER: &str = "x-kerbridge-token-expires-in";

impl Config {
    /// Reads a plugin configuration.
    ///
    /// # Errors
    /// Every problem, each naming its field. A configuration that is not JSON of the right shape gives one problem: the
    /// first place where it departs from it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigErrors> {
        let single = |field: String, problem: String| ConfigErrors(vec![ConfigProblem { field, problem }]);
        if bytes.trim_ascii().first() != Some(&b'{') {
            return Err(single(
                "configuration".into(),
                "expected a JSON object in a google.protobuf.StringValue (a Struct arrives as protobuf bytes)".into(),
            ));
        }
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let raw: FilterConfig = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| single(error.path().to_string(), error.into_inner().to_string()))?;
        deserializer
            .end()
            .map_err(|error| single("configuration".into(), error.to_string()))?;
        Self::build(raw)
    }

    fn build(raw: FilterConfig) -> Result<Self, ConfigErrors> {
        let FilterConfig {
            issuers,
            broker,
            routes,
            identity_headers,
            retry_after,
        } = raw;
        let mut check = Check(Vec::new());
        check.that(
            (1..=100).contains(&issuers.len()),
            "issuers",
            "expected 1 to 100 issuers",
        );
        check.that(
            (1..=10_000).contains(&routes.len()),
            "routes",
            "expected 1 to 10,000 routes",
        );
        let issuers: Vec<Issuer> = issuers
            .into_iter()
            .enumerate()
            .map(|(at, issuer)| check.issuer(&format!("issuers[{at}]"), issuer))
            .collect();
        let mut names = HashSet::new();
        for (at, issuer) in issuers.iter().enumerate() {
            check.that(
                names.insert(&issuer.name),
                &format!("issuers[{at}].issuer"),
                "stands twice",
            );
        }
        let broker = check.broker(broker, &issuers);
        let routes: Vec<Rc<Route>> = routes
            .into_iter()
            .enumerate()
            .map(|(at, route)| Rc::new(check.route(at, route)))
            .collect();
        check.reachable(&routes);
        check.identity(&identity_headers);
        if check.0.is_empty() {
            Ok(Self {
                issuers,
                broker,
                routes,
                identity: identity_headers,
                retry_after: retry_after.seconds(),
            })
        } else {
            Err(ConfigErrors(check.0))
        }
    }

    /// The issuers, in order; keys are kept and fetched by this index.
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// Names of headers and trailers that no client may send: whatever comes under them is deleted.
    pub fn reserved_headers(&self) -> [&str; 4] {
        [
            &self.identity.subject,
            &self.identity.scope,
            TOKEN_HEADER,
            TOKEN_EXPIRES_HEADER,
        ]
    }
}

/// Collects problems while it builds.
struct Check(Vec<ConfigProblem>);

impl Check {
    fn that(&mut self, holds: bool, field: &str, problem: &str) {
        if !holds {
            self.0.push(ConfigProblem {
                field: field.into(),
                problem: problem.into(),
            });
        }
    }

    fn text(&mut self, value: &str, field: &str) {
        let fits = (1..=255).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic());
        self.that(fits, field, "expected 1 to 255 visible ASCII characters");
    }

    fn issuer(&mut self, at: &str, raw: IssuerConfig) -> Issuer {
        let IssuerConfig {
            issuer,
            algorithms,
            jwks,
            clock_skew_seconds,
        } = raw;
        self.text(&issuer, &format!("{at}.issuer"));
        self.that(
            !algorithms.is_empty(),
            &format!("{at}.algorithms"),
            "expected at least one, such as \"ES256\"",
        );
        self.that(
            clock_skew_seconds <= 300,
            &format!("{at}.clock_skew_seconds"),
            "expected 0 to 300",
        );
        let JwksConfig {
            cluster,
            authority,
            path,
            poll,
            max_staleness,
            inline,
        } = jwks;
        self.text(&cluster, &format!("{at}.jwks.cluster"));
        self.text(&authority, &format!("{at}.jwks.authority"));
        self.text(&path, &format!("{at}.jwks.path"));
        self.that(
            path.starts_with('/'),
            &format!("{at}.jwks.path"),
            "expected a path that begins with \"/\"",
        );
        self.that(
            poll < max_staleness,
            &format!("{at}.jwks.max_staleness"),
            "expected more than `poll`, or keys grow stale between two fetches",
        );
        let inline = inline.and_then(|text| {
            let keys = KeySet::parse(text.as_bytes(), &algorithms)
                .ok()
                .filter(|keys| !keys.is_empty());
            self.that(
                keys.is_some(),
                &format!("{at}.jwks.inline"),
                "expected a JSON Web Key Set with at least one key for the issuer's algorithms (RFC 7517 §5)",
            );
            keys
        });
        let keys = KeySource {
            cluster: cluster.into(),
            authority: authority.into(),
            path: path.into(),
            poll: poll.seconds(),
            max_staleness: max_staleness.seconds(),
            inline,
        };
        Issuer {
            name: issuer.into(),
            algorithms,
            clock_skew: u64::from(clock_skew_seconds),
            keys,
        }
    }

    fn broker(&mut self, raw: BrokerConfig, issuers: &[Issuer]) -> Broker {
        let BrokerConfig {
            cluster,
            authority,
            timeout,
            issuer,
        } = raw;
        self.text(&cluster, "broker.cluster");
        self.text(&authority, "broker.authority");
        self.that(timeout.seconds() <= 60, "broker.timeout", "expected \"1s\" to \"60s\"");
        let place = issuers.iter().position(|known| *known.name == *issuer);
        self.that(
            place.is_some(),
            "broker.issuer",
            "expected the `issuer` of one of `issuers`",
        );
        Broker {
            cluster: cluster.into(),
            authority: authority.into(),
            timeout: timeout.seconds(),
            issuer: place.unwrap_or_default(),
        }
    }

    fn route(&mut self, at: usize, raw: RawRoute) -> Route {
        let RawRoute {
            name,
            host,
            path_prefix,
            path,
            methods,
            access,
            accept,
            audience,
            scopes_all,
            deliver,
            forward,
            allow_insecure,
        } = raw;
        let field = |name: &str| format!("routes[{at}].{name}");
        let name = name.unwrap_or_else(|| format!("route-{at}"));
        let is_word = |text: &str| {
            (1..=64).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        self.that(
            is_word(&name),
            &field("name"),
            "expected 1 to 64 of letters, digits, \".\", \"_\", \"-\"",
        );
        if let Some(host) = &host {
            let fits = (1..=255).contains(&host.len())
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-[]:".contains(&byte))
                && (!host.contains(':') || host.starts_with('['))
                && !host.ends_with(['.', ':']);
            self.that(
                fits,
                &field("host"),
                "expected a host name without port, such as \"api.example.com\"",
            );
        }
        for (place, method) in methods.iter().enumerate() {
            let fits = (1..=32).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_uppercase());
            self.that(
                fits,
                &field(&format!("methods[{place}]")),
                "expected a method in capitals, such as \"GET\"",
            );
        }
        let path = self.path(at, path_prefix, path);
        let need = match access {
            Access::Open => {
                self.that(
                    accept.is_empty(),
                    &field("accept"),
                    "expected nothing where access = \"open\"",
                );
                self.that(
                    audience.is_none(),
                    &field("audience"),
                    "expected nothing where access = \"open\"",
                );
                self.that(
                    scopes_all.is_empty(),
                    &field("scopes_all"),
                    "expected nothing where access = \"open\"",
                );
                self.that(
                    deliver == Deliver::None,
                    &field("deliver"),
                    "expected nothing where access = \"open\"",
                );
                Need::Open { forward }
            }
            Access::Required => {
                self.that(
                    !accept.is_empty(),
                    &field("accept"),
                    "expected at least one of \"negotiate\", \"bearer\", \"cookie\"",
                );
                self.that(
                    audience.is_some(),
                    &field("audience"),
                    "expected the audience that a token must be for",
                );
                let audience = audience.unwrap_or_else(|| "-".into());
                self.text(&audience, &field("audience"));
                self.that(
                    !audience.contains(['"', '\\']),
                    &field("audience"),
                    "expected no quotation mark or backslash",
                );
                for (place, scope) in scopes_all.iter().enumerate() {
                    let fits = is_scope(scope);
                    self.that(
                        fits,
                        &field(&format!("scopes_all[{place}]")),
                        "expected a scope (RFC 6749 §3.3)",
                    );
                }
                let mints = accept.contains(&Scheme::Negotiate);
                self.that(
                    deliver == Deliver::None || mints,
                    &field("deliver"),
                    "expected \"negotiate\" in `accept`: only a ticket makes a new token",
                );
                self.that(
                    deliver != Deliver::Cookie || accept.contains(&Scheme::Cookie),
                    &field("deliver"),
                    "expected \"cookie\" in `accept`: else the cookie would never be read",
                );
                let cookie = Proof::cookie_of(&accept, &audience);
                Need::Proof(Rc::new(Proof {
                    accept,
                    audience: audience.into(),
                    scopes_all: scopes_all.into_iter().map(Into::into).collect(),
                    deliver,
                    forward,
                    allow_insecure,
                    cookie,
                }))
            }
        };
        Route {
            name: name.into(),
            host: host.map(|host| host.to_ascii_lowercase().into()),
            path,
            methods: methods.into_iter().map(Into::into).collect(),
            need,
        }
    }

    fn path(&mut self, at: usize, prefix: Option<String>, exact: Option<String>) -> PathMatch {
        let field = |name: &str| format!("routes[{at}].{name}");
        let (text, is_exact) = match (prefix, exact) {
            (Some(prefix), None) => (prefix, false),
            (None, Some(exact)) => (exact, true),
            (Some(_), Some(_)) | (None, None) => {
                self.that(
                    false,
                    &field("path_prefix"),
                    "expected exactly one of `path_prefix` and `path`",
                );
                return PathMatch::Exact("/".into());
            }
        };
        let name = if is_exact { "path" } else { "path_prefix" };
        let fits = crate::route::is_unambiguous(text.as_bytes()) && !text.contains('?');
        self.that(
            fits,
            &field(name),
            "expected an absolute path without \"//\", \"..\", \";\", query or escaped slashes",
        );
        if is_exact {
            PathMatch::Exact(text.into())
        } else {
            PathMatch::Prefix(text.trim_end_matches('/').into())
        }
    }

    fn reachable(&mut self, routes: &[Rc<Route>]) {
        for (at, route) in routes.iter().enumerate() {
            let earlier = routes.iter().take(at).find(|earlier| earlier.covers(route));
            if let Some(earlier) = earlier {
                let problem = format!("is never reached: \"{}\" above matches all of it", earlier.name);
                self.that(false, &format!("routes[{at}]"), &problem);
            }
        }
    }

    fn identity(&mut self, headers: &IdentityHeaders) {
        let IdentityHeaders { subject, scope } = headers;
        for (name, field) in [(subject, "identity_headers.subject"), (scope, "identity_headers.scope")] {
            let fits = (3..=64).contains(&name.len())
                && name.starts_with("x-")
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !name.starts_with("x-envoy-")
                && !name.starts_with("x-forwarded-")
                && name != TOKEN_HEADER
                && name != TOKEN_EXPIRES_HEADER
                && name != "x-request-id";
            self.that(
                fits,
                field,
                "expected a lower-case name of our own that begins with \"x-\", such as \"x-kerbridge-subject\"",
            );
        }
        self.that(
            subject != scope,
            "identity_headers.scope",
            "expected another name than `subject`",
        );
    }
}

/// `scope-token` of RFC 6749 §3.3, at most 255 characters.
pub(crate) fn is_scope(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}
