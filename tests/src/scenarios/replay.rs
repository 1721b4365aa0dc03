//! What was copied off the wire opens nothing.

use super::{Definition, Reach};
use crate::engine::stage::{Expect, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "replay",
    title: "Replay of a ticket",
    purpose: "The bytes with which a ticket was shown are good once, at every broker; the ticket's owner goes on with it.",
    reach: Reach::Anywhere,
    play,
};

const REMEDY: &str = "brokers that stand side by side need one database: [store.postgres], see docs/store.md";

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let seen = stage.ask(&stage.with_ticket("bob", &path)?)?;
    stage.check(
        "bob's ticket, for the first time",
        &seen,
        Expect::Passes,
        "kerbridge doctor",
    );
    let Some(copy) = seen.answer.negotiate_tokens().pop() else {
        return Err(Stop::not_seen(
            "no ticket was sent: the server asked for none, or no ticket for it was to be had",
            "klist shows the tickets; name a path with --path that needs one",
        ));
    };
    let copied = stage.bare(&path).header(&format!("Authorization: Negotiate {copy}"));
    // As many as reach each of two brokers.
    for title in [
        "somebody sends the same bytes again",
        "and again",
        "and again, on another connection",
    ] {
        let seen = stage.ask(&copied)?;
        stage.check(title, &seen, Expect::Refused(401, "replay"), REMEDY);
    }
    let seen = stage.ask(&stage.with_ticket("bob", &path)?)?;
    stage.check(
        "bob himself shows his ticket again",
        &seen,
        Expect::Passes,
        "kerbridge doctor",
    );
    Ok(())
}
