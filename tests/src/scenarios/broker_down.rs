//! The broker is away: tokens go on, tickets wait.

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::own::EFFECT;
use crate::engine::stage::{Expect, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "broker-down",
    title: "The broker is down",
    purpose: "While no broker runs, tokens go on passing and tickets get a 503 that says when to come again; one of two brokers is enough.",
    reach: Reach::Own("stops the broker"),
    play,
};

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let alice = stage.principal("alice");
    let with_ticket = stage.with_ticket("alice", &path)?;
    let seen = stage.step(
        "alice has a token",
        &with_ticket,
        Expect::PassesAs(&alice),
        "kerbridge doctor",
    )?;
    let token = seen.token().unwrap_or_default();
    if stage.lab()?.choice().brokers > 1 {
        stage.lab()?.broker().stop()?;
        // The first call that fails tells Envoy which of them it is.
        stage.until_everywhere(&with_ticket, 200, EFFECT)?;
        let remedy = "outlier_detection of the brokers' cluster, see docs/deployment.md";
        stage.step(
            "one of two brokers is stopped: a ticket",
            &with_ticket,
            Expect::PassesAs(&alice),
            remedy,
        )?;
    }
    stage.lab()?.stop_brokers()?;
    let remedy = "max_staleness of keys and feed: for how long a filter goes on without a broker";
    stage.step(
        "no broker runs: a token",
        &stage.with_token("alice", &token, &path),
        Expect::PassesAs(&alice),
        remedy,
    )?;
    let seen = stage.step(
        "no broker runs: a ticket",
        &with_ticket,
        Expect::Refused(Reason::BrokerUnavailable),
        "docs/faults.md",
    )?;
    let found = seen.answer.header("retry-after").unwrap_or("nothing").to_owned();
    stage.fact(
        "when its client is to come again",
        "so many seconds",
        &found,
        found.parse().is_ok_and(|seconds: u32| seconds > 0),
        "docs/faults.md",
    );
    stage.lab()?.start_brokers()?;
    stage.step(
        "it is back: a ticket",
        &with_ticket,
        Expect::PassesAs(&alice),
        "kerbridge doctor",
    )?;
    Ok(())
}
