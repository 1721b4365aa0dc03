//! Nothing is ever added on the way, however often a token is traded.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;
use crate::subject_token::Actors;

/// What the property draws: lines between four audiences for three clients, when a ticket and another issuer's token come, and a
/// walk from them on.
#[derive(Clone, Debug)]
struct Drawn {
    begins: u64,
    foreign: Foreign,
    ttls: Vec<u64>,
    lines: Vec<Line>,
    steps: Vec<Step>,
}

/// Of the other issuer's token.
#[derive(Clone, Debug)]
struct Foreign {
    life: u64,
    scopes: Vec<&'static str>,
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
    later: u64,
}

/// When the ticket of the tests ends, and the least life that buys anything.
const TICKET_ENDS: u64 = 10_000;
const FLOOR: u64 = 5;
const AUDIENCES: [&str; 4] = ["a", "b", "c", "d"];
const CLIENTS: [&str; 3] = ["x", "y", "z"];
const SCOPES: [&str; 4] = ["s1", "s2", "s3", "s4"];

fn drawn() -> impl Strategy<Value = Drawn> {
    let line = (
        subsequence(&CLIENTS[..], 1..=3),
        prop::sample::select(&AUDIENCES[..]),
        prop::sample::select(&AUDIENCES[..]),
        subsequence(&SCOPES[..], 0..=4),
    );
    let line = line.prop_map(|(clients, from, to, scopes)| Line {
        clients,
        from,
        to,
        scopes,
    });
    let step = (
        any::<Index>(),
        prop::sample::select(&CLIENTS[..]),
        prop::sample::select(&AUDIENCES[..]),
        prop::option::weighted(0.3, subsequence(&SCOPES[..], 1..=2)),
        0..200_u64,
    );
    let step = step.prop_map(|(token, client, to, scopes, later)| Step {
        token,
        client,
        to,
        scopes,
        later,
    });
    let foreign = (1..4000_u64, subsequence(&SCOPES[..], 0..=4));
    (
        2000..TICKET_ENDS,
        foreign.prop_map(|(life, scopes)| Foreign { life, scopes }),
        prop::collection::vec(60..4000_u64, 4),
        prop::collection::vec(line, 0..12),
        prop::collection::vec(step, 1..24),
    )
        .prop_map(|(begins, foreign, ttls, lines, steps)| Drawn {
            begins,
            foreign,
            ttls,
            lines,
            steps,
        })
}

impl Drawn {
    fn policy(&self, key: &Key) -> String {
        let audiences = AUDIENCES.iter().zip(&self.ttls);
        let audiences: Vec<String> = audiences
            .map(|(name, ttl)| format!("[[audience]]\nname = \"{name}\"\nttl = \"{ttl}s\"\n"))
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
             [[grant]]\nprincipals = [\"*@A.TEST\"]\naudience = \"a\"\nscopes = [\"s1\", \"s2\", \"s3\"]\n\
             [[route]]\npath = \"/\"\naccess = \"open\"\n",
            audiences.concat(),
            lines.concat(),
            key.set()
        )
    }

    /// The other issuer's token, about bob.
    fn foreign_token(&self, key: &Key) -> String {
        let Foreign { life, scopes } = &self.foreign;
        let ends = self.begins.saturating_add(*life);
        foreign(
            key,
            json!({ "iat": self.begins, "exp": ends, "scope": scopes.join(" ") }),
        )
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
    if parent["exp"].as_u64().unwrap().saturating_sub(now) < FLOOR {
        return Some(Reason::Expired);
    }
    let Some(through) = drawn.let_through(step, audience(parent)) else {
        return Some(Reason::DeniedByPolicy);
    };
    let mut wanted = step.scopes.iter().flatten();
    if !wanted.all(|scope| through.contains(scope) && scopes(parent).contains(scope)) {
        return Some(Reason::InvalidScope);
    }
    (depth(parent) >= Actors::MOST).then_some(Reason::DeniedByPolicy)
}

async fn walk(drawn: Drawn) {
    let key = Key::new();
    let broker = broker_of(&drawn.policy(&key), Ok("alice@A.TEST"), || Ok(()));
    let mut now = drawn.begins;
    let mut held = vec![drawn.foreign_token(&key)];
    match answer(&broker, &body(&[("audience", "a")]), "mesh", now).await {
        Ok(reply) => {
            let token = claims(&reply.access_token);
            let ends = now.saturating_add(drawn.ttls[0]).min(TICKET_ENDS);
            assert_eq!(token["exp"], ends);
            assert!(scopes(&token).is_subset(&BTreeSet::from(["s1", "s2", "s3"])));
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
        let outcome = answer(&broker, &trade(shown, &more), step.client, now).await;
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
