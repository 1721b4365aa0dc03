//! A token for one service opens no other.

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::stage::{Expect, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "wrong-audience",
    title: "A token for another audience",
    purpose: "A token that was made for one audience does not open another, whoever holds it.",
    reach: Reach::Anywhere,
    play,
};

const REMEDY: &str = "two routes that should be apart have the same audience: kerbridge policy check";

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let other = match stage.yours() {
        None => Some("/reports/1".to_owned()),
        Some(yours) => yours.other_path.clone(),
    };
    let Some(other) = other else {
        return Err(Stop::not_seen(
            "no path of another audience is known",
            "name one with --other-path",
        ));
    };
    let seen = stage.step(
        "a ticket becomes a token",
        &stage.with_ticket("alice", &path)?,
        Expect::Passes,
        "kerbridge doctor",
    )?;
    let Some(token) = seen.token() else {
        return Err(Stop::not_seen(
            "no token came back that could be shown elsewhere",
            "name by --path a route with deliver = \"header\" or \"cookie\"",
        ));
    };
    stage.step(
        "the token is shown where it is not for",
        &stage.with_token("alice", &token, &other),
        Expect::Refused(Reason::WrongAudience),
        REMEDY,
    )?;
    Ok(())
}
