//! Decides who may have which audience with which scopes: grants add up, and what none of them gives is denied.

mod alias;
mod decision;
mod delegation;
mod doubts;
mod exchange;
mod grants;
mod groups;
mod introspection;
mod pattern;
mod reach;
mod routes;
mod scope;
mod subject;
mod ways;

use std::collections::BTreeSet;
use std::fmt;

use kerbridge_gate::certificate::CertificateDigest;
use kerbridge_gss::Enctype;
use kerbridge_wire::Reason;
use kerbridge_wire::policy as raw;

pub use alias::may_be_one_account;
pub use decision::{Explanation, Given};
pub use delegation::{Candidates, DelegationDenial, DelegationGrant, Towards};
pub use exchange::TradeDenial;
pub use grants::{Claimant, Demands, Verdict};
pub use groups::no_name as no_group_name;
pub use pattern::{PatternError, PrincipalPattern};
pub use scope::{ScopeError, Scopes};
pub use subject::{ByKdc, NotTraced, Sought, SubjectRules, same_but_for_case};
pub use ways::{NoWay, TradeExplanation, TradeVerdict, Untraded, Way};

use crate::identity::Identity;
use crate::problem::Problems;
use crate::subject_token::Actors;

const MOST_LINES: usize = 10_000;
const LONGEST_AUDIENCE: usize = 255;

/// The grants of a policy file whose every name exists. Built by [`Policy::build`] only.
#[derive(Clone, Debug)]
pub struct Policy {
    audiences: Vec<Audience>,
    grants: Vec<grants::Line>,
    delegations: Vec<delegation::Line>,
    exchanges: Vec<exchange::Line>,
    introspections: Vec<introspection::Line>,
    subjects: SubjectRules,
    groups: groups::Needed,
    reach: reach::Reach,
    vouched: ways::Vouched,
}

/// A service for which tokens are minted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience {
    name: String,
    ttl_seconds: u32,
    resource: Option<exchange::Resource>,
    certificate_bound: bool,
    groups: groups::Needed,
    needs_principal: bool,
    demands: Demands,
}

/// Proof that the policy lets a principal have an audience with these scopes. Only [`Policy::grant`] and [`Policy::trade`]
/// make one.
#[derive(Clone, Debug)]
pub struct Grant {
    identity: Identity,
    audience: Audience,
    given: Given,
    actors: Actors,
    bound_to: Option<CertificateDigest>,
}

/// Why the policy gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The audience is not in the policy.
    UnknownAudience,
    /// No grant names this principal, or a group that they are in, for this audience.
    NoGrant,
    /// A scope was asked for that no grant gives to this principal for this audience.
    ScopeNotGranted,
    /// The audience's tokens are bound to certificates, and the client showed none.
    NoCertificate,
    /// Only grants give it that demand a ticket which is bound to the channel.
    Unbound,
    /// Only grants give it that demand a ticket of another encryption type than this.
    Enctype(Option<Enctype>),
}

impl Denial {
    /// The word of the closed list.
    pub const fn reason(self) -> Reason {
        match self {
            Self::UnknownAudience => Reason::InvalidTarget,
            Self::NoGrant | Self::NoCertificate | Self::Enctype(_) => Reason::DeniedByPolicy,
            Self::Unbound => Reason::ChannelBindingMissing,
            Self::ScopeNotGranted => Reason::InvalidScope,
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownAudience => "the audience is not in the policy",
            Self::NoGrant => "no grant names this principal for this audience",
            Self::NoCertificate => "the audience's tokens are bound to certificates, and the client showed none",
            Self::ScopeNotGranted => "a scope was asked for that no grant gives",
            Self::Unbound => "the grants for it demand a ticket that is bound to the channel",
            Self::Enctype(enctype) => return write!(f, "a grant for it {}", Verdict::Enctype(*enctype)),
        })
    }
}

