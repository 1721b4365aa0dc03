//! Nothing is ever added on the way, however often a token is traded.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use kerbridge_gate::certificate::CertificateDigest;

use super::*;
use crate::groups::StaticGroups;
use crate::subject_token::Actors;

/// What the property draws: lines between four audiences for three clients, when a ticket and another issuer's token come, and a
/// walk from them on.
#[derive(Clone, Debug)]
struct Drawn {
    begins: u64,
    /// The groups of the ticket's user.
    groups: Vec<&'static str>,
    foreign: Foreign,
    audiences: Vec<Terms>,
    lines: Vec<Line>,
    steps: Vec<Step>,
}

/// Of one audience.
#[derive(Clone, Debug)]
struct Terms {
    ttl: u64,
    is_bound: bool,
    groups: Vec<&'static str>,
}

/// Of the other issuer's token.
#[derive(Clone, Debug)]
struct Foreign {
    life: u64,
    scopes: Vec<&'static str>,
    may_act: Option<&'static str>,
    certificate: Option<usize>,
}

#[derive(Clone, Debug)]
struct Line {
    clients: Vec<&'static str>,
    from: &'static str,
    to: &'static str,
    scopes: Vec<&'static str>,
}

#[derive(Clone, Debug)]
struct Step {
    token: Index,
    client: &'static str,
    to: &'static str,
    scopes: Option<Vec<&'static str>>,
    certificate: Option<usize>,
    later: u64,
}

/// When the ticket of the tests ends, and the least life that buys anything.
const TICKET_ENDS: u64 = 10_000;
const FLOOR: u64 = 5;
const AUDIENCES: [&str; 4] = ["a", "b", "c", "d"];
const CLIENTS: [&str; 3] = ["x", "y", "z"];
const SCOPES: [&str; 4] = ["s1", "s2", "s3", "s4"];
const GROUPS: [&str; 3] = ["g1", "g2", "g3"];

/// Of two certificates the digest, as it is written.
fn digest(of: usize) -> CertificateDigest {
    digest_of(&[0_u8, 1][of..=of])
}

fn confirmed(certificate: Option<usize>) -> Value {
    certificate.map_or(Value::Null, |one| json!({ "x5t#S256": digest(one).to_string() }))
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let line = (
        subsequence(&CLIENTS[..], 1..=3),
        prop::sample::select(&AUDIENCES[..]),
        prop::sample::select(&AUDIENCES[..]),
        subsequence(&SCOPES[..], 0..=4),
    );
    let line = line.prop_filter("to another audience", |(_, from, to, _)| from != to);
    let line = line.prop_map(|(clients, from, to, scopes)| Line {
        clients,
        from,
        to,
        scopes,
    });
    let certificate = || prop::option::weighted(0.6, 0..2_usize);
    let step = (
        any::<Index>(),
        prop::sample::select(&CLIENTS[..]),
        prop::sample::select(&AUDIENCES[..]),
        prop::option::weighted(0.3, subsequence(&SCOPES[..], 1..=2)),
        certificate(),
        0..200_u64,
    );
    let step = step.prop_map(|(token, client, to, scopes, certificate, later)| Step {
        token,
        client,
        to,
        scopes,
        certificate,
        later,
    });
    let foreign = (
        1..4000_u64,
        subsequence(&SCOPES[..], 0..=4),
        prop::option::weighted(0.3, prop::sample::select(&CLIENTS[..])),
        prop::option::weighted(0.3, 0..2_usize),
    );
    let foreign = foreign.prop_map(|(life, scopes, may_act, certificate)| Foreign {
        life,
        scopes,
        may_act,
        certificate,
    });
    let terms = (
        60..4000_u64,
        prop::bool::weighted(0.25),
        subsequence(&GROUPS[..], 0..=3),
    );
    let terms = terms.prop_map(|(ttl, is_bound, groups)| Terms { ttl, is_bound, groups });
    (
        2000..TICKET_ENDS,
        subsequence(&GROUPS[..], 0..=3),
        foreign,
        prop::collection::vec(terms, 4),
        prop::collection::vec(line, 0..12),
        prop::collection::vec(step, 1..24),
    )
        .prop_map(|(begins, groups, foreign, audiences, lines, steps)| Drawn {
            begins,
            groups,
            foreign,
            audiences,
            lines,
            steps,
        })
}

