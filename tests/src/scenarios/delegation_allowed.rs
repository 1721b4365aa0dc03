//! A token opens a service that takes Kerberos only.

use super::{Definition, Reach};
use crate::engine::stage::{Expect, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "delegation-allowed",
    title: "Delegation that is allowed",
    purpose: "Where policy and KDC allow it, a token alone reaches a service that takes Kerberos only, with a ticket in its user's name and no other credential.",
    reach: Reach::Own("needs a service that takes Kerberos only and shows whom it sees"),
    play,
};

const REMEDY: &str = "kerbridge doctor delegation names the right that is missing, and its command";

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let alice = stage.principal("alice");
    let seen = stage.step(
        "alice asks with her ticket for Envoy",
        &stage.with_ticket("alice", "/legacy/1")?,
        Expect::PassesAs(&alice),
        REMEDY,
    )?;
    let token = seen.token().unwrap_or_default();
    // What the broker was given for her it keeps: from the beginning, so that the KDC is seen.
    stage.lab()?.restart_brokers()?;
    let seen = stage.step(
        "with her token alone",
        &stage.with_token("alice", &token, "/legacy/2"),
        Expect::PassesAs(&alice),
        REMEDY,
    )?;
    let shown = seen.received("authorization");
    let is_ticket = matches!(shown.as_slice(), [value] if value.starts_with("Negotiate "));
    let others = seen
        .received("cookie")
        .len()
        .saturating_add(seen.received("x-kerbridge-token").len());
    let kinds: Vec<&str> = shown.iter().filter_map(|value| value.split(' ').next()).collect();
    let found = format!("{} and {others} others", kinds.join(", "));
    stage.fact(
        "what the service got",
        "Negotiate and 0 others",
        &found,
        is_ticket && others == 0,
        "the [[route]] has upstream = { kerberos = … }",
    );
    let first = shown;
    let seen = stage.step(
        "and once more",
        &stage.with_token("alice", &token, "/legacy/3"),
        Expect::PassesAs(&alice),
        REMEDY,
    )?;
    let differs = first != seen.received("authorization");
    let found = if differs { "another one" } else { "the same bytes" };
    stage.fact(
        "the ticket as it is shown",
        "another one",
        found,
        differs,
        "docs/delegation.md",
    );
    Ok(())
}
