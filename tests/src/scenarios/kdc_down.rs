//! The KDC is away: what was issued goes on.

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
    let seen = stage.ask(&with_ticket)?;
    stage.check(
        "alice has a ticket and a token",
        &seen,
        Expect::PassesAs(&alice),
        "kerbridge doctor",
    );
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
    let seen = stage.ask(&stage.with_token("alice", &token, &path))?;
    stage.check(
        "the KDC is away: her token",
        &seen,
        Expect::PassesAs(&alice),
        "docs/faults.md",
    );
    stage.until_everywhere(&with_ticket, 200, EFFECT)?;
    let seen = stage.ask(&with_ticket)?;
    let remedy = "a broker needs its keytab alone to take tickets: kerbridge doctor";
    stage.check(
        "the KDC is away: her ticket for Envoy",
        &seen,
        Expect::PassesAs(&alice),
        remedy,
    );
    let logged_in = stage.lab()?.kinit("bob", &[]).is_ok();
    let found = if logged_in { "in" } else { "not in" };
    stage.fact(
        "bob wants to log in",
        "not in",
        found,
        !logged_in,
        "another KDC of the realm answers",
    );
    let with_token = stage.with_token("alice", &legacy, "/legacy/2");
    let seen = stage.ask(&with_token)?;
    let refused = Expect::Refused(503, "kdc_unreachable");
    stage.check("her token is to become a ticket", &seen, refused, "docs/delegation.md");
    stage.lab()?.start_kdc()?;
    stage.until_everywhere(&with_token, 200, EFFECT)?;
    let seen = stage.ask(&with_token)?;
    stage.check(
        "the KDC is back: her token becomes a ticket",
        &seen,
        Expect::PassesAs(&alice),
        "kerbridge doctor delegation",
    );
    Ok(())
}
