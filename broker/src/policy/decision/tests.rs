use std::collections::BTreeSet;

use kerbridge_gss::Enctype;
use kerbridge_wire::{Reason, Span, policy as raw};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::groups::GroupSet;
use crate::identity::Identity;
use crate::principal::canonical;
use crate::problem::Problems;

const AES128: i32 = 17;
const AES256: i32 = 18;

/// Somebody, with a ticket of AES-256.
#[derive(Clone, Debug)]
struct Caller {
    principal: &'static str,
    groups: Vec<&'static str>,
    channel_bound: bool,
    enctype: i32,
}

impl Caller {
    fn named(principal: &'static str) -> Self {
        Self {
            principal,
            groups: Vec::new(),
            channel_bound: false,
            enctype: AES256,
        }
    }

    fn asks(&self, policy: &Policy, audience: &str, requested: Option<&Scopes>) -> Explanation {
        let principal = canonical(self.principal).unwrap();
        let groups: GroupSet = self.groups.iter().copied().collect();
        let enctype = Enctype::from(self.enctype);
        let claimant = Claimant {
            principal: &principal,
            groups: &groups,
            channel_bound: self.channel_bound,
            enctype: Some(enctype),
        };
        let explanation = policy.explain(&claimant, audience, requested);
        // What is shown is what an exchange of such a ticket would do.
        let identity = Identity::for_test(self.principal)
            .by_ticket_for_test(self.channel_bound, enctype)
            .in_groups(groups.clone());
        let granted = policy.grant(identity, audience, requested);
        assert_eq!(granted.map(|grant| grant.given), explanation.outcome);
        explanation
    }
}

fn built(file: &raw::Policy) -> Policy {
    let mut problems = Problems::default();
    let policy = Policy::build(file, &mut problems);
    policy.unwrap_or_else(|| panic!("{problems}"))
}

fn policy(text: &str) -> Policy {
    let mut problems = Problems::default();
    let file: Option<raw::Policy> = crate::strict_toml::read(text, &mut problems);
    built(&file.unwrap_or_else(|| panic!("{problems}")))
}

const PAYROLL: &str = r#"
    audience = [{ name = "payroll", ttl = "15m" }, { name = "orders" }]
    grant = [
        { principals = ["*@A.TEST"], audience = "payroll", scopes = ["read"] },
        { principals = ["*@A.TEST"], audience = "payroll", scopes = ["read", "pay"], ttl = "2m", channel_bound = true },
        { principals = ["*/admin@A.TEST"], audience = "payroll", enctypes = ["aes256-cts-hmac-sha1-96"] },
        { groups = ["auditors"], audience = "payroll", scopes = ["audit"], ttl = "1m" },
        { principals = ["*@A.TEST"], audience = "orders" },
    ]
    route = [{ path = "/", access = "open" }]"#;

fn shown(explanation: &Explanation) -> Result<(String, u32), Reason> {
    let outcome = explanation.outcome.as_ref();
    outcome
        .map(|given| (given.scopes.to_string(), given.ttl_seconds))
        .map_err(|denial| denial.reason())
}

#[test]
fn a_line_that_demands_a_bound_ticket_counts_for_a_bound_one_only_and_is_named_where_it_alone_would_give() {
    let policy = policy(PAYROLL);
    let pay: Scopes = "pay".parse().unwrap();
    let audit: Scopes = "audit".parse().unwrap();
    let alice = Caller::named("alice@A.TEST");
    let all = alice.asks(&policy, "payroll", None);
    assert_eq!(shown(&all), Ok(("read".into(), 900)));
    assert_eq!(
        all.lines,
        [
            Verdict::Gives,
            Verdict::Unbound,
            Verdict::Principal,
            Verdict::Group,
            Verdict::Audience
        ]
    );
    assert_eq!(
        shown(&alice.asks(&policy, "payroll", Some(&pay))),
        Err(Reason::ChannelBindingMissing)
    );
    assert_eq!(
        shown(&alice.asks(&policy, "payroll", Some(&audit))),
        Err(Reason::InvalidScope)
    );
    let bound = Caller {
        channel_bound: true,
        ..alice
    };
    assert_eq!(
        shown(&bound.asks(&policy, "payroll", None)),
        Ok(("pay read".into(), 120))
    );
    // A line with a shorter life takes nothing from what another gives for longer.
    let read: Scopes = "read".parse().unwrap();
    assert_eq!(
        shown(&bound.asks(&policy, "payroll", Some(&read))),
        Ok(("read".into(), 900))
    );
    let strict = policy_of_bound_tickets();
    assert_eq!(
        shown(&Caller::named("alice@A.TEST").asks(&strict, "payroll", None)),
        Err(Reason::ChannelBindingMissing)
    );
    assert_eq!(
        shown(&Caller::named("alice@B.TEST").asks(&strict, "payroll", None)),
        Err(Reason::DeniedByPolicy)
    );
}

