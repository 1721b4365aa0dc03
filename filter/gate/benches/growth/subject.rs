//! Builds a gate of a given size, and requests that pass it.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kerbridge_gate::feed::{Feed, Known, Origin, Progress, UnverifiedPage};
use kerbridge_gate::gate::WarmHead;
use kerbridge_gate::header_map::HeaderMap;
use kerbridge_gate::jwk::KeySet;
use kerbridge_gate::{Config, Gate, RequestHead, Snapshot, Step, UnixTime};
use kerbridge_wire::feed::{self, Entry, Hex, PageClaims, RevocationKey};
use kerbridge_wire::filter_config::Algorithm;
use serde_json::{Value, json};

/// The time of every request, Unix time.
pub(crate) const NOW: u64 = 1_800_000_000;

const HOST: &str = "api.example.com";
const PATH: &str = "/orders/42?page=7";
const ISSUER: &str = "https://kerbridge.example.com";
const KEY_ID: &str = "a-key-id-as-long-as-a-thumbprint-would-be--";
/// Signatures of this length are well formed; whether they are good is not asked here.
const SIGNATURE: [u8; 64] = [1; 64];

/// A gate, and requests that pass it.
pub(crate) struct Subject {
    pub(crate) gate: Gate,
    pub(crate) requests: Vec<Request>,
}

/// A request with a token.
pub(crate) struct Request {
    authorization: Vec<u8>,
    headers: HeaderMap,
}

impl Request {
    fn new(token: &str) -> Self {
        let authorization = format!("Bearer {token}").into_bytes();
        let pairs: [(&[u8], &[u8]); 7] = [
            (b":method", b"GET"),
            (b":path", PATH.as_bytes()),
            (b":authority", HOST.as_bytes()),
            (b":scheme", b"https"),
            (b"x-request-id", b"5f0c7f5e-5e3e-4f9a-9d8b-000000000000"),
            (b"accept", b"application/json"),
            (b"authorization", &authorization),
        ];
        Self {
            headers: HeaderMap::from_pairs(pairs),
            authorization,
        }
    }

    /// The whole head.
    pub(crate) fn head(&self) -> RequestHead<'_> {
        RequestHead {
            headers: &self.headers,
            secure: true,
            source: None,
            certificate: None,
        }
    }

    /// What a known token takes of it.
    pub(crate) fn warm(&self) -> WarmHead<'_> {
        WarmHead {
            method: b"GET",
            path: PATH.as_bytes(),
            authority: HOST.as_bytes(),
            secure: true,
            certificate: None,
        }
    }

    /// The values of `authorization`.
    pub(crate) fn authorization(&self) -> &[u8] {
        &self.authorization
    }
}

impl Subject {
    /// A gate with so many rules and issuers, of which the last are the requests', that knows so many tokens (where `known`)
    /// and revocations (a feed at all, where given).
    pub(crate) fn new(
        rules: usize,
        issuers: usize,
        tokens: usize,
        revocations: Option<usize>,
        known: bool,
    ) -> Result<Self, String> {
        let now = UnixTime::from_seconds(NOW).ok_or("not a time")?;
        let cached = if known { tokens.saturating_mul(2).max(1000) } else { 0 };
        let text = configuration(rules, issuers, cached, revocations.is_some()).to_string();
        let config = Rc::new(Config::parse(text.as_bytes()).map_err(|errors| errors.to_string())?);
        let mut snapshot = Snapshot::new(config, now);
        if let Some(number) = revocations {
            let at = issuers.saturating_sub(1);
            snapshot = snapshot.with_revocations(at, table(number, now)?);
        }
        let mut gate = Gate::new(Rc::new(snapshot));
        let requests: Vec<Request> = (0..tokens).map(|number| Request::new(&token(number))).collect();
        if known {
            for request in &requests {
                if let Step::Verify(_, pending) = gate.admit(now, &request.head()) {
                    pending.resume(&mut gate, now, true);
                }
                // A second look moves it to where it stays.
                gate.admit(now, &request.head());
            }
            if gate.known_tokens() != tokens {
                return Err(format!("{} of {tokens} tokens are known", gate.known_tokens()));
            }
        }
        Ok(Self { gate, requests })
    }
}

