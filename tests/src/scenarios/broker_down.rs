//! The broker is away: tokens go on, tickets wait.

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
    let seen = stage.ask(&with_ticket)?;
    stage.check("alice has a token", &seen, Expect::PassesAs(&alice), "kerbridge doctor");
    let token = seen.token().unwrap_or_default();
    if stage.lab()?.choice().brokers > 1 {
        stage.lab()?.broker().stop()?;
        // The first call that fails tells Envoy which of them it is.
        stage.until_everywhere(&with_ticket, 200, EFFECT)?;
        let seen = stage.ask(&with_ticket)?;
        let remedy = "outlier_detection of the brokers' cluster, see docs/deployment.md";
        stage.check(
            "one of two brokers is stopped: a ticket",
            &seen,
            Expect::PassesAs(&alice),
            remedy,
        );
    }
    stage.lab()?.stop_brokers()?;
    let seen = stage.ask(&stage.with_token("alice", &token, &path))?;
    let remedy = "max_staleness of keys and feed: for how long a filter goes on without a broker";
    stage.check("no broker runs: a token", &seen, Expect::PassesAs(&alice), remedy);
    let seen = stage.ask(&with_ticket)?;
    let refused = Expect::Refused(503, "broker_unavailable");
    stage.check("no broker runs: a ticket", &seen, refused, "docs/faults.md");
    let after = seen.answer.header("retry-after").map(str::to_owned);
    let found = after.as_deref().unwrap_or("nothing").to_owned();
    stage.fact(
        "when its client is to come again",
        "so many seconds",
        &found,
        after.is_some(),
        "docs/faults.md",
    );
    stage.lab()?.start_brokers()?;
    let seen = stage.ask(&with_ticket)?;
    stage.check(
        "it is back: a ticket",
        &seen,
        Expect::PassesAs(&alice),
        "kerbridge doctor",
    );
    Ok(())
}
