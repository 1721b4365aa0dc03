//! Who logs out is out: in the browser, and for whoever copied the cookie before.

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::own::EFFECT;
use crate::engine::stage::{Expect, Stage, Stop};
use crate::report::model::Credential;

pub(super) const SCENARIO: Definition = Definition {
    name: "logout",
    title: "Logout",
    purpose: "After a logout the cookie opens nothing any more, copies of it included, and the browser is not let in by its ticket until its user wants that.",
    reach: Reach::Own("logs a session out at the broker"),
    play,
};

const PATH: &str = "/web/1";
const REMEDY: &str =
    "the filter does not read the broker's revocations: kerbridge doctor, follow_revocations in docs/policy.md";

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    // A ticket of its own is a session of its own.
    let cache = stage.lab()?.kinit("alice", &[])?;
    let origin = format!("origin: {}", stage.lab()?.world().url(""));
    let login = stage.with_cache("alice", &cache, PATH)?;
    let alice = stage.principal("alice");
    let seen = stage.step(
        "alice comes with her ticket",
        &login,
        Expect::PassesAs(&alice),
        "kerbridge doctor",
    )?;
    let cookie = seen.cookie().unwrap_or_default();
    let with_cookie = stage.with_cookie("alice", &cookie, PATH);
    stage.step(
        "and goes on with the cookie",
        &with_cookie,
        Expect::PassesAs(&alice),
        "deliver = \"cookie\" of the [[route]]",
    )?;

    let logout = stage
        .with_cookie("alice", &cookie, "/.kerbridge/logout")
        .method("POST")
        .header(&origin)
        .header("sec-fetch-site: same-origin");
    let seen = stage.step(
        "she logs out",
        &logout,
        Expect::Passes,
        "[filter] logout of the policy, see docs/browsers.md",
    )?;
    let name = cookie.split_once('=').map_or("", |(name, _)| name);
    let set = seen.answer.all("set-cookie");
    let is_emptied = set
        .iter()
        .any(|line| line.starts_with(&format!("{name}=;")) && line.contains("Max-Age=0"));
    let found = if is_emptied { "emptied" } else { "left as it is" };
    stage.fact(
        "what becomes of the cookie in the browser",
        "emptied",
        found,
        is_emptied,
        "see docs/browsers.md",
    );

    let took = stage.until(&with_cookie, 401, EFFECT)?;
    let title = format!("a copy of the cookie, {} ms later", took.as_millis());
    stage.step(&title, &with_cookie, Expect::Refused(Reason::Revoked), REMEDY)?;
    stage.lose("alice", Credential::Cookie, "logged out");

    let mark = "cookie: __Host-kerbridge-logged-out=1";
    stage.step(
        "the browser comes by itself, with its ticket",
        &login.clone().header(mark),
        Expect::Refused(Reason::LoggedOut),
        "stay_out of [filter] logout",
    )?;
    let back = stage.bare("/.kerbridge/login?return=/web/1").header(mark);
    let seen = stage.ask(&back)?;
    let place = seen.answer.header("location").unwrap_or("nowhere").to_owned();
    let held = seen.answer.status == 303 && place == PATH;
    stage.fact(
        "she follows the link to log in again",
        "303 to /web/1",
        &format!("{} to {place}", seen.answer.status),
        held,
        "see docs/browsers.md",
    );
    stage.step("and is in again", &login, Expect::PassesAs(&alice), "kerbridge doctor")?;
    Ok(())
}
