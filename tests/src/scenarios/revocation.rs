//! What is taken back opens nothing any more, and nothing else is.

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::own::EFFECT;
use crate::engine::stage::{Expect, Seen, Stage, Stop};
use crate::report::model::Credential;

pub(super) const SCENARIO: Definition = Definition {
    name: "revocation",
    title: "Revocation",
    purpose: "A token that is taken back, or all that somebody has, is refused within seconds; others go on, and the user may come again with a ticket.",
    reach: Reach::Own("revokes tokens at the broker"),
    play,
};

const REMEDY: &str =
    "the filter does not read the broker's revocations: kerbridge doctor names why, see docs/revocation.md";

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let alice = stage.principal("alice");
    let mut tokens = Vec::new();
    for (user, title) in [
        ("alice", "alice gets a token"),
        ("alice", "and another one"),
        ("bob", "bob gets one"),
    ] {
        let seen = stage.step(
            title,
            &stage.with_ticket(user, &path)?,
            Expect::Passes,
            "kerbridge doctor",
        )?;
        tokens.push(seen);
    }
    let [first, second, bobs] = tokens.as_slice() else {
        return Ok(());
    };
    let text = |seen: &Seen| seen.token().unwrap_or_default();
    let claims = first.decoded().map(|token| token.claims).unwrap_or_default();
    let jti = claims
        .get("jti")
        .and_then(|jti| jti.as_str())
        .unwrap_or_default()
        .to_owned();
    stage.lab()?.broker().revoke(&["--jti", &jti])?;
    let with_first = stage.with_token("alice", &text(first), &path);
    let took = stage.until(&with_first, 401, EFFECT)?;
    let title = format!("kerbridge revoke --jti …: that token, {} ms later", took.as_millis());
    stage.step(&title, &with_first, Expect::Refused(Reason::Revoked), REMEDY)?;
    let with_second = stage.with_token("alice", &text(second), &path);
    stage.step(
        "her other token passes",
        &with_second,
        Expect::PassesAs(&alice),
        "--jti names one token; --subject all of somebody's",
    )?;

    stage
        .lab()?
        .broker()
        .revoke(&["--subject", &alice, "--before", "now"])?;
    let took = stage.until(&with_second, 401, EFFECT)?;
    let title = format!(
        "kerbridge revoke --subject {alice} --before now: that one, {} ms later",
        took.as_millis()
    );
    stage.step(&title, &with_second, Expect::Refused(Reason::Revoked), REMEDY)?;
    stage.lose("alice", Credential::Token, "revoked");
    let bob = stage.principal("bob");
    let with_bobs = stage.with_token("bob", &text(bobs), &path);
    stage.step(
        "bob's token passes",
        &with_bobs,
        Expect::PassesAs(&bob),
        "another subject was named",
    )?;
    let again = stage.with_ticket("alice", &path)?;
    // What is made within the second of the revocation may be older than it.
    stage.until_everywhere(&again, 200, EFFECT)?;
    stage.step(
        "alice comes again with her ticket",
        &again,
        Expect::PassesAs(&alice),
        "kerbridge revoke --lift lifts a ban without --before",
    )?;
    Ok(())
}
