//! What is fuzzed: plain functions that take bytes and panic where what must hold does not.
//!
//! `make test` drives them by proptest, with any Rust; `make fuzz` by libFuzzer. Each reads its bytes as a stranger could
//! send them, and checks more than that nothing panics: what is accepted keeps its bounds and reads the same again, and
//! nothing passes that was not verified.

#[path = "rules.rs"]
mod rules;
#[path = "stage.rs"]
mod stage;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kerbridge_gate::exchange::{BrokerReply, Connection};
use kerbridge_gate::feed::{Feed, Origin, Progress, UnverifiedPage};
use kerbridge_gate::header_map::HeaderMap;
use kerbridge_gate::json::Json;
use kerbridge_gate::jwk::{KEY_LIMIT, KeySet, SET_LIMIT};
use kerbridge_gate::jwt::compact::{HEADER_LIMIT, TOKEN_LIMIT};
use kerbridge_gate::jwt::{CompactJws, SignatureInput};
use kerbridge_gate::step::HeaderEdit;
use kerbridge_gate::upstream::TicketStep;
use kerbridge_gate::{Config, Role, Step};
use kerbridge_wire::exchange::{NEGOTIATE_LIMIT, NEGOTIATE_TOKEN_TYPE};
use kerbridge_wire::feed;
use kerbridge_wire::filter_config::{Algorithm, FilterConfig};
use serde_json::Value;

use stage::{NOW, encode, head_of, lines, serialised, split};

/// A target: its name, which is that of its folder of seeds too, and itself. It says whether the bytes came as far as they
/// can come, so that a seed that no longer does shows.
pub(crate) type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target.
pub(crate) const ALL: [Target; 12] = [
    ("header_map", header_map),
    ("credentials", credentials),
    ("json", json),
    ("jws", jws),
    ("jwks", jwks),
    ("claims", claims),
    ("config", config),
    ("feed_page", feed_page),
    ("broker_reply", broker_reply),
    ("ticket_reply", ticket_reply),
    ("login", login),
    ("logout", logout),
];

/// The host's buffer of headers: of a request, of its trailers, of a response.
pub(crate) fn header_map(data: &[u8]) -> bool {
    let Some(map) = HeaderMap::parse(data) else {
        return false;
    };
    let pairs: Vec<_> = map.iter().collect();
    if !data.is_empty() {
        assert!(
            data.starts_with(&serialised(&pairs)),
            "what is read is what stands there"
        );
    }
    assert_eq!(HeaderMap::from_pairs(pairs.iter().copied()), map);
    for (name, value) in &pairs {
        assert!(map.values(name).any(|other| other == *value));
    }
    for secure in [true, false] {
        let mut gate = stage::gate();
        rules::judged(&mut gate, &map, secure);
    }
    let gate = stage::gate();
    rules::edited(&gate.clean_trailers(&map), &map, &stage::reserved(&gate));
    let mut open = stage::admitted();
    rules::edited(&open.respond(NOW, &map), &map, &stage::handed_back());
    !pairs.is_empty()
}

/// Lines `name:value` of a request's head: all places in which a credential can stand.
pub(crate) fn credentials(data: &[u8]) -> bool {
    let map = head_of(&lines(data));
    let mut gate = stage::gate();
    let judged = rules::judged(&mut gate, &map, true);
    let authorization = map.values(b"authorization").count();
    let is_asked = matches!(judged, Step::Call(..) | Step::Verify(..));
    assert!(!is_asked || authorization <= 1, "several credentials are none");
    if let Step::Call(call, _) = &judged {
        let line = map.first(b"authorization").expect("a ticket comes in one header");
        let ticket = line
            .trim_ascii()
            .get("negotiate".len()..)
            .unwrap_or_default()
            .trim_ascii();
        let form = call.form(&Connection::default());
        let sent = stage::form_value(&form, "subject_token").expect("the ticket is what is exchanged");
        assert_eq!(sent, ticket);
        assert!(rules::is_token68(&sent) && sent.len() <= kerbridge_wire::exchange::NEGOTIATE_LIMIT);
    }
    is_asked
}

