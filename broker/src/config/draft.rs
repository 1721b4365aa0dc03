//! Keeps what could be read of a configuration beside all that is wrong with it, so that the rest can be looked at too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::level_filters::LevelFilter;

use super::demands::Tickets;
use super::listen::Listeners;
use super::policy_file::{self, BesidePolicy, PolicyOfFile};
use super::{
    Address, ClientConfig, Config, DelegationConfig, KerberosConfig, KeySource, KeysConfig, Limits, ListenerConfig,
    Surroundings, audit, bindings, check_level, clients, delegation, groups, issuer, kerberos, keys, limits, listen,
    names, raw, read_text, state_dir, store, traces,
};
use crate::audit::AuditRules;
use crate::channel_bindings::ChannelBindingRules;
use crate::groups::GroupSource;
use crate::keyring::{KeyRing, KeyringPlace};
use crate::policy::Policy;
use crate::principal::mapping::NameRules;
use crate::problem::{Problem, Problems};
use crate::store::{PostgresConfig, not_lost};
use crate::strict_toml;
use crate::trace::TracingRules;

/// A configuration of which some fields may be unusable; those are noted among its problems.
#[derive(Debug, Default)]
pub struct Draft {
    issuer: Option<String>,
    state_dir: Option<PathBuf>,
    listeners: Listeners,
    kerberos: Option<KerberosConfig>,
    names: Option<NameRules>,
    channel_bindings: Option<Arc<ChannelBindingRules>>,
    groups: Option<GroupSource>,
    keys: Option<KeysConfig>,
    limits: Option<Limits>,
    replay_store: bool,
    database: Option<Option<PostgresConfig>>,
    /// It makes no tokens of tickets, and needs nothing for that.
    delegates_only: bool,
    delegation: Option<DelegationConfig>,
    clients: Vec<ClientConfig>,
    issuer_keys: Vec<KeySource>,
    issuer_feeds: Vec<KeySource>,
    audit: Option<AuditRules>,
    log_level: Option<LevelFilter>,
    tracing: Option<TracingRules>,
    policy: Option<PolicyOfFile>,
    problems: Problems,
}

impl Draft {
    /// Reads the file, the policy file, keytabs, certificates and keys, and changes nothing.
    pub fn read(path: &Path, surroundings: &Surroundings) -> Self {
        let mut problems = Problems::default();
        let file = read_text(path, "--config", &mut problems)
            .and_then(|text| strict_toml::read::<raw::Config>(&text, &mut problems));
        let folder = path.parent().unwrap_or(Path::new(""));
        match file {
            Some(file) => Self::build(file, folder, surroundings, problems),
            None => Self {
                problems,
                ..Self::default()
            },
        }
    }

    fn build(file: raw::Config, folder: &Path, around: &Surroundings, mut problems: Problems) -> Self {
        let delegates_only = file.delegates_only();
        let raw::Config {
            issuer,
            state_dir,
            policy_file,
            listen,
            mut kerberos,
            names,
            groups,
            keys: keys_section,
            client,
            issuer_keys,
            issuer_feeds,
            limits,
            replay,
            store: store_section,
            delegation,
            audit,
            log,
            tracing,
        } = file;
        let issuer = issuer::check(issuer, &mut problems);
        let state_dir = match state_dir {
            Some(path) => state_dir::check(folder.join(path), &mut problems),
            None => {
                problems.missing(
                    "state_dir",
                    "name a folder of the broker's own, such as \"/var/lib/kerbridge\"",
                );
                None
            }
        };
        let listeners = listen::check(listen, folder, &mut problems);
        let names = names::check(names, &kerberos.realms, &mut problems);
        let tickets = Tickets::of(&kerberos);
        let bindings = std::mem::take(&mut kerberos.channel_bindings);
        let channel_bindings =
            bindings::check(bindings, folder, listeners.public.as_ref(), &mut problems).map(Arc::new);
        let (kerberos, keys) = if delegates_only {
            if let Some(public) = &listeners.public {
                let field = format!("listen.{}", public.name);
                problems.note(
                    field,
                    "has nothing to serve: tickets are for the mesh only",
                    "remove it",
                );
            }
            (kerberos::check_without_acceptors(kerberos, &mut problems), None)
        } else {
            let kerberos = kerberos::check(kerberos, folder, &mut problems);
            (kerberos, keys::check(keys_section, folder, around, &mut problems))
        };
        let limits = limits::check(limits, &mut problems);
        let raw::Replay { store: replay_store } = replay;
        let database = store::check(store_section, folder, &mut problems);
        let audit = audit::check(audit, folder, &mut problems);
        let log_level = check_level(log.level.as_deref(), &mut problems);
        let tracing = tracing.and_then(|section| traces::check(section, folder, &mut problems));
        let realms = kerberos.as_ref().map(|kerberos| kerberos.realms.as_slice());
        let groups = groups::check(groups, folder, realms, &mut problems);
        // Where tokens are not made, who is in a group is somebody else's to say.
        let asked = groups.as_ref().filter(|_| !delegates_only);
        let beside = BesidePolicy {
            issuer: issuer.as_deref(),
            realms,
            groups: asked,
            tickets: &tickets,
        };
        let policy = policy_file::check(policy_file, folder, &beside, &mut problems);
        let issuer_keys = delegation::check_issuer_keys(
            issuer_keys,
            folder,
            delegation.is_some(),
            policy.as_ref(),
            &mut problems,
        );
        let issuer_feeds = delegation::check_issuer_feeds(
            issuer_feeds,
            folder,
            &issuer_keys,
            delegation.is_some(),
            policy.as_ref(),
            &mut problems,
        );
        if let (Some(keys), Some(policy)) = (&keys, &policy) {
            keys::check_beside(keys, policy, &mut problems);
        }
        if let (Some(limits), Some(policy)) = (&limits, &policy) {
            limits::check_beside(
                limits,
                &policy.file,
                delegation.is_some(),
                delegates_only,
                &mut problems,
            );
        }
        if let (None, Some(policy)) = (&delegation, &policy) {
            delegation::check_absent(&policy.file, &mut problems);
        }
        let delegation = delegation.and_then(|section| {
            let beside = delegation::Beside {
                only: delegates_only,
                issuer: issuer.as_deref(),
                kerberos: kerberos.as_ref(),
                mesh: listeners.mesh.as_ref(),
                policy: policy.as_ref(),
            };
            delegation::check(section, folder, &beside, &mut problems)
        });
        if !client.is_empty() && listeners.public.is_none() {
            problems.note(
                "client",
                "is for listen.public, which is not there",
                "add [listen.public], or remove each [[client]]",
            );
        }
        let clients = clients::check(client, folder, &mut problems);
        Self {
            issuer,
            state_dir,
            listeners,
            kerberos,
            names,
            channel_bindings,
            groups,
            keys,
            limits,
            // What it closes is no matter of taste; who turns it off has a disk that is too slow.
            replay_store: replay_store.unwrap_or(true),
            database,
            delegates_only,
            delegation,
            clients,
            issuer_keys,
            issuer_feeds,
            audit,
            log_level,
            tracing,
            policy,
            problems,
        }
    }

