//! Turns `kerbridge.toml` into a configuration that cannot be wrong, or says all that is wrong with it at once.

mod audit;
mod bindings;
mod client_names;
mod clients;
mod delegation;
mod demands;
mod directory;
mod draft;
mod groups;
mod kerberos;
mod key_source;
mod keys;
mod limits;
mod listen;
mod names;
mod raw;
mod secret_file;
mod state_dir;
mod store;
mod tls;
mod traces;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kerbridge_gss::Principal;
use kerbridge_wire::policy as wire_policy;
use ring::digest::{SHA256, digest};
use tracing::level_filters::LevelFilter;

pub use client_names::ClientNames;
pub use clients::ClientConfig;
pub use delegation::{DelegationConfig, DelegationLimits, TargetBinding};
pub use draft::Draft;
pub use kerberos::{AcceptorConfig, KerberosConfig, check_keytab_file};
pub use key_source::{KeyPlace, KeySource};
pub use keys::{KeysConfig, read_kek};
pub use limits::Limits;
pub(crate) use listen::is_client_name;
pub use listen::{Address, ListenerConfig, ListenerName};
pub use names::NamesConfig;
pub use state_dir::prepare as prepare_state_dir;
pub use tls::TlsServer;

use self::demands::Tickets;
use crate::audit::AuditRules;
use crate::channel_bindings::ChannelBindingRules;
use crate::groups::{GroupSet, GroupSource};
use crate::hexadecimal;
use crate::keyring::KeyringPlace;
use crate::policy::Policy;
use crate::principal::mapping::NameRules;
use crate::problem::{Problem, Problems};
use crate::store::PostgresConfig;
use crate::strict_toml;
use crate::trace::TracingRules;

/// Largest file written by hand that is read, in bytes.
const LARGEST: u64 = 4 * 1024 * 1024;

/// The broker's configuration. Built by [`Draft::finish`] only.
#[derive(Debug)]
pub struct Config {
    issuer: String,
    state_dir: PathBuf,
    mesh: ListenerConfig,
    public: Option<ListenerConfig>,
    observe: Option<ListenerConfig>,
    admin: Option<ListenerConfig>,
    kerberos: KerberosConfig,
    names: NameRules,
    channel_bindings: Arc<ChannelBindingRules>,
    groups: GroupSource,
    keys: Option<KeysConfig>,
    delegation: Option<DelegationConfig>,
    clients: Vec<ClientConfig>,
    issuer_keys: Vec<KeySource>,
    issuer_feeds: Vec<KeySource>,
    limits: Limits,
    replay_store: bool,
    database: Option<PostgresConfig>,
    audit: AuditRules,
    log_level: LevelFilter,
    tracing: Option<TracingRules>,
    policy: Policy,
    policy_file: wire_policy::Policy,
    policy_digest: String,
}

/// Where things are and how they are called outside the file itself.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `$CREDENTIALS_DIRECTORY` of systemd, where there is one.
    pub credentials_directory: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self {
            credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        }
    }
}

impl Config {
    /// Reads the file, the policy file, keytabs, certificates and keys, and changes nothing.
    pub fn load(path: &Path, surroundings: &Surroundings) -> Result<Self, Problems> {
        Draft::read(path, surroundings).finish()
    }

    /// `iss` of every token: an https URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Folder of what must survive a restart; see [`prepare_state_dir`].
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The filter's listener.
    pub fn mesh(&self) -> &ListenerConfig {
        &self.mesh
    }

    /// Everything that is listened on.
    pub fn listeners(&self) -> impl Iterator<Item = &ListenerConfig> {
        let others = [&self.public, &self.observe, &self.admin];
        std::iter::once(&self.mesh).chain(others.into_iter().flatten())
    }

    /// What is not wrong, and yet to be known.
    pub fn warnings(&self) -> Vec<Problem> {
        let mesh = match &self.mesh.address {
            Address::Tls { server, .. } => server.client_names().warning(),
            Address::Unix { .. } | Address::Clear { .. } => None,
        };
        mesh.into_iter().collect()
    }

    /// Realms, acceptors, clock skew.
    pub fn kerberos(&self) -> &KerberosConfig {
        &self.kerberos
    }

    /// What tokens call those who are taken.
    pub fn names(&self) -> &NameRules {
        &self.names
    }

    /// Which channels a ticket may be bound to.
    pub fn channel_bindings(&self) -> &Arc<ChannelBindingRules> {
        &self.channel_bindings
    }

    /// Who is in which group.
    pub fn groups(&self) -> &GroupSource {
        &self.groups
    }

    /// How stored keys are sealed, and signing keys made and replaced; absent where no tokens are made, but tickets for those of
    /// another broker.
    pub fn keys(&self) -> Option<&KeysConfig> {
        self.keys.as_ref()
    }

