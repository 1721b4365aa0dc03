//! A token ends with its ticket, in the middle of traffic, to the second.

use std::time::Duration;

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::stage::{Ask, Expect, Seen, Stage, Stop};
use crate::initiator;
use crate::report::model::Credential;
use crate::token::now;
use crate::wait::{Deadline, POLL};
use crate::world::lab_program;

pub(super) const SCENARIO: Definition = Definition {
    name: "expiry",
    title: "Expiry in the middle of traffic",
    purpose: "A token made of a ticket that is about to end passes until its last second and from then on no more, while requests go on.",
    reach: Reach::Anywhere,
    play,
};

const REMEDY: &str = "the clocks of broker and Envoy differ: chronyc tracking on both";
/// What is left of the ticket when its user comes.
const LEFT: &str = "6s";
/// A token of somebody's own that lives no longer is waited for.
const WAITED_FOR: u64 = 90;

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    if stage.yours().is_some() {
        return yours(stage, &path);
    }
    let service = stage.principal(crate::delegation::ACCEPTOR);
    // The one ticket alone: Active Directory takes no ticket-granting ticket that lives less than two minutes.
    let cache = stage.lab()?.kinit("alice", &["-l", LEFT, "-S", &service])?;
    let kept = initiator::token_in_child(&lab_program()?, stage.lab()?.world().kdc(), &cache, &service)?;
    let with_ticket = stage.with_cache("alice", &cache, &path)?;
    let seen = stage.step(
        "a ticket with a few seconds left",
        &with_ticket,
        Expect::Passes,
        "kerbridge doctor",
    )?;
    let (token, ends) = ends(&seen)?;
    let left = ends.saturating_sub(now());
    stage.fact(
        "the token ends with the ticket",
        "within 6 s",
        &format!("within {left} s"),
        left <= 6,
        "limits and audiences cannot prolong it: see docs/policy.md",
    );
    let with_token = stage.with_token("alice", &token, &path);
    watch(stage, &with_token, ends)?;
    stage.lose("alice", Credential::Token, "ended with the ticket");
    // Nor does the ticket buy another one. Kerberos itself would take it for as long as clocks may differ.
    let kept = stage.bare(&path).header(&format!("Authorization: Negotiate {kept}"));
    stage.step(
        "what was made of the ticket while it lived, shown now for the first time",
        &kept,
        Expect::Refused(Reason::TicketExpired),
        REMEDY,
    )?;
    let seen = stage.ask(&with_ticket)?;
    let found = seen.answer.status.to_string();
    let held = seen.answer.status == 401 && seen.received.is_none();
    stage.fact(
        "its owner's client, which has no other",
        "401, and nothing reaches the service",
        &found,
        held,
        REMEDY,
    );
    stage.lose("alice", Credential::Ticket, "ended");
    Ok(())
}

/// The token that came, and when it ends.
fn ends(seen: &Seen) -> Result<(String, u64), Stop> {
    let end = seen.decoded().and_then(|token| token.claims.get("exp")?.as_u64());
    seen.token().zip(end).ok_or_else(|| {
        Stop::not_seen(
            "no token came back whose end could be waited for",
            "name by --path a route with deliver = \"header\" or \"cookie\"",
        )
    })
}

/// Sends one request after the other until it is refused: none is before the token's end, and none passes after it.
fn watch(stage: &mut Stage<'_>, with_token: &Ask, ends: u64) -> Result<(), Stop> {
    let clock = Deadline::after(Duration::from_secs(ends.saturating_sub(now()).saturating_add(20)));
    let (mut passed, mut late, mut early) = (0_u32, 0_u32, 0_u32);
    stage.step("the token, while it lives", with_token, Expect::Passes, REMEDY)?;
    loop {
        let sent = now();
        let is_taken = with_token.status()? == 200;
        passed = passed.saturating_add(u32::from(is_taken));
        late = late.saturating_add(u32::from(is_taken && sent >= ends));
        early = early.saturating_add(u32::from(!is_taken && now() < ends));
        if !is_taken || clock.passed() {
            break;
        }
        std::thread::sleep(POLL);
    }
    stage.forget();
    let found = format!("{passed} passed, {late} of them after its end; {early} refused before it");
    let held = passed > 1 && late == 0 && early == 0;
    let title = "requests with it, one after the other, until one is refused";
    stage.fact(
        title,
        "some passed, 0 of them after its end; 0 refused before it",
        &found,
        held,
        REMEDY,
    );
    stage.step(
        "the token, after its end",
        with_token,
        Expect::Refused(Reason::Expired),
        REMEDY,
    )?;
    Ok(())
}

fn yours(stage: &mut Stage<'_>, path: &str) -> Result<(), Stop> {
    let seen = stage.step(
        "a ticket is shown",
        &stage.with_ticket("alice", path)?,
        Expect::Passes,
        "kerbridge doctor",
    )?;
    let (token, ends) = ends(&seen)?;
    let left = ends.saturating_sub(now());
    let title = "the token says when it ends";
    let held = (1..=24 * 3600).contains(&left);
    stage.fact(
        title,
        "within a day",
        &format!("within {left} s"),
        held,
        "ttl of the [[audience]]",
    );
    if left > WAITED_FOR {
        return Err(Stop::not_seen(
            format!("the token lives {left} s longer, and that was not waited for"),
            format!("log in with a ticket that lives shorter, kinit -l {WAITED_FOR}s, and run it again"),
        ));
    }
    let with_token = match seen.cookie() {
        Some(cookie) => stage.with_cookie("alice", &cookie, path),
        None => stage.with_token("alice", &token, path),
    };
    watch(stage, &with_token, ends)
}
