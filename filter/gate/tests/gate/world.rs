//! Keys, tokens, heads and brokers for the gate's tests; real signatures throughout.

use std::cell::RefCell;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_gate::header_map::HeaderMap;
use kerbridge_gate::refusal::LocalReply;
use kerbridge_gate::response::Admitted;
use kerbridge_gate::step::{HeaderEdit, HeaderEdits};
use kerbridge_gate::{Config, Gate, RequestHead, Snapshot, Step, UnixTime};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds).unwrap()
}

/// An ES256 key of an issuer.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    pub(crate) kid: String,
}

impl Key {
    pub(crate) fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Self { pair, kid: kid.into() }
    }

    pub(crate) fn jwk(&self) -> String {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (
            URL_SAFE_NO_PAD.encode(&point[1..33]),
            URL_SAFE_NO_PAD.encode(&point[33..65]),
        );
        format!(
            r#"{{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"{}","x":"{x}","y":"{y}"}}"#,
            self.kid
        )
    }

    pub(crate) fn set(&self) -> String {
        format!(r#"{{"keys":[{}]}}"#, self.jwk())
    }

    /// A token with this header and payload, whatever they are, truly signed.
    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) fn header(&self) -> String {
        format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{}"}}"#, self.kid)
    }

    /// A good token with these claims.
    pub(crate) fn token(&self, claims: &str) -> String {
        self.sign(&self.header(), claims)
    }
}

/// Claims of alice for `audience` with `scope`, good for 15 minutes from [`NOW`].
pub(crate) fn claims(audience: &str, scope: &str) -> String {
    let exp = NOW + 900;
    format!(
        r#"{{"iss":"https://broker.test","sub":"alice@LAB.TEST","aud":"{audience}","client_id":"mesh","iat":{NOW},"exp":{exp},"jti":"j1","scope":"{scope}"}}"#
    )
}

pub(crate) const CONFIG: &str = r#"{
  "issuers": [{"issuer": "https://broker.test", "jwks": {"cluster": "broker"}}],
  "broker": {"cluster": "broker", "issuer": "https://broker.test"},
  "routes": [
    {"name": "orders", "host": "api.test", "path_prefix": "/orders", "accept": ["negotiate", "bearer"],
     "audience": "orders", "scopes_all": ["orders:read"], "deliver": "header"},
    {"name": "pages", "host": "api.test", "path_prefix": "/pages", "accept": ["negotiate", "cookie"],
     "audience": "pages", "deliver": "cookie"},
    {"name": "tickets", "host": "api.test", "path_prefix": "/tickets", "accept": ["negotiate"], "audience": "orders"},
    {"name": "tokens", "host": "api.test", "path_prefix": "/tokens", "accept": ["bearer"], "audience": "orders",
     "forward": true},
    {"name": "lab", "host": "api.test", "path_prefix": "/lab", "accept": ["bearer", "negotiate"], "audience": "orders",
     "allow_insecure": true, "deliver": "header"},
    {"name": "health", "host": "api.test", "path": "/health", "access": "open"},
    {"name": "legacy", "host": "api.test", "path_prefix": "/legacy", "accept": ["negotiate", "bearer", "cookie"],
     "audience": "orders", "upstream": {"kerberos": {"spn": "HTTP/legacy.test@LAB.TEST"}}}
  ]
}"#;

/// A gate with [`CONFIG`] and this key, fetched at [`NOW`].
pub(crate) fn gate(key: &Key) -> RefCell<Gate> {
    let config = Rc::new(Config::parse(CONFIG.as_bytes()).unwrap());
    let snapshot = Snapshot::new(config, at(NOW))
        .with_keys(0, key.set().as_bytes(), at(NOW))
        .unwrap();
    RefCell::new(Gate::new(Rc::new(snapshot)))
}

/// Gives a gate these keys of its first issuer's, fetched at a time.
pub(crate) fn take_keys(gate: &RefCell<Gate>, set: &str, fetched: u64) {
    let next = gate.borrow().snapshot().with_keys(0, set.as_bytes(), at(fetched));
    gate.borrow_mut().replace(next.unwrap().into());
}

/// A head over TLS: `GET` of a path at api.test, and these headers.
pub(crate) fn head(path: &str, headers: &[(&str, &[u8])]) -> HeaderMap {
    let base: [(&str, &[u8]); 4] = [
        (":method", b"GET"),
        (":path", path.as_bytes()),
        (":authority", b"api.test"),
        ("x-request-id", b"r-1"),
    ];
    let overridden = |name: &str| headers.iter().any(|(other, _)| *other == name && name.starts_with(':'));
    HeaderMap::from_pairs(
        base.into_iter()
            .filter(|(name, _)| !overridden(name))
            .chain(headers.iter().copied())
            .map(|(n, v)| (n.as_bytes(), v)),
    )
}

/// Runs a request until it passes, is answered or waits for the broker; signatures are checked for real.
pub(crate) fn run(gate: &RefCell<Gate>, now: u64, headers: &HeaderMap, secure: bool) -> Step {
    let step = gate.borrow_mut().admit(at(now), &request(headers, secure));
    settle(gate, now, step)
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

/// Goes on with what needs no answer from outside: signatures are checked, keys that are waited for do not come.
pub(crate) fn settle(gate: &RefCell<Gate>, now: u64, mut step: Step) -> Step {
    loop {
        step = match step {
            Step::Verify(input, pending) => pending.resume(&mut gate.borrow_mut(), at(now), input.verify()),
            // The fetch brings the keys that are there.
            Step::Wait(pending) => {
                let mut gate = gate.borrow_mut();
                for issuer in gate.demand().wanted() {
                    gate.demand().ended(issuer, at(now), true);
                }
                pending.resume(&mut gate, at(now))
            }
            other => return other,
        };
    }
}

pub(crate) fn reply(step: Step) -> LocalReply {
    match step {
        Step::Respond(reply) => reply,
        other => panic!("expected a local reply, got {other:?}"),
    }
}

pub(crate) fn passed(step: Step) -> (HeaderEdits, Admitted) {
    match step {
        Step::Continue(edits, admitted) => (edits, admitted),
        other => panic!("expected it to pass, got {other:?}"),
    }
}

/// All values of a reply's header.
pub(crate) fn lines(reply: &LocalReply, name: &str) -> Vec<String> {
    let of = reply.headers.iter().filter(|(n, _)| **n == *name);
    of.map(|(_, value)| String::from_utf8(value.expose().to_vec()).unwrap())
        .collect()
}

/// An edit as text: `-name`, `name=value`, `+name=value`.
pub(crate) fn shown(edits: &HeaderEdits) -> Vec<String> {
    let text = |value: &kerbridge_gate::secret::Secret| String::from_utf8_lossy(value.expose()).into_owned();
    edits
        .iter()
        .map(|edit| match edit {
            HeaderEdit::Remove(name) => format!("-{name}"),
            HeaderEdit::Set(name, value) => format!("{name}={}", text(value)),
            HeaderEdit::Add(name, value) => format!("+{name}={}", text(value)),
        })
        .collect()
}
