//! Nobody becomes another by writing it into a header.

use super::{Definition, Reach};
use crate::engine::stage::{Expect, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "spoofed-headers",
    title: "Spoofed headers",
    purpose: "What a client writes into the headers that name the caller never reaches the service.",
    reach: Reach::Anywhere,
    play,
};

const REMEDY: &str = "a listener or a filter before kerbridge lets the header through after it: kerbridge is the last filter before the router";
const SPOOFED: [&str; 4] = [
    "x-kerbridge-subject: root@EVIL.TEST",
    "X-Kerbridge-Scope: everything",
    "x-kerbridge-groups: admins",
    "X-KERBRIDGE-SUBJECT: root2@EVIL.TEST",
];

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let bob = stage.principal("bob");
    let spoof = SPOOFED
        .iter()
        .fold(stage.with_ticket("bob", &path)?, |ask, line| ask.header(line));
    let seen = stage.ask(&spoof)?;
    stage.check(
        "a ticket, and headers that say root",
        &seen,
        Expect::PassesAs(&bob),
        REMEDY,
    );
    if seen.received.is_none() {
        return Err(Stop::not_seen(
            "what your service receives is not seen from outside: whom the token names is all that was checked",
            "name by --path one whose service answers with JSON of method, target and headers, as the lab's own does",
        ));
    }
    let evil = |seen: &crate::engine::stage::Seen| {
        let all = ["x-kerbridge-subject", "x-kerbridge-scope", "x-kerbridge-groups"].map(|name| seen.received(name));
        let values = all.concat();
        let found = values.iter().find(|value| {
            SPOOFED
                .iter()
                .any(|line| line.ends_with(value.as_str()) && !value.is_empty())
        });
        found.cloned()
    };
    let found = evil(&seen).unwrap_or_else(|| "nothing".to_owned());
    stage.fact(
        "what the service is told of it",
        "nothing",
        &found,
        found == "nothing",
        REMEDY,
    );
    if stage.yours().is_some() {
        return Ok(());
    }
    let open = SPOOFED
        .iter()
        .fold(stage.bare("/healthz"), |ask, line| ask.header(line));
    let seen = stage.ask(&open)?;
    stage.check(
        "the same on a path that is open to everybody",
        &seen,
        Expect::Passes,
        REMEDY,
    );
    let told = seen.received("x-kerbridge-subject").join(", ");
    let told = if told.is_empty() { "nobody".to_owned() } else { told };
    stage.fact(
        "whom the service is told there",
        "nobody",
        &told,
        told == "nobody",
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
