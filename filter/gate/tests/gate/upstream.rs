//! Attempts at a Kerberos service: what is asked of the broker for each, and which get no ticket.

mod answers;

use std::cell::RefCell;

use kerbridge_gate::exchange::{BrokerReply, Connection, REPLY_LIMIT};
use kerbridge_gate::header_map::HeaderMap;
use kerbridge_gate::refusal::LocalReply;
use kerbridge_gate::response::Admitted;
use kerbridge_gate::step::HeaderEdit;
use kerbridge_gate::upstream::{PendingTicket, TicketStep, refuse_unknown};
use kerbridge_gate::{Config, Gate, Reason, Role, Step};
use kerbridge_wire::Spn;

use crate::world::{Key, NOW, at, claims, gate, head, lines, passed, request, run, settle, shown, take_keys};

const SPN: &str = "HTTP/legacy.test@LAB.TEST";

fn spn() -> Spn {
    SPN.parse().unwrap()
}

/// A request that passed with this token.
fn admitted(gate: &RefCell<Gate>, token: &str) -> Admitted {
    let bearer = format!("Bearer {token}");
    passed(run(
        gate,
        NOW,
        &head("/legacy/x", &[("authorization", bearer.as_bytes())]),
        true,
    ))
    .1
}

fn attempt(gate: &RefCell<Gate>, admitted: &Admitted, now: u64, spn: &Spn) -> TicketStep {
    admitted.attempt(at(now), gate.borrow().snapshot(), spn)
}

fn asked(step: TicketStep) -> (String, PendingTicket) {
    match step {
        TicketStep::Call(call, pending) => {
            let connection = Connection {
                source: b"10.0.0.7:4711",
                ..Connection::default()
            };
            (String::from_utf8(call.form(&connection)).unwrap(), pending)
        }
        other => panic!("expected a call, got {other:?}"),
    }
}

fn refused(step: TicketStep) -> LocalReply {
    match step {
        TicketStep::Respond(reply) => reply,
        other => panic!("expected a local reply, got {other:?}"),
    }
}

fn response<'a>(status: &'a str, body: &'a str) -> BrokerReply<'a> {
    BrokerReply::Response {
        status: Some(status.as_bytes()),
        content_type: Some(b"application/json"),
        body: body.as_bytes(),
    }
}

fn granted(ticket: &str) -> String {
    format!(
        r#"{{"access_token":"{ticket}","issued_token_type":"urn:kerbridge:token-type:negotiate","token_type":"N_A",
            "expires_in":300}}"#
    )
}

