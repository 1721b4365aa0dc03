//! A ticket as large as Active Directory makes them.

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::own::{CLERKS, GROUPS, MANY};
use crate::engine::stage::{Expect, Stage, Stop};

pub(super) const SCENARIO: Definition = Definition {
    name: "big-pac",
    title: "A big PAC",
    purpose: "A ticket of nearly 64 KiB, of somebody in hundreds of groups, is taken, and of all those groups the token names what its audience asks for.",
    reach: Reach::Own("needs a user in hundreds of groups"),
    play,
};

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    if stage.lab()?.realm().sid(CLERKS).is_none() {
        return Err(Stop::not_seen(
            "an MIT KDC's tickets carry no groups, so that none of them is big",
            "kerbridge-lab run --kdc samba --only big-pac",
        ));
    }
    let many = stage.principal(MANY);
    let lab = stage.lab()?;
    let service = lab.principal(crate::delegation::ACCEPTOR);
    let token = lab.world().negotiate_token(MANY, &service)?;
    let kib = token.len().div_ceil(1024);
    let size = format!("{kib} KiB, {GROUPS} groups");
    stage.fact(
        "the ticket as it is shown",
        "more than 48 KiB",
        &size,
        kib > 48,
        "the lab's own domain is wrong",
    );
    let ask = stage
        .bare("/clerks/1")
        .header(&format!("Authorization: Negotiate {token}"));
    let remedy = "max_request_headers_kb of Envoy's listener is 96 or more; see docs/groups.md";
    let seen = stage.step("it is shown", &ask, Expect::PassesAs(&many), remedy)?;
    let groups = seen
        .decoded()
        .and_then(|token| token.claims.get("groups").cloned())
        .unwrap_or_default();
    let expected = serde_json::json!([CLERKS]).to_string();
    let found = groups.to_string();
    stage.fact(
        "the groups in the token",
        &expected,
        &found,
        found == expected,
        "[groups.sid_names] and the policy's grants",
    );
    stage.step(
        "somebody who is not in that group",
        &stage.with_ticket("alice", "/clerks/1")?,
        Expect::Refused(Reason::DeniedByPolicy),
        "a [[grant]] is wider than its groups",
    )?;
    Ok(())
}