impl Drawn {
    fn policy(&self, key: &Key) -> String {
        let audiences = AUDIENCES.iter().zip(&self.audiences);
        let audiences: Vec<String> = audiences
            .map(|(name, Terms { ttl, is_bound, groups })| {
                let route = "accept = [\"bearer\"]";
                format!(
                    "[[audience]]\nname = \"{name}\"\nttl = \"{ttl}s\"\ncertificate_bound = {is_bound}\n\
                     [[route]]\npath = \"/{name}\"\n{route}\naudience = \"{name}\"\ngroups = {groups:?}\n\
                     [[grant]]\nprincipals = [\"nobody@A.TEST\"]\naudience = \"{name}\"\nscopes = {SCOPES:?}\n"
                )
            })
            .collect();
        let lines = self.lines.iter().map(
            |Line {
                 clients,
                 from,
                 to,
                 scopes,
             }| {
                format!("[[exchange]]\nclients = {clients:?}\nfrom = {from:?}\nto = {to:?}\nscopes = {scopes:?}\n")
            },
        );
        let lines: Vec<String> = lines.collect();
        format!(
            "{}{}[[issuer]]\nissuer = \"{IDP}\"\naudiences = {{ a = [\"client-1\"] }}\njwks = {{ inline = '{}' }}\n\
             [[subject]]\nissuer = \"{IDP}\"\nclaim = \"upn\"\nform = \"principal\"\nrealms = [\"A.TEST\"]\n\
             [[grant]]\nprincipals = [\"*@A.TEST\"]\naudience = \"a\"\nscopes = [\"s1\", \"s2\"]\n\
             [[grant]]\ngroups = [\"g1\"]\naudience = \"a\"\nscopes = [\"s3\"]\n\
             [[route]]\npath = \"/\"\naccess = \"open\"\n",
            audiences.concat(),
            lines.concat(),
            key.set()
        )
    }

    /// The other issuer's token, about bob.
    fn foreign_token(&self, key: &Key) -> String {
        let Foreign {
            life,
            scopes,
            may_act,
            certificate,
        } = &self.foreign;
        let ends = self.begins.saturating_add(*life);
        let may_act = may_act.map_or(
            Value::Null,
            |client| json!({ "sub": client, "iss": "https://broker.test" }),
        );
        let more = json!({
            "iat": self.begins, "exp": ends, "scope": scopes.join(" "), "groups": GROUPS, "may_act": may_act,
            "cnf": confirmed(*certificate),
        });
        foreign(key, more)
    }

    fn terms(&self, audience: &str) -> &Terms {
        let at = AUDIENCES.iter().position(|name| *name == audience).unwrap();
        &self.audiences[at]
    }

    /// The groups that tokens for an audience say: those that its routes demand and its grants name.
    fn needed(&self, audience: &str) -> BTreeSet<&str> {
        let granted = (audience == "a").then_some("g1");
        self.terms(audience).groups.iter().copied().chain(granted).collect()
    }

    /// The broker, to which the ticket's user is in the groups that were drawn.
    fn broker(&self, key: &Key) -> Arc<Broker> {
        let mut broker = broker_of(&self.policy(key), Ok("alice@A.TEST"), || Ok(()));
        let members = self
            .groups
            .iter()
            .map(|group| format!("{group} = [\"alice@A.TEST\"]\n"));
        let groups = StaticGroups::read(&members.collect::<String>(), None, &mut Problems::default()).unwrap();
        Arc::get_mut(&mut broker)
            .unwrap()
            .exchange
            .to_token
            .as_mut()
            .unwrap()
            .groups = GroupSource::Static(groups);
        broker
    }

    /// The scopes that are let through for this step; nothing where there is no line.
    fn let_through(&self, step: &Step, from: &str) -> Option<BTreeSet<&str>> {
        let lines: Vec<&Line> = self
            .lines
            .iter()
            .filter(|line| line.from == from && line.to == step.to && line.clients.contains(&step.client))
            .collect();
        let scopes = lines.iter().flat_map(|line| line.scopes.iter().copied());
        (!lines.is_empty()).then(|| scopes.collect())
    }
}

fn scopes(claims: &Value) -> BTreeSet<&str> {
    claims["scope"].as_str().unwrap().split_whitespace().collect()
}

/// The groups that a token says; another issuer's are not ours.
fn groups(claims: &Value) -> BTreeSet<&str> {
    let said = claims["groups"].as_array().filter(|_| claims["iss"] != IDP);
    said.into_iter()
        .flatten()
        .map(|group| group.as_str().unwrap())
        .collect()
}

fn depth(claims: &Value) -> usize {
    std::iter::successors(claims.get("act"), |act| act.get("act")).count()
}

/// The audience for which a token stands: that of ours, and what the policy takes the other issuer's for.
fn audience(claims: &Value) -> &str {
    if claims["iss"] == IDP {
        "a"
    } else {
        claims["aud"].as_str().unwrap()
    }
}