impl Policy {
    /// Builds the grants, or notes all that is wrong with the file, routes and filter settings included. What was wrong with its
    /// reading is noted already: of a line that could not be read no consequences are said.
    pub fn build(file: &raw::Policy, problems: &mut Problems) -> Option<Self> {
        let mut found = Problems::default();
        let raw::Policy {
            audience,
            grant,
            route: _,
            issuer: issuers,
            delegation: delegations,
            subject: _,
            exchange: _,
            introspection: _,
            filter: _,
        } = file;
        let audiences = audiences(audience, file, &mut found);
        // Where tokens of other issuers are all that is taken, nobody need get any here.
        if grant.is_empty() && delegations.is_empty() && issuers.is_empty() {
            found.note(
                "grant",
                "there is none, so that nobody gets a token",
                "add a [[grant]], or an [[issuer]] whose tokens are taken",
            );
        }
        let mut policy = Self {
            grants: grants::build(grant, &audiences, &mut found),
            delegations: delegation::build(file, &audiences, &mut found),
            exchanges: exchange::build(file, &audiences, &mut found),
            introspections: introspection::build(file, &audiences, &mut found),
            subjects: subject::build(file, &mut found),
            groups: audiences.iter().map(|audience| &audience.groups).collect(),
            audiences,
            reach: reach::Reach::default(),
            vouched: ways::Vouched::of(file),
        };
        policy.reach = reach::Reach::of_anybody(file, &policy);
        routes::check(file, &policy, &mut found);
        if !problems.are_about("delegation") {
            delegation::check_routes(file, &mut found);
        }
        let good = found.is_empty();
        problems.absorb("", found);
        good.then_some(policy)
    }

    /// The audience of that name. Names are compared byte by byte.
    pub fn audience(&self, name: &str) -> Option<&Audience> {
        self.audiences.iter().find(|audience| audience.name == name)
    }

    /// Whether tokens for some audience are bound to certificates.
    pub fn binds_certificates(&self) -> bool {
        self.audiences.iter().any(Audience::is_certificate_bound)
    }

    /// The audiences for which tokens that are shown here may be, each once.
    pub fn audiences_asked_about(&self) -> BTreeSet<&str> {
        let mut audiences = self.delegated_audiences();
        audiences.append(&mut self.traded_audiences());
        audiences.append(&mut self.audiences_looked_at());
        audiences
    }

    /// Longest life of a token, in seconds.
    pub fn longest_ttl_seconds(&self) -> u64 {
        let lives = self.audiences.iter().map(|audience| audience.ttl_seconds);
        lives.max().unwrap_or(0).into()
    }

    /// What the grants give: the union of their scopes, or of it just those that were asked for.
    pub fn grant(&self, identity: Identity, audience: &str, requested: Option<&Scopes>) -> Result<Grant, Denial> {
        let weighed = self.weigh(&Claimant::of(&identity), audience, requested, |_| {});
        let (audience, given) = weighed?;
        Ok(Grant {
            audience: audience.clone(),
            identity,
            given,
            actors: Actors::default(),
            bound_to: None,
        })
    }

    /// All groups for which a grant or a route of any audience asks.
    pub fn wanted_groups(&self) -> &BTreeSet<Box<str>> {
        self.groups.names()
    }

    /// Realms that the lines name, for a comparison with those that are accepted, each with its field.
    pub fn realms(&self) -> impl Iterator<Item = (String, &str)> {
        self.grants
            .iter()
            .enumerate()
            .flat_map(|(line, grant)| {
                let realms = grant.realms();
                realms.map(move |(at, realm)| (format!("grant[{line}].principals[{at}]"), realm))
            })
            .chain(self.delegation_realms())
            .chain(self.subject_realms())
    }

    /// Whether a line about this audience names this scope, whether or not anybody can have it.
    fn names_scope(&self, audience: &str, scope: &str) -> bool {
        let granted = self.grants.iter().filter(|line| line.audience == audience);
        let traded = self.exchanges.iter().filter(|line| *line.to == *audience);
        let mut scopes = granted.map(|line| &line.scopes).chain(traded.map(|line| &line.scopes));
        scopes.any(|scopes| scopes.contains(scope))
    }

    /// The scopes that each line gives, in the order of the file.
    pub fn scopes_of_lines(&self) -> impl Iterator<Item = &Scopes> {
        self.grants.iter().map(|line| &line.scopes)
    }

    /// What audiences and grants demand of tickets, each with its field.
    pub fn demands(&self) -> impl Iterator<Item = (String, &Demands)> {
        let audiences = self.audiences.iter().enumerate();
        let grants = self.grants.iter().enumerate();
        audiences
            .map(|(at, audience)| (format!("audience[{at}]"), &audience.demands))
            .chain(grants.map(|(at, line)| (format!("grant[{at}]"), &line.own_demands)))
    }
}

impl Audience {
    /// The `aud` of its tokens.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Longest life of a token, in seconds.
    pub fn ttl_seconds(&self) -> u32 {
        self.ttl_seconds
    }

    /// Its address, where it has one (RFC 8707).
    pub fn resource(&self) -> Option<&str> {
        self.resource.as_ref().map(|resource| &*resource.address)
    }

    /// Whether its tokens are bound to their clients' certificates (RFC 8705).
    pub fn is_certificate_bound(&self) -> bool {
        self.certificate_bound
    }

