//! A ticket that is bound to the TLS connection is good on that server's connections alone.

use kerbridge_wire::Reason;

use super::{Definition, Reach};
use crate::certificates::fingerprint;
use crate::delegation::ACCEPTOR;
use crate::engine::stage::{Expect, Stage, Stop};
use crate::initiator;
use crate::world::lab_program;

pub(super) const SCENARIO: Definition = Definition {
    name: "channel-binding",
    title: "Tickets bound to the TLS connection",
    purpose: "A ticket that its client bound to Envoy's certificate is taken, and the token says so; one that was bound to another server's, as in the hands of a relay, is refused by name.",
    reach: Reach::Own("needs a broker that knows Envoy's certificate"),
    play,
};

const REMEDY: &str = "[kerberos.channel_bindings] names another certificate than Envoy shows: kerbridge doctor --envoy-listener compares them";

fn play(stage: &mut Stage<'_>) -> Result<(), Stop> {
    let path = stage.path();
    let alice = stage.principal("alice");
    for (title, binds) in [
        ("a ticket that is bound to Envoy's certificate", true),
        ("a ticket that is bound to nothing", false),
    ] {
        let own = stage.lab()?.world().certificates().certificate.clone();
        let token = token(stage, binds.then_some(own.as_path()))?;
        let ask = stage.bare(&path).header(&format!("Authorization: Negotiate {token}"));
        let seen = stage.step(title, &ask, Expect::PassesAs(&alice), REMEDY)?;
        let claim = seen
            .decoded()
            .and_then(|token| token.claims.get("kerbridge_cb")?.as_bool());
        let word = |binds: bool| if binds { "bound" } else { "not bound" };
        let found = claim.map_or("nothing of it", word);
        stage.fact(
            "what the token says of it",
            word(binds),
            found,
            claim == Some(binds),
            REMEDY,
        );
    }
    // Any certificate but Envoy's will do: whose it is, the hash does not say.
    let another = stage.lab()?.world().certificates().authority.clone();
    let relayed = token(stage, Some(&another))?;
    let ask = stage.bare(&path).header(&format!("Authorization: Negotiate {relayed}"));
    let expected = Expect::Refused(Reason::ChannelBindingMismatch);
    stage.step(
        "a ticket that is bound to another server's certificate",
        &ask,
        expected,
        REMEDY,
    )?;
    // As a client that would do it: of itself it says no before the server can.
    let old = ["--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"];
    let ask = old
        .into_iter()
        .fold(stage.with_ticket("alice", &path)?, |ask, word| ask.arg(word));
    let seen = stage.ask(&ask)?;
    let is_refused = seen.answer.status == 0 && seen.answer.complaint.contains("alert protocol version");
    let found = if is_refused {
        "no answer: Envoy ends the handshake".to_owned()
    } else {
        format!("{} {}", seen.answer.status, seen.answer.complaint)
            .trim()
            .to_owned()
    };
    stage.fact(
        "a client that speaks TLS 1.1",
        "no answer: Envoy ends the handshake",
        &found,
        is_refused,
        "tls_minimum_protocol_version: TLSv1_2 at the listener",
    );
    Ok(())
}

/// What alice's client would send once, bound to the server with this certificate.
fn token(stage: &mut Stage<'_>, certificate: Option<&std::path::Path>) -> Result<String, Stop> {
    let service = stage.principal(ACCEPTOR);
    let world = stage.lab()?.world();
    let (program, kdc, ticket) = (lab_program()?, world.kdc(), world.ticket("alice")?);
    let token = match certificate {
        None => initiator::token_in_child(&program, kdc, ticket, &service)?,
        Some(certificate) => {
            let hash = fingerprint(certificate, "sha256")?;
            initiator::bound_token_in_child(&program, kdc, ticket, &service, &hash)?
        }
    };
    Ok(token)
}
