use kerbridge_gss::{Enctype, Principal};
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::groups::GroupSet;
use crate::problem::Problems;

const POLICY: &str = r#"
    audience = [{ name = "web", ttl = "10m" }, { name = "orders" }, { name = "billing", ttl = "5m" }, { name = "stock" },
                { name = "bound", channel_bound = true }]
    grant = [{ principals = ["*@R"], audience = "web", scopes = ["browse", "orders:read", "billing:read"] },
             { groups = ["clerks"], audience = "orders", scopes = ["orders:write", "billing:pay"], ttl = "2m" }]
    exchange = [{ clients = ["gateway"], from = "web", to = "orders", scopes = ["orders:read", "billing:read"] },
                { clients = ["orders.test", "batch"], from = "orders", to = "billing", scopes = ["billing:read", "billing:pay"] },
                { clients = ["stock.test"], from = "stock", to = "billing", scopes = ["billing:read"] },
                { clients = ["gateway"], from = "web", to = "bound", scopes = ["browse"] }]
    route = [{ path = "/", access = "open" }]
    [[issuer]]
    issuer = "https://idp.test"
    audiences = { stock = [], web = [] }
    jwks = { cluster = "idp" }
    [[issuer]]
    issuer = "https://unknown.test"
    audiences = { orders = [] }
    jwks = { cluster = "unknown" }
    [[subject]]
    issuer = "https://idp.test"
    claim = "upn"
    form = "principal"
    realms = ["R"]
"#;

fn policy(text: &str) -> Policy {
    let mut problems = Problems::default();
    let file: raw::Policy = crate::strict_toml::read(text, &mut problems).unwrap();
    Policy::build(&file, &mut problems).unwrap_or_else(|| panic!("{problems}"))
}

/// Somebody with a ticket of today.
struct Somebody {
    principal: Principal,
    groups: GroupSet,
    bound: bool,
}

impl Somebody {
    fn in_groups(groups: &[&str]) -> Self {
        Self {
            principal: crate::principal::canonical("alice@R").unwrap(),
            groups: groups.iter().copied().collect(),
            bound: false,
        }
    }

    fn claimant(&self) -> Claimant<'_> {
        Claimant {
            principal: &self.principal,
            groups: &self.groups,
            channel_bound: self.bound,
            enctype: Some(Enctype::from(18)),
        }
    }
}

/// Each way as `LINE FROM>TO: what comes of it`.
fn ways(policy: &Policy, somebody: &Somebody, audience: &str) -> Vec<String> {
    let ways = policy.ways(&somebody.claimant(), audience).into_iter();
    ways.map(|way| {
        let outcome = match &way.outcome {
            Ok(given) => format!("{} for {}", given.scopes, given.ttl_seconds),
            Err(why) => format!("{why:?}"),
        };
        let issuers = way.issuers.concat();
        format!("{} {}>{}: {outcome} {issuers}", way.line, way.from, way.to)
            .trim_end()
            .to_owned()
    })
    .collect()
}

#[test]
fn the_lines_that_lead_to_an_audience_say_what_they_leave_nearest_first() {
    let policy = policy(POLICY);
    assert_eq!(
        ways(&policy, &Somebody::in_groups(&[]), "billing"),
        [
            "1 orders>billing: billing:read for 300",
            "2 stock>billing: NoToken https://idp.test",
            "0 web>orders: billing:read orders:read for 600 https://idp.test",
        ]
    );
    // What a grant of the way gives as well adds up, and ends when that ends.
    assert_eq!(
        ways(&policy, &Somebody::in_groups(&["clerks"]), "billing")
            .first()
            .unwrap(),
        "1 orders>billing: billing:pay billing:read for 120"
    );
    assert_eq!(
        ways(&policy, &Somebody::in_groups(&[]), "bound"),
        ["3 web>bound: Demand(Unbound)"]
    );
    let bound = Somebody {
        bound: true,
        ..Somebody::in_groups(&[])
    };
    assert_eq!(ways(&policy, &bound, "bound"), ["3 web>bound: browse for 600"]);
    for nowhere in ["web", "nothing"] {
        assert_eq!(ways(&policy, &bound, nowhere), [""; 0], "{nowhere}");
    }
}

#[test]
fn a_trade_is_what_the_ticket_gets_and_then_what_the_line_leaves() {
    let policy = policy(POLICY);
    let clerk = Somebody::in_groups(&["clerks"]);
    let nobody = Somebody::in_groups(&[]);
    let read = Scopes::from_list(&["billing:read".to_owned()]).unwrap();
    for (who, from, client, audience, requested, expected) in [
        (&clerk, "orders", "batch", "billing", None, Ok("billing:pay for 120")),
        (
            &nobody,
            "web",
            "gateway",
            "orders",
            None,
            Ok("billing:read orders:read for 600"),
        ),
        (
            &nobody,
            "web",
            "gateway",
            "orders",
            Some(&read),
            Ok("billing:read for 600"),
        ),
        (
            &nobody,
            "orders",
            "batch",
            "billing",
            None,
            Err(Untraded::NoToken(Denial::NoGrant)),
        ),
        (
            &clerk,
            "orders",
            "batch",
            "billing",
            Some(&read),
            Err(Untraded::Denied(TradeDenial::ScopeNotLeft)),
        ),
        (
            &clerk,
            "orders",
            "gateway",
            "billing",
            None,
            Err(Untraded::Denied(TradeDenial::NoLine)),
        ),
        (
            &clerk,
            "orders",
            "batch",
            "nothing",
            None,
            Err(Untraded::Denied(TradeDenial::UnknownAudience)),
        ),
        (
            &clerk,
            "web",
            "gateway",
            "bound",
            None,
            Err(Untraded::Denied(TradeDenial::Demand(Verdict::Unbound))),
        ),
    ] {
        let explained = policy.explain_trade(&who.claimant(), from, client, audience, requested);
        let outcome = explained
            .outcome
            .map(|given| format!("{} for {}", given.scopes, given.ttl_seconds));
        assert_eq!(outcome, expected.map(str::to_owned), "{from} {client} {audience}");
    }
    let explained = policy.explain_trade(&clerk.claimant(), "orders", "gateway", "billing", None);
    assert_eq!(explained.grants, [Verdict::Audience, Verdict::Gives]);
    assert_eq!(
        explained.lines,
        [
            TradeVerdict::To,
            TradeVerdict::Client,
            TradeVerdict::From,
            TradeVerdict::To
        ]
    );
}

