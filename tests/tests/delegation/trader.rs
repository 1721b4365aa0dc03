//! A broker that trades tokens for tickets and does nothing else, and whoever asks it: the tokens are the test's own.

use std::collections::BTreeSet;
use std::path::Path;

use kerbridge_tests::broker::{self, Broker, BrokerSettings};
use kerbridge_tests::delegation::{DelegationRealm, LEGACY, OTHER, UNKNOWN};
use kerbridge_tests::http::Request;
use kerbridge_tests::tickets::services;
use kerbridge_tests::token::{LabKey, now, with};
use kerbridge_wire::exchange::NEGOTIATE_TOKEN_TYPE;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The `iss` of tokens of ours.
pub(crate) const ISSUER: &str = "https://kerbridge.lab.test";
/// That of another issuer, whose `upn` and `name` say who its tokens are about.
pub(crate) const IDP: &str = "https://id.lab.test";

/// What became of a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Traded {
    /// A ticket, as it follows `Negotiate `, and how many seconds it is of use.
    Ticket(String, u64),
    /// None: status and reason.
    Refused(u16, String),
}

impl Traded {
    pub(crate) fn refused(status: u16, reason: &str) -> Self {
        Self::Refused(status, reason.to_owned())
    }

    pub(crate) fn ticket(self) -> String {
        match self {
            Self::Ticket(ticket, _) => ticket,
            Self::Refused(status, reason) => panic!("{status} {reason}"),
        }
    }

    pub(crate) fn life(self) -> u64 {
        match self {
            Self::Ticket(_, life) => life,
            Self::Refused(status, reason) => panic!("{status} {reason}"),
        }
    }
}

/// The broker, and the keys with which it lets itself be asked.
pub(crate) struct Trader {
    pub(crate) broker: Broker,
    pub(crate) key: LabKey,
    pub(crate) idp: LabKey,
    realm: String,
    folder: TempDir,
}

/// What a trader is to be, before it starts.
pub(crate) struct Plan<'a> {
    /// The account at the KDC, and its keytab.
    pub(crate) account: &'a str,
    /// More of the policy.
    pub(crate) policy: String,
    /// More of the section `[delegation]`.
    pub(crate) section: String,
    /// More realms whose users are taken.
    pub(crate) realms: Vec<String>,
    /// Another krb5.conf than the realm's.
    pub(crate) krb5_config: Option<&'a Path>,
}

impl<'a> Plan<'a> {
    pub(crate) fn of(account: &'a str) -> Self {
        Self {
            account,
            policy: String::new(),
            section: String::new(),
            realms: Vec::new(),
            krb5_config: None,
        }
    }

    /// Starts a broker with the public key of tokens in a file.
    pub(crate) fn start(self, realm: &DelegationRealm) -> Trader {
        let folder = tempfile::tempdir().unwrap();
        let (key, idp) = (LabKey::generate().unwrap(), LabKey::generate().unwrap());
        for (name, key) in [("keys.json", &key), ("idp.json", &idp)] {
            std::fs::write(folder.path().join(name), key.key_set().to_string()).unwrap();
        }
        let idp_keys = if self.policy.contains("[[subject]]") {
            format!("[[delegation.keys]]\nissuer = {IDP:?}\nfile = \"idp.json\"\n")
        } else {
            String::new()
        };
        let settings = BrokerSettings {
            issuer: ISSUER.to_owned(),
            realms: std::iter::once(realm.realm().to_owned()).chain(self.realms).collect(),
            acceptors: Vec::new(),
            keytab: realm.keytab(self.account),
            policy: format!("{}{}", policy(realm), self.policy),
            more: format!(
                "{}refused_targets = []\nfollow_revocations = false\n{}\n\
                 [[delegation.keys]]\nissuer = {ISSUER:?}\nfile = \"keys.json\"\n\
                 {idp_keys}[listen.observe]\nunix = \"observe.sock\"\n",
                realm.table(self.account),
                self.section
            ),
        };
        let mut broker = Broker::prepare(folder.path(), &settings).unwrap();
        broker.set_krb5_config(self.krb5_config.unwrap_or_else(|| realm.clients().krb5_config()));
        broker.start().unwrap();
        Trader {
            broker,
            key,
            idp,
            realm: realm.realm().to_owned(),
            folder,
        }
    }
}