#[test]
fn a_verified_token_is_traded_for_a_ticket_and_nothing_that_the_client_showed_goes_on() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let token = key.token(&claims("orders", ""));
    let cookie = format!("a=1; {}={token}", kerbridge_gate::request::cookie_name("orders"));
    let bearer = format!("Bearer {token}");
    for shows in [("authorization", &bearer), ("cookie", &cookie)] {
        let headers = head("/legacy/x", &[(shows.0, shows.1.as_bytes())]);
        let (edits, admitted) = passed(run(&gate, NOW, &headers, true));
        let edits = shown(&edits);
        let is_gone = format!("-{}", shows.0);
        assert!(
            edits.contains(&is_gone) && !edits.iter().any(|edit| edit.contains(&token)),
            "{edits:?}"
        );

        let (form, pending) = asked(attempt(&gate, &admitted, NOW, &spn()));
        assert_eq!(
            form,
            format!(
                "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
                 &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&subject_token={token}\
                 &requested_token_type=urn%3Akerbridge%3Atoken-type%3Anegotiate&audience=HTTP%2Flegacy.test%40LAB.TEST\
                 &request_id=r-1&route=legacy&source=10.0.0.7%3A4711"
            )
        );
        match pending.resume(response("200", &granted("YIIabc+/"))) {
            TicketStep::Continue(edit, decision) => {
                assert_eq!(shown(&vec![edit]), ["authorization=Negotiate YIIabc+/"]);
                assert_eq!(decision.logged(), "reason=ok route=legacy issuer=kerbridge");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_clients_ticket_becomes_a_token_and_that_a_ticket_of_the_service() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let headers = head("/legacy/x", &[("authorization", b"Negotiate YIIclient")]);
    let pending = match run(&gate, NOW, &headers, true) {
        Step::Call(_, pending) => pending,
        other => panic!("{other:?}"),
    };
    let token = key.token(&claims("orders", ""));
    let minted = format!(
        r#"{{"access_token":"{token}","issued_token_type":"urn:ietf:params:oauth:token-type:access_token",
            "token_type":"Bearer","expires_in":900,"negotiate":"oYGz"}}"#
    );
    let step = pending.resume(&mut gate.borrow_mut(), at(NOW), response("200", &minted));
    let (edits, mut admitted) = passed(settle(&gate, NOW, step));
    assert!(shown(&edits).contains(&"-authorization".to_owned()));
    let (form, _) = asked(attempt(&gate, &admitted, NOW, &spn()));
    assert!(form.contains(&format!("&subject_token={token}&")) && !form.contains("YIIclient"));

    // What the service says of its own handshake goes, what we say of ours comes.
    let answer = HeaderMap::from_pairs([
        (b":status".as_slice(), b"200".as_slice()),
        (b"www-authenticate", b"Negotiate oservice"),
    ]);
    assert_eq!(
        shown(&admitted.keep_back(&answer, Some(b"via_upstream")).unwrap()),
        ["-www-authenticate"]
    );
    assert_eq!(
        shown(&admitted.respond(at(NOW), &answer)),
        ["+www-authenticate=Negotiate oYGz"]
    );
}

#[test]
fn a_known_token_is_looked_at_whole_where_a_ticket_is_needed() {
    let key = Key::new("k1");
    let config = crate::world::CONFIG.replacen('{', r#"{"underscores_rejected": true,"#, 1);
    let gate = gate(&key);
    let snapshot = kerbridge_gate::Snapshot::new(Config::parse(config.as_bytes()).unwrap().into(), at(NOW));
    let snapshot = snapshot.with_keys(0, key.set().as_bytes(), at(NOW)).unwrap();
    gate.borrow_mut().replace(snapshot.into());
    let token = key.token(&claims("orders", "orders:read"));
    admitted(&gate, &token);
    let bearer = format!("Bearer {token}");
    for (path, is_warm) in [("/tokens/x", true), ("/legacy/x", false)] {
        let warm = kerbridge_gate::gate::WarmHead {
            method: b"GET",
            path: path.as_bytes(),
            authority: b"api.test",
            secure: true,
            certificate: None,
        };
        let mut gate = gate.borrow_mut();
        let recalled = gate.recall(at(NOW), bearer.as_bytes()).unwrap();
        assert_eq!(gate.admit_warm(at(NOW), &warm, recalled).is_some(), is_warm, "{path}");
    }
}

#[test]
fn a_ticket_is_never_brought_to_another_service_than_the_routes() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let admitted = admitted(&gate, &key.token(&claims("orders", "")));
    assert_eq!(admitted.spn(), Some(&spn()));
    for other in [
        "HTTP/other.test@LAB.TEST",
        "http/legacy.test@LAB.TEST",
        "HTTP/legacy.test@OTHER.TEST",
    ] {
        let reply = refused(attempt(&gate, &admitted, NOW, &other.parse().unwrap()));
        assert_eq!(
            (reply.decision.reason, reply.status),
            (Reason::Internal, 503),
            "{other}"
        );
        assert_eq!(lines(&reply, "retry-after"), ["5"]);
    }
}