const AUDIENCES: [&str; 5] = ["a", "b", "c", "d", "e"];
const SCOPES: [&str; 3] = ["x", "y", "z"];

type Drawn = (&'static str, &'static str, Vec<&'static str>);

/// Trades a token on by every line, and notes what each leaves: scopes with their longest life.
fn trade_on(
    lines: &[Drawn],
    lives: &[u32],
    (at, scopes, life): (&str, &BTreeSet<&'static str>, u32),
    hands: usize,
    seen: &mut BTreeMap<usize, BTreeMap<&'static str, u32>>,
) {
    for (index, (_, to, lets_through)) in lines.iter().enumerate().filter(|(_, (from, ..))| *from == at) {
        if hands == Actors::MOST {
            return;
        }
        let ttl = lives[AUDIENCES.iter().position(|name| name == to).unwrap()];
        let (life, left) = (
            life.min(ttl),
            scopes.iter().copied().filter(|scope| lets_through.contains(scope)),
        );
        let left: BTreeSet<&'static str> = left.collect();
        let noted = seen.entry(index).or_default();
        for scope in &left {
            let known = noted.entry(scope).or_default();
            *known = life.max(*known);
        }
        trade_on(lines, lives, (to, &left, life), hands.saturating_add(1), seen);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_said_of_each_line_is_what_all_chains_of_trades_together_leave(
        lives in prop::collection::vec(60..4000_u32, 5),
        granted in prop::collection::vec((prop::sample::select(&AUDIENCES[..]), subsequence(&SCOPES[..], 0..=3)), 1..3),
        lines in prop::collection::vec(
            (prop::sample::select(&AUDIENCES[..]), prop::sample::select(&AUDIENCES[..]), subsequence(&SCOPES[..], 0..=3))
                .prop_filter("to another audience", |(from, to, _)| from != to),
            0..7,
        ),
        asked in prop::sample::select(&AUDIENCES[..]),
    ) {
        let mut text = "[[route]]\npath = \"/\"\naccess = \"open\"\n".to_owned();
        for (name, life) in AUDIENCES.iter().zip(&lives) {
            text += &format!("[[audience]]\nname = \"{name}\"\nttl = \"{life}s\"\n");
        }
        for (audience, scopes) in &granted {
            text += &format!("[[grant]]\nprincipals = [\"*@R\"]\naudience = \"{audience}\"\nscopes = {scopes:?}\n");
        }
        for (from, to, scopes) in &lines {
            text += &format!("[[exchange]]\nclients = [\"c\"]\nfrom = \"{from}\"\nto = \"{to}\"\nscopes = {scopes:?}\n");
        }
        let mut left = BTreeMap::new();
        for (audience, scopes) in &granted {
            let life = lives[AUDIENCES.iter().position(|name| name == audience).unwrap()];
            trade_on(&lines, &lives, (audience, &scopes.iter().copied().collect(), life), 0, &mut left);
        }
        let policy = policy(&text);
        let anybody = Somebody::in_groups(&[]);
        for way in policy.ways(&anybody.claimant(), asked) {
            let all = left.get(&way.line);
            prop_assert_eq!(way.outcome.is_ok(), all.is_some(), "{} {}", text, way.line);
            if let (Ok(given), Some(all)) = (&way.outcome, all) {
                let scopes: Vec<&str> = given.scopes.iter().map(String::as_str).collect();
                prop_assert_eq!(scopes, all.keys().copied().collect::<Vec<_>>(), "{} {}", text, way.line);
                if let Some(life) = all.values().min() {
                    prop_assert_eq!(given.ttl_seconds, *life, "{} {}", text, way.line);
                }
            }
        }
        // Whoever can have it at all is anybody.
        for audience in AUDIENCES {
            let by_grant = granted.iter().filter(|(name, _)| *name == audience).flat_map(|(_, scopes)| scopes);
            let by_trade = left.iter().filter(|(line, _)| lines[**line].1 == audience);
            let by_trade = by_trade.flat_map(|(_, scopes)| scopes.keys());
            let all: BTreeSet<&str> = by_grant.chain(by_trade).copied().collect();
            prop_assert_eq!(policy.scopes_of(policy.audience(audience).unwrap()), all, "{}", text);
        }
    }
}
