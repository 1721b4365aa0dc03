//! What must hold of every step of the gate, whatever came.

use kerbridge_gate::exchange::Connection;
use kerbridge_gate::header_map::HeaderMap;
use kerbridge_gate::json::Json;
use kerbridge_gate::refusal::LocalReply;
use kerbridge_gate::response::Admitted;
use kerbridge_gate::revocation::{RevocationKeys, Revocations};
use kerbridge_gate::secret::Secret;
use kerbridge_gate::step::{HeaderEdit, HeaderEdits};
use kerbridge_gate::{Gate, Step, UnixTime};
use kerbridge_wire::exchange::CONTINUATION_LIMIT;
use kerbridge_wire::feed::{ENTRY_BYTES, Entry, RevocationKey};
use kerbridge_wire::filter_config::Algorithm;
use kerbridge_wire::{Fault, Reason};
use serde_json::Value;

use super::stage::{self, NOW, request};

/// Judges a request and returns its first step, checked. Where that waits for something, so is what becomes of it.
pub(crate) fn judged(gate: &mut Gate, map: &HeaderMap, secure: bool) -> Step {
    settled(gate, map, secure, false);
    gate.admit(NOW, &request(map, secure))
}

/// Judges a request to its end, every signature being good or bad as said, and checks what came of it. Calls of the broker
/// are left.
pub(crate) fn settled(gate: &mut Gate, map: &HeaderMap, secure: bool, is_good: bool) -> Step {
    let step = gate.admit(NOW, &request(map, secure));
    let step = settle(gate, step, is_good);
    match &step {
        Step::Continue(edits, admitted) => passed(gate, edits, admitted, map, is_good),
        Step::Respond(reply) => answered(reply),
        Step::Call(call, _) => {
            let form = call.form(&Connection {
                source: b"127.0.0.1:1",
                server_name: b"api.test",
                continuation: Some(&Secret::new(b"a&b".to_vec())),
            });
            let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%=&".contains(byte);
            assert!(form.iter().all(is_plain) && !form.windows(2).any(|pair| pair == b"&&"));
            assert!(secure, "no ticket without TLS");
        }
        Step::Verify(..) | Step::Wait(_) => panic!("it is settled: {step:?}"),
    }
    step
}

/// Goes on with all that the gate itself asks for; keys that are waited for do not come.
pub(crate) fn settle(gate: &mut Gate, mut step: Step, is_good: bool) -> Step {
    loop {
        step = match step {
            Step::Verify(_, pending) => pending.resume(gate, NOW, is_good),
            Step::Wait(pending) => {
                let deadline = pending.deadline();
                assert!(deadline.since(NOW) <= 2);
                pending.resume(gate, deadline)
            }
            other => return other,
        };
    }
}

/// A request that goes upstream.
fn passed(gate: &Gate, edits: &HeaderEdits, admitted: &Admitted, map: &HeaderMap, is_good: bool) {
    assert!(
        is_good || admitted.verified().is_none(),
        "nothing is verified by a bad signature"
    );
    let after = edited(edits, map, &stage::reserved(gate));
    assert_eq!(request(&after, true).our_cookies().count(), 0, "our cookies stay here");
    let path = map.first(b":path").unwrap_or_default();
    let path = path
        .split(|byte| *byte == b'?')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    for part in [b"//".as_slice(), b"/../", b"%2f", b"%5c", b"%00", b"\\"] {
        assert!(
            !path.windows(part.len()).any(|window| window == part),
            "a path that can be read in two ways"
        );
    }
    if stage::is_on(gate) {
        let route = admitted.decision().route_name();
        let is_preflight = route == "all" && map.first(b":method") == Some(b"OPTIONS");
        let is_open = is_preflight || route == "open" || route == "maybe";
        assert!(admitted.verified().is_some() || is_open, "{route} wants a credential");
        let is_forwarded = after.first(b"authorization").is_some();
        assert_eq!(
            is_forwarded,
            route == "foreign",
            "a credential goes on only where it is forwarded"
        );
        assert!(after.first(b"x-access-token").is_none());
    }
}

