//! Clocks that differ: a little is borne, more is named.

use super::{Definition, Reach};
use crate::engine::own::EFFECT;
use crate::engine::stage::{Expect, Stage, Stop};
use crate::initiator;
use crate::world::lab_program;

pub(super) const SCENARIO: Definition = Definition {
    name: "skew",
    title: "Clocks that differ",
    purpose: "A client or a broker whose clock is off by a little works; off by more it is refused by a name that says whose clock it is.",
    reach: Reach::Own("runs the broker with another clock"),
    play,
};

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    client(stage, &path)?;
    stage.lab()?.run_brokers_through(&["faketime", "-f", "+30s"])?;
    let again = stage.with_ticket("alice", &path)?;
    stage.until_everywhere(&again, 200, EFFECT)?;
    let seen = stage.ask(&again)?;
    let alice = stage.principal("alice");
    stage.check(
        "the broker's clock is half a minute ahead",
        &seen,
        Expect::PassesAs(&alice),
        "chronyc tracking at broker and Envoy",
    );
    stage.lab()?.run_brokers_through(&["faketime", "-f", "+90s"])?;
    stage.until_everywhere(&again, 503, EFFECT)?;
    let seen = stage.ask(&again)?;
    let refused = Expect::Refused(503, "broker_unavailable");
    let remedy = "clock_skew_seconds of the policy's [filter] is wider than the default";
    stage.check(
        "it is a minute and a half ahead: its tokens are of the future",
        &seen,
        refused,
        remedy,
    );
    let found = stage.lab()?.world().envoy_log().contains("because=not_yet_valid");
    let told = if found {
        "because=not_yet_valid"
    } else {
        "nothing of it"
    };
    stage.fact(
        "what Envoy's log says",
        "because=not_yet_valid",
        told,
        found,
        "docs/reasons.md",
    );
    stage.lab()?.run_brokers_through(&[])?;
    stage.lab()?.wait_until_whole()?;
    let seen = stage.ask(&again)?;
    stage.check(
        "the clock is right again",
        &seen,
        Expect::PassesAs(&alice),
        "chronyc makestep",
    );
    Ok(())
}

/// A client whose clock is ten minutes ahead; its ticket it has from before.
fn client(stage: &mut Stage<'_>, path: &str) -> Result<(), Stop> {
    let lab = stage.lab()?;
    let cache = lab.kinit("bob", &[])?;
    let service = lab.principal(crate::delegation::ACCEPTOR);
    let kdc = lab.world().kdc();
    let program = lab_program()?;
    initiator::token_in_child(&program, kdc, &cache, &service)?;
    let late = initiator::token_at(&program, kdc, &cache, &service, "+10m")?;
    let ask = stage.bare(path).header(&format!("Authorization: Negotiate {late}"));
    let seen = stage.ask(&ask)?;
    let remedy = "kerberos.clock_skew_seconds is wider than five minutes";
    stage.check(
        "a client's clock is ten minutes ahead",
        &seen,
        Expect::Refused(401, "clock_skew"),
        remedy,
    );
    Ok(())
}
