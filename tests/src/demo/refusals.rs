//! Tells what does not get in: nobody, a spoofed name, a forged token, another service's token, a ticket's copy.

use kerbridge_tests::token::{alter_claims, with};
use kerbridge_tests::{HarnessError, World};
use serde_json::json;

use super::story::{Detail, Seen, check_status, check_subject, send};
use crate::screen::{Screen, Tone};

/// All steps, in order.
pub(crate) fn tell(screen: &mut Screen, world: &World, alice: &str, bob: &str) -> Result<(), HarnessError> {
    screen.step("nobody in particular asks");
    let seen = send(screen, world, Detail::Brief, &world.curl("/orders/1"))?;
    check_refused(screen, world, &seen, 401, "no_credentials");
    let challenges = seen.answer.all("www-authenticate");
    screen.check(
        "there is one challenge for each way to prove oneself",
        challenges.len() == 2 && challenges.contains(&"Negotiate"),
        &format!("{challenges:?}"),
    );

    screen.step("bob says that he is root");
    let spoofed = "x-kerbridge-subject: root@LAB.TEST";
    let seen = send(
        screen,
        world,
        Detail::Brief,
        &world.curl("/orders/1").bearer(bob).header(spoofed),
    )?;
    check_status(screen, &seen.answer, 200);
    check_subject(screen, &seen, "bob@LAB.TEST");
    screen.line(&[(Tone::Faint, "    and on a path that is open to everybody")]);
    let seen = send(screen, world, Detail::Brief, &world.curl("/healthz").header(spoofed))?;
    check_status(screen, &seen.answer, 200);
    let told = seen.received("x-kerbridge-subject");
    screen.check("the service is told nothing", told.is_empty(), &format!("{told:?}"));

    screen.step("bob makes himself alice in his token");
    let forged = alter_claims(bob, |claims| with(claims, "sub", json!("alice@LAB.TEST"))).unwrap_or_default();
    let seen = send(screen, world, Detail::Brief, &world.curl("/orders/1").bearer(&forged))?;
    check_refused(screen, world, &seen, 401, "bad_signature");

    screen.step("alice shows her token for orders to the reports");
    let seen = send(screen, world, Detail::Brief, &world.curl("/reports/1").bearer(alice))?;
    check_refused(screen, world, &seen, 401, "wrong_audience");

    screen.step("somebody copied bob's ticket off the wire and sends it again");
    let first = send(screen, world, Detail::Brief, &world.curl_as("bob", "/orders/4"))?;
    check_status(screen, &first.answer, 200);
    let copy = first.answer.negotiate_tokens().pop().unwrap_or_default();
    screen.line(&[(Tone::Faint, "    and the same bytes once more")]);
    let header = format!("Authorization: Negotiate {copy}");
    let seen = send(screen, world, Detail::Full, &world.curl("/orders/4").header(&header))?;
    check_refused(screen, world, &seen, 401, "replay");
    Ok(())
}

/// The filter must have refused, for this reason, and nothing may have arrived.
pub(crate) fn check_refused(screen: &mut Screen, world: &World, seen: &Seen, status: u16, reason: &str) {
    let found = match world.reason(&seen.answer) {
        Ok((found_status, found_reason)) => {
            let found = format!("{found_status} {found_reason}");
            screen.field("Envoy's log", &format!("kerbridge_{found_reason}"));
            found
        }
        Err(error) => error.to_string(),
    };
    let claim = format!("it is refused with {status}, {reason}");
    screen.check(&claim, found == format!("{status} {reason}"), &found);
    screen.check(
        &format!("nothing reaches {}", seen.behind.name()),
        seen.received.is_none(),
        "a request arrived",
    );
}
