//! NTLM is told from Kerberos, and not asked for again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::engine::stage::{Expect, Stage, Stop};
use crate::spnego::NTLM_TOKEN;

pub(super) const SCENARIO: Definition = Definition {
    name: "ntlm",
    title: "NTLM instead of Kerberos",
    purpose: "A client that falls back to NTLM is refused by name, and is not asked for more of it.",
    reach: Reach::Anywhere,
    play,
};

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let message = STANDARD.encode(NTLM_TOKEN);
    for scheme in ["Negotiate", "NTLM"] {
        let ask = stage.bare(&path).header(&format!("Authorization: {scheme} {message}"));
        let title = format!("an NTLM message under {scheme}");
        let remedy = "the answer is not kerbridge's: name a path with --path that it guards";
        let seen = stage.step(&title, &ask, Expect::Refused(Reason::NtlmToken), remedy)?;
        let challenges = seen.answer.all("www-authenticate");
        let schemes: Vec<&str> = challenges.iter().filter_map(|line| line.split(' ').next()).collect();
        let found = if schemes.is_empty() {
            "nothing".to_owned()
        } else {
            schemes.join(", ")
        };
        let held = !schemes
            .iter()
            .any(|scheme| ["negotiate", "ntlm"].contains(&scheme.to_ascii_lowercase().as_str()));
        stage.fact(
            "which proofs it is asked for then",
            "none that would bring NTLM again",
            &found,
            held,
            "another filter or the service adds WWW-Authenticate: Negotiate",
        );
    }
    Ok(())
}