    /// How the broker acts for users; absent where it does not.
    pub fn delegation(&self) -> Option<&DelegationConfig> {
        self.delegation.as_ref()
    }

    /// Where keys of issuers come from, beside the policy and this broker's own.
    pub fn key_sources(&self) -> &[KeySource] {
        self.delegation
            .as_ref()
            .map_or(&self.issuer_keys, |delegation| &delegation.keys)
    }

    /// Which other brokers' revocations are followed.
    pub fn feed_sources(&self) -> &[KeySource] {
        self.delegation
            .as_ref()
            .map_or(&self.issuer_feeds, |delegation| &delegation.feeds)
    }

    /// The clients that have keys.
    pub fn clients(&self) -> &[ClientConfig] {
        &self.clients
    }

    /// How much at once.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether used tickets are noted in the store beside MIT's cache.
    pub fn replay_store(&self) -> bool {
        self.replay_store
    }

    /// The database that several brokers share; absent where the store is a file of the state directory.
    pub fn database(&self) -> Option<&PostgresConfig> {
        self.database.as_ref()
    }

    /// Where the signing keys are kept.
    pub fn keyring_place(&self) -> KeyringPlace {
        match &self.database {
            Some(database) => KeyringPlace::Database(database.clone()),
            None => self.state_dir().into(),
        }
    }

    /// What is logged.
    pub fn log_level(&self) -> LevelFilter {
        self.log_level
    }

    /// Where spans go; absent where none are recorded.
    pub fn tracing(&self) -> Option<&TracingRules> {
        self.tracing.as_ref()
    }

    /// Where audit events go.
    pub fn audit(&self) -> &AuditRules {
        &self.audit
    }

    /// SHA-256 of the policy file, in hexadecimal: says which policy was in force.
    pub fn policy_digest(&self) -> &str {
        &self.policy_digest
    }

    /// The grants.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The policy file as written, whose issuers are taken.
    pub fn policy_file(&self) -> &wire_policy::Policy {
        &self.policy_file
    }
}

/// As much of the configuration as the policy needs: no keytab, no keys, no certificates. Built by
/// [`PolicyConfig::load`] only.
#[derive(Debug)]
pub struct PolicyConfig {
    issuer: String,
    policy: PolicyOfFile,
    grant_places: Vec<String>,
    realms: Vec<String>,
    groups: Option<GroupSource>,
}

impl PolicyConfig {
    /// Reads the configuration and the policy file, and checks issuer and policy.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let config = read_text(path, "--config", &mut problems)
            .and_then(|text| strict_toml::read::<raw::Config>(&text, &mut problems))
            .and_then(|file| {
                let delegates_only = file.delegates_only();
                let issuer = check_issuer(file.issuer, &mut problems);
                let folder = path.parent().unwrap_or(Path::new(""));
                let tickets = Tickets::of(&file.kerberos);
                let realms = file.kerberos.realms;
                let groups = groups::check_without_secrets(file.groups, folder, Some(&realms), &mut problems);
                let beside = BesidePolicy {
                    realms: Some(&realms),
                    groups: groups.as_ref().filter(|_| !delegates_only),
                    tickets: &tickets,
                };
                let policy = check_policy(file.policy_file, folder, &beside, &mut problems)?;
                Some(Self {
                    issuer: issuer?,
                    grant_places: policy.grant_places(),
                    policy,
                    realms,
                    groups,
                })
            });
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            Some(_) | None => Err(problems),
        }
    }

    /// `iss` of every token.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The policy file as written.
    pub fn policy_file(&self) -> &wire_policy::Policy {
        &self.policy.file
    }

    /// The policy as it is in force.
    pub fn policy(&self) -> &Policy {
        &self.policy.policy
    }

    /// Where each grant stands: the file's name and the line.
    pub fn grant_places(&self) -> &[String] {
        &self.grant_places
    }

    /// Lines of the policy that nothing ever uses.
    pub fn doubts(&self) -> Problems {
        let mut doubts = Problems::default();
        let found = self.policy.policy.doubts(&self.policy.file);
        doubts.absorb(&prefix_of(&self.policy.path), found);
        doubts
    }

    /// What of the policy gives up safety, and was said on purpose.
    pub fn cautions(&self) -> Problems {
        let mut cautions = Problems::default();
        if !self.policy.file.filter.follow_revocations {
            cautions.note(
                format!("{}filter.follow_revocations", prefix_of(&self.policy.path)),
                "REVOCATIONS ARE OFF: whatever is taken back, a token that was issued passes every Envoy with this policy until \
                 its end, after a logout too",
                "remove the line, unless every audience's ttl is a time for which that may be so",
            );
        }
        cautions
    }

    /// Realms whose principals are taken.
    pub fn realms(&self) -> &[String] {
        &self.realms
    }

    /// The groups of a principal, where a file says them.
    pub fn groups_of(&self, principal: &Principal) -> Option<GroupSet> {
        match &self.groups {
            Some(GroupSource::Static(groups)) => Some(groups.of(principal)),
            Some(GroupSource::None | GroupSource::Pac(_) | GroupSource::Directory(_)) | None => None,
        }
    }
}