fn configuration(rules: usize, issuers: usize, cached: usize, has_feed: bool) -> Value {
    let rule = |name: String, path: String| {
        json!({
            "name": name, "host": HOST, "path_prefix": path, "accept": ["bearer"], "audience": "orders",
            "scopes_all": ["orders:read"],
        })
    };
    let mut routes: Vec<Value> = (1..rules)
        .map(|number| rule(format!("rule-{number}"), format!("/service-{number}/v1")))
        .collect();
    routes.push(rule("orders".into(), "/orders".into()));
    let issuer = |name: String, has_feed: bool| {
        let mut issuer = json!({
            "issuer": name, "algorithms": ["ES256"], "audiences": {"orders": []}, "jwks": {"inline": key_set()},
        });
        if let (true, Some(issuer)) = (has_feed, issuer.as_object_mut()) {
            issuer.insert("feed".into(), json!({"cluster": "broker"}));
        }
        issuer
    };
    let mut all: Vec<Value> = (1..issuers)
        .map(|number| issuer(format!("https://issuer-{number}.example.com"), false))
        .collect();
    all.push(issuer(ISSUER.into(), has_feed));
    json!({
        "issuers": all,
        "routes": routes,
        "token_cache": {"entries": cached, "mebibytes": 512},
        "underscores_rejected": true,
    })
}

/// A key set of one: the key of RFC 7515 appendix A.3.
fn key_set() -> String {
    json!({"keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": KEY_ID,
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }]})
    .to_string()
}

fn jws(kind: &str, claims: &Value) -> String {
    let encoded = |text: String| URL_SAFE_NO_PAD.encode(text);
    let header = json!({"typ": kind, "alg": "ES256", "kid": KEY_ID});
    format!(
        "{}.{}.{}",
        encoded(header.to_string()),
        encoded(claims.to_string()),
        URL_SAFE_NO_PAD.encode(SIGNATURE)
    )
}

/// A token as the broker mints them, all of one length.
fn token(number: usize) -> String {
    let exp = NOW.saturating_add(900);
    jws(
        "at+jwt",
        &json!({
            "iss": ISSUER, "sub": "alice@EXAMPLE.COM", "aud": "orders", "client_id": "mesh",
            "iat": NOW, "exp": exp, "auth_time": NOW, "amr": ["kerberos"], "scope": "orders:read orders:write",
            "jti": format!("token-{number:016}"), "sid": format!("session-{number:014}"), "kerbridge_cb": false,
        }),
    )
}

/// A table of so many revocations, read from pages like any other.
fn table(number: usize, now: UnixTime) -> Result<Known, String> {
    let keys = KeySet::parse(key_set().as_bytes(), &[Algorithm::Es256]).map_err(|_| "not a key set")?;
    let entries: Vec<Entry> = (0..number).map(entry).collect();
    let bodies = feed::bodies(&entries);
    let hashes: Vec<_> = bodies.iter().map(|body| feed::body_hash(body)).collect();
    let count = |number: usize| u32::try_from(number).map_err(|_too_many| "too many revocations");
    let (pages, total) = (count(bodies.len())?, count(entries.len())?);
    let mut feed = Feed::new(ISSUER.into(), 60, 300);
    for (at, body) in bodies.iter().enumerate() {
        let claims = PageClaims {
            format: feed::FORMAT,
            iss: ISSUER.into(),
            iat: NOW,
            epoch: Hex([7; 16]),
            version: 1,
            base: None,
            page: count(at)?,
            pages,
            entries: total,
            sha256: feed::body_hash(body),
            sha256_of_pages: Some(feed::hash_of_pages(&hashes)),
        };
        let claims = serde_json::to_value(&claims).map_err(|error| error.to_string())?;
        let page = feed::join_page(&jws(feed::TYPE, &claims), body);
        let page = UnverifiedPage::read(page, &keys).map_err(|error| error.to_string())?;
        let page = page.resume(true).map_err(|error| error.to_string())?;
        feed.accept(page, Origin::Fetched, now)
            .map_err(|error| error.to_string())?;
        while feed.step(now).map_err(|error| error.to_string())? == Progress::Working {}
    }
    feed.known()
        .ok_or_else(|| "the feed was not read to its end".to_owned())
}

/// A revocation of nobody's token. Keys are spread as hashes are (SplitMix64).
fn entry(number: usize) -> Entry {
    let mix = |seed: u64| {
        let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(z ^ (z >> 31))
    };
    let number = (number as u64).wrapping_mul(2).wrapping_add(1);
    let key = (mix(number) << 64) | mix(number.wrapping_add(1));
    Entry::new(RevocationKey(key.to_be_bytes()), NOW.saturating_add(900), None)
}
