//! The KDC is away: what was issued goes on.

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::own::EFFECT;
use crate::engine::stage::{Expect, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "kdc-down",
    title: "The KDC is down",
    purpose: "While no KDC answers, tokens and tickets that were issued go on; nobody logs in, and a token becomes no ticket, which is said as a 503.",
    reach: Reach::Own("stops the KDC"),
    play,
};

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let alice = stage.principal("alice");
    let with_ticket = stage.with_ticket("alice", &path)?;
    let seen = stage.step(
        "alice has a ticket and a token",
        &with_ticket,
        Expect::PassesAs(&alice),
        "kerbridge doctor",
    )?;
    let token = seen.token().unwrap_or_default();
    let legacy = stage.ask(&stage.with_ticket("alice", "/legacy/1")?)?;
    let legacy = legacy.token().unwrap_or_default();
    stage.lab()?.stop_kdc()?;
    // What a broker was given for her it keeps in memory: without that it has to ask.
    let lab = stage.lab()?;
    lab.stop_brokers()?;
    for broker in lab.brokers() {
        broker.start_listening()?;
    }
    stage.step(
        "the KDC is away: her token",
        &stage.with_token("alice", &token, &path),
        Expect::PassesAs(&alice),
        "docs/faults.md",
    )?;
    stage.until_everywhere(&with_ticket, 200, EFFECT)?;
    let remedy = "a broker needs its keytab alone to take tickets: kerbridge doctor";
    stage.step(
        "the KDC is away: her ticket for Envoy",
        &with_ticket,
        Expect::PassesAs(&alice),
        remedy,
    )?;
    log_in(
        stage,
        "the KDC is away: bob wants to log in",
        false,
        "another KDC of the realm answers",
    )?;
    let with_token = stage.with_token("alice", &legacy, "/legacy/2");
    stage.step(
        "her token is to become a ticket",
        &with_token,
        Expect::Refused(Reason::KdcUnreachable),
        "docs/delegation.md",
    )?;
    stage.lab()?.start_kdc()?;
    log_in(
        stage,
        "the KDC is back: bob wants to log in",
        true,
        "kinit says what is wrong",
    )?;
    stage.until_everywhere(&with_token, 200, EFFECT)?;
    stage.step(
        "the KDC is back: her token becomes a ticket",
        &with_token,
        Expect::PassesAs(&alice),
        "kerbridge doctor delegation",
    )?;
    Ok(())
}

/// Whether bob can log in.
fn log_in(stage: &mut Stage<'_>, title: &str, expected: bool, remedy: &str) -> Result<(), Stop> {
    let found = stage.lab()?.kinit("bob", &[]).is_ok();
    let word = |is_in: bool| if is_in { "in" } else { "not in" };
    stage.fact(title, word(expected), word(found), found == expected, remedy);
    Ok(())
}
