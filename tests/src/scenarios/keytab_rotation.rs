//! The service account gets a new key: in which order nobody is locked out, and what the wrong order looks like.

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::stage::{Expect, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "keytab-rotation",
    title: "Rotation of the keytab",
    purpose: "A ticket for a key that the keytab lacks is refused by name; once the new key stands beside the old one both kinds of tickets are taken, without a restart.",
    reach: Reach::Own("gives the service account a new key"),
    play,
};

const REMEDY: &str = "add the new key to the keytab before tickets are made with it, and keep the old one until those have ended: docs/runbooks.md";

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let bob = stage.principal("bob");
    let held = stage.lab()?.kinit("bob", &[])?;
    let old = stage.with_cache("bob", &held, &path)?;
    stage.step(
        "a ticket by the present key",
        &old,
        Expect::PassesAs(&bob),
        "kerbridge doctor",
    )?;
    let key = stage.lab()?.rekey()?;
    stage.step(
        "the account has a new key; who holds a ticket goes on",
        &old,
        Expect::PassesAs(&bob),
        REMEDY,
    )?;
    let fresh = stage.lab()?.kinit("bob", &[])?;
    let new = stage.with_cache("bob", &fresh, &path)?;
    stage.step(
        "a new ticket, before the keytab has the key",
        &new,
        Expect::Refused(Reason::KvnoMismatch),
        REMEDY,
    )?;
    stage.lab()?.add_to_keytab(&key)?;
    stage.step(
        "the key is added to the keytab: the new ticket",
        &new,
        Expect::PassesAs(&bob),
        REMEDY,
    )?;
    stage.step("and the old one", &old, Expect::PassesAs(&bob), REMEDY)?;
    Ok(())
}