/// Why this step must fail, by what was drawn alone.
fn must_fail(drawn: &Drawn, step: &Step, parent: &Value, now: u64) -> Option<Reason> {
    let left = parent["exp"].as_u64().unwrap().saturating_sub(now);
    if left == 0 {
        return Some(Reason::Expired);
    }
    if parent
        .get("cnf")
        .is_some_and(|bound| *bound != confirmed(step.certificate))
    {
        return Some(Reason::CertificateMismatch);
    }
    if left < FLOOR {
        return Some(Reason::Expired);
    }
    if parent.get("may_act").is_some_and(|named| named["sub"] != step.client) {
        return Some(Reason::DeniedByPolicy);
    }
    let Some(through) = drawn.let_through(step, audience(parent)) else {
        return Some(Reason::DeniedByPolicy);
    };
    let mut wanted = step.scopes.iter().flatten();
    if !wanted.all(|scope| through.contains(scope) && scopes(parent).contains(scope)) {
        return Some(Reason::InvalidScope);
    }
    let has_no_certificate = drawn.terms(step.to).is_bound && parent.get("cnf").is_none() && step.certificate.is_none();
    (depth(parent) >= Actors::MOST || has_no_certificate).then_some(Reason::DeniedByPolicy)
}

async fn walk(drawn: Drawn) {
    let key = Key::new();
    let broker = drawn.broker(&key);
    let mut now = drawn.begins;
    let mut held = vec![drawn.foreign_token(&key)];
    let shown = digest(0).to_string();
    let asked = body(&[("audience", "a"), ("certificate", &shown)]);
    match answer(&broker, &asked, "mesh", now).await {
        Ok(reply) => {
            let token = claims(&reply.access_token);
            let first = drawn.terms("a");
            let ends = now.saturating_add(first.ttl).min(TICKET_ENDS);
            assert_eq!(token["exp"], ends);
            let of_group = drawn.groups.contains(&"g1").then_some("s3");
            assert_eq!(scopes(&token), ["s1", "s2"].into_iter().chain(of_group).collect());
            let mut said = drawn.needed("a");
            said.retain(|group| drawn.groups.contains(group));
            assert_eq!(groups(&token), said);
            assert_eq!(token["cnf"], confirmed(first.is_bound.then_some(0)));
            held.push(reply.access_token);
        }
        Err(reason) => {
            assert_eq!(reason, Reason::TicketTooShort);
            assert!(TICKET_ENDS.saturating_sub(now) < FLOOR);
        }
    }
    for step in &drawn.steps {
        now = now.saturating_add(step.later);
        let shown = step.token.get(&held);
        let parent = claims(shown);
        let wanted = step.scopes.as_ref().map(|scopes| scopes.join(" "));
        let more = [("audience", step.to), ("scope", wanted.as_deref().unwrap_or(""))];
        let proof = ClientProof::Assertion(step.certificate.map(digest));
        let caller = caller(step.client, ListenerName::Public, proof);
        let clock = Clock::Fixed(UnixTime::from_seconds(now));
        let outcome = broker
            .exchange
            .answer(trade(shown, &more).as_bytes(), &caller, clock)
            .await;
        let outcome = outcome.map_err(|refusal| refusal.reason);
        let child = match (outcome, must_fail(&drawn, step, &parent, now)) {
            (Ok(reply), None) => reply.access_token,
            (Err(reason), Some(expected)) => {
                assert_eq!(reason, expected, "{step:?}");
                continue;
            }
            (outcome, expected) => panic!("{step:?} at {now}: {outcome:?}, expected {expected:?}"),
        };
        let token = claims(&child);
        // Nothing wider, and nothing of whose it is changed.
        assert!(scopes(&token).is_subset(&scopes(&parent)), "{step:?}");
        let through = drawn.let_through(step, audience(&parent)).unwrap();
        assert!(scopes(&token).is_subset(&through), "{step:?}");
        assert!(token["exp"].as_u64() <= parent["exp"].as_u64(), "{step:?}");
        assert_eq!(token["aud"], step.to);
        assert!(groups(&token).is_subset(&groups(&parent)), "{step:?}");
        assert!(groups(&token).is_subset(&drawn.needed(step.to)), "{step:?}");
        let terms = drawn.terms(step.to);
        // What is bound stays bound to the same, and nothing is unbound where it is to be bound.
        let bound = match parent.get("cnf") {
            Some(bound) => bound.clone(),
            None => confirmed(step.certificate.filter(|_| terms.is_bound)),
        };
        assert_eq!(token["cnf"], bound, "{step:?}");
        assert_eq!(token["iss"], "https://broker.test");
        for kept in ["auth_time", "amr"] {
            assert_eq!(token[kept], parent[kept], "{kept}");
        }
        if parent["iss"] == IDP {
            assert_eq!(
                (&token["sub"], &token["kerbridge_cb"]),
                (&json!("bob@A.TEST"), &json!(false))
            );
        } else {
            for kept in ["sub", "sid", "kerbridge_cb"] {
                assert_eq!(token[kept], parent[kept], "{kept}");
            }
        }
        assert_eq!(token["act"]["sub"], step.client);
        assert_eq!(token["act"].get("act"), parent.get("act"));
        held.push(child);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_chain_of_trades_widens_audience_scope_or_lifetime(drawn in drawn()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(walk(drawn));
    }
}