fn policy_of_bound_tickets() -> Policy {
    policy(
        r#"
        audience = [{ name = "payroll", channel_bound = true }]
        grant = [{ principals = ["*@A.TEST"], audience = "payroll", scopes = ["read"] }]
        route = [{ path = "/", access = "open" }]"#,
    )
}

#[test]
fn a_line_that_demands_an_encryption_type_says_which_the_ticket_has() {
    let policy = policy(PAYROLL);
    let mut admin = Caller::named("alice/admin@A.TEST");
    assert_eq!(shown(&admin.asks(&policy, "payroll", None)), Ok((String::new(), 900)));
    admin.enctype = AES128;
    let denied = admin.asks(&policy, "payroll", None);
    assert_eq!(shown(&denied), Err(Reason::DeniedByPolicy));
    assert_eq!(
        denied.outcome.unwrap_err().to_string(),
        "a grant for it demands a ticket of another encryption type than aes128-cts-hmac-sha1-96"
    );
}

/// A token with a scope lives as long as the longest-lived line says that gives it; one with several as long as all of them.
#[test]
fn each_scope_brings_its_own_longest_life() {
    let policy = policy(PAYROLL);
    let auditor = Caller {
        groups: vec!["auditors"],
        ..Caller::named("alice@A.TEST")
    };
    assert_eq!(
        shown(&auditor.asks(&policy, "payroll", None)),
        Ok(("audit read".into(), 60))
    );
    let read: Scopes = "read".parse().unwrap();
    assert_eq!(
        shown(&auditor.asks(&policy, "payroll", Some(&read))),
        Ok(("read".into(), 900))
    );
}

const PRINCIPALS: [&str; 5] = [
    "alice@A.TEST",
    "bob@A.TEST",
    "alice/admin@A.TEST",
    "alice@B.TEST",
    "WS01$@A.TEST",
];
const PATTERNS: [&str; 6] = [
    "alice@A.TEST",
    "*@A.TEST",
    "*/admin@A.TEST",
    "alice/admin@A.TEST",
    "*@B.TEST",
    "WS01$@A.TEST",
];
const GROUPS: [&str; 2] = ["clerks", "auditors"];
const SCOPES: [&str; 3] = ["read", "write", "delete"];

/// Whom the patterns above name, written down by hand.
fn names(pattern: &str, principal: &str) -> bool {
    let named: &[&str] = match pattern {
        "*@A.TEST" => &["alice@A.TEST", "bob@A.TEST"],
        "*/admin@A.TEST" => &["alice/admin@A.TEST"],
        "*@B.TEST" => &["alice@B.TEST"],
        exactly => return exactly == principal,
    };
    named.contains(&principal)
}

