//! Tokens that were verified before, and those whose key is not known yet.

use super::*;

fn warm<'a>(path: &'a str, authorization: &'a str) -> (WarmHead<'a>, &'a [u8]) {
    let head = WarmHead {
        method: b"GET",
        path: path.as_bytes(),
        authority: b"api.test",
        secure: true,
        certificate: None,
    };
    (head, authorization.as_bytes())
}

#[test]
fn a_known_token_passes_on_few_headers_exactly_as_on_all_of_them() {
    let key = Key::new("k");
    let other = r#"{"path_prefix": "/o", "accept": ["bearer"], "audience": "orders", "scopes_all": ["a"],
        "claim_to_headers": [{"header_name": "x-name", "claim_name": "name"}]}"#;
    let dry = r#"{"path_prefix": "/dry", "accept": ["bearer"], "audience": "orders", "dry_run": true}"#;
    let routes = format!("{other}, {dry}, {ORDERS}");
    let slow = gate(&key, &routes, "");
    assert!(slow.borrow().warm_path().is_none());
    let gate = gate(&key, &routes, r#""underscores_rejected": true,"#);
    // Another Envoy of this host may have set a cookie of ours; it must not go upstream, so it takes the whole head.
    assert_eq!(gate.borrow().warm_path(), Some(["cookie".into()].as_slice()));
    let token = own(&key, r#","name":"n""#);
    let authorization = format!("Bearer {token}");
    let try_warm = |(head, authorization): (WarmHead<'_>, &[u8])| {
        let mut gate = gate.borrow_mut();
        let recalled = gate.recall(at(NOW), authorization)?;
        gate.admit_warm(at(NOW), &head, recalled)
    };
    assert!(try_warm(warm("/", &authorization)).is_none(), "not known yet");
    let (all, _) = passed(step(&gate, "/x", &token));
    let (few, admitted) = passed(try_warm(warm("/x", &authorization)).unwrap());
    assert_eq!(shown(&few)[..all.len()], shown(&all));
    assert_eq!(
        shown(&few)[all.len()..],
        ["-x-kerbridge-scope", "-x-name"],
        "what was not set cannot have come"
    );
    assert!(!admitted.looks_at_the_response());
    assert_eq!(admitted.ends_at(), Some(at(NOW + 900)));
    for head in [
        warm("/o", &authorization),
        warm("/dry", &authorization),
        warm("/a//b", &authorization),
        warm("/x?access_token=1", &authorization),
        warm("/x", &format!("{authorization}x")),
        warm("/x", &format!("{authorization},{authorization}")),
        warm("/x", &token),
        warm("/x", ""),
    ] {
        assert!(try_warm(head).is_none(), "{head:?}");
    }
    let (head, authorization) = warm("/x", &authorization);
    for head in [
        WarmHead { secure: false, ..head },
        WarmHead {
            method: b"OPTIONS",
            ..head
        },
    ] {
        assert!(try_warm((head, authorization)).is_none(), "{head:?}");
    }
    assert!(
        gate.borrow_mut().recall(at(NOW + 900), authorization).is_none(),
        "expired"
    );
}

#[test]
fn a_known_token_is_judged_anew_by_its_key_its_time_and_the_configuration() {
    let key = Key::new("k");
    let gate = gate(&key, ORDERS, "");
    let token = own(&key, "");
    let is_verified_again = |gate: &RefCell<Gate>, now: u64| {
        let value = format!("Bearer {token}");
        let headers = head("/", &[("authorization", value.as_bytes())]);
        let step = gate.borrow_mut().admit(at(now), &request(&headers, true));
        let verifies = matches!(step, Step::Verify(..));
        passed(settle(gate, now, step));
        verifies
    };
    assert!(is_verified_again(&gate, NOW));
    assert!(!is_verified_again(&gate, NOW + 1));
    let with = |keys: &str| take_keys(&gate, keys, NOW);
    // A set with one key more still holds this one.
    with(&format!(r#"{{"keys":[{},{}]}}"#, Key::new("k2").jwk(), key.jwk()));
    assert!(!is_verified_again(&gate, NOW + 2));
    // Another key of the same name is another key.
    with(&Key::new("k").set());
    assert_eq!(reason(&gate, "/", &token), Reason::BadSignature);
    with(&key.set());
    assert!(is_verified_again(&gate, NOW + 3));
    // Another configuration, though it be the same text, knows nothing of before.
    let config = Rc::new((**gate.borrow().snapshot().config().unwrap()).clone());
    let fresh = Snapshot::new(config, at(NOW))
        .with_keys(0, key.set().as_bytes(), at(NOW))
        .unwrap();
    gate.borrow_mut().replace(fresh.into());
    assert!(is_verified_again(&gate, NOW + 4));
}

#[test]
fn a_request_with_an_unknown_key_waits_for_the_keys_and_passes_when_they_come() {
    let (old, new) = (Key::new("k1"), Key::new("k2"));
    let gate = gate(&old, ORDERS, "");
    let value = format!("Bearer {}", own(&new, ""));
    let headers = head("/", &[("authorization", value.as_bytes())]);
    let step = gate.borrow_mut().admit(at(NOW), &request(&headers, true));
    let Step::Wait(pending) = step else { panic!("{step:?}") };
    assert_eq!(pending.deadline(), at(NOW + 2));
    take_keys(&gate, &new.set(), NOW);
    let step = pending.resume(&mut gate.borrow_mut(), at(NOW + 1));
    passed(settle(&gate, NOW + 1, step));
}

#[test]
fn a_good_token_of_a_key_that_cannot_be_fetched_is_not_called_invalid() {
    let (old, new) = (Key::new("k1"), Key::new("k2"));
    let gate = gate(&old, ORDERS, "");
    let value = format!("Bearer {}", own(&new, ""));
    let headers = head("/", &[("authorization", value.as_bytes())]);
    let ask = |now: u64| gate.borrow_mut().admit(at(now), &request(&headers, true));
    let Step::Wait(pending) = ask(NOW) else {
        panic!("it does not wait")
    };
    gate.borrow_mut().demand().began(0, at(NOW));
    // Nothing comes in its time.
    let refused = reply(pending.resume(&mut gate.borrow_mut(), at(NOW + 2)));
    assert_eq!(
        (refused.decision.reason, refused.status),
        (Reason::KeysUnavailable, 503)
    );
    assert_eq!(lines(&refused, "retry-after").len(), 1);
    gate.borrow_mut().demand().ended(0, at(NOW), false);
    assert_eq!(reply(ask(NOW + 3)).decision.reason, Reason::KeysUnavailable);
    // The next fetch brings a set without it: now it is known that there is none.
    let Step::Wait(pending) = ask(NOW + 30) else {
        panic!("it does not wait")
    };
    gate.borrow_mut().demand().began(0, at(NOW + 30));
    gate.borrow_mut().demand().ended(0, at(NOW + 30), true);
    let refused = reply(pending.resume(&mut gate.borrow_mut(), at(NOW + 30)));
    assert_eq!((refused.decision.reason, refused.status), (Reason::UnknownKey, 401));
    assert_eq!(reply(ask(NOW + 31)).decision.reason, Reason::UnknownKey);
}