/// Everybody of the realm towards three services, one of them for one client only; the other issuer's tokens are about the
/// principal in `upn`.
fn policy(realm: &DelegationRealm) -> String {
    let name = realm.realm();
    let mut policy = format!(
        r#"
        [[audience]]
        name = "legacy"
        [[audience]]
        name = "orders"
        [[route]]
        path_prefix = "/"
        accept = ["bearer"]
        audience = "legacy"
        [[delegation]]
        target = "HTTP/elsewhere.lab.test@{name}"
        audience = "legacy"
        principals = ["*@{name}"]
        clients = ["another-envoy"]
        [[issuer]]
        issuer = "{IDP}"
        audiences = {{ legacy = ["client-1"] }}
        types = ["JWT"]
        jwks = {{ cluster = "idp" }}
        "#
    );
    for target in [LEGACY, OTHER, UNKNOWN] {
        policy.push_str(&format!(
            "[[delegation]]\ntarget = \"{target}@{name}\"\naudience = \"legacy\"\nprincipals = [\"*@{name}\"]\nclients = [\"*\"]\n"
        ));
    }
    policy
}

/// A `[[subject]]` for the other issuer.
pub(crate) fn subject(claim: &str, rest: &str) -> String {
    format!("[[subject]]\nissuer = {IDP:?}\nclaim = {claim:?}\n{rest}\n")
}

/// A token of the other issuer by this key, with this claim.
pub(crate) fn foreign_token(key: &LabKey, claim: &str, value: &str) -> String {
    let claims = json!({
        "iss": IDP, "sub": "4711", "aud": "client-1", "iat": now(), "exp": now().saturating_add(600), claim: value,
    });
    key.sign(&with(key.header(), "typ", json!("JWT")), &claims).unwrap()
}

impl Trader {
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Claims of a good token about a user, for the service behind the audience `legacy`.
    pub(crate) fn claims(&self, user: &str) -> Value {
        json!({
            "iss": ISSUER, "sub": format!("{user}@{}", self.realm), "aud": "legacy", "client_id": "mesh", "jti": "j-1",
            "iat": now(), "exp": now().saturating_add(600),
        })
    }

    /// A good token about a user.
    pub(crate) fn token(&self, user: &str) -> String {
        self.sign(&self.claims(user))
    }

    /// A token with these claims, signed as ours.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.key.sign(&self.key.header(), claims).unwrap()
    }

    /// A token of the other issuer, with this claim.
    pub(crate) fn foreign(&self, claim: &str, value: &str) -> String {
        foreign_token(&self.idp, claim, value)
    }

    /// Trades a token for a ticket to [`LEGACY`].
    pub(crate) fn trade(&self, token: &str) -> Traded {
        self.trade_for(token, LEGACY)
    }

    /// The same for another service of the realm.
    pub(crate) fn trade_for(&self, token: &str, target: &str) -> Traded {
        trade(&self.broker, token, &format!("{target}@{}", self.realm))
    }

    /// Trades a token for a ticket to [`LEGACY`], for a client with this certificate.
    pub(crate) fn trade_held_with(&self, token: &str, certificate: &str) -> Traded {
        let target = format!("{LEGACY}@{}", self.realm);
        let form = form_of(token, &target, NEGOTIATE_TOKEN_TYPE);
        send(
            &self.broker,
            &target,
            &posted(format!("{form}&certificate={certificate}")),
        )
    }

    /// How often a metric's line stands at a number: the number.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        let answer = broker::ask(&self.folder().join("observe.sock"), &Request::get("/metrics")).unwrap();
        let text = answer.text();
        let mut lines = text.lines();
        let value = lines.find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_default()
    }
}

/// Trades a token at a broker, and looks that nothing leaves it but a ticket to the target.
pub(crate) fn trade(broker: &Broker, token: &str, target: &str) -> Traded {
    send(broker, target, &request_of(token, target, NEGOTIATE_TOKEN_TYPE))
}

fn send(broker: &Broker, target: &str, request: &Request) -> Traded {
    let answer = broker::ask(&broker.socket(), request).unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let member = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let tickets = services(&answer.body);
    if answer.status != 200 {
        assert_eq!(tickets, BTreeSet::new(), "{body}");
        return Traded::Refused(answer.status, member("reason"));
    }
    assert_eq!(tickets, BTreeSet::from([target.to_owned()]), "{body}");
    let members: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    // A ticket has no scopes.
    assert_eq!(
        members,
        ["access_token", "expires_in", "issued_token_type", "token_type"]
    );
    assert_eq!(member("issued_token_type"), NEGOTIATE_TOKEN_TYPE);
    assert_eq!(member("token_type"), "N_A");
    Traded::Ticket(member("access_token"), body["expires_in"].as_u64().unwrap())
}

/// The request by which the filter trades a token for something of this kind.
pub(crate) fn request_of(token: &str, audience: &str, kind: &str) -> Request {
    posted(form_of(token, audience, kind))
}

fn posted(form: String) -> Request {
    Request::post("/oauth2/token", form).header("content-type", "application/x-www-form-urlencoded")
}

fn form_of(token: &str, audience: &str, kind: &str) -> String {
    let escaped = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
         &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token\
         &requested_token_type={}&request_id=r-1&route=legacy&audience={}&subject_token={}",
        escaped(kind),
        escaped(audience),
        escaped(token)
    )
}
