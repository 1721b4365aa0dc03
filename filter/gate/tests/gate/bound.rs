//! Tokens that are bound to a certificate, and where clients learn how to get one.

use std::cell::RefCell;
use std::rc::Rc;

use kerbridge_gate::certificate::CertificateDigest;
use kerbridge_gate::gate::WarmHead;
use kerbridge_gate::{Config, Gate, Reason, RequestHead, Snapshot, Step};

use crate::world::{CONFIG, Key, NOW, at, claims, head, request, run, settle};

fn gate(key: &Key, more: &str) -> RefCell<Gate> {
    let config = CONFIG.replacen('{', &format!("{{{more}"), 1);
    let config = Rc::new(Config::parse(config.as_bytes()).unwrap());
    let snapshot = Snapshot::new(config, at(NOW))
        .with_keys(0, key.set().as_bytes(), at(NOW))
        .unwrap();
    RefCell::new(Gate::new(Rc::new(snapshot)))
}

fn digest(byte: &str) -> CertificateDigest {
    CertificateDigest::from_hex(byte.repeat(32).as_bytes()).unwrap()
}

fn token(key: &Key, confirmation: &str) -> String {
    let claims = claims("orders", "orders:read");
    key.token(&claims.replace("\"jti\"", &format!("\"cnf\":{confirmation},\"jti\"")))
}

fn reason(step: Step) -> Reason {
    match step {
        Step::Continue(_, admitted) => admitted.decision().reason,
        Step::Respond(reply) => {
            assert_eq!(reply.status, 401);
            reply.decision.reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bound_token_passes_with_its_certificate_and_with_no_other_also_when_it_is_known() {
    let key = Key::new("k");
    let gate = gate(&key, r#""certificate_bound": true, "underscores_rejected": true,"#);
    assert!(gate.borrow().snapshot().config().unwrap().reads_certificate());
    let (own, other) = (digest("0a"), digest("0b"));
    let bound = token(&key, &format!(r#"{{"x5t#S256":"{own}"}}"#));
    let authorization = format!("Bearer {bound}");
    let headers = head("/tokens", &[("authorization", authorization.as_bytes())]);
    for (certificate, expected) in [
        (Some(other), Reason::CertificateMismatch),
        (None, Reason::CertificateMismatch),
        (Some(own), Reason::Ok),
        (Some(other), Reason::CertificateMismatch),
    ] {
        let asked = RequestHead {
            certificate,
            ..request(&headers, true)
        };
        let step = gate.borrow_mut().admit(at(NOW), &asked);
        assert_eq!(reason(settle(&gate, NOW, step)), expected, "{certificate:?}");
        let mut gate = gate.borrow_mut();
        let recalled = gate.recall(at(NOW), authorization.as_bytes()).unwrap();
        assert!(recalled.is_bound());
        let warm = WarmHead {
            method: b"GET",
            path: b"/tokens",
            authority: b"api.test",
            secure: true,
            certificate,
        };
        let passes = gate.admit_warm(at(NOW), &warm, recalled).is_some();
        assert_eq!(passes, expected == Reason::Ok, "{certificate:?}");
    }
}

#[test]
fn a_token_that_is_bound_to_something_else_is_nobodys() {
    let key = Key::new("k");
    let gate = gate(&key, r#""certificate_bound": true,"#);
    for confirmation in [r#"{"jkt":"x"}"#, "{}", "null", r#""x""#] {
        let authorization = format!("Bearer {}", token(&key, confirmation));
        let headers = head("/tokens", &[("authorization", authorization.as_bytes())]);
        let asked = RequestHead {
            certificate: Some(digest("0a")),
            ..request(&headers, true)
        };
        let step = gate.borrow_mut().admit(at(NOW), &asked);
        assert_eq!(
            reason(settle(&gate, NOW, step)),
            Reason::CertificateMismatch,
            "{confirmation}"
        );
    }
}

#[test]
fn the_broker_is_told_the_certificate_of_the_client_whose_ticket_it_is() {
    let key = Key::new("k");
    let gate = gate(&key, r#""certificate_bound": true,"#);
    let headers = head("/orders", &[("authorization", b"Negotiate YII=")]);
    for (certificate, said) in [(Some(digest("0a")), true), (None, false)] {
        let asked = RequestHead {
            certificate,
            ..request(&headers, true)
        };
        let step = gate.borrow_mut().admit(at(NOW), &asked);
        let Step::Call(call, _) = step else { panic!("{step:?}") };
        let form = String::from_utf8(call.form(&Default::default())).unwrap();
        assert_eq!(form.contains(&format!("&certificate={}", digest("0a"))), said, "{form}");
        assert_eq!(form.contains("certificate"), said);
    }
}

#[test]
fn a_bearer_challenge_says_where_clients_learn_how_to_get_a_token() {
    let key = Key::new("k");
    let gate = gate(&key, r#""resources": {"orders": "https://api.test/orders"},"#);
    let metadata = r#", resource_metadata="https://api.test/.well-known/oauth-protected-resource/orders""#;
    let challenges = |path: &str, headers: &[(&str, &[u8])]| {
        let Step::Respond(reply) = run(&gate, NOW, &head(path, headers), true) else {
            panic!("{path}")
        };
        let lines = reply.headers.iter().filter(|(name, _)| &**name == "www-authenticate");
        let lines = lines.map(|(_, value)| String::from_utf8(value.expose().to_vec()).unwrap());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(
        challenges("/tokens", &[]),
        [format!("Bearer realm=\"orders\"{metadata}")]
    );
    assert_eq!(
        challenges("/tokens", &[("authorization", b"Bearer x.y.z")]),
        [format!("Bearer realm=\"orders\", error=\"invalid_token\"{metadata}")]
    );
    let little = format!("Bearer {}", key.token(&claims("orders", "other")));
    assert_eq!(
        challenges("/orders", &[("authorization", little.as_bytes())]),
        [format!(
            "Bearer realm=\"orders\", error=\"insufficient_scope\", scope=\"orders:read\"{metadata}"
        )]
    );
    let wrong = CONFIG.replacen('{', r#"{"resources": {"orders": "api.test"},"#, 1);
    assert!(
        Config::parse(wrong.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("resources.orders")
    );
}
