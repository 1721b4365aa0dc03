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
mod issuer;
mod kerberos;
mod key_source;
mod keys;
mod limits;
mod listen;
mod names;
mod policy_config;
mod policy_file;
mod raw;
mod secret_file;
mod state_dir;
mod store;
mod tls;
mod traces;
mod verifying;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kerbridge_wire::policy as wire_policy;
use tracing::level_filters::LevelFilter;

pub use client_names::ClientNames;
pub(crate) use client_names::{unfit as unfit_client, unfit_in_policy as unfit_client_of_policy};
pub use clients::ClientConfig;
pub(crate) use clients::kid_that_stands_twice;
pub use delegation::{DelegationConfig, DelegationLimits, TargetBinding};
pub use draft::Draft;
pub use kerberos::{AcceptorConfig, KerberosConfig, check_keytab_file};
pub use key_source::{KeyPlace, KeySource};
pub use keys::{KeysConfig, read_kek};
pub use limits::Limits;
pub(crate) use listen::is_client_name;
pub use listen::{Address, ListenerConfig, ListenerName};
pub use names::NamesConfig;
pub use policy_config::PolicyConfig;
pub use state_dir::prepare as prepare_state_dir;
pub use tls::TlsServer;

use self::policy_file::{PolicyOfFile, prefix_of};
use crate::audit::AuditRules;
use crate::channel_bindings::ChannelBindingRules;
use crate::groups::GroupSource;
use crate::keyring::KeyringPlace;
use crate::policy::Policy;
use crate::principal::mapping::NameRules;
use crate::problem::{Problem, Problems};
use crate::store::PostgresConfig;
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

/// What whoever runs a command does about a file that is there and not for them.
const NOT_ALLOWED: &str = "run this as root or as the broker's user, and let that user read it";

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
                if error.kind() == io::ErrorKind::PermissionDenied {
                    NOT_ALLOWED
                } else {
                    "name a file that the broker's user can read"
                },
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
                if error.kind() == io::ErrorKind::PermissionDenied {
                    NOT_ALLOWED
                } else {
                    "name a text file that the broker's user can read"
                },
            );
            None
        }
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
