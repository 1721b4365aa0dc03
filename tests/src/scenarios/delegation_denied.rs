//! Nobody is acted for whom policy or KDC do not name.

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
    let seen = stage.ask(&stage.with_ticket("bob", "/legacy/1")?)?;
    let refused = Expect::Refused(403, "denied_by_policy");
    stage.check(
        "bob, whom no [[delegation]] names",
        &seen,
        refused,
        "principals of [[delegation]] are wider than meant",
    );
    let seen = stage.ask(&stage.with_ticket("alice", "/legacy/1")?)?;
    stage.check(
        "alice, who is named",
        &seen,
        Expect::PassesAs(&alice),
        "kerbridge doctor delegation",
    );
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
    let seen = stage.ask(&with_token)?;
    let refused = Expect::Refused(403, "delegation_denied");
    stage.check(
        "the KDC does not let the broker's account act any more",
        &seen,
        refused,
        "docs/delegation.md",
    );
    stage.lab()?.let_act(true)?;
    stage.lab()?.restart_brokers()?;
    let seen = stage.ask(&with_token)?;
    stage.check(
        "it does again",
        &seen,
        Expect::PassesAs(&alice),
        "kerbridge doctor delegation",
    );
    Ok(())
}