fn texts(words: &[&'static str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn audience(name: &'static str) -> impl Strategy<Value = raw::Audience> {
    (600..900_u32, any::<bool>(), any::<bool>()).prop_map(move |(ttl, bound, aes)| raw::Audience {
        name: name.to_owned(),
        ttl: Span::from_seconds(ttl).unwrap(),
        resource: None,
        certificate_bound: false,
        channel_bound: bound,
        enctypes: if aes {
            vec![Enctype::from(AES128).to_string(), Enctype::from(AES256).to_string()]
        } else {
            Vec::new()
        },
    })
}

fn grant() -> impl Strategy<Value = raw::Grant> {
    let who = (subsequence(&PATTERNS[..], 0..3), subsequence(&GROUPS[..], 0..3));
    let what = (select(&["orders", "billing"][..]), subsequence(&SCOPES[..], 0..4));
    let how = (
        proptest::option::of(60..600_u32),
        any::<bool>(),
        select(&[0, AES128, AES256][..]),
    );
    (who, what, how).prop_map(
        |((mut principals, groups), (audience, scopes), (ttl, bound, enctype))| {
            if principals.is_empty() && groups.is_empty() {
                principals.push("*@A.TEST");
            }
            raw::Grant {
                principals: texts(&principals),
                groups: texts(&groups),
                audience: audience.to_owned(),
                scopes: texts(&scopes),
                ttl: ttl.and_then(Span::from_seconds),
                channel_bound: bound,
                enctypes: (enctype != 0)
                    .then(|| Enctype::from(enctype).to_string())
                    .into_iter()
                    .collect(),
            }
        },
    )
}

fn file() -> impl Strategy<Value = raw::Policy> {
    let grants = proptest::collection::vec(grant(), 1..8);
    (audience("orders"), audience("billing"), grants).prop_map(|(orders, billing, grant)| {
        let route = r#"route = [{ path = "/", access = "open" }]"#;
        raw::Policy {
            audience: vec![orders, billing],
            grant,
            ..toml::from_str(route).unwrap()
        }
    })
}

fn caller() -> impl Strategy<Value = Caller> {
    let groups = subsequence(&GROUPS[..], 0..3);
    let enctype = select(&[AES128, AES256, 20][..]);
    (select(&PRINCIPALS[..]), groups, any::<bool>(), enctype).prop_map(|(principal, groups, channel_bound, enctype)| {
        Caller {
            principal,
            groups,
            channel_bound,
            enctype,
        }
    })
}

/// Whether a line of the file gives something to somebody, as the documents say it.
fn gives(file: &raw::Policy, line: &raw::Grant, audience: &str, caller: &Caller) -> bool {
    let of = file.audience.iter().find(|known| known.name == audience).unwrap();
    let enctype = Enctype::from(caller.enctype).to_string();
    let takes = |enctypes: &[String]| enctypes.is_empty() || enctypes.contains(&enctype);
    let in_group = |group: &String| caller.groups.contains(&group.as_str());
    line.audience == audience
        && (line.principals.is_empty() || line.principals.iter().any(|pattern| names(pattern, caller.principal)))
        && (line.groups.is_empty() || line.groups.iter().any(in_group))
        && (caller.channel_bound || !(of.channel_bound || line.channel_bound))
        && takes(&of.enctypes)
        && takes(&line.enctypes)
}

proptest! {
    #[test]
    fn nothing_is_given_that_no_line_gives_and_the_explanation_is_the_decision(
        file in file(),
        caller in caller(),
        requested in proptest::option::of(subsequence(&SCOPES[..], 1..4)),
    ) {
        let policy = built(&file);
        let requested = requested.map(|words| Scopes::from_list(&texts(&words)).unwrap());
        for audience in ["orders", "billing"] {
            let explanation = caller.asks(&policy, audience, requested.as_ref());
            let giving: Vec<&raw::Grant> =
                file.grant.iter().filter(|line| gives(&file, line, audience, &caller)).collect();
            // Line by line, the explanation says what the documents say.
            let said: Vec<bool> = explanation.lines.iter().map(|verdict| *verdict == Verdict::Gives).collect();
            let expected: Vec<bool> =
                file.grant.iter().map(|line| gives(&file, line, audience, &caller)).collect();
            prop_assert_eq!(said, expected);
            let all: BTreeSet<String> = giving.iter().flat_map(|line| line.scopes.iter().cloned()).collect();
            let wanted: BTreeSet<String> = match &requested {
                Some(requested) => requested.iter().cloned().collect(),
                None => all.clone(),
            };
            match explanation.outcome {
                Ok(given) => {
                    prop_assert!(!giving.is_empty());
                    let scopes: BTreeSet<String> = given.scopes.iter().cloned().collect();
                    prop_assert_eq!(&scopes, &wanted);
                    prop_assert!(scopes.is_subset(&all));
                    let longest = file.audience.iter().find(|known| known.name == audience).unwrap().ttl.seconds();
                    prop_assert!(given.ttl_seconds <= longest);
                    // Each scope alone could live as long by one line; and no shorter life would do for all of them.
                    let life = |scope: Option<&String>| {
                        let lines = giving.iter().filter(|line| scope.is_none_or(|scope| line.scopes.contains(scope)));
                        lines.map(|line| line.ttl.map_or(longest, Span::seconds)).max().unwrap()
                    };
                    let lives = scopes.iter().map(|scope| life(Some(scope)));
                    prop_assert_eq!(given.ttl_seconds, lives.min().unwrap_or_else(|| life(None)));
                }
                Err(denial) => {
                    prop_assert!(giving.is_empty() || !wanted.is_subset(&all), "{denial}");
                    // A demand is named only where it stands in the way.
                    if denial == Denial::Unbound {
                        let bound = Caller { channel_bound: true, ..caller.clone() };
                        prop_assert!(file.grant.iter().any(|line| gives(&file, line, audience, &bound)));
                    }
                }
            }
        }
    }
}
