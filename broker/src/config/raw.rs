//! Gives `kerbridge.toml` its shape, as written; every field may be absent, so that all absences are found at once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kerbridge_wire::Span;
use kerbridge_wire::filter_config::Algorithm;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    pub(super) issuer: Option<String>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) policy_file: Option<PathBuf>,
    pub(super) listen: Listen,
    pub(super) kerberos: Kerberos,
    pub(super) names: Names,
    pub(super) groups: Groups,
    pub(super) keys: Keys,
    pub(super) client: Vec<Client>,
    pub(super) issuer_keys: Vec<KeySource>,
    pub(super) issuer_feeds: Vec<KeySource>,
    pub(super) limits: Limits,
    pub(super) replay: Replay,
    pub(super) store: Store,
    pub(super) delegation: Option<Delegation>,
    pub(super) audit: Audit,
    pub(super) log: Log,
    pub(super) tracing: Option<Tracing>,
}

impl Config {
    /// Whether it is of a broker that acts for users and does nothing else.
    pub(super) const fn delegates_only(&self) -> bool {
        self.delegation.is_some() && self.kerberos.acceptor.is_empty() && self.keys.is_empty()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Listen {
    pub(super) mesh: Option<Listener>,
    pub(super) public: Option<Listener>,
    pub(super) observe: Option<Listener>,
    pub(super) admin: Option<Listener>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Listener {
    pub(super) unix: Option<PathBuf>,
    pub(super) mode: Option<String>,
    pub(super) tcp: Option<String>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) private_key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) clear_text: Option<bool>,
    pub(super) client_name: Option<String>,
    pub(super) client_names: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Kerberos {
    pub(super) realms: Vec<String>,
    pub(super) clock_skew_seconds: Option<i64>,
    pub(super) weak_enctypes: Vec<String>,
    pub(super) acceptor: Vec<Acceptor>,
    pub(super) channel_bindings: ChannelBindings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ChannelBindings {
    pub(super) mode: Option<String>,
    pub(super) overlap: Option<Span>,
    pub(super) certificate: Vec<BindingCertificate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BindingCertificate {
    pub(super) server_names: Vec<String>,
    pub(super) file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Acceptor {
    pub(super) principal: Option<String>,
    pub(super) keytab: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Names {
    pub(super) rule: Vec<NameRule>,
    pub(super) auth_to_local: Option<bool>,
    pub(super) instances: Option<String>,
    pub(super) strip_realm_of: Vec<String>,
    pub(super) unmatched: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NameRule {
    #[serde(rename = "match")]
    pub(super) pattern: Option<String>,
    pub(super) subject: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Groups {
    pub(super) source: Option<String>,
    pub(super) static_file: Option<PathBuf>,
    pub(super) sid_names: Option<BTreeMap<String, String>>,
    pub(super) unmapped_sids: Option<String>,
    pub(super) ldap: Option<Ldap>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ldap {
    pub(super) url: Option<String>,
    pub(super) fallback_urls: Vec<String>,
    pub(super) starttls: Option<bool>,
    pub(super) ca: Option<PathBuf>,
    pub(super) clear_text: Option<bool>,
    pub(super) bind: Option<String>,
    pub(super) bind_dn: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) base: Option<String>,
    pub(super) group_base: Option<String>,
    pub(super) find_by: Option<String>,
    pub(super) principal_attribute: Option<String>,
    pub(super) account_attribute: Option<String>,
    pub(super) account_realm: Option<String>,
    pub(super) membership: Option<String>,
    pub(super) member_attribute: Option<String>,
    pub(super) group_class: Option<String>,
    pub(super) name_attribute: Option<String>,
    pub(super) elsewhere: Option<String>,
    pub(super) check_account: Option<bool>,
    pub(super) cache: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Keys {
    pub(super) key_encryption_key_file: Option<PathBuf>,
    pub(super) key_encryption_credential: Option<String>,
    pub(super) algorithm: Option<String>,
    pub(super) rotate_every: Option<String>,
    pub(super) publish_lead: Option<Span>,
    pub(super) pkcs11: Option<Pkcs11>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Pkcs11 {
    pub(super) module: Option<PathBuf>,
    pub(super) token: Option<String>,
    pub(super) pin_file: Option<PathBuf>,
}

impl Keys {
    /// Whether nothing is said of keys.
    pub(super) const fn is_empty(&self) -> bool {
        let Self {
            key_encryption_key_file,
            key_encryption_credential,
            algorithm,
            rotate_every,
            publish_lead,
            pkcs11,
        } = self;
        key_encryption_key_file.is_none()
            && key_encryption_credential.is_none()
            && algorithm.is_none()
            && rotate_every.is_none()
            && publish_lead.is_none()
            && pkcs11.is_none()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Client {
    pub(super) name: Option<String>,
    pub(super) keys: Option<PathBuf>,
    pub(super) algorithms: Option<Vec<Algorithm>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) threads: Option<i64>,
    pub(super) queue: Option<i64>,
    pub(super) deadline: Option<String>,
    pub(super) ticket_floor: Option<Span>,
    pub(super) connections: Option<i64>,
    pub(super) connections_per_source: Option<i64>,
    pub(super) drain: Option<Span>,
    pub(super) drain_notice: Option<Span>,
    pub(super) failures_per_minute: Option<i64>,
    pub(super) shared_sources: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Replay {
    pub(super) store: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Store {
    pub(super) postgres: Option<Postgres>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Postgres {
    pub(super) hosts: Vec<String>,
    pub(super) database: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
    pub(super) clear_text: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Audit {
    pub(super) to: Option<String>,
    pub(super) on_failure: Option<String>,
    pub(super) file: Option<PathBuf>,
    pub(super) mebibytes: Option<i64>,
    pub(super) keep: Option<i64>,
    pub(super) socket: Option<PathBuf>,
    pub(super) facility: Option<String>,
    pub(super) format: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) level: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tracing {
    pub(super) endpoint: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) headers_file: Option<PathBuf>,
    pub(super) timeout: Option<Span>,
    pub(super) service_name: Option<String>,
    pub(super) principals: Option<bool>,
    pub(super) begin_per_mille: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Delegation {
    pub(super) principal: Option<String>,
    pub(super) keytab: Option<PathBuf>,
    pub(super) refused_targets: Option<Vec<String>>,
    pub(super) workers: Option<i64>,
    pub(super) queue: Option<i64>,
    pub(super) entries: Option<i64>,
    pub(super) user_tickets_per_minute: Option<i64>,
    pub(super) target_tickets_per_minute: Option<i64>,
    pub(super) keys: Vec<KeySource>,
    pub(super) follow_revocations: Option<bool>,
    pub(super) feeds: Vec<KeySource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeySource {
    pub(super) issuer: Option<String>,
    pub(super) file: Option<PathBuf>,
    pub(super) unix: Option<PathBuf>,
    pub(super) url: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) poll: Option<Span>,
    pub(super) max_staleness: Option<Span>,
}
