//! What the targets play on: a gate with one public key, whose private part nobody has.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_gate::config::{TOKEN_EXPIRES_HEADER, TOKEN_HEADER};
use kerbridge_gate::exchange::PendingCall;
use kerbridge_gate::header_map::HeaderMap;
use kerbridge_gate::jwk::KeySet;
use kerbridge_gate::response::Admitted;
use kerbridge_gate::upstream::{PendingTicket, TicketStep};
use kerbridge_gate::{Config, Gate, RequestHead, Snapshot, Step, UnixTime};
use kerbridge_wire::filter_config::Algorithm;

use super::rules;

/// 2027-01-15.
pub(crate) const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000).expect("a date");

/// RFC 7517 appendix A.1, first key.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}]}"#;

/// The broker and another issuer with the same key; routes that accept everything, ask for much, or nothing.
const CONFIG: &str = r#"{
  "issuers": [
    {"issuer": "https://broker.test", "jwks": {"cluster": "broker"}},
    {"issuer": "https://idp.test", "jwks": {"cluster": "idp"}, "types": ["jwt", "at+jwt"], "max_lifetime": "1h",
     "audiences": {"foreign": ["a", "b"]}, "scope_claim": "scp", "groups_claim": "/realm/roles"}
  ],
  "broker": {"cluster": "broker", "issuer": "https://broker.test"},
  "token_header": {"name": "x-access-token", "prefix": "Token "},
  "identity_headers": {"groups": "x-kerbridge-groups"},
  "explain": {"sources": ["127.0.0.0/8"]},
  "routes": [
    {"name": "all", "path_prefix": "/all", "accept": ["negotiate", "bearer", "cookie", "header"], "audience": "orders",
     "deliver": "header", "cors_preflight": true},
    {"name": "foreign", "path_prefix": "/foreign", "accept": ["bearer"], "audience": "foreign", "forward": true,
     "groups": ["staff"], "claim_to_headers": [{"header_name": "x-mail", "claim_name": "email"}]},
    {"name": "rules", "path_prefix": "/rules", "accept": ["bearer"], "audience": "orders", "scopes_all": ["orders:read"],
     "claims": [{"claim": "/realm/roles", "any_of": ["staff", "7"]}],
     "claim_to_headers": [{"header_name": "x-roles", "claim_name": "/realm/roles"}]},
    {"name": "maybe", "path_prefix": "/maybe", "access": "optional", "accept": ["bearer", "cookie"], "audience": "orders"},
    {"name": "kerberos", "path_prefix": "/kerberos", "accept": ["bearer", "negotiate"], "audience": "orders",
     "upstream": {"kerberos": {"spn": "HTTP/legacy.test@LAB.TEST"}}},
    {"name": "open", "path_template": "/open/{id}/{rest=**}", "access": "open"}
  ]
}"#;

thread_local! {
    static SNAPSHOT: Rc<Snapshot> = snapshot(Config::parse(CONFIG.as_bytes()).expect("the stage's own configuration"));
}

fn snapshot(config: Config) -> Rc<Snapshot> {
    let issuers = config.issuers().len();
    (0..issuers).fold(Rc::new(Snapshot::new(Rc::new(config), NOW)), |snapshot, issuer| {
        Rc::new(
            snapshot
                .with_keys(issuer, KEYS.as_bytes(), NOW)
                .expect("the stage's own keys"),
        )
    })
}

/// A gate that has seen nothing.
pub(crate) fn gate() -> Gate {
    Gate::new(SNAPSHOT.with(Rc::clone))
}

/// The same with another configuration.
pub(crate) fn gate_with(config: Config) -> Gate {
    Gate::new(snapshot(config))
}

/// Whether the gate is the stage's own.
pub(crate) fn is_on(gate: &Gate) -> bool {
    SNAPSHOT.with(|snapshot| Rc::ptr_eq(snapshot, gate.snapshot()))
}

/// Names of headers that nobody else may set.
pub(crate) fn reserved(gate: &Gate) -> Vec<String> {
    let config = gate.snapshot().config().expect("every gate here is configured");
    config.reserved_headers().iter().map(|name| name.to_string()).collect()
}

/// Names of headers of a response that nobody else may set.
pub(crate) fn handed_back() -> Vec<String> {
    [TOKEN_HEADER, TOKEN_EXPIRES_HEADER, "x-explain-kerbridge"]
        .map(str::to_owned)
        .into()
}

/// The keys of every issuer.
pub(crate) fn keys() -> KeySet {
    KeySet::parse(KEYS.as_bytes(), Algorithm::ALL).expect("the stage's own keys")
}

