//! Starts a lab for OAuth clients: a broker with a public listener over TLS and clients that have keys or certificates, behind
//! services whose Envoy says where their tokens come from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::certificates::{CLIENT, Certificates};
use crate::curl::{Answer, Curl};
use crate::error::HarnessError;
use crate::port::free_tcp;
use crate::shipped::{self, ISSUER};
use crate::token::{LabKey, now};
use crate::wait::wait_until;
use crate::world::{LAB_ISSUER, REALM, World};

/// The client that has a key.
pub const KEY_CLIENT: &str = "orders.example.com";
/// `client_assertion_type` (RFC 7523 §2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Type of a token (RFC 8693 §3).
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// Type of a ticket.
pub const NEGOTIATE: &str = "urn:kerbridge:token-type:negotiate";
/// The one grant (RFC 8693 §2.1).
pub const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Longest wait for the filter to have keys.
const KEYS_WITHIN: Duration = Duration::from_secs(30);

/// A running lab, its broker's public listener, and what its clients have.
pub struct OauthWorld {
    world: World,
    public: u16,
    key: LabKey,
    idp: LabKey,
}

/// How a client says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// Not at all.
    Nobody,
    /// By a signature, as [`KEY_CLIENT`].
    Key,
    /// By a certificate, as [`CLIENT`].
    Certificate,
}

impl OauthWorld {
    /// Starts it all, and waits until the filter has keys.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn start() -> Result<Self, HarnessError> {
        Self::start_with("")
    }

    /// The same with more tables in `kerbridge.toml`.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn start_with(tables: &str) -> Result<Self, HarnessError> {
        let (envoy, public) = (free_tcp()?, free_tcp()?);
        let (key, idp) = (new_key()?, new_key()?);
        let issuer = issuer(public);
        let named = issuer.clone();
        let mut world = World::builder()
            .policy(&policy(envoy, &idp)?)
            .port(envoy)
            .broker_table(tables)
            .broker_stopped()
            .filter(move |filter| {
                // Rendered before the broker has its address.
                if let Ok(named) = serde_json::from_str(&filter.to_string().replace(ISSUER, &named)) {
                    *filter = named;
                }
            })
            .yaml(|yaml| {
                // Where clients of a service ask for its tokens' origin is the broker's answer; each connection is asked for a
                // certificate, which nobody need show.
                yaml.insert_below(
                    "routes:",
                    &[
                        "- match: {path_separated_prefix: /.well-known/oauth-protected-resource}",
                        "  route: {cluster: kerbridge_broker}",
                    ],
                )?;
                yaml.insert_below(
                    "tls_params: {tls_minimum_protocol_version: TLSv1_2}",
                    &["validation_context: {trust_chain_verification: ACCEPT_UNTRUSTED}"],
                )
            })
            .start()?;
        configure(&mut world, public, &issuer, &key)?;
        world.broker().start()?;
        let lab = Self {
            world,
            public,
            key,
            idp,
        };
        wait_until("keys in the filter", KEYS_WITHIN, || {
            lab.world
                .curl_as("alice", "/orders/1")
                .send()
                .is_ok_and(|answer| answer.status == 200)
        })?;
        Ok(lab)
    }

    /// The lab.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// The broker's address, which is its issuer.
    #[must_use]
    pub fn issuer(&self) -> String {
        issuer(self.public)
    }

    /// The port of the public listener.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.public
    }

    /// The key of [`KEY_CLIENT`].
    #[must_use]
    pub fn key(&self) -> &LabKey {
        &self.key
    }

    /// The file of the authority that clients trust.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.world.certificates().authority.clone()
    }

    /// A fresh assertion of [`KEY_CLIENT`], with these claims in place of its own.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] where the system has no randomness.
    pub fn assertion(&self, jti: &str, more: &Value) -> Result<String, HarnessError> {
        let claims = json!({
            "iss": KEY_CLIENT, "sub": KEY_CLIENT, "aud": self.issuer(), "jti": jti, "iat": now(),
            "exp": now().saturating_add(60),
        });
        let header = json!({ "typ": "JWT", "alg": "ES256", "kid": self.key.key_id() });
        sign(&self.key, &header, &merged(claims, more))
    }

    /// A token of another issuer that the policy knows, for `orders` and about alice, with these claims in place of its own.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] where the system has no randomness.
    pub fn foreign_token(&self, more: &Value) -> Result<String, HarnessError> {
        let claims = json!({
            "iss": LAB_ISSUER, "sub": "4711", "aud": "client-1", "iat": now(), "exp": now().saturating_add(300),
            "jti": format!("foreign-{}", now()), "sid": "session-1", "upn": format!("alice@{REALM}"), "scope": "orders:read",
        });
        sign(&self.idp, &self.idp.header(), &merged(claims, more))
    }

    /// One request to the public listener.
    #[must_use]
    pub fn curl(&self, path: &str) -> Curl {
        Curl::new(format!("{}{path}", self.issuer())).trusting(&self.authority())
    }

    /// The same over a connection with [`CLIENT`]'s certificate.
    #[must_use]
    pub fn with_certificate(&self, curl: Curl) -> Curl {
        show(curl, self.world.certificates())
    }

    /// Posts a form.
    ///
    /// # Errors
    ///
    /// As [`Curl::send`].
    pub fn post(&self, path: &str, client: As, fields: &[(&str, &str)]) -> Result<Answer, HarnessError> {
        let mut fields: Vec<(&str, String)> = fields
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        if client == As::Key {
            let jti = unique()?;
            fields.push(("client_assertion_type", ASSERTION_TYPE.to_owned()));
            fields.push(("client_assertion", self.assertion(&jti, &json!({}))?));
        }
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", escaped(value)))
            .collect();
        let body = pairs.join("&");
        crate::canary::note_message(body.as_bytes());
        let curl = self.curl(path).body(body);
        match client {
            As::Certificate => self.with_certificate(curl).send(),
            As::Nobody | As::Key => curl.send(),
        }
    }

    /// A token of alice's for an audience, had for a ticket.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] where none came.
    pub fn token(&self, client: As, audience: &str) -> Result<String, HarnessError> {
        let ticket = self.world.negotiate_token("alice", crate::world::SERVICE)?;
        let answer = self.post(
            "/oauth2/token",
            client,
            &[
                ("grant_type", EXCHANGE),
                ("subject_token", &ticket),
                ("subject_token_type", NEGOTIATE),
                ("audience", audience),
            ],
        )?;
        access_token(&answer)
    }

    /// Trades a token for one of another audience.
    ///
    /// # Errors
    ///
    /// As [`Curl::send`].
    pub fn trade(&self, client: As, token: &str, more: &[(&str, &str)]) -> Result<Answer, HarnessError> {
        let fields = [
            ("grant_type", EXCHANGE),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        self.post("/oauth2/token", client, &[&fields, more].concat())
    }
}

