//! Turns the JSON from Envoy into a configuration that cannot be wrong, or says all that is wrong with it at once.

pub(crate) mod check;
pub(crate) mod issuer;
mod logout;
mod place;
mod route;
mod rule;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use kerbridge_wire::Spn;
use kerbridge_wire::filter_config::{
    ExplainConfig, FilterConfig, IdentityHeaders, TokenCacheConfig, TokenHeader as RawTokenHeader, UpstreamFilterConfig,
};

pub use check::{ConfigErrors, ConfigProblem};
pub(crate) use issuer::Endpoint;
pub use issuer::{Broker, Issuer, Source};

use kerbridge_wire::policy::Deliver;

use crate::json::Json;
use crate::network::Network;
use crate::pointer::Pointer;
use crate::route::index::RouteIndex;
use crate::session::OwnPaths;
use crate::shape;
use check::Check;
use route::Around;

/// What the module is for in one place of Envoy, by its configuration there.
#[derive(Debug)]
pub enum Role {
    /// It judges the requests of a listener.
    Gate(Box<Config>),
    /// It brings tickets to a cluster, which is this service.
    Upstream(Spn),
}

impl Role {
    /// Reads a plugin configuration.
    ///
    /// # Errors
    /// Those of [`Config::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigErrors> {
        let is_upstream = Json::parse(bytes).is_some_and(|text| text.member("upstream").is_some());
        if is_upstream {
            let UpstreamFilterConfig { upstream } = read(bytes, UpstreamFilterConfig::from_json)?;
            Ok(Self::Upstream(upstream.kerberos.spn))
        } else {
            Config::parse(bytes).map(Box::new).map(Self::Gate)
        }
    }
}

/// The filter's configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) broker: Option<Broker>,
    pub(crate) routes: RouteIndex,
    pub(crate) identity: Identity,
    pub(crate) token_header: Option<TokenHeader>,
    pub(crate) explain: Option<Explain>,
    /// Where browsers log out and in again.
    pub(crate) own_paths: Option<Rc<OwnPaths>>,
    /// Claims that conditions and headers of the routes name.
    pub(crate) pointers: Vec<Pointer>,
    pub(crate) token_cache: TokenCacheConfig,
    /// The listener leaves nothing to look for in headers that are not known by name, and tokens are remembered.
    pub(crate) is_single_read_enough: bool,
    /// Headers that make a request one to be judged on its whole head.
    pub(crate) warm_blockers: Vec<Rc<str>>,
    issuer_places: HashMap<Rc<str>, usize>,
    filter_state: bool,
    /// Some route hands tokens back in a header.
    pub(crate) delivers_headers: bool,
    /// Some route takes cookies of ours.
    pub(crate) takes_cookies: bool,
    /// Some route leads to a Kerberos service.
    has_kerberos: bool,
    /// Tokens may be bound to certificates of clients.
    reads_certificate: bool,
    /// Something depends on where a request comes from.
    reads_source: bool,
    /// Request headers that no client may send.
    reserved: Vec<Rc<str>>,
    /// Seconds.
    pub(crate) retry_after: u32,
}

/// Names of the headers that tell the upstream who calls; `None` for one that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) subject: Option<Rc<str>>,
    pub(crate) issuer: Option<Rc<str>>,
    pub(crate) scope: Option<Rc<str>>,
    pub(crate) groups: Option<Rc<str>>,
}

/// A header in which tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenHeader {
    pub(crate) name: Rc<str>,
    pub(crate) prefix: Box<[u8]>,
}

/// Who may ask for the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explain {
    pub(crate) header: Rc<str>,
    pub(crate) sources: Vec<Network>,
}