/// A JSON text.
pub(crate) fn json(data: &[u8]) -> bool {
    let Some(value) = Json::parse(data) else { return false };
    let lenient: Value = serde_json::from_slice(data).expect("what is read strictly is read leniently");
    assert_eq!(value.as_str(), lenient.as_str());
    if let Json::Object(members) = &value {
        assert_eq!(
            Some(members.len()),
            lenient.as_object().map(serde_json::Map::len),
            "no member stands twice"
        );
    }
    if let Some(text) = value.to_text() {
        assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
        let again = Json::parse(text.as_bytes()).expect("what is written can be read");
        assert!(rules::is_same(&value, &again), "{text}");
    }
    true
}

/// A token; or header, payload and signature by lines, so that what is behind the base64 is reached soon.
pub(crate) fn jws(data: &[u8]) -> bool {
    let [header, payload, signature] = split(data);
    let built = [encode(header), encode(payload), encode(signature)].join(".");
    let mut is_read = false;
    for token in [data, built.as_bytes()] {
        let Ok(jws) = CompactJws::parse(token) else { continue };
        is_read = true;
        assert!(token.len() <= TOKEN_LIMIT);
        let again = [jws.signed.expose(), b".", encode(&jws.signature).as_bytes()].concat();
        assert_eq!(again, token, "there is one way to write a token");
        let header = token.split(|byte| *byte == b'.').next().unwrap_or_default();
        assert!(header.len() <= HEADER_LIMIT);
        if let Some(typ) = &jws.typ {
            assert!(*typ == typ.to_ascii_lowercase() && (typ == "jwt" || typ.ends_with("+jwt")));
        }
        let key = stage::keys().find("1", &jws.algorithm);
        if let Some(input) = key.ok().and_then(|key| SignatureInput::new(key, &jws).ok()) {
            assert!(!input.verify(), "nobody has signed with this key");
        }
    }
    is_read
}

/// A key set.
pub(crate) fn jwks(data: &[u8]) -> bool {
    let Ok(set) = KeySet::parse(data, Algorithm::ALL) else {
        return false;
    };
    assert!(data.len() <= SET_LIMIT);
    assert_eq!(KeySet::parse(data, Algorithm::ALL), Ok(set.clone()));
    let text: Value = serde_json::from_slice(data).expect("a key set is JSON");
    let listed = text.get("keys").and_then(Value::as_array).expect("a key set has keys");
    let mut found = false;
    for jwk in listed.iter().take(KEY_LIMIT) {
        let Some(kid) = jwk.get("kid").and_then(Value::as_str) else {
            continue;
        };
        for algorithm in Algorithm::ALL {
            let Ok(key) = set.find(kid, algorithm.name()) else {
                continue;
            };
            found = true;
            assert_eq!(key.algorithm(), *algorithm);
            let is_its = |jwk: &&Value| jwk.get("kid").and_then(Value::as_str) == Some(kid);
            assert!(
                listed.iter().filter(is_its).any(|jwk| rules::may_be(jwk, *algorithm)),
                "a key is of its algorithm's type, and public"
            );
        }
        assert!(set.find(kid, "none").is_err() && set.find(kid, "HS256").is_err());
    }
    assert_eq!(set.is_empty(), !found);
    for algorithm in Algorithm::ALL {
        let pinned = KeySet::parse(data, &[*algorithm]).expect("the algorithms do not make it a key set");
        for jwk in listed.iter().take(KEY_LIMIT) {
            let kid = jwk.get("kid").and_then(Value::as_str).unwrap_or_default();
            assert_eq!(
                pinned.find(kid, algorithm.name()).ok(),
                set.find(kid, algorithm.name()).ok()
            );
        }
    }
    found
}

/// The claims of a token whose signature is said to be good.
pub(crate) fn claims(data: &[u8]) -> bool {
    let mut passed = false;
    for path in ["/all/x", "/foreign/x", "/rules/x"] {
        let token = stage::token(data);
        let bearer = [b"Bearer ", token.as_bytes()].concat();
        let map = head_of(&[(b":path", path.as_bytes()), (b"authorization", &bearer)]);
        let mut gate = stage::gate();
        let step = rules::settled(&mut gate, &map, true, true);
        if let Step::Continue(edits, admitted) = &step {
            let payload: Value = serde_json::from_slice(data).expect("what passes is JSON");
            rules::are_verified(&payload, edits, admitted, path);
            passed = true;
        }
    }
    passed
}

