//! Mints tokens: compact JWTs of RFC 9068, signed by the broker's key, that never outlive the ticket or token behind them.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use tokio::time::Instant;

use crate::jws;
use crate::keyring::{NotSigned, SigningKey, random};
use crate::revocation::Unrevoked;
use crate::subject_token::Actors;
use crate::time::UnixTime;

/// A token just minted. Only [`Minter::issue`] makes one.
pub struct IssuedToken {
    compact: String,
    id: String,
    expires: UnixTime,
    life: u64,
}

/// Signs for one issuer.
#[derive(Debug)]
pub struct Minter<'a> {
    issuer: &'a str,
    key: Arc<SigningKey>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    client_id: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    amr: &'a [Box<str>],
    sid: &'a str,
    kerbridge_cb: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Box<str>>,
    /// `PRINCIPAL_CLAIM`, see the wire's words.
    #[serde(rename = "kerbridge_principal", skip_serializing_if = "Option::is_none")]
    principal: Option<&'a str>,
    /// Through whose hands it came (RFC 8693 §4.1).
    #[serde(skip_serializing_if = "Actors::is_empty")]
    act: &'a Actors,
    /// Whose it is (RFC 8705 §3.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Bound>,
}

#[derive(Serialize)]
struct Bound {
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

impl<'a> Minter<'a> {
    /// A minter for this issuer (the `iss`) and key.
    pub fn new(issuer: &'a str, key: Arc<SigningKey>) -> Self {
        Self { issuer, key }
    }

    /// Mints what was granted and is not revoked, if it is signed by then. `client` is the authenticated caller of the endpoint.
    pub async fn issue(
        &self,
        unrevoked: Unrevoked<'_>,
        client: &str,
        until: Instant,
    ) -> Result<IssuedToken, NotSigned> {
        let (grant, now) = (unrevoked.grant(), unrevoked.issued());
        let identity = grant.identity();
        let expires = now.plus(grant.ttl_seconds().into()).min(identity.ends());
        let id = URL_SAFE_NO_PAD.encode(random::<16>()?.as_ref());
        let claims = Claims {
            iss: self.issuer,
            sub: identity.subject().as_str(),
            aud: grant.audience().name(),
            client_id: client,
            iat: now.seconds(),
            exp: expires.seconds(),
            jti: &id,
            scope: grant.scopes().to_string(),
            auth_time: identity.auth_time().map(UnixTime::seconds),
            amr: identity.methods(),
            sid: identity.session().as_str(),
            kerbridge_cb: identity.channel_bound(),
            groups: grant.groups(),
            // Only where somebody has to act for them, and the name alone does not say who that is.
            principal: Some(identity.principal().as_str())
                .filter(|principal| grant.audience().needs_principal() && *principal != identity.subject().as_str()),
            act: grant.actors(),
            cnf: grant.bound_to().map(|digest| Bound {
                certificate: digest.to_string(),
            }),
        };
        let compact = jws::sign(&self.key, "at+jwt", &claims, until).await?;
        Ok(IssuedToken {
            compact,
            id,
            expires,
            life: now.until(expires),
        })
    }
}

impl IssuedToken {
    /// The JWS in compact form (RFC 7515 §7.1).
    pub fn into_compact(self) -> String {
        self.compact
    }

