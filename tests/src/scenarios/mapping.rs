//! Whose ticket it is, is who arrives.

use super::{Definition, Reach};
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
    let seen = stage.ask(&ask)?;
    stage.check("a ticket is shown", &seen, Expect::PassesAs(&alice), REMEDY);
    if stage.yours().is_some() {
        return yours(stage, &seen, &path, &alice);
    }
    scopes(stage, &seen, "alice", "orders:read orders:write");
    let token = seen.token().unwrap_or_default();
    let seen = stage.ask(&stage.with_token("alice", &token, &path))?;
    stage.check(
        "the token alone, without a ticket",
        &seen,
        Expect::PassesAs(&alice),
        REMEDY,
    );
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
    let seen = stage.ask(&stage.with_ticket("bob", &path)?)?;
    stage.check("another user's ticket", &seen, Expect::PassesAs(&bob), REMEDY);
    scopes(stage, &seen, "bob", "orders:read");
    let seen = stage.ask(&stage.with_ticket("bob", "/reports/1")?)?;
    let refused = Expect::Refused(403, "denied_by_policy");
    stage.check(
        "bob asks for what no grant gives him",
        &seen,
        refused,
        "an [[grant]] of the policy is too wide",
    );
    let seen = stage.ask(&stage.bare(&path))?;
    let refused = Expect::Refused(401, "no_credentials");
    stage.check(
        "nobody in particular asks",
        &seen,
        refused,
        "a [[route]] has access = \"open\"",
    );
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
        let again = stage.ask(&stage.with_token("alice", &token, path))?;
        stage.check("the token alone, without a ticket", &again, Expect::Passes, REMEDY);
    } else if let Some(cookie) = seen.cookie() {
        let again = stage.ask(&stage.with_cookie("alice", &cookie, path))?;
        stage.check("the cookie alone, without a ticket", &again, Expect::Passes, REMEDY);
    }
    let bare = stage.ask(&stage.bare(path))?;
    let title = format!("nobody in particular asks, and is not {principal}");
    stage.check(
        &title,
        &bare,
        Expect::Refused(401, "no_credentials"),
        "the [[route]] of this path has access = \"open\"",
    );
    Ok(())
}