/// A plugin configuration.
pub(crate) fn config(data: &[u8]) -> bool {
    if let Ok(Role::Upstream(spn)) = Role::parse(data) {
        assert_eq!(spn.as_str().parse(), Ok(spn));
        assert!(Config::parse(data).is_err(), "the two roles are told apart");
    }
    match Config::parse(data) {
        Err(errors) => {
            assert!(!errors.0.is_empty());
            for error in &errors.0 {
                // A member can have the empty name.
                let is_named = !error.field.is_empty() || error.problem.starts_with("unknown field ``");
                assert!(
                    is_named && !error.problem.is_empty(),
                    "a mistake names its field: {error:?}"
                );
            }
            false
        }
        Ok(config) => {
            let raw: FilterConfig = serde_json::from_slice(data).expect("what is accepted has the shape");
            assert!((1..=100).contains(&raw.issuers.len()) && (1..=10_000).contains(&raw.routes.len()));
            let written = serde_json::to_vec(&raw).expect("it can be written");
            assert_eq!(
                serde_json::from_slice::<FilterConfig>(&written).ok().as_ref(),
                Some(&raw)
            );
            assert!(Config::parse(&written).is_ok(), "what is written anew is accepted too");
            for route in &raw.routes {
                let place = [&route.path, &route.path_prefix, &route.path_template]
                    .into_iter()
                    .find_map(Option::as_deref);
                let host = route.host.as_deref().unwrap_or("any.test");
                let map = head_of(&[
                    (b":path", place.unwrap_or("/").as_bytes()),
                    (b":authority", host.as_bytes()),
                ]);
                let mut gate = stage::gate_with(config.clone());
                rules::settled(&mut gate, &map, true, false);
            }
            true
        }
    }
}

