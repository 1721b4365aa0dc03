use std::path::Path;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use kerbridge_gate::jwk::NotAKeySet;
use kerbridge_wire::Span;
use kerbridge_wire::policy::Policy as RawPolicy;

use super::*;
use crate::identity::Identity;
use crate::keyring::{KeyEncryptionKey, KeyRing};
use crate::policy::Policy;
use crate::problem::Problems;
use crate::revocation::Unrevoked;
use crate::token::Minter;

const OURS: &str = "https://broker.test";
const IDP: &str = "https://idp.test";

const POLICY: &str = r#"
    [[audience]]
    name = "orders"
    [[audience]]
    name = "billing"
    [[grant]]
    principals = ["*@A.TEST"]
    audience = "orders"
    [[grant]]
    principals = ["*@A.TEST"]
    audience = "billing"
    [[delegation]]
    target = "HTTP/legacy.test@A.TEST"
    audience = "orders"
    groups = ["clerks"]
    issuers = ["broker"]
    clients = ["mesh"]
    [[route]]
    path = "/"
    access = "open"
    [[issuer]]
    issuer = "https://idp.test"
    audiences = { orders = ["client-1"] }
    jwks = { cluster = "idp" }
    [[issuer]]
    issuer = "https://untraced.test"
    audiences = { orders = ["client-1"] }
    jwks = { cluster = "idp" }
    [[subject]]
    issuer = "https://idp.test"
    claim = "/user/upn"
    form = "principal"
    realms = ["A.TEST"]
"#;

fn keyring(folder: &Path) -> KeyRing {
    KeyRing::open_or_create(folder, &KeyEncryptionKey::from_base64(&"A".repeat(43)).unwrap()).unwrap()
}

fn policy() -> (RawPolicy, Policy) {
    let mut problems = Problems::default();
    let file: RawPolicy = crate::strict_toml::read(POLICY, &mut problems).unwrap();
    let policy = Policy::build(&file, &mut problems).unwrap();
    (file, policy)
}

fn terms(issuer: &str) -> KeyTerms {
    KeyTerms {
        issuer: issuer.into(),
        poll: Span::FIVE_SECONDS,
        max_staleness: Span::FIVE_MINUTES,
    }
}

fn issuers(own_keys: Option<String>, terms: &[KeyTerms]) -> Arc<Issuers> {
    let (file, policy) = policy();
    Arc::new(Issuers::new(OURS, &file, &policy, own_keys, terms, &[]).unwrap())
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

fn minted(keyring: &KeyRing, audience: &str) -> String {
    let (_, policy) = policy();
    let alice = Identity::for_test("alice@A.TEST").in_groups(["clerks", "wheel"].into_iter().collect());
    let grant = policy.grant(alice, audience, None).unwrap();
    let minter = Minter::new(OURS, keyring.signing());
    let issued = minter.issue(
        Unrevoked::for_test(&grant, at(2000)),
        "mesh",
        tokio::time::Instant::now(),
    );
    crate::jws::tests::at_once(issued).unwrap().into_compact()
}

/// The key of another issuer.
pub(crate) struct Key(EcdsaKeyPair);

impl Key {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
    }

    pub(crate) fn set(&self) -> String {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y}]}).to_string()
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as("at+jwt", claims)
    }

    pub(crate) fn sign_as(&self, typ: &str, claims: &Value) -> String {
        let header = match typ {
            "" => json!({"alg": "ES256", "kid": "k"}),
            typ => json!({"alg": "ES256", "typ": typ, "kid": "k"}),
        };
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn foreign(more: Value) -> Value {
    let mut claims = json!({
        "iss": IDP, "sub": "4711", "aud": ["client-1", "x"], "exp": 3000, "iat": 2000, "user": {"upn": "bob@A.TEST"},
    });
    if let (Some(claims), Value::Object(more)) = (claims.as_object_mut(), more) {
        claims.extend(more);
    }
    claims
}

#[test]
fn a_token_that_this_broker_mints_is_verified_by_its_own_keys() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = keyring(folder.path());
    let mut verifier = Verifier::new(issuers(Some(keyring.jwks()), &[terms(IDP)]));
    let token = verifier
        .verify(minted(&keyring, "orders").as_bytes(), at(2100))
        .unwrap();
    assert_eq!(
        token.author(),
        &Author::Ours {
            subject: "alice@A.TEST".into(),
            principal: None
        }
    );
    assert!(token.is_for("orders") && !token.is_for("billing"));
    assert!(token.is_in_group("clerks") && !token.is_in_group("wheel"));
    assert_eq!((token.issuer(), token.expires()), (OURS, at(2900)));
    let names = token.names().unwrap();
    assert_eq!(
        (names.token, names.session, names.subject, names.issued),
        (token.token_id(), Some("session"), "alice@A.TEST", Some(at(2000)))
    );
    assert!(token.token_id().is_some());
    // No [[delegation]] is for it.
    let other = verifier
        .verify(minted(&keyring, "billing").as_bytes(), at(2100))
        .unwrap();
    assert!(!other.is_for("billing") && !other.is_for("orders"));
    assert_eq!(
        verifier.verify(minted(&keyring, "orders").as_bytes(), at(2900)),
        Err(Reason::Expired)
    );
    // A broker with other keys.
    let second = tempfile::tempdir().unwrap();
    let stranger = self::keyring(second.path());
    assert_eq!(
        verifier.verify(minted(&stranger, "orders").as_bytes(), at(2100)),
        Err(Reason::UnknownKey)
    );
}

