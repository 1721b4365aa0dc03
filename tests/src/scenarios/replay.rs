//! What was copied off the wire opens nothing.

use std::collections::BTreeSet;

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::own::IN_A_ROW;
use crate::engine::stage::{Expect, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "replay",
    title: "Replay of a ticket",
    purpose: "The bytes with which a ticket was shown are good once, at every broker; the ticket's owner goes on with it.",
    reach: Reach::Anywhere,
    play,
};

const REMEDY: &str = "brokers that stand side by side need one database: [store.postgres], see docs/store.md";
/// So often at least the copy is sent.
const LEAST: u32 = 3;

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let seen = stage.step(
        "bob's ticket, for the first time",
        &stage.with_ticket("bob", &path)?,
        Expect::Passes,
        "kerbridge doctor",
    )?;
    let Some(copy) = seen.answer.negotiate_tokens().pop() else {
        return Err(Stop::not_seen(
            "no ticket was sent: the server asked for none, or no ticket for it was to be had",
            "klist shows the tickets; name a path with --path that needs one",
        ));
    };
    let copied = stage.bare(&path).header(&format!("Authorization: Negotiate {copy}"));
    let brokers = match stage.yours() {
        Some(_) => None,
        None => usize::try_from(stage.lab()?.choice().brokers).ok(),
    };
    let mut asked = BTreeSet::new();
    // Envoy asks brokers in turn, but others ask meanwhile.
    for turn in 0..IN_A_ROW {
        if turn >= LEAST && brokers.is_none_or(|brokers| asked.len() >= brokers) {
            break;
        }
        let title = if turn == 0 {
            "somebody sends the same bytes again, on another connection"
        } else {
            "and again"
        };
        let seen = stage.step(title, &copied, Expect::Refused(Reason::Replay), REMEDY)?;
        asked.extend(seen.exchanges.iter().map(|exchange| exchange.broker));
    }
    if let Some(brokers) = brokers {
        let (expected, found) = (
            format!("{brokers} of {brokers}"),
            format!("{} of {brokers}", asked.len()),
        );
        let remedy = "Envoy's cluster of the brokers does not ask each of them";
        stage.fact(
            "how many brokers were shown them",
            &expected,
            &found,
            asked.len() == brokers,
            remedy,
        );
    }
    stage.step(
        "bob himself shows his ticket again",
        &stage.with_ticket("bob", &path)?,
        Expect::Passes,
        "kerbridge doctor",
    )?;
    Ok(())
}