/// Makes edits, as a host does, and checks what they leave: under the names that are ours, or that an upstream could read as
/// one of them, nothing that is not ours.
pub(crate) fn edited(edits: &HeaderEdits, map: &HeaderMap, ours: &[String]) -> HeaderMap {
    let mut pairs: Vec<(&[u8], &[u8], bool)> = map.iter().map(|(name, value)| (name, value, false)).collect();
    for edit in edits {
        match edit {
            HeaderEdit::Remove(name) => pairs.retain(|(other, ..)| *other != name.as_bytes()),
            HeaderEdit::Set(name, value) | HeaderEdit::Add(name, value) => {
                assert!(
                    !name.is_empty()
                        && name
                            .bytes()
                            .all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
                );
                assert!(
                    **name == *"cookie" || is_visible(value.expose()),
                    "{name} is not visible ASCII"
                );
                if matches!(edit, HeaderEdit::Set(..)) {
                    pairs.retain(|(other, ..)| *other != name.as_bytes());
                }
                pairs.push((name.as_bytes(), value.expose(), true));
            }
        }
    }
    for (name, _, is_set) in &pairs {
        let folded = String::from_utf8_lossy(name).to_ascii_lowercase().replace('_', "-");
        assert!(*is_set || !ours.contains(&folded), "{folded} came from a stranger");
    }
    HeaderMap::from_pairs(pairs.iter().map(|(name, value, _)| (*name, *value)))
}

/// An answer of our own.
pub(crate) fn answered(reply: &LocalReply) {
    let reason = reply.decision.reason;
    let is_own = reply.decision.route_name() == "/.kerbridge";
    if reason == Reason::Ok {
        assert!(is_own && [200, 303].contains(&reply.status), "{reply:?}");
    } else {
        assert!([400, 401, 403, 429, 502, 503].contains(&reply.status), "{reply:?}");
        assert!(reply.status == reason.status() || (reply.status, reason.status()) == (403, 401));
    }
    let of = |name: &'static str| reply.headers.iter().filter(move |(other, _)| **other == *name);
    for (name, value) in &reply.headers {
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
        assert!(is_visible(value.expose()));
    }
    assert!(
        reply.status != 401 || of("www-authenticate").next().is_some(),
        "RFC 9110 §15.5.2"
    );
    assert!(reason.fault() != Fault::Us || of("retry-after").count() == 1);
    let described = usize::from(reply.status != 303);
    assert_eq!(
        (of("cache-control").count(), of("content-type").count()),
        (1, described)
    );
    assert_eq!(of("location").count(), usize::from(reply.status == 303));
    for (_, location) in of("location") {
        let rest = location.expose().strip_prefix(b"/").expect("a path of this host");
        assert!(
            !rest.starts_with(b"/") && !rest.contains(&b'\\'),
            "another site's: {reply:?}"
        );
    }
    for (_, challenge) in of("www-authenticate") {
        let token = challenge.expose().strip_prefix(b"Negotiate");
        assert!(token.is_none_or(|token| token.is_empty() || token.strip_prefix(b" ").is_some_and(is_token68)));
    }
    for (_, cookie) in of("set-cookie") {
        let is_mark = cookie.expose().starts_with(b"__Host-kerbridge-logged-out=1; ");
        assert!(
            cookie.expose().windows(11).any(|part| part == b"; Max-Age=0") || (is_own && is_mark),
            "an answer of ours deletes, and marks who was logged out"
        );
    }
    let handle = reply.continuation.as_ref().map_or(0, |handle| handle.expose().len());
    assert!(handle <= CONTINUATION_LIMIT && (handle == 0 || reason == Reason::ContinueNeeded));
    let is_page = reply.body.starts_with(b"<!DOCTYPE html>");
    assert!(reply.body.is_ascii() && reply.body.len() < if is_page { 8 * 1024 } else { 256 });
    assert!(!is_page || of("content-security-policy").count() == 1);
}

/// What passed on these claims, as another reader of JSON sees them.
pub(crate) fn are_verified(payload: &Value, edits: &HeaderEdits, admitted: &Admitted, path: &str) {
    let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default();
    let date = |name: &str| payload.get(name).and_then(Value::as_f64);
    let has = |value: Option<&Value>, word: &str| match value {
        Some(Value::String(one)) => one.split(' ').any(|own| own == word),
        Some(Value::Array(several)) => several.iter().any(|own| own.as_str() == Some(word)),
        _ => false,
    };
    #[expect(clippy::cast_precision_loss, reason = "a date of today is far below 2⁵³")]
    let now = NOW.seconds() as f64;
    let claims = admitted
        .verified()
        .expect("what passes a route with rules is verified")
        .claims();
    assert!(date("exp").is_some_and(|exp| exp > now), "it has not expired");
    assert!(
        [date("iat"), date("nbf")]
            .into_iter()
            .flatten()
            .all(|begin| begin <= now + 61.0)
    );
    assert!(claims.ends() > NOW && claims.ends() <= UnixTime::from_seconds(253_402_300_799).expect("a date"));
    let subject = text("sub");
    assert_eq!(&**claims.subject(), subject);
    assert!((1..=1024).contains(&subject.len()) && !subject.chars().any(char::is_control));
    let audiences: &[&str] = match (path, text("iss")) {
        ("/foreign/x", "https://idp.test") => &["a", "b"],
        ("/foreign/x", "https://broker.test") => &["foreign"],
        (_, "https://broker.test") => &["orders"],
        (_, other) => panic!("{other} does not vouch for {path}"),
    };
    let aud = payload.get("aud");
    let is_for = |audience: &&str| aud.and_then(Value::as_str) == Some(audience) || has_member(aud, audience);
    assert!(audiences.iter().any(is_for), "it is for this audience");
    if path == "/rules/x" {
        assert!(has(payload.get("scope"), "orders:read"));
    }
    let shown = edits.iter().find_map(|edit| match edit {
        HeaderEdit::Set(name, value) if **name == *"x-kerbridge-subject" => Some(value.expose()),
        _ => None,
    });
    let shown = shown.map(|value| percent_decoded(std::str::from_utf8(value).expect("it is ASCII")));
    assert_eq!(shown.as_deref(), Some(subject.as_bytes()), "upstream learns who it is");
}

