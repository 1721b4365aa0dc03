//! Signing keys are replaced, and nobody notices.

use super::{Definition, Reach};
use crate::engine::own::EFFECT;
use crate::engine::stage::{Expect, Seen, Stage, Stop};
use crate::wait::Deadline;

pub(super) const SCENARIO: Definition = Definition {
    name: "key-rotation",
    title: "Rotation of the signing keys",
    purpose: "When the broker signs with a new key, tokens of the old one go on passing and tokens of the new one pass at once.",
    reach: Reach::Own("replaces the broker's signing key"),
    play,
};

const REMEDY: &str =
    "the filter has not fetched the new key: jwks in the filter's configuration, kerbridge doctor; see docs/keys.md";

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let alice = stage.principal("alice");
    let ask = stage.with_ticket("alice", &path)?;
    let before = stage.step(
        "a token by the present key",
        &ask,
        Expect::PassesAs(&alice),
        "kerbridge doctor",
    )?;
    let old = kid(&before);
    stage.lab()?.broker().administer(&["keys", "rotate"], &["--now"])?;
    // Another broker learns of it a little later; what is asked until then is not kept.
    let clock = Deadline::after(stage.patience(EFFECT));
    let wanted = stage.lab()?.choice().in_a_row();
    let mut row = 0_u32;
    while row < wanted && !clock.passed() {
        let tried = stage.try_out(&ask)?;
        let is_new = tried.answer.status == 200 && kid(&tried) != old;
        row = if is_new { row.saturating_add(1) } else { 0 };
    }
    let after = stage.step(
        "kerbridge keys rotate --now, and a ticket is shown",
        &ask,
        Expect::PassesAs(&alice),
        REMEDY,
    )?;
    let new = kid(&after);
    let found = if new == old { "the same key" } else { "another key" };
    stage.fact(
        "the key that signed",
        "another key",
        found,
        new != old,
        "kerbridge keys list",
    );
    for (title, seen) in [
        ("the token by the new key", &after),
        ("the token by the old key", &before),
    ] {
        let token = seen.token().unwrap_or_default();
        stage.step(
            title,
            &stage.with_token("alice", &token, &path),
            Expect::PassesAs(&alice),
            REMEDY,
        )?;
    }
    Ok(())
}

fn kid(seen: &Seen) -> String {
    let token = seen.decoded();
    let kid = token.and_then(|token| token.header.get("kid")?.as_str().map(str::to_owned));
    kid.unwrap_or_default()
}
