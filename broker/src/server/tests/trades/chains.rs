//! Nothing is ever added on the way, however often a token is traded.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;
use crate::subject_token::Actors;

/// What the property draws: lines between four audiences for three clients, and a walk.
#[derive(Clone, Debug)]
struct Drawn {
    ttls: Vec<u64>,
    lines: Vec<Line>,
    steps: Vec<Step>,
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
    (
        prop::collection::vec(60..4000_u64, 4),
        prop::collection::vec(line, 0..12),
        prop::collection::vec(step, 1..24),
    )
        .prop_map(|(ttls, lines, steps)| Drawn { ttls, lines, steps })
}

impl Drawn {
    fn policy(&self) -> String {
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
            "{}{}[[grant]]\nprincipals = [\"*@A.TEST\"]\naudience = \"a\"\nscopes = [\"s1\", \"s2\", \"s3\"]\n\
             [[route]]\npath = \"/\"\naccess = \"open\"\n",
            audiences.concat(),
            lines.concat()
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

/// Why this step must fail, by what was drawn alone.
fn must_fail(drawn: &Drawn, step: &Step, parent: &Value, now: u64) -> Option<Reason> {
    // The floor of the rules.
    if parent["exp"].as_u64().unwrap().saturating_sub(now) < 5 {
        return Some(Reason::Expired);
    }
    let Some(through) = drawn.let_through(step, parent["aud"].as_str().unwrap()) else {
        return Some(Reason::DeniedByPolicy);
    };
    let mut wanted = step.scopes.iter().flatten();
    if !wanted.all(|scope| through.contains(scope) && scopes(parent).contains(scope)) {
        return Some(Reason::InvalidScope);
    }
    (depth(parent) >= Actors::MOST).then_some(Reason::DeniedByPolicy)
}

async fn walk(drawn: Drawn) {
    let broker = broker_of(&drawn.policy(), Ok("alice@A.TEST"), || Ok(()));
    let response = ask(ListenerName::Mesh, &broker, body(&[("audience", "a")])).await;
    let reply: ExchangeReply = serde_json::from_str(&text(response).await).unwrap();
    let mut held = vec![reply.access_token];
    let mut now = 2000_u64;
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
        let through = drawn.let_through(step, parent["aud"].as_str().unwrap()).unwrap();
        assert!(scopes(&token).is_subset(&through), "{step:?}");
        assert!(token["exp"].as_u64() <= parent["exp"].as_u64(), "{step:?}");
        assert_eq!(token["aud"], step.to);
        for kept in ["iss", "sub", "sid", "auth_time", "amr", "kerbridge_cb"] {
            assert_eq!(token[kept], parent[kept], "{kept}");
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