    /// Whether its tokens must say the full principal: a `[[delegation]]` is about them, or an `[[exchange]]` takes them.
    pub fn needs_principal(&self) -> bool {
        self.needs_principal
    }

    /// Whether a grant or a route of it asks for a group.
    pub fn needs_groups(&self) -> bool {
        !self.groups.is_empty()
    }
}

impl Grant {
    /// To whom.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// For which service.
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// With which scopes; may be none.
    pub fn scopes(&self) -> &Scopes {
        &self.given.scopes
    }

    /// Longest life of a token, in seconds.
    pub fn ttl_seconds(&self) -> u32 {
        self.given.ttl_seconds
    }

    /// Through whose hands the token came that it was traded for; nobody's where it was a ticket.
    pub fn actors(&self) -> &Actors {
        &self.actors
    }

    /// The same, bound to the certificate of the client that gets it where the audience wants that. One that is bound already, as
    /// the token that it was traded for was, stays so.
    pub fn for_client_with(self, certificate: Option<CertificateDigest>) -> Result<Self, Denial> {
        if self.bound_to.is_some() || !self.audience.certificate_bound {
            return Ok(self);
        }
        match certificate {
            Some(_) => Ok(Self {
                bound_to: certificate,
                ..self
            }),
            None => Err(Denial::NoCertificate),
        }
    }

    /// The certificate that its token is bound to.
    pub fn bound_to(&self) -> Option<CertificateDigest> {
        self.bound_to
    }

    /// The groups of theirs that this audience needs, in order.
    pub fn groups(&self) -> Vec<Box<str>> {
        self.audience.groups.among(self.identity.groups())
    }
}

fn audiences(list: &[raw::Audience], file: &raw::Policy, problems: &mut Problems) -> Vec<Audience> {
    let mut audiences: Vec<Audience> = Vec::new();
    if list.is_empty() {
        problems.note("audience", "there is none", "add an [[audience]] with a name");
    }
    for (index, line) in numbered(
        list,
        "audience",
        "put services together that trust the same tokens",
        problems,
    ) {
        let raw::Audience {
            name,
            ttl,
            resource,
            certificate_bound,
            channel_bound,
            enctypes,
        } = line;
        let demands = Demands::read(*channel_bound, enctypes, &format!("audience[{index}]"), problems);
        let field = format!("audience[{index}].name");
        if name.is_empty() || name.len() > LONGEST_AUDIENCE || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            problems.note(
                field,
                format!("{name:?} is not 1 to {LONGEST_AUDIENCE} visible ASCII characters"),
                "choose another name, without spaces",
            );
        } else if audiences.iter().any(|audience| audience.name == *name) {
            problems.note(field, format!("{name:?} stands here twice"), "remove one of the two");
        }
        // Kept even where it is wrong, so that each grant that names it is not reported as well.
        audiences.push(Audience {
            name: name.clone(),
            ttl_seconds: ttl.seconds(),
            resource: exchange::check_resource(
                resource.as_ref(),
                &format!("audience[{index}].resource"),
                &audiences,
                problems,
            ),
            groups: groups::Needed::of(file, name),
            certificate_bound: *certificate_bound,
            needs_principal: file.delegation.iter().any(|line| line.audience == *name)
                || file.exchange.iter().any(|line| line.from == *name),
            demands,
        });
    }
    audiences
}