/// A request that waits for the broker.
pub(crate) fn pending(gate: &mut Gate) -> PendingCall {
    let map = head_of(&[(b"authorization", b"Negotiate YIIabc==")]);
    match gate.admit(NOW, &request(&map, true)) {
        Step::Call(_, pending) => pending,
        other => panic!("a ticket is exchanged: {other:?}"),
    }
}

/// A browser that logs out and waits for the broker.
pub(crate) fn pending_logout(gate: &mut Gate) -> PendingCall {
    let map = HeaderMap::from_pairs([
        (b":method".as_slice(), b"POST".as_slice()),
        (b":path", b"/.kerbridge/logout"),
        (b":authority", b"api.test"),
        (b"origin", b"https://api.test"),
        (b"cookie", b"__Host-kerbridge-00125d9250be8b4c=a.b.c"),
    ]);
    match gate.admit(NOW, &request(&map, true)) {
        Step::Call(_, pending) => pending,
        other => panic!("the broker is told: {other:?}"),
    }
}

/// An attempt at a Kerberos service that waits for its ticket.
pub(crate) fn pending_ticket() -> PendingTicket {
    let claims = br#"{"iss":"https://broker.test","sub":"alice@LAB.TEST","aud":"orders","client_id":"mesh","iat":1800000000,"exp":1800000900,"jti":"j1"}"#;
    let bearer = [b"Bearer ", token(claims).as_bytes()].concat();
    let map = head_of(&[(b":path", b"/kerberos/x"), (b"authorization", &bearer)]);
    let mut gate = gate();
    let Step::Continue(_, admitted) = rules::settled(&mut gate, &map, true, true) else {
        panic!("a good token opens the route");
    };
    let spn = admitted.spn().expect("the route leads to a Kerberos service");
    match admitted.attempt(NOW, gate.snapshot(), spn) {
        TicketStep::Call(_, pending) => pending,
        other => panic!("a ticket is asked for: {other:?}"),
    }
}

/// A request that passed an open route.
pub(crate) fn admitted() -> Admitted {
    let map = head_of(&[(b":path", b"/open/a/b")]);
    match rules::settled(&mut gate(), &map, true, false) {
        Step::Continue(_, admitted) => admitted,
        other => panic!("an open route is open: {other:?}"),
    }
}

/// A request from this machine.
pub(crate) fn request(headers: &HeaderMap, secure: bool) -> RequestHead<'_> {
    RequestHead {
        headers,
        secure,
        source: Some([127, 0, 0, 1].into()),
        certificate: None,
    }
}

/// These headers, and the pseudo-headers of `GET https://api.test/all/x` where they are not given.
pub(crate) fn head_of(headers: &[(&[u8], &[u8])]) -> HeaderMap {
    let base: [(&[u8], &[u8]); 3] = [
        (b":method", b"GET"),
        (b":path", b"/all/x"),
        (b":authority", b"api.test"),
    ];
    let is_given = |name: &[u8]| headers.iter().any(|(other, _)| *other == name);
    HeaderMap::from_pairs(
        base.into_iter()
            .filter(|(name, _)| !is_given(name))
            .chain(headers.iter().copied()),
    )
}

/// Headers from lines `name:value`, names in lower case as the host gives them.
pub(crate) fn lines(data: &[u8]) -> Vec<(&[u8], &[u8])> {
    data.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let end = line.iter().skip(1).position(|byte| *byte == b':')?.checked_add(1)?;
            let (name, value) = line.split_at_checked(end)?;
            let is_lower = !name.iter().any(u8::is_ascii_uppercase);
            is_lower.then_some((name, value.get(1..).unwrap_or_default().trim_ascii_start()))
        })
        .collect()
}

/// Two lines and what follows.
pub(crate) fn split(data: &[u8]) -> [&[u8]; 3] {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// base64url.
pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with this payload, as if the key had signed it.
pub(crate) fn token(payload: &[u8]) -> String {
    let header = br#"{"alg":"ES256","typ":"at+jwt","kid":"1"}"#;
    [encode(header), encode(payload), encode([1; 64])].join(".")
}

/// A header map as the host hands it over.
pub(crate) fn serialised(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let number = |length: usize| u32::try_from(length).expect("lengths are 32 bits").to_le_bytes();
    let mut out = number(pairs.len()).to_vec();
    for (name, value) in pairs {
        out.extend(number(name.len()));
        out.extend(number(value.len()));
    }
    for part in pairs.iter().flat_map(|(name, value)| [name, value]) {
        out.extend_from_slice(part);
        out.push(0);
    }
    out
}

/// One parameter of a form, decoded.
pub(crate) fn form_value(form: &[u8], name: &str) -> Option<Vec<u8>> {
    let form = std::str::from_utf8(form).expect("a form is ASCII");
    let value = form
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(rules::percent_decoded(value))
}
