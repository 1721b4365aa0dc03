//! Nobody is acted for whom policy or KDC do not name.

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::own::EFFECT;
use crate::engine::stage::{Expect, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "delegation-denied",
    title: "Delegation that is denied",
    purpose: "A user whom no [[delegation]] names is refused before the KDC is asked, and where the KDC does not allow it nobody gets through, by a name that says so.",
    reach: Reach::Own("takes the broker's right at the KDC away"),
    play,
};

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let alice = stage.principal("alice");
    let remedy = "principals of [[delegation]] are wider than meant";
    let seen = stage.step(
        "bob, whom no [[delegation]] names",
        &stage.with_ticket("bob", "/legacy/1")?,
        Expect::Refused(Reason::DeniedByPolicy),
        remedy,
    )?;
    let asked = seen.kdc.iter().map(|asked| asked.question.summary.as_str());
    let asked: Vec<&str> = asked.filter(|asked| asked.contains("in a user's name")).collect();
    let found = if asked.is_empty() {
        "nothing".to_owned()
    } else {
        asked.join("; ")
    };
    stage.fact(
        "what the KDC was asked in his name",
        "nothing",
        &found,
        asked.is_empty(),
        remedy,
    );
    let seen = stage.step(
        "alice, who is named",
        &stage.with_ticket("alice", "/legacy/1")?,
        Expect::PassesAs(&alice),
        "kerbridge doctor delegation",
    )?;
    let token = seen.token().unwrap_or_default();
    stage.lab()?.let_act(false)?;
    let lab = stage.lab()?;
    lab.stop_brokers()?;
    for broker in lab.brokers() {
        broker.start()?;
    }
    let with_token = stage.with_token("alice", &token, "/legacy/2");
    let elsewhere = stage.with_ticket("alice", "/orders/1")?;
    stage.until_everywhere(&elsewhere, 200, EFFECT)?;
    stage.step(
        "the KDC does not let the broker's account act any more",
        &with_token,
        Expect::Refused(Reason::DelegationDenied),
        "docs/delegation.md",
    )?;
    stage.lab()?.let_act(true)?;
    stage.lab()?.restart_brokers()?;
    stage.step(
        "it does again",
        &with_token,
        Expect::PassesAs(&alice),
        "kerbridge doctor delegation",
    )?;
    Ok(())
}