/// Response header in which a token is handed back; taken off every upstream's answer.
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
        Self::build(read(bytes, FilterConfig::from_json)?)
    }

    /// Builds it from its raw form.
    ///
    /// # Errors
    /// Every problem, each naming its field.
    pub fn build(raw: FilterConfig) -> Result<Self, ConfigErrors> {
        let FilterConfig {
            issuers,
            broker,
            routes,
            identity_headers,
            token_header,
            token_cache,
            filter_state,
            underscores_rejected,
            explain,
            logout,
            resources,
            certificate_bound,
            retry_after,
        } = raw;
        let mut check = Check::default();
        let issuers = check.issuers(issuers, broker.as_ref());
        let broker = check.broker(broker, &issuers);
        let mut pointers = Vec::new();
        let mut names = HeaderNames::default();
        let identity = names.identity(&mut check, identity_headers);
        let token_header = token_header.map(|raw| names.token_header(&mut check, raw));
        let explain = explain.map(|raw| names.explain(&mut check, &raw));
        check.resources(&resources);
        let around = Around {
            issuers: &issuers,
            has_broker: broker.is_some(),
            resources: &resources,
            has_token_header: token_header.is_some(),
        };
        let mut routes = check.routes(routes, &around, &mut pointers, &mut names);
        let takes_cookies = routes
            .iter()
            .filter_map(|route| route.rule())
            .any(|rule| rule.cookie().is_some());
        // Without cookies there is no session to end, without a broker nobody to end it.
        let own_paths = check.own_paths(&logout, takes_cookies && broker.is_some());
        if let Some(own) = &own_paths {
            check.reserve_paths(own, &mut routes);
        }
        check.token_cache(token_cache);
        // A cookie of ours may come from another Envoy of the same host, though no route here takes one: it must not go upstream.
        let warm_blockers = std::iter::once("cookie".into())
            .chain(token_header.iter().map(|header| Rc::clone(&header.name)))
            .chain(explain.iter().map(|explain| Rc::clone(&explain.header)))
            .collect();
        if check.0.is_empty() {
            Ok(Self {
                delivers_headers: routes
                    .iter()
                    .filter_map(|route| route.rule())
                    .any(|rule| rule.deliver == Deliver::Header),
                takes_cookies,
                has_kerberos: routes
                    .iter()
                    .filter_map(|route| route.rule())
                    .any(|rule| rule.upstream.is_some()),
                reads_source: explain.is_some()
                    || routes
                        .iter()
                        .filter_map(|route| route.rule())
                        .any(|rule| !rule.offer.sources.is_empty()),
                issuer_places: (0..)
                    .zip(&issuers)
                    .map(|(place, issuer)| (Rc::clone(&issuer.issuer), place))
                    .collect(),
                warm_blockers,
                issuers,
                broker,
                routes: RouteIndex::new(routes),
                identity,
                token_header,
                explain,
                own_paths,
                pointers,
                token_cache,
                is_single_read_enough: underscores_rejected && token_cache.entries > 0,
                filter_state,
                reads_certificate: certificate_bound,
                reserved: names.reserved,
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

    /// The index of the issuer with this `iss`.
    pub(crate) fn issuer_place(&self, issuer: &str) -> Option<usize> {
        self.issuer_places.get(issuer).copied()
    }

    /// Whether the outcome is written to filter state.
    pub const fn filter_state(&self) -> bool {
        self.filter_state
    }

    /// Whether some requests are handed to the filter of a cluster, which gets tickets for them.
    pub const fn has_kerberos(&self) -> bool {
        self.has_kerberos
    }

    /// Whether [`crate::RequestHead::source`] is looked at.
    pub const fn reads_source(&self) -> bool {
        self.reads_source
    }

    /// Whether [`crate::RequestHead::certificate`] is looked at.
    pub const fn reads_certificate(&self) -> bool {
        self.reads_certificate
    }

    /// How many routes only log and count their verdict.
    pub fn dry_runs(&self) -> usize {
        self.routes.routes().iter().filter(|route| route.is_dry_run()).count()
    }

    /// Names of headers and trailers that no client may send: whatever comes under them is deleted.
    pub fn reserved_headers(&self) -> &[Rc<str>] {
        &self.reserved
    }
}

/// Reads a plugin configuration into its raw form.
fn read<T>(bytes: &[u8], from_json: fn(&[u8]) -> Result<T, serde_json::Error>) -> Result<T, ConfigErrors> {
    let single = |field: String, problem: String| ConfigErrors(vec![ConfigProblem { field, problem }]);
    if bytes.trim_ascii().first() != Some(&b'{') {
        return Err(single(
            "configuration".into(),
            "expected a JSON object in a google.protobuf.StringValue (a Struct arrives as protobuf bytes)".into(),
        ));
    }
    from_json(bytes).map_err(|error| {
        let path = place::path_at(bytes, error.line(), error.column());
        let field = if path.is_empty() { "configuration".into() } else { path };
        single(field, shape::in_words(&error.to_string()))
    })
}

/// The headers that are ours: each once, none that means something else.
#[derive(Default)]
struct HeaderNames {
    reserved: Vec<Rc<str>>,
    taken: HashSet<Rc<str>>,
    /// Those of them that carry claims: routes share no others.
    claims: HashSet<Rc<str>>,
}

impl HeaderNames {
    /// A header that we set.
    fn reserve(&mut self, check: &mut Check, name: &str, field: &str) -> Rc<str> {
        let fits = is_header_name(name)
            && name.starts_with("x-")
            && !name.starts_with("x-envoy-")
            && !name.starts_with("x-forwarded-")
            && !["x-request-id", TOKEN_HEADER, TOKEN_EXPIRES_HEADER].contains(&name);
        check.that(
            fits,
            field,
            "expected a lower-case name of our own that begins with \"x-\", such as \"x-kerbridge-subject\"",
        );
        let name: Rc<str> = name.into();
        check.that(
            self.taken.insert(Rc::clone(&name)),
            field,
            "expected a name that no other field has",
        );
        self.reserved.push(Rc::clone(&name));
        name
    }

    fn identity(&mut self, check: &mut Check, raw: IdentityHeaders) -> Identity {
        let IdentityHeaders {
            subject,
            issuer,
            scope,
            groups,
        } = raw;
        let mut name = |value: String, field: &str| {
            (!value.is_empty()).then(|| self.reserve(check, &value, &format!("identity_headers.{field}")))
        };
        Identity {
            subject: name(subject, "subject"),
            issuer: name(issuer, "issuer"),
            scope: name(scope, "scope"),
            groups: name(groups, "groups"),
        }
    }

    fn token_header(&mut self, check: &mut Check, raw: RawTokenHeader) -> TokenHeader {
        let RawTokenHeader { name, prefix } = raw;
        check.that(
            is_header_name(&name) && !["authorization", "cookie", "host", "content-type"].contains(&name.as_str()),
            "token_header.name",
            "expected a lower-case header other than \"authorization\" and \"cookie\", such as \"x-api-token\"",
        );
        check.that(is_let_in(&name), "token_header.name", LET_IN);
        check.that(
            prefix.len() <= 64
                && prefix.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
                && !prefix.starts_with(' '),
            "token_header.prefix",
            "expected at most 64 characters of visible ASCII, such as \"Token \"",
        );
        let name: Rc<str> = name.into();
        check.that(
            self.taken.insert(Rc::clone(&name)),
            "token_header.name",
            "expected a name that no other field has",
        );
        TokenHeader {
            name,
            prefix: prefix.into_bytes().into(),
        }
    }

    fn explain(&mut self, check: &mut Check, raw: &ExplainConfig) -> Explain {
        check.that(
            !raw.sources.is_empty(),
            "explain.sources",
            "expected at least one network that may ask, such as \"127.0.0.0/8\"",
        );
        check.that(is_let_in(&raw.header), "explain.header", LET_IN);
        Explain {
            header: self.reserve(check, &raw.header, "explain.header"),
            sources: check.networks(&raw.sources, "explain.sources"),
        }
    }

    /// A header that carries a claim. Several routes may use one name, which no other field has: a claim under the name of an
    /// identity header would stand in the place of what was verified.
    fn claim(&mut self, check: &mut Check, name: &str, field: &str) -> Rc<str> {
        if let Some(known) = self.claims.get(name) {
            return Rc::clone(known);
        }
        let is_new = !self.taken.contains(name);
        let name = self.reserve(check, name, field);
        if is_new {
            self.claims.insert(Rc::clone(&name));
        }
        name
    }
}

impl Check {
    fn token_cache(&mut self, raw: TokenCacheConfig) {
        let TokenCacheConfig { entries, mebibytes } = raw;
        self.that(entries <= 1_000_000, "token_cache.entries", "expected 0 to 1,000,000");
        self.that(
            (1..=512).contains(&mebibytes),
            "token_cache.mebibytes",
            "expected 1 to 512",
        );
    }
}

/// The prefix of our own headers, under which nothing comes in from a client.
const OWN_PREFIX: &str = "x-kerbridge-";
const LET_IN: &str =
    "expected a name that does not begin with \"x-kerbridge-\": Envoy removes what clients send under those names";

/// Whether a client's header of this name gets as far as the filter.
fn is_let_in(name: &str) -> bool {
    !name.starts_with(OWN_PREFIX)
}

fn is_header_name(name: &str) -> bool {
    (3..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// `scope-token` of RFC 6749 §3.3, at most 255 characters.
pub(crate) fn is_scope(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}