/// The lines of a list with their numbers, as many as are read; that there are more is noted.
fn numbered<'l, T>(
    list: &'l [T],
    field: &str,
    remedy: &str,
    problems: &mut Problems,
) -> impl Iterator<Item = (usize, &'l T)> + use<'l, T> {
    if list.len() > MOST_LINES {
        problems.note(field, format!("more than {MOST_LINES}"), remedy);
    }
    list.iter().enumerate().take(MOST_LINES)
}

/// The patterns that can be read; the others are noted.
fn patterns(principals: &[String], field: &str, problems: &mut Problems) -> Vec<PrincipalPattern> {
    let mut patterns = Vec::new();
    for (at, text) in principals.iter().enumerate() {
        match text.parse::<PrincipalPattern>() {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => problems.note(
                format!("{field}[{at}]"),
                format!("{text:?}: {error}"),
                "write a full principal, \"alice@EXAMPLE.COM\", or a pattern, \"*@EXAMPLE.COM\" or \"*/admin@EXAMPLE.COM\"",
            ),
        }
    }
    patterns
}

const SCOPE_REMEDY: &str = "use visible ASCII without space, quote and backslash, such as \"orders:read\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Result<Policy, Vec<String>> {
        let mut problems = Problems::default();
        let policy = crate::strict_toml::read(text, &mut problems)
            .and_then(|file: raw::Policy| Policy::build(&file, &mut problems));
        policy.ok_or_else(|| problems.iter().map(ToString::to_string).collect())
    }

    const ORDERS: &str = r#"
        [[audience]]
        name = "orders"
        [[audience]]
        name = "billing"
        ttl = "5m"
        [[grant]]
        principals = ["*@A.TEST"]
        audience = "orders"
        scopes = ["read"]
        [[grant]]
        principals = ["alice@A.TEST", "svc/robot@A.TEST"]
        audience = "orders"
        scopes = ["write"]
        [[route]]
        path_prefix = "/orders"
        accept = ["negotiate", "bearer"]
        audience = "orders"
    "#;

    fn scopes_of(principal: &str, audience: &str, requested: Option<&str>) -> Result<String, Denial> {
        let requested = requested.map(|text| text.parse::<Scopes>().unwrap());
        policy(ORDERS)
            .unwrap()
            .grant(Identity::for_test(principal), audience, requested.as_ref())
            .map(|grant| grant.scopes().to_string())
    }

    #[test]
    fn grants_add_up_and_nothing_else_is_given() {
        assert_eq!(scopes_of("alice@A.TEST", "orders", None), Ok("read write".into()));
        assert_eq!(scopes_of("bob@A.TEST", "orders", None), Ok("read".into()));
        assert_eq!(scopes_of("svc/robot@A.TEST", "orders", None), Ok("write".into()));
        for stranger in ["alice@B.TEST", "alice/admin@A.TEST", "ALICE@a.test"] {
            assert_eq!(scopes_of(stranger, "orders", None), Err(Denial::NoGrant), "{stranger}");
        }
        assert_eq!(scopes_of("alice@A.TEST", "billing", None), Err(Denial::NoGrant));
        assert_eq!(scopes_of("alice@A.TEST", "Orders", None), Err(Denial::UnknownAudience));
    }

    #[test]
    fn where_only_tokens_of_other_issuers_are_taken_no_grant_is_needed() {
        let foreign = r#"
            [[audience]]
            name = "orders"
            [[issuer]]
            issuer = "https://id.example.com"
            algorithms = ["RS256"]
            types = ["JWT"]
            audiences = { orders = ["api://orders"] }
            jwks = { cluster = "idp", path = "/jwks" }
            [[route]]
            path_prefix = "/orders"
            accept = ["bearer"]
            audience = "orders"
        "#;
        policy(foreign).unwrap();
        let (start, rest) = foreign.split_once("[[issuer]]").unwrap();
        let (_, end) = rest.split_once("[[route]]").unwrap();
        let without = format!("{start}[[route]]{end}");
        let problems = policy(&without).unwrap_err();
        assert!(
            problems
                .iter()
                .any(|problem| problem.starts_with("grant: there is none")),
            "{problems:?}"
        );
    }

    #[test]
    fn requested_scopes_only_shrink_what_is_granted() {
        assert_eq!(scopes_of("alice@A.TEST", "orders", Some("write")), Ok("write".into()));
        assert_eq!(
            scopes_of("bob@A.TEST", "orders", Some("write")),
            Err(Denial::ScopeNotGranted)
        );
        assert_eq!(
            scopes_of("bob@A.TEST", "orders", Some("read delete")),
            Err(Denial::ScopeNotGranted)
        );
    }

    const GROUPS: &str = r#"
        [[audience]]
        name = "orders"
        [[audience]]
        name = "billing"
        [[grant]]
        groups = ["clerks", "auditors"]
        audience = "orders"
        scopes = ["read"]
        [[grant]]
        principals = ["*@A.TEST"]
        groups = ["clerks"]
        audience = "orders"
        scopes = ["write"]
        [[grant]]
        principals = ["*@A.TEST"]
        audience = "billing"
        [[route]]
        path_prefix = "/refunds"
        accept = ["bearer"]
        audience = "orders"
        groups = ["managers"]
        [[route]]
        path_prefix = "/"
        accept = ["bearer"]
        audience = "billing"
    "#;

    /// Scopes and groups of a token, with a comma between groups.
    fn given(principal: &str, groups: &[&str], audience: &str) -> Result<(String, String), Denial> {
        let identity = Identity::for_test(principal).in_groups(groups.iter().copied().collect());
        let grant = policy(GROUPS).unwrap().grant(identity, audience, None)?;
        Ok((grant.scopes().to_string(), grant.groups().join(",")))
    }

    #[test]
    fn a_grant_to_a_group_is_for_its_members_and_with_principals_both_must_hold() {
        let read = ("read".to_owned(), "auditors".to_owned());
        assert_eq!(given("alice@A.TEST", &["auditors"], "orders"), Ok(read));
        let both = ("read write".to_owned(), "clerks".to_owned());
        assert_eq!(given("alice@A.TEST", &["clerks"], "orders"), Ok(both));
        // Whoever is no *@A.TEST has only the first line.
        for other in ["alice@B.TEST", "alice/admin@A.TEST"] {
            let read = ("read".to_owned(), "clerks".to_owned());
            assert_eq!(given(other, &["clerks"], "orders"), Ok(read), "{other}");
        }
        for groups in [&[][..], &["managers"], &["Clerks"], &["clerk"]] {
            assert_eq!(
                given("alice@A.TEST", groups, "orders"),
                Err(Denial::NoGrant),
                "{groups:?}"
            );
        }
    }

    #[test]
    fn a_token_says_only_the_groups_that_its_audience_needs() {
        let all = ["managers", "clerks", "wheel"];
        assert_eq!(given("alice@A.TEST", &all, "orders").unwrap().1, "clerks,managers");
        assert_eq!(given("alice@A.TEST", &all, "billing").unwrap().1, "");
        let policy = policy(GROUPS).unwrap();
        assert!(policy.audience("orders").unwrap().needs_groups());
        assert!(!policy.audience("billing").unwrap().needs_groups());
    }

    #[test]
    fn a_group_without_a_usable_name_is_reported() {
        let found = policy(&GROUPS.replace("\"auditors\"", "\"\", \"a\\tb\"")).unwrap_err();
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(
            found[0].starts_with("grant[0].groups[1]: \"\" is not 1 to 255"),
            "{found:#?}"
        );
        assert!(found[1].starts_with("grant[0].groups[2]: "), "{found:#?}");
    }

    #[test]
    fn each_mistake_is_named_with_its_field_and_all_come_at_once() {
        let found = policy(
            r#"
            [[audience]]
            name = "two words"
            [[audience]]
            name = "orders"
            [[audience]]
            name = "orders"
            [[grant]]
            principals = ["alice", "a*@R", "ok@R"]
            audience = "odrers"
            scopes = ["a b"]
            [[grant]]
            audience = "orders"
            [[route]]
            path_prefix = "/"
            accept = ["bearer"]
            audience = "nowhere"
        "#,
        )
        .unwrap_err();
        for start in [
            "audience[0].name: \"two words\"",
            "audience[2].name: \"orders\" stands here twice",
            "grant[0].principals[0]: \"alice\"",
            "grant[0].principals[1]: \"a*@R\"",
            "grant[0].audience: \"odrers\" is no audience",
            "grant[0].scopes: \"a b\"",
            "grant[1].principals: names nobody",
            "route[0].audience: \"nowhere\"",
        ] {
            assert!(found.iter().any(|line| line.starts_with(start)), "{start}: {found:#?}");
        }
        assert_eq!(found.len(), 8, "{found:#?}");
    }

    #[test]
    fn a_list_with_more_lines_than_are_read_is_a_mistake() {
        let mut problems = Problems::default();
        let text = format!(
            r#"{ORDERS}
            [[exchange]]
            clients = ["c"]
            from = "orders"
            to = "billing"
            [[introspection]]
            clients = ["c"]
            audiences = ["orders"]
            [[delegation]]
            target = "HTTP/legacy.a.test@A.TEST"
            audience = "orders"
            principals = ["*@A.TEST"]
            clients = ["c"]"#
        );
        let mut file: raw::Policy = crate::strict_toml::read(&text, &mut problems).unwrap();
        fn fill<T: Clone>(list: &mut Vec<T>) {
            let line = list[0].clone();
            list.resize(MOST_LINES + 1, line);
        }
        fill(&mut file.audience);
        fill(&mut file.grant);
        fill(&mut file.exchange);
        fill(&mut file.introspection);
        fill(&mut file.delegation);
        assert!(Policy::build(&file, &mut problems).is_none());
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        for list in ["audience", "grant", "exchange", "introspection", "delegation"] {
            let start = format!("{list}: more than 10000; ");
            assert!(found.iter().any(|line| line.starts_with(&start)), "{start}");
        }
    }

    #[test]
    fn an_empty_policy_gives_nothing_and_says_so() {
        let found = policy("").unwrap_err();
        assert_eq!(found.len(), 3, "{found:#?}");
    }
}