#[test]
fn what_did_not_pass_as_one_for_a_kerberos_service_gets_no_ticket() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let headers = head("/legacy/x", &[]);
    for (is_lost, reason, status) in [(false, Reason::DeniedByPolicy, 403), (true, Reason::Internal, 503)] {
        let reply = refuse_unknown(&request(&headers, true), is_lost);
        assert_eq!((reply.decision.reason, reply.status), (reason, status));
        assert!(
            String::from_utf8(reply.body)
                .unwrap()
                .contains("\"request_id\":\"r-1\"")
        );
    }
    let bearer = format!("Bearer {}", key.token(&claims("orders", "orders:read")));
    for (path, shown) in [("/tokens/x", Some(&bearer)), ("/health", None)] {
        let shown: Vec<(&str, &[u8])> = shown.iter().map(|value| ("authorization", value.as_bytes())).collect();
        let (_, admitted) = passed(run(&gate, NOW, &head(path, &shown), true));
        assert_eq!(admitted.spn(), None);
        let reply = refused(attempt(&gate, &admitted, NOW, &spn()));
        assert_eq!((reply.decision.reason, reply.status), (Reason::Internal, 503), "{path}");
        // And its answer is left as it is.
        let answer = HeaderMap::from_pairs([
            (b":status".as_slice(), b"401".as_slice()),
            (b"www-authenticate", b"Basic"),
        ]);
        assert_eq!(admitted.keep_back(&answer, Some(b"via_upstream")), Ok(vec![]));
    }
}

#[test]
fn an_attempt_after_the_tokens_end_gets_no_ticket() {
    let key = Key::new("k1");
    let gate = gate(&key);
    let admitted = admitted(&gate, &key.token(&claims("orders", "")));
    asked(attempt(&gate, &admitted, NOW + 299, &spn()));
    // The keys are fetched again, or nobody could tell.
    let unable = refused(attempt(&gate, &admitted, NOW + 301, &spn()));
    assert_eq!(unable.decision.reason, Reason::KeysUnavailable);
    take_keys(&gate, &key.set(), NOW + 890);
    asked(attempt(&gate, &admitted, NOW + 899, &spn()));
    let over = refused(attempt(&gate, &admitted, NOW + 900, &spn()));
    assert_eq!((over.decision.reason, over.status), (Reason::Expired, 401));
    assert_eq!(
        lines(&over, "www-authenticate"),
        ["Negotiate", r#"Bearer realm="orders", error="invalid_token""#]
    );
    // The key was taken back.
    let other = Key::new("k2");
    take_keys(&gate, &other.set(), NOW + 890);
    let gone = refused(attempt(&gate, &admitted, NOW + 890, &spn()));
    assert_eq!((gone.decision.reason, gone.status), (Reason::UnknownKey, 401));
}

#[test]
fn the_two_roles_are_told_apart_by_their_configuration() {
    let upstream = |text: &str| Role::parse(text.as_bytes());
    match upstream(&format!(r#"{{"upstream": {{"kerberos": {{"spn": "{SPN}"}}}}}}"#)) {
        Ok(Role::Upstream(own)) => assert_eq!(own, spn()),
        other => panic!("{other:?}"),
    }
    assert!(matches!(upstream(crate::world::CONFIG), Ok(Role::Gate(_))));
    for (text, field) in [
        (
            r#"{"upstream": {"kerberos": {"spn": "legacy"}}}"#,
            "upstream.kerberos.spn",
        ),
        (
            r#"{"upstream": {"kerberos": {"spn": "krbtgt/R@R"}}}"#,
            "upstream.kerberos.spn",
        ),
        (r#"{"upstream": {"kerberos": {}}}"#, "upstream.kerberos"),
        (r#"{"upstream": {}}"#, "upstream"),
        (r#"{"upstream": null}"#, "upstream"),
        (
            r#"{"upstream": {"kerberos": {"spn": "HTTP/a@R"}}, "routes": []}"#,
            "routes",
        ),
        (
            r#"{"upstream": {"kerberos": {"spn": "HTTP/a@R", "broker": {}}}}"#,
            "upstream.kerberos.broker",
        ),
        ("[]", "configuration"),
        ("\u{a}\u{3}x", "configuration"),
    ] {
        let errors = upstream(text).unwrap_err();
        assert_eq!(errors.0[0].field, field, "{text}: {errors}");
    }
}
