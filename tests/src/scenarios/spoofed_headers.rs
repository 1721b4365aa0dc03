//! Nobody becomes another by writing it into a header.

use super::{Definition, Reach};
use crate::engine::stage::{Ask, Expect, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "spoofed-headers",
    title: "Spoofed headers",
    purpose: "What a client writes into the headers that name the caller never reaches the service.",
    reach: Reach::Anywhere,
    play,
};

const REMEDY: &str = "a listener or a filter before kerbridge lets the header through after it: kerbridge is the last filter before the router";
const SPOOFED: [(&str, &str); 4] = [
    ("x-kerbridge-subject", "root@EVIL.TEST"),
    ("X-Kerbridge-Scope", "spoofed:everything"),
    ("x-kerbridge-groups", "spoofed-admins"),
    ("X-KERBRIDGE-SUBJECT", "root2@EVIL.TEST"),
];

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let bob = stage.principal("bob");
    let spoof = spoofed(stage.with_ticket("bob", &path)?);
    let seen = stage.step(
        "a ticket, and headers that say root",
        &spoof,
        Expect::PassesAs(&bob),
        REMEDY,
    )?;
    if seen.received.is_none() {
        return Err(Stop::not_seen(
            "what your service receives is not seen from outside: whom the token names is all that was checked",
            "name by --path one whose service answers with JSON of method, target and headers, as the lab's own does",
        ));
    }
    // Beside a value of ours one of theirs would do as much harm as in its place.
    let told = SPOOFED
        .iter()
        .filter(|(name, value)| seen.received(name).iter().any(|told| told.contains(value)));
    let told: Vec<&str> = told.map(|(_, value)| *value).collect();
    let found = if told.is_empty() {
        "nothing".to_owned()
    } else {
        told.join(", ")
    };
    stage.fact(
        "what the service is told of it",
        "nothing",
        &found,
        told.is_empty(),
        REMEDY,
    );
    if stage.yours().is_some() {
        return Ok(());
    }
    let open = spoofed(stage.bare("/healthz"));
    let seen = stage.step(
        "the same on a path that is open to everybody",
        &open,
        Expect::Passes,
        REMEDY,
    )?;
    let told: Vec<String> = SPOOFED.iter().flat_map(|(name, _)| seen.received(name)).collect();
    let found = match &seen.received {
        None => "it did not arrive".to_owned(),
        Some(_) if told.is_empty() => "nobody".to_owned(),
        Some(_) => told.join(", "),
    };
    stage.fact(
        "whom the service is told there",
        "nobody",
        &found,
        found == "nobody",
        REMEDY,
    );
    let seen = stage.ask(
        &stage
            .with_ticket("bob", &path)?
            .header("x_kerbridge_subject: root@EVIL.TEST"),
    )?;
    let status = seen.answer.status.to_string();
    let held = status == "400" && seen.received.is_none();
    stage.fact(
        "a header with underscores, which some services read as hyphens",
        "400, and nothing reaches the service",
        &status,
        held,
        "headers_with_underscores_action: REJECT_REQUEST at the listener",
    );
    Ok(())
}

fn spoofed(ask: Ask) -> Ask {
    SPOOFED
        .iter()
        .fold(ask, |ask, (name, value)| ask.header(&format!("{name}: {value}")))
}