    /// Its `jti`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its `exp`.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// Seconds from its `iat` to its `exp`.
    pub fn life(&self) -> u64 {
        self.life
    }
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken")
            .field("id", &self.id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use kerbridge_wire::exchange::PRINCIPAL_CLAIM;
    use kerbridge_wire::policy as raw;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::Identity;
    use crate::keyring::{KeyEncryptionKey, KeyRing};
    use crate::policy::{Grant, Policy};
    use crate::problem::Problems;

    fn ring() -> KeyRing {
        let folder = tempfile::tempdir().unwrap();
        let kek = KeyEncryptionKey::from_base64(&"A".repeat(43)).unwrap();
        KeyRing::open_or_create(folder.path(), &kek).unwrap()
    }

    fn grant(ttl: &str) -> Grant {
        let text = format!(
            r#"
            audience = [{{ name = "orders", ttl = "{ttl}" }}]
            grant = [{{ principals = ["*@A.TEST"], audience = "orders", scopes = ["write", "read"] }}]
            route = [{{ path = "/", access = "open" }}]"#
        );
        let mut problems = Problems::default();
        let file: raw::Policy = crate::strict_toml::read(&text, &mut problems).unwrap();
        let policy = Policy::build(&file, &mut problems).unwrap();
        policy
            .grant(Identity::for_test("alice@A.TEST"), "orders", None)
            .unwrap()
    }

    fn parts(compact: &str) -> (Value, Value, Vec<u8>) {
        let parts: Vec<Vec<u8>> = compact
            .split('.')
            .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
            .collect();
        assert_eq!(parts.len(), 3);
        (
            serde_json::from_slice(&parts[0]).unwrap(),
            serde_json::from_slice(&parts[1]).unwrap(),
            parts[2].clone(),
        )
    }

    fn issue(minter: &Minter<'_>, unrevoked: Unrevoked<'_>) -> IssuedToken {
        crate::jws::tests::at_once(minter.issue(unrevoked, "mesh", Instant::now())).unwrap()
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_seconds(seconds)
    }

    #[test]
    fn the_token_says_what_rfc_9068_asks_for_and_no_more() {
        let ring = ring();
        let minter = Minter::new("https://broker.test", ring.signing());
        let token = issue(&minter, Unrevoked::for_test(&grant("15m"), at(2000)));
        let id = token.id().to_owned();
        assert_eq!((token.life(), token.expires()), (900, at(2900)));
        let (header, claims, _) = parts(&token.into_compact());
        assert_eq!(
            header,
            json!({ "typ": "at+jwt", "alg": "ES256", "kid": ring.signing().id() })
        );
        assert_eq!(
            claims,
            json!({
                "iss": "https://broker.test", "sub": "alice@A.TEST", "aud": "orders", "client_id": "mesh",
                "iat": 2000, "exp": 2900, "jti": id, "scope": "read write", "auth_time": 1000,
                "amr": ["kerberos"], "sid": "session", "kerbridge_cb": false,
            })
        );
    }

    #[test]
    fn the_token_says_the_groups_that_the_audience_needs() {
        let text = r#"
            audience = [{ name = "orders" }]
            grant = [{ groups = ["clerks"], audience = "orders" }]
            route = [{ path = "/", accept = ["bearer"], audience = "orders", groups = ["managers", "auditors"] }]"#;
        let mut problems = Problems::default();
        let file: raw::Policy = crate::strict_toml::read(text, &mut problems).unwrap();
        let policy = Policy::build(&file, &mut problems).unwrap();
        let alice = Identity::for_test("alice@A.TEST").in_groups(["wheel", "clerks", "auditors"].into_iter().collect());
        let ring = ring();
        let grant = policy.grant(alice, "orders", None).unwrap();
        let token = issue(
            &Minter::new("https://broker.test", ring.signing()),
            Unrevoked::for_test(&grant, at(2000)),
        );
        assert_eq!(parts(&token.into_compact()).1["groups"], json!(["auditors", "clerks"]));
    }

    #[test]
    fn a_token_with_a_given_name_says_the_principal_where_somebody_is_to_act_for_them() {
        let names = crate::principal::mapping::NameRules {
            stripped_realm: Some("A.TEST".into()),
            ..Default::default()
        };
        let ring = ring();
        let claims = |policy: &str, identity: Identity| {
            let mut problems = Problems::default();
            let file: raw::Policy = crate::strict_toml::read(policy, &mut problems).unwrap();
            let grant = Policy::build(&file, &mut problems).unwrap();
            let grant = grant.grant(identity, "orders", None).unwrap();
            let minter = Minter::new("https://broker.test", ring.signing());
            let token = issue(&minter, Unrevoked::for_test(&grant, at(2000)));
            let (_, claims, _) = parts(&token.into_compact());
            (claims["sub"].clone(), claims.get(PRINCIPAL_CLAIM).cloned())
        };
        let plain = r#"
            audience = [{ name = "orders" }]
            grant = [{ principals = ["*@A.TEST"], audience = "orders" }]
            route = [{ path = "/", access = "open" }]"#;
        let delegated = &format!(
            r#"{plain}
            delegation = [
                {{ target = "HTTP/l@A.TEST", audience = "orders", principals = ["*@A.TEST"], clients = ["*"] }},
            ]"#
        );
        let full = || Identity::for_test("alice@A.TEST");
        let short = || Identity::for_test_called("alice@A.TEST", &names);
        assert_eq!(claims(delegated, full()), (json!("alice@A.TEST"), None));
        assert_eq!(claims(plain, short()), (json!("alice"), None));
        assert_eq!(
            claims(delegated, short()),
            (json!("alice"), Some(json!("alice@A.TEST")))
        );
    }

    #[test]
    fn a_token_never_outlives_the_ticket() {
        let ring = ring();
        let minter = Minter::new("https://broker.test", ring.signing());
        for (ttl, now, expires) in [("15m", 2000, 2900), ("1d", 2000, 10_000), ("3650d", 9_999, 10_000)] {
            let token = issue(&minter, Unrevoked::for_test(&grant(ttl), at(now)));
            assert_eq!(token.expires(), at(expires), "{ttl}");
        }
    }

    #[test]
    fn the_signature_covers_header_and_claims() {
        let ring = ring();
        let minter = Minter::new("https://broker.test", ring.signing());
        let compact = issue(&minter, Unrevoked::for_test(&grant("15m"), at(2000))).into_compact();
        let set: Value = serde_json::from_str(&ring.jwks()).unwrap();
        let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(set["keys"][0][name].as_str().unwrap()).unwrap();
        let public = UnparsedPublicKey::new(
            &ECDSA_P256_SHA256_FIXED,
            [vec![4], coordinate("x"), coordinate("y")].concat(),
        );
        let (signed, _) = compact.rsplit_once('.').unwrap();
        let (_, _, signature) = parts(&compact);
        public.verify(signed.as_bytes(), &signature).unwrap();
        public
            .verify(signed.replacen('e', "f", 1).as_bytes(), &signature)
            .unwrap_err();
    }

    #[test]
    fn every_token_has_its_own_identifier() {
        let ring = ring();
        let minter = Minter::new("https://broker.test", ring.signing());
        let ids: std::collections::BTreeSet<String> = (0..100)
            .map(|_| {
                issue(&minter, Unrevoked::for_test(&grant("15m"), at(2000)))
                    .id()
                    .to_owned()
            })
            .collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.len() == 22));
    }

    #[test]
    fn a_token_does_not_show_in_debug_output() {
        let ring = ring();
        let token = issue(
            &Minter::new("https://broker.test", ring.signing()),
            Unrevoked::for_test(&grant("15m"), at(2000)),
        );
        let shown = format!("{token:?}");
        assert!(!shown.contains(token.into_compact().as_str()), "{shown}");
        assert!(!shown.contains("eyJ"), "{shown}");
    }
}