/// Claims of a page and its body, behind a line feed; and a page as it comes.
pub(crate) fn feed_page(data: &[u8]) -> bool {
    let keys = stage::keys();
    assert!(
        UnverifiedPage::read(data.to_vec(), &keys)
            .and_then(|page| page.resume(false))
            .is_err()
    );
    let [payload, body, _] = split(data);
    let entries = rules::entries(body);
    let body: Vec<u8> = entries.iter().flat_map(|(_, entry)| entry.to_bytes()).collect();
    // The fuzzer finds no hash: the claims get that of the body.
    let hash = feed::body_hash(&body).to_string();
    let payload = String::from_utf8_lossy(payload).replace("HASH", &hash);
    let header = encode(br#"{"alg":"ES256","typ":"kerbridge-feed+jwt","kid":"1"}"#);
    let token = [header, encode(payload.as_bytes()), encode([1; 64])].join(".");
    let Ok(page) = UnverifiedPage::read(feed::join_page(&token, &body), &keys) else {
        return false;
    };
    assert!(!page.signature().verify(), "nobody has signed with this key");
    let Ok(page) = page.resume(true) else { return false };
    let claims = page.claims().clone();
    assert!(claims.page < claims.pages && claims.pages <= feed::PAGES_LIMIT && claims.entries <= feed::ENTRIES_LIMIT);
    let mut known = Feed::new("https://broker.test".into(), 60, 300);
    if known.accept(page, Origin::Fetched, NOW).is_err() {
        assert!(known.known().is_none() && known.position().is_none());
        return false;
    }
    assert!(claims.iss == "https://broker.test" && claims.iat <= NOW.seconds().saturating_add(60));
    assert!(
        claims.base.is_none() && claims.page == 0,
        "a feed begins with the first page of a snapshot"
    );
    let steps = body.len().saturating_add(2);
    let last = (0..steps)
        .map(|_| known.step(NOW))
        .find(|progress| *progress != Ok(Progress::Working));
    assert_eq!(
        known.known().is_some(),
        last == Some(Ok(Progress::Published)),
        "a table is published whole"
    );
    let Some(known) = known.known() else { return false };
    assert_eq!((claims.pages, usize::try_from(claims.entries)), (1, Ok(entries.len())));
    assert_eq!(
        claims.sha256,
        feed::body_hash(&body),
        "the body is the one that was signed"
    );
    rules::are_revoked(&known.revocations, &entries);
    true
}

/// Status, media type and body of the broker's answer, by lines.
pub(crate) fn broker_reply(data: &[u8]) -> bool {
    let [status, content_type, body] = split(data);
    let reply = BrokerReply::Response {
        status: Some(status),
        content_type: Some(content_type),
        body,
    };
    let mut passed = false;
    for is_good in [false, true] {
        let mut gate = stage::gate();
        let step = stage::pending(&mut gate).resume(&mut gate, NOW, reply);
        match rules::settle(&mut gate, step, is_good) {
            Step::Continue(edits, mut admitted) => {
                passed = true;
                assert!(is_good, "nothing passes on the broker's word alone");
                assert_eq!(status, b"200");
                let map = head_of(&[]);
                rules::edited(&edits, &map, &stage::reserved(&gate));
                rules::edited(&admitted.respond(NOW, &map), &map, &stage::handed_back());
                assert!(admitted.verified().is_some());
            }
            Step::Respond(reply) => {
                rules::answered(&reply);
                let reason = reply.decision.reason;
                assert_ne!(reason.as_str(), "ok");
                assert!(
                    status != b"200" || reply.status != 401,
                    "a bad token of the broker's is not the client's fault"
                );
            }
            other => panic!("it is decided by now: {other:?}"),
        }
    }
    passed
}

/// Status, media type and body of the broker's answer to a question for a ticket, by lines.
pub(crate) fn ticket_reply(data: &[u8]) -> bool {
    let [status, content_type, body] = split(data);
    let reply = BrokerReply::Response {
        status: Some(status),
        content_type: Some(content_type),
        body,
    };
    match stage::pending_ticket().resume(reply) {
        TicketStep::Continue(HeaderEdit::Set(name, value), decision) => {
            assert_eq!((status, &*name), (b"200".as_slice(), "authorization"));
            assert_eq!(decision.reason.as_str(), "ok");
            let ticket = value.expose().strip_prefix(b"Negotiate ").expect("a scheme");
            assert!(ticket.len() <= NEGOTIATE_LIMIT);
            let token = STANDARD.decode(ticket).expect("strict base64");
            assert_eq!(token.first(), Some(&0x60), "a GSSAPI token begins so");
            let said: Value = serde_json::from_slice(body).expect("a reply is JSON");
            assert_eq!(
                said.get("access_token").and_then(Value::as_str).map(str::as_bytes),
                Some(ticket)
            );
            let kind = said.get("issued_token_type").and_then(Value::as_str);
            assert_eq!(kind, Some(NEGOTIATE_TOKEN_TYPE));
            true
        }
        TicketStep::Respond(reply) => {
            rules::answered(&reply);
            assert!(reply.decision.reason.as_str() != "ok" && reply.continuation.is_none());
            let of = |name: &str| reply.headers.iter().filter(|(other, _)| **other == *name).count();
            assert!(of("www-authenticate") == 0 || reply.status == 401);
            false
        }
        other => panic!("it is decided by now: {other:?}"),
    }
}

/// Where a login is to lead back to, as it stands in the query.
pub(crate) fn login(data: &[u8]) -> bool {
    let target = [b"/.kerbridge/login?return=".as_slice(), data].concat();
    let map = HeaderMap::from_pairs([
        (b":method".as_slice(), b"GET".as_slice()),
        (b":path", &target),
        (b":authority", b"api.test"),
    ]);
    let Step::Respond(reply) = rules::settled(&mut stage::gate(), &map, true, false) else {
        panic!("the filter answers by itself");
    };
    reply.status == 303
}

/// Status, media type and body of the broker's answer to a logout, by lines.
pub(crate) fn logout(data: &[u8]) -> bool {
    let [status, content_type, body] = split(data);
    let reply = BrokerReply::Response {
        status: Some(status),
        content_type: Some(content_type),
        body,
    };
    let mut gate = stage::gate();
    let pending = stage::pending_logout(&mut gate);
    let Step::Respond(reply) = pending.resume(&mut gate, NOW, reply) else {
        panic!("it is decided by now");
    };
    rules::answered(&reply);
    let of = |name: &str| reply.headers.iter().filter(|(other, _)| **other == *name).count();
    assert_eq!(
        (of("set-cookie"), of("clear-site-data")),
        (2, 1),
        "whatever the broker says"
    );
    assert!([200, 429, 503].contains(&reply.status));
    assert!(
        reply.status != 200 || status == b"200",
        "never 200 where it was not done"
    );
    reply.status == 200
}
