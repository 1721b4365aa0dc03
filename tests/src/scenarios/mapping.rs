//! Whose ticket it is, is who arrives.

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::own::{Broken, MISSPELT};
use crate::engine::stage::{Expect, Seen, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "mapping",
    title: "Mapping of principals",
    purpose: "Whoever shows a ticket arrives as its principal, with the scopes of the policy and no more, by ticket and by token alike.",
    reach: Reach::Anywhere,
    play,
};

const REMEDY: &str =
    "kerbridge principal map and kerbridge policy explain say what becomes of a principal; see docs/policy.md";

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let alice = stage.principal("alice");
    let ask = match stage.yours() {
        Some(_) => stage.with_ticket("alice", &path)?,
        None => {
            // From the beginning, so that the KDC is seen, too.
            let cache = stage.lab()?.kinit("alice", &[])?;
            stage.with_cache("alice", &cache, &path)?
        }
    };
    let seen = stage.step("a ticket is shown", &ask, Expect::PassesAs(&alice), REMEDY)?;
    if stage.yours().is_some() {
        return yours(stage, &seen, &path, &alice);
    }
    if stage.lab()?.choice().broken == Some(Broken::WrongSpn) {
        with_wrong_name(stage, &path, &alice)?;
    }
    scopes(stage, &seen, "alice", "orders:read orders:write");
    let token = seen.token().unwrap_or_default();
    let seen = stage.step(
        "the token alone, without a ticket",
        &stage.with_token("alice", &token, &path),
        Expect::PassesAs(&alice),
        REMEDY,
    )?;
    let asked = seen.exchanges.len();
    let found = format!("{asked} exchanges");
    stage.fact(
        "for a token the broker is not asked",
        "0 exchanges",
        &found,
        asked == 0,
        "the filter has no keys of the broker: see keys in docs/doctor.md",
    );

    let bob = stage.principal("bob");
    let seen = stage.step(
        "another user's ticket",
        &stage.with_ticket("bob", &path)?,
        Expect::PassesAs(&bob),
        REMEDY,
    )?;
    scopes(stage, &seen, "bob", "orders:read");
    stage.step(
        "bob asks for what no grant gives him",
        &stage.with_ticket("bob", "/reports/1")?,
        Expect::Refused(Reason::DeniedByPolicy),
        "an [[grant]] of the policy is too wide",
    )?;
    stage.step(
        "nobody in particular asks",
        &stage.bare(&path),
        Expect::Refused(Reason::NoCredentials),
        "a [[route]] has access = \"open\"",
    )?;
    Ok(())
}

/// A client that asks for the name that the KDC has: the KDC gives it a ticket, and the broker is to take it.
fn with_wrong_name(stage: &mut Stage<'_>, path: &str, alice: &str) -> Result<(), Stop> {
    let service = stage.principal(MISSPELT);
    let token = stage.lab()?.world().negotiate_token("alice", &service)?;
    let ask = stage.bare(path).header(&format!("Authorization: Negotiate {token}"));
    let title = format!("a ticket for {MISSPELT}, the name that the KDC has");
    stage.step(&title, &ask, Expect::PassesAs(alice), REMEDY)?;
    Ok(())
}

fn scopes(stage: &mut Stage<'_>, seen: &Seen, user: &str, expected: &str) {
    let told = seen.received("x-kerbridge-scope").join(", ");
    let title = format!("the service is told {user}'s scopes");
    stage.fact(&title, expected, &told, told == expected, REMEDY);
}

/// As far as it can be seen from outside.
fn yours(stage: &mut Stage<'_>, seen: &Seen, path: &str, principal: &str) -> Result<(), Stop> {
    let audience = stage.yours().and_then(|yours| yours.audience.clone());
    if let (Some(audience), Some(token)) = (audience, seen.decoded()) {
        let found = token
            .claims
            .get("aud")
            .map(|aud| aud.as_str().map_or_else(|| aud.to_string(), str::to_owned));
        let found = found.unwrap_or_default();
        let remedy = "the [[route]] of this path names another audience, or --audience does";
        stage.fact(
            "the token is for the audience",
            &audience,
            &found,
            found == audience,
            remedy,
        );
    }
    if let Some(token) = seen.answer.header("x-kerbridge-token").map(str::to_owned) {
        stage.step(
            "the token alone, without a ticket",
            &stage.with_token("alice", &token, path),
            Expect::Passes,
            REMEDY,
        )?;
    } else if let Some(cookie) = seen.cookie() {
        stage.step(
            "the cookie alone, without a ticket",
            &stage.with_cookie("alice", &cookie, path),
            Expect::Passes,
            REMEDY,
        )?;
    }
    let title = format!("nobody in particular asks, and is not {principal}");
    stage.step(
        &title,
        &stage.bare(path),
        Expect::Refused(Reason::NoCredentials),
        "the [[route]] of this path has access = \"open\"",
    )?;
    Ok(())
}