#[test]
fn keys_that_are_published_are_taken_at_once_and_grow_stale() {
    let (folder, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (keyring(folder.path()), keyring(next.path()));
    let issuers = issuers(None, &[terms(OURS), terms(IDP)]);
    let mut verifier = Verifier::new(Arc::clone(&issuers));
    let token = minted(&first, "orders");
    assert_eq!(
        verifier.verify(token.as_bytes(), at(2100)),
        Err(Reason::KeysUnavailable)
    );
    issuers.publish(OURS, first.jwks().as_bytes(), at(2100)).unwrap();
    assert!(verifier.verify(token.as_bytes(), at(2400)).is_ok());
    assert_eq!(
        verifier.verify(token.as_bytes(), at(2401)),
        Err(Reason::KeysUnavailable)
    );
    issuers.publish(OURS, first.jwks().as_bytes(), at(2401)).unwrap();
    assert!(verifier.verify(token.as_bytes(), at(2401)).is_ok());
    for odd in ["", "{}", "not json"] {
        assert_eq!(
            issuers.publish(OURS, odd.as_bytes(), at(2402)),
            Err(NotAKeySet),
            "{odd}"
        );
    }
    assert!(verifier.verify(token.as_bytes(), at(2402)).is_ok());
    // What is taken back counts no more.
    issuers.publish(OURS, second.jwks().as_bytes(), at(2402)).unwrap();
    assert_eq!(verifier.verify(token.as_bytes(), at(2402)), Err(Reason::UnknownKey));
    assert!(verifier.verify(minted(&second, "orders").as_bytes(), at(2402)).is_ok());
    assert_eq!(
        issuers.publish("https://untraced.test", first.jwks().as_bytes(), at(2402)),
        Err(NotAKeySet)
    );
}

#[test]
fn a_snapshot_that_was_lost_is_made_anew_with_all_keys_that_were_published() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = keyring(folder.path());
    let issuers = issuers(None, &[terms(OURS), terms(IDP)]);
    issuers.publish(OURS, keyring.jwks().as_bytes(), at(2100)).unwrap();
    let mut verifier = Verifier::new(issuers);
    let token = minted(&keyring, "orders");
    assert!(verifier.verify(token.as_bytes(), at(2100)).is_ok());
    verifier.snapshot = None;
    assert!(verifier.verify(token.as_bytes(), at(2100)).is_ok());
}

#[test]
fn another_issuers_token_says_who_it_is_about_in_the_claim_of_its_line_alone() {
    let folder = tempfile::tempdir().unwrap();
    let issuers = issuers(Some(keyring(folder.path()).jwks()), &[terms(IDP)]);
    let key = Key::new();
    issuers.publish(IDP, key.set().as_bytes(), at(2000)).unwrap();
    let mut verifier = Verifier::new(issuers);
    let mut verify = |more| verifier.verify(key.sign(&foreign(more)).as_bytes(), at(2100));
    let claim_of = |token: VerifiedToken| match token.author().clone() {
        Author::Another { issuer, claim } => (issuer.to_string(), claim.map(String::from)),
        Author::Ours { .. } => panic!("{token:?}"),
    };
    let token = verify(json!({})).unwrap();
    assert!(token.is_for("orders"));
    assert_eq!(claim_of(token), (IDP.into(), Some("bob@A.TEST".into())));
    // The claim of our own tokens means nothing in theirs.
    let token = verify(json!({"kerbridge_principal": "root@A.TEST", "user": {}})).unwrap();
    assert_eq!(claim_of(token), (IDP.into(), None));
    assert_eq!(claim_of(verify(json!({"user": {"upn": 1}})).unwrap()).1, None);
    assert!(!verify(json!({"aud": "orders"})).unwrap().is_for("orders"));
    for (more, reason) in [
        (json!({"iss": "https://untraced.test"}), Reason::UnknownIssuer),
        (json!({"iss": OURS, "jti": "j"}), Reason::UnknownKey),
        (json!({"exp": 2000}), Reason::Expired),
        (json!({"nbf": 2500}), Reason::NotYetValid),
        (json!({"sub": 1}), Reason::MissingClaim),
    ] {
        assert_eq!(verify(more.clone()), Err(reason), "{more}");
    }
    let stranger = Key::new();
    let forged = stranger.sign(&foreign(json!({})));
    assert_eq!(verifier.verify(forged.as_bytes(), at(2100)), Err(Reason::BadSignature));
    assert_eq!(verifier.verify(b"a.b.c", at(2100)), Err(Reason::TokenMalformed));
}