fn has_member(list: Option<&Value>, word: &str) -> bool {
    list.and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(|one| one.as_str() == Some(word)))
}

/// Whether two values are the same, fractions to the last place but one: `serde_json` rounds some of them to a neighbour.
pub(crate) fn is_same(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) if one.fract() != 0.0 => {
            (one - other).abs() <= one.abs() * 2.0 * f64::EPSILON
        }
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            let is_same_member = |((name, value), (other_name, other)): (&(String, Json), &(String, Json))| {
                name == other_name && is_same(value, other)
            };
            one.len() == other.len() && one.iter().zip(other).all(is_same_member)
        }
        _ => one == other,
    }
}

/// Whether a JWK may be used for this algorithm.
pub(crate) fn may_be(jwk: &Value, algorithm: Algorithm) -> bool {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let kind = match algorithm {
        Algorithm::Es256 | Algorithm::Es384 => "EC",
        Algorithm::EdDsa => "OKP",
        Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256 => "RSA",
    };
    // 2048 to 4096 bits, in base64url.
    let size = text("n").map_or(0, str::len);
    let fits = kind != "RSA" || (342..=684).contains(&size);
    text("kty") == Some(kind)
        && fits
        && jwk.get("alg").is_none_or(|alg| alg.as_str() == Some(algorithm.name()))
        && jwk.get("use").is_none_or(|purpose| purpose.as_str() == Some("sig"))
        && jwk.get("d").is_none()
}

/// A page's entries, each named after its first byte, and what a table must make of them.
pub(crate) fn entries(body: &[u8]) -> Vec<(u8, Entry)> {
    let (entries, _) = body.as_chunks();
    let named = |entry: &[u8; ENTRY_BYTES]| {
        let Entry {
            key,
            needed_until,
            issued_at_or_before,
        } = Entry::from_bytes(entry);
        let [name, ..] = key.0;
        let key = RevocationKey::token("https://broker.test", &name.to_string());
        (
            name,
            Entry {
                key,
                needed_until,
                issued_at_or_before,
            },
        )
    };
    entries.iter().map(named).collect()
}

/// What is listed and not over is revoked, what is not listed is not.
pub(crate) fn are_revoked(table: &Revocations, entries: &[(u8, Entry)]) {
    for name in 0..=u8::MAX {
        let keys = RevocationKeys::new("https://broker.test", Some(&name.to_string()), None, "nobody");
        let own: Vec<&Entry> = entries
            .iter()
            .filter(|(other, _)| *other == name)
            .map(|(_, entry)| entry)
            .collect();
        for entry in &own {
            let issued = UnixTime::from_seconds(u64::from(entry.issued_at_or_before)).expect("32 bits are a date");
            let is_over = u64::from(entry.needed_until) < NOW.seconds();
            assert!(is_over || table.revokes(&keys, issued, NOW), "{entry:?} is not revoked");
        }
        assert!(
            !own.is_empty() || !table.revokes(&keys, UnixTime::default(), NOW),
            "{name} is revoked by nobody"
        );
    }
}

/// `token68` (RFC 9110 §11.2), written down a second time.
pub(crate) fn is_token68(value: &[u8]) -> bool {
    let end = value
        .iter()
        .rposition(|byte| *byte != b'=')
        .map_or(0, |at| at.saturating_add(1));
    let (body, _) = value.split_at_checked(end).unwrap_or((value, b""));
    !body.is_empty()
        && body
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte))
}

fn is_visible(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b' ' || byte.is_ascii_graphic())
}

/// `%XX` and `+` undone. What is escaped wrongly is no text of ours.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte.expect("two digits")).to_digit(16).expect("two digits");
            let value = digit(rest.next()) * 16 + digit(rest.next());
            u8::try_from(value).expect("two digits are a byte")
        } else {
            byte
        });
    }
    out
}