/// The token of a reply.
///
/// # Errors
///
/// [`HarnessError::UnexpectedAnswer`] where there is none.
pub fn access_token(answer: &Answer) -> Result<String, HarnessError> {
    let reply = answer.json();
    let token = reply.get("access_token").and_then(Value::as_str).map(str::to_owned);
    let token = token.filter(|_| answer.status == 200);
    if let Some(token) = &token {
        crate::canary::note(token.as_bytes());
    }
    token.ok_or_else(|| HarnessError::UnexpectedAnswer {
        what: "a token".to_owned(),
        answer: format!("{} {}", answer.status, answer.text()),
    })
}

/// Shows a client certificate.
#[must_use]
pub fn show(curl: Curl, certificates: &Certificates) -> Curl {
    curl.arg("--cert")
        .arg(&certificates.client_certificate)
        .arg("--key")
        .arg(&certificates.client_private_key)
}

fn issuer(port: u16) -> String {
    format!("https://localhost:{port}")
}

/// The shipped policy, with lines for clients: from `orders` to `billing`, tokens that are bound, questions about tokens, and an issuer
/// whose tokens are traded.
fn policy(envoy: u16, idp: &LabKey) -> Result<String, HarnessError> {
    let shipped = shipped::policy_of_a_minter("localhost", REALM)?;
    let orders = format!("name = \"orders\"\nresource = \"https://localhost:{envoy}/orders\"\n");
    let shipped = shipped.replacen("name = \"orders\"\n", &orders, 1);
    let open = "[[route]]\nname = \"metadata\"\nhost = \"localhost\"\npath_prefix = \"/.well-known/oauth-protected-resource\"\n\
                access = \"open\"\n";
    let shipped = shipped.replacen("[[route]]\n", &format!("{open}[[route]]\n"), 1);
    let route = |name: &str, scope: &str| {
        format!(
            "[[route]]\nname = {name:?}\nhost = \"localhost\"\npath_prefix = \"/{name}\"\naccept = [\"bearer\"]\n\
             audience = {name:?}\nscopes_all = [{scope:?}]\n"
        )
    };
    let (billing, bound) = (route("billing", "orders:read"), route("bound", "bound:read"));
    // Tables of a list may stand anywhere; `[filter]` is the last.
    let more = format!(
        "[[audience]]\nname = \"billing\"\nttl = \"10m\"\nresource = \"https://localhost:{envoy}/billing\"\n\
         [[audience]]\nname = \"bound\"\ncertificate_bound = true\n\
         [[grant]]\nprincipals = [\"alice@{REALM}\"]\naudience = \"bound\"\nscopes = [\"bound:read\"]\n\
         {billing}{bound}\
         [[exchange]]\nclients = [{KEY_CLIENT:?}, {CLIENT:?}]\nfrom = \"orders\"\nto = \"billing\"\nscopes = [\"orders:read\"]\n\
         [[introspection]]\nclients = [{KEY_CLIENT:?}, {CLIENT:?}]\naudiences = [\"orders\", \"billing\", \"bound\"]\n\
         [[issuer]]\nissuer = {LAB_ISSUER:?}\naudiences = {{ orders = [\"client-1\"] }}\njwks = {{ inline = '{}' }}\n\
         [[subject]]\nissuer = {LAB_ISSUER:?}\nclaim = \"upn\"\nform = \"principal\"\nrealms = [{REALM:?}]\n",
        idp.key_set()
    );
    Ok(shipped.replacen("[filter]\n", &format!("{more}[filter]\n"), 1))
}