/// Reads a text that is written by hand, or notes why it cannot be read.
pub(crate) fn read_text(path: &Path, field: &str, problems: &mut Problems) -> Option<String> {
    let name = path.display();
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > LARGEST => {
            problems.note(field, format!("{name} is larger than 4 MiB"), "name another file");
            return None;
        }
        Ok(_) => {}
        Err(error) => {
            problems.note(
                field,
                format!("{name}: {error}"),
                "name a file that the broker's user can read",
            );
            return None;
        }
    }
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            problems.note(
                field,
                format!("{name}: {error}"),
                "name a text file that the broker's user can read",
            );
            None
        }
    }
}

/// A policy as written, as it is in force, and where it stands.
#[derive(Debug)]
struct PolicyOfFile {
    file: wire_policy::Policy,
    policy: Policy,
    path: PathBuf,
    text: String,
}

impl PolicyOfFile {
    fn grant_places(&self) -> Vec<String> {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        let lines = strict_toml::lines_of(&self.text, "grant").into_iter();
        lines.map(|line| format!("{}:{line}", name.to_string_lossy())).collect()
    }

    fn digest(&self) -> String {
        let digest = digest(&SHA256, self.text.as_bytes());
        hexadecimal::digits(digest.as_ref())
    }
}

/// What the policy must agree with, as far as it could be read.
struct BesidePolicy<'a> {
    realms: Option<&'a [String]>,
    groups: Option<&'a GroupSource>,
    tickets: &'a Tickets,
}

fn check_policy(
    file: Option<PathBuf>,
    folder: &Path,
    beside: &BesidePolicy<'_>,
    problems: &mut Problems,
) -> Option<PolicyOfFile> {
    let BesidePolicy {
        realms,
        groups,
        tickets,
    } = *beside;
    let Some(path) = file.map(|path| folder.join(path)) else {
        problems.missing("policy_file", "name the policy file, such as \"policy.toml\"");
        return None;
    };
    let text = read_text(&path, "policy_file", problems)?;
    let mut found = Problems::default();
    let file = strict_toml::read::<wire_policy::Policy>(&text, &mut found);
    let policy = file.as_ref().and_then(|file| Policy::build(file, &mut found));
    if let (Some(policy), Some(realms)) = (&policy, realms) {
        for (field, realm) in policy.realms() {
            if !realms.iter().any(|known| known == realm) {
                found.note(
                    field,
                    format!("realm {realm:?} is not in kerberos.realms, so that it never matches"),
                    "add the realm there, or correct it here",
                );
            }
        }
    }
    if let Some(policy) = &policy {
        tickets.check(policy, &mut found);
    }
    if let (Some(file), Some(groups)) = (&file, groups) {
        for (field, group) in Policy::groups(file).filter(|(_, group)| !groups.may_give(group)) {
            found.note(
                field,
                format!("nobody can be in {group:?}: {}", groups.why_not()),
                "correct the name, or add it there",
            );
        }
    }
    problems.absorb(&prefix_of(&path), found);
    let (file, policy) = file.zip(policy)?;
    Some(PolicyOfFile {
        file,
        policy,
        path,
        text,
    })
}

/// What stands before the fields of a file.
fn prefix_of(path: &Path) -> String {
    format!("{}: ", path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}

fn check_issuer(issuer: Option<String>, problems: &mut Problems) -> Option<String> {
    const REMEDY: &str =
        "write an https URL without query, fragment and last slash, such as \"https://kerbridge.example.com\"";
    let Some(issuer) = issuer else {
        problems.missing("issuer", REMEDY);
        return None;
    };
    let rest = issuer.strip_prefix("https://").unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    let path_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~');
    // Whose metadata and keys are at addresses that are made of it.
    let good = !authority.is_empty()
        && !issuer.ends_with('/')
        && !authority.starts_with(':')
        && issuer.len() <= 255
        && authority.bytes().all(host_good)
        && path.bytes().all(path_good);
    if good {
        Some(issuer)
    } else {
        problems.note("issuer", format!("{issuer:?} is no issuer"), REMEDY);
        None
    }
}

fn check_level(level: Option<&str>, problems: &mut Problems) -> Option<LevelFilter> {
    match level.unwrap_or("info") {
        "error" => Some(LevelFilter::ERROR),
        "warn" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        other => {
            problems.note(
                "log.level",
                format!("{other:?} is no level"),
                "write error, warn, info, debug or trace",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests;