    /// The listeners that could be read.
    pub fn listeners(&self) -> impl Iterator<Item = &ListenerConfig> {
        self.listeners.iter()
    }

    /// The socket of `listen.admin`, where there is one and it could be read.
    pub fn admin_socket(&self) -> Option<&Path> {
        match &self.listeners.admin.as_ref()?.address {
            Address::Unix { path, .. } => Some(path),
            Address::Tls { .. } | Address::Clear { .. } => None,
        }
    }

    /// `iss`, where it could be read.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The file or credential with the key-encryption key, where it could be read.
    pub fn key_encryption_file(&self) -> Option<&Path> {
        self.keys.as_ref().map(|keys| keys.key_encryption_file.as_path())
    }

    /// The policy, where it could be read.
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref().map(|file| &file.policy)
    }

    /// Where audit events go, where that could be read.
    pub fn audit(&self) -> Option<&AuditRules> {
        self.audit.as_ref()
    }

    /// The database that several brokers share, where there is one; nothing where its section cannot be read.
    pub fn database(&self) -> Option<Option<&PostgresConfig>> {
        self.database.as_ref().map(Option::as_ref)
    }

    fn keyring_place(&self) -> Option<KeyringPlace> {
        match self.database()? {
            Some(database) => Some(KeyringPlace::Database(database.clone())),
            None => self.state_dir().map(KeyringPlace::from),
        }
    }

    /// All that is wrong with it.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// The state directory, where its field could be read; it may not exist yet.
    pub fn state_dir(&self) -> Option<&Path> {
        self.state_dir.as_deref()
    }

    /// Opens the stored keys, where there are some and the fields that lead to them could be read, and sees that their store was not
    /// lost; makes none.
    pub fn check_stored(&mut self) {
        if let (Some(state_dir), Some(None), Some(_)) = (&self.state_dir, &self.database, &self.keys)
            && let Err(problem) = not_lost(state_dir)
        {
            self.note(problem);
        }
        if let (Some(place), Some(keys)) = (self.keyring_place(), &self.keys)
            && let Err(error) = KeyRing::check(place, &keys.key_encryption_key, &keys.rotation)
        {
            self.note(error.problem());
        }
    }

    /// Notes one more problem, found outside the file.
    pub fn note(&mut self, problem: Problem) {
        self.problems.absorb("", problem.into());
    }

    /// The configuration, if nothing is wrong with it.
    pub fn finish(self) -> Result<Config, Problems> {
        let Self {
            issuer,
            state_dir,
            listeners:
                Listeners {
                    mesh,
                    public,
                    observe,
                    admin,
                },
            kerberos,
            names,
            channel_bindings,
            groups,
            keys,
            limits,
            replay_store,
            database,
            delegates_only,
            delegation,
            clients,
            issuer_keys,
            issuer_feeds,
            audit,
            log_level,
            tracing,
            policy,
            problems,
        } = self;
        let whole = move || {
            // Absent by a mistake, or because no tokens are made.
            if keys.is_none() && !delegates_only {
                return None;
            }
            let policy = policy?;
            Some(Config {
                issuer: issuer?,
                state_dir: state_dir?,
                mesh: mesh?,
                public,
                observe,
                admin,
                kerberos: kerberos?,
                names: names?,
                channel_bindings: channel_bindings?,
                groups: groups?,
                keys,
                delegation,
                clients,
                issuer_keys,
                issuer_feeds,
                limits: limits?,
                replay_store,
                database: database?,
                audit: audit?,
                log_level: log_level?,
                tracing,
                policy_digest: policy.digest(),
                policy: policy.policy,
                policy_file: policy.file,
            })
        };
        match whole() {
            Some(config) if problems.is_empty() => {
                let found = config.check_verifying();
                if found.is_empty() { Ok(config) } else { Err(found) }
            }
            Some(_) | None => Err(problems),
        }
    }
}