/// Gives a stopped broker its address, its public listener and its client.
fn configure(world: &mut World, public: u16, issuer: &str, key: &LabKey) -> Result<(), HarnessError> {
    let file = world.folder().join("client-keys.json");
    std::fs::write(&file, key.key_set().to_string())
        .map_err(|source| HarnessError::io("write a client's keys", source))?;
    let shown = |path: &Path| format!("{:?}", path.display().to_string());
    let certificates = world.certificates();
    let tables = format!(
        "[listen.public]\ntcp = \"127.0.0.1:{public}\"\ncertificate = {}\nprivate_key = {}\nclient_ca = {}\n\n\
         [[client]]\nname = {KEY_CLIENT:?}\nkeys = {}\n\n[kerberos]\n",
        shown(&certificates.certificate),
        shown(&certificates.private_key),
        shown(&certificates.authority),
        shown(&file),
    );
    let broker = world.broker();
    broker.configure(&format!("issuer = {ISSUER:?}"), &format!("issuer = {issuer:?}"))?;
    broker.configure("[kerberos]\n", &tables)
}

fn merged(mut claims: Value, more: &Value) -> Value {
    if let (Some(members), Some(more)) = (claims.as_object_mut(), more.as_object()) {
        members.extend(more.clone());
        members.retain(|_, value| !value.is_null());
    }
    claims
}

fn sign(key: &LabKey, header: &Value, claims: &Value) -> Result<String, HarnessError> {
    let token = key
        .sign(header, claims)
        .map_err(|ring::error::Unspecified| no_randomness())?;
    crate::canary::note(token.as_bytes());
    Ok(token)
}

fn new_key() -> Result<LabKey, HarnessError> {
    LabKey::generate().map_err(|ring::error::Unspecified| no_randomness())
}

/// A `jti` that nobody had.
fn unique() -> Result<String, HarnessError> {
    new_key().map(|key| key.key_id())
}

fn no_randomness() -> HarnessError {
    HarnessError::io("use a key", std::io::Error::other("no randomness"))
}

/// A value as it stands in a form.
fn escaped(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
