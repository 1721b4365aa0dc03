//! What must not be forgotten cannot be written: no ticket is taken.

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::own::{EFFECT, Store};
use crate::engine::stage::{Expect, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "store-down",
    title: "The store is down",
    purpose: "While the store cannot be written no ticket is taken, since a copy of it could not be told; tokens go on, and all is well once it is back.",
    reach: Reach::Own("takes the broker's store away"),
    play,
};

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let alice = stage.principal("alice");
    let store = stage.lab()?.choice().store;
    if store == Store::Redb {
        // Where there is no room, a write fails instead of ending the writer.
        stage.lab()?.run_brokers_through(&["env", "--ignore-signal=XFSZ"])?;
        stage.lab()?.wait_until_whole()?;
    }
    let with_ticket = stage.with_ticket("alice", &path)?;
    let seen = stage.step(
        "alice has a token",
        &with_ticket,
        Expect::PassesAs(&alice),
        "kerbridge doctor",
    )?;
    let token = seen.token().unwrap_or_default();
    stage.lab()?.stop_store()?;
    let away = match store {
        Store::Redb => "the disk is full",
        Store::Postgres => "the database is away",
    };
    stage.step(
        &format!("{away}: a ticket"),
        &with_ticket,
        Expect::Refused(Reason::StoreUnavailable),
        "docs/store.md",
    )?;
    stage.step(
        &format!("{away}: a token"),
        &stage.with_token("alice", &token, &path),
        Expect::PassesAs(&alice),
        "docs/faults.md",
    )?;
    stage.lab()?.start_store()?;
    stage.until_everywhere(&with_ticket, 200, EFFECT)?;
    stage.step(
        "it is back: a ticket",
        &with_ticket,
        Expect::PassesAs(&alice),
        "kerbridge store check",
    )?;
    if store == Store::Redb {
        stage.lab()?.run_brokers_through(&[])?;
        stage.lab()?.wait_until_whole()?;
    }
    Ok(())
}
