//! Clocks that differ: a little is borne, more is named.

use kerbridge_wire::Reason;

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

const BECAUSE: &str = "because=not_yet_valid";

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    client(stage, &path)?;
    stage.lab()?.shift_clock("+30s")?;
    let again = stage.with_ticket("alice", &path)?;
    stage.until_everywhere(&again, 200, EFFECT)?;
    let alice = stage.principal("alice");
    stage.step(
        "the broker's clock is half a minute ahead",
        &again,
        Expect::PassesAs(&alice),
        "chronyc tracking at broker and Envoy",
    )?;
    let before = told(stage)?;
    stage.lab()?.shift_clock("+90s")?;
    stage.until_everywhere(&again, 503, EFFECT)?;
    let remedy = "clock_skew_seconds of the policy's [filter] is wider than the default";
    stage.step(
        "it is a minute and a half ahead: its tokens are of the future",
        &again,
        Expect::Refused(Reason::BrokerUnavailable),
        remedy,
    )?;
    let is_told = told(stage)? > before;
    let found = if is_told { BECAUSE } else { "nothing of it" };
    stage.fact(
        "what Envoy's log says since then",
        BECAUSE,
        found,
        is_told,
        "docs/reasons.md",
    );
    stage.lab()?.run_brokers_through(&[])?;
    stage.lab()?.wait_until_whole()?;
    stage.step(
        "the clock is right again",
        &again,
        Expect::PassesAs(&alice),
        "chronyc makestep",
    )?;
    Ok(())
}

/// How often Envoy's log has named it so far.
fn told(stage: &mut Stage<'_>) -> Result<usize, Stop> {
    Ok(stage.lab()?.world().envoy_log().matches(BECAUSE).count())
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
    let remedy = "kerberos.clock_skew_seconds is wider than five minutes";
    stage.step(
        "a client's clock is ten minutes ahead",
        &ask,
        Expect::Refused(Reason::ClockSkew),
        remedy,
    )?;
    Ok(())
}
