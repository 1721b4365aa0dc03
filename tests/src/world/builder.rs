//! Varies a world before it starts; what is not varied is as it ships.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::domain::{self, Domain};
use super::{LAB_ISSUER, REALM, World};
use crate::apache::Apache;
use crate::broker::{Broker, BrokerSettings};
use crate::certificates::Certificates;
use crate::envoy::{Envoy, EnvoyOptions};
use crate::error::HarnessError;
use crate::kdc::{Ccache, Kdc};
use crate::relay::{Intercept, Relay};
use crate::scripted_server::{Incoming, Reply};
use crate::shipped::{self, ShippedYaml};
use crate::token::LabKey;
use crate::upstream::Upstream;

const KEYS_WITHIN: Duration = Duration::from_secs(30);
/// A port on which nobody listens.
const NOBODY: u16 = 1;
/// Where the echo service publishes the lab issuer's key.
const LAB_KEYS: &str = "/lab-jwks.json";

type EditFilter = dyn FnOnce(&mut Value);
type EditYaml = dyn FnOnce(&mut ShippedYaml) -> Result<(), HarnessError>;

/// A world that has not started.
pub struct WorldBuilder {
    policy: Option<String>,
    broker_more: String,
    broker_runs: bool,
    broker_away: bool,
    intercept: Option<Box<Intercept>>,
    filter_edits: Vec<Box<EditFilter>>,
    yaml_edits: Vec<Box<EditYaml>>,
    lab_issuer: bool,
    concurrency: u32,
    port: u16,
    legacy: u16,
    realm: Realm,
}

/// Which realm a world is in.
enum Realm {
    /// The lab's own, in a file.
    Own,
    /// The lab's own, with a service that takes Kerberos only and a broker that acts for users towards it.
    Delegating,
    /// One that somebody else owns.
    Given(Box<Domain>),
}

impl Default for WorldBuilder {
    fn default() -> Self {
        Self {
            policy: None,
            broker_more: String::new(),
            broker_runs: true,
            broker_away: false,
            intercept: None,
            filter_edits: Vec::new(),
            yaml_edits: Vec::new(),
            lab_issuer: false,
            concurrency: 1,
            port: 0,
            legacy: NOBODY,
            realm: Realm::Own,
        }
    }
}

impl WorldBuilder {
    /// Another policy than the shipped one; the filter's configuration is rendered from it.
    #[must_use]
    pub fn policy(mut self, toml: &str) -> Self {
        self.policy = Some(toml.to_owned());
        self
    }

    /// More tables of `kerbridge.toml`.
    #[must_use]
    pub fn broker_table(mut self, toml: &str) -> Self {
        self.broker_more.push_str(toml);
        self.broker_more.push('\n');
        self
    }

    /// Leaves the broker stopped, and does not wait for keys that cannot come.
    #[must_use]
    pub fn broker_stopped(mut self) -> Self {
        self.broker_runs = false;
        self.broker_away = true;
        self
    }

    /// Starts without waiting until the filter has keys.
    #[must_use]
    pub fn without_keys(mut self) -> Self {
        self.broker_away = true;
        self
    }

    /// Stands between Envoy and the broker; what the script does not answer goes on to the broker and is recorded.
    #[must_use]
    pub fn intercept(mut self, script: impl Fn(&Incoming) -> Option<Reply> + Send + Sync + 'static) -> Self {
        self.intercept = Some(Box::new(script));
        self
    }

    /// Records what Envoy and the broker say to each other.
    #[must_use]
    pub fn record(self) -> Self {
        self.intercept(|_call| None)
    }

    /// Adds [`LAB_ISSUER`], whose key the test holds.
    #[must_use]
    pub fn lab_issuer(mut self) -> Self {
        self.lab_issuer = true;
        self
    }

    /// Changes the filter's configuration.
    #[must_use]
    pub fn filter(mut self, edit: impl FnOnce(&mut Value) + 'static) -> Self {
        self.filter_edits.push(Box::new(edit));
        self
    }

    /// Changes Envoy's configuration.
    #[must_use]
    pub fn yaml(mut self, edit: impl FnOnce(&mut ShippedYaml) -> Result<(), HarnessError> + 'static) -> Self {
        self.yaml_edits.push(Box::new(edit));
        self
    }

    /// Uses a realm that runs elsewhere, with the keytab of its `HTTP/localhost` and the tickets of its users. The broker finds
    /// its KDC.
    #[must_use]
    pub fn domain(mut self, kdc: Kdc, keytab: PathBuf, tickets: BTreeMap<String, Ccache>) -> Self {
        self.realm = Realm::Given(Box::new(Domain::given(kdc, keytab, tickets)));
        self
    }

    /// In a realm that was given: a real service that takes Kerberos only behind `/legacy`, with this keytab, and a broker that
    /// acts for users towards it by this table of its configuration.
    #[must_use]
    pub fn acting(mut self, table: &str, service_keytab: PathBuf) -> Self {
        self.realm = match self.realm {
            Realm::Given(domain) => Realm::Given(Box::new(domain.acting(table.to_owned(), service_keytab))),
            own @ (Realm::Own | Realm::Delegating) => own,
        };
        self
    }

    /// Envoy's worker threads, 1 unless given.
    #[must_use]
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// A port of 127.0.0.1 for the https listener; a free one unless given.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The port of 127.0.0.1 on which the Kerberos service behind `/legacy` is, with the listener's certificate; nobody unless
    /// given.
    #[must_use]
    pub fn legacy(mut self, port: u16) -> Self {
        self.legacy = port;
        self
    }

    /// A real service that takes Kerberos only behind `/legacy`, and a broker that the lab's realm lets act for users towards it:
    /// [`World::apache`].
    #[must_use]
    pub fn delegating(mut self) -> Self {
        self.realm = Realm::Delegating;
        self
    }

    /// The same for a service without TLS.
    #[must_use]
    pub fn legacy_in_clear(self, port: u16) -> Self {
        self.legacy(port)
            .yaml(|yaml| yaml.remove_block_below("- name: legacy", "transport_socket:"))
    }

    /// Starts everything and waits until the filter has the keys of all its issuers.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn start(mut self) -> Result<World, HarnessError> {
        let folder = tempfile::Builder::new()
            .prefix("kerbridge-")
            .tempdir()
            .map_err(|source| HarnessError::io("create the lab's folder", source))?;
        // Who only accepts asks no KDC.
        let asks_kdc = !matches!(self.realm, Realm::Own);
        let domain = match std::mem::replace(&mut self.realm, Realm::Own) {
            Realm::Own => domain::plain(folder.path())?,
            Realm::Delegating => domain::delegating(folder.path())?,
            Realm::Given(domain) => *domain,
        };
        let certificates = Certificates::create(folder.path())?;
        let apache = match &domain.delegation {
            Some(delegation) => {
                let apache = Apache::start_with_tls(&delegation.service_keytab, &certificates)?;
                self = self.legacy(apache.port()).broker_table(&delegation.table);
                Some(apache)
            }
            None => None,
        };
        let upstream = Upstream::start()?;
        let lab_key = self.lab_key(&upstream)?;
        let mut broker = self.broker(folder.path(), domain.kdc.realm(), &domain.keytab)?;
        if asks_kdc {
            broker.set_krb5_config(domain.kdc.krb5_config());
        }
        if self.broker_runs {
            broker.start()?;
        }
        let relay = match self.intercept.take() {
            Some(intercept) => {
                let socket = folder.path().join("relay.sock");
                Some(Relay::start(&socket, &broker.socket(), intercept)?)
            }
            None => None,
        };
        let socket = relay
            .as_ref()
            .map_or_else(|| broker.socket(), |relay| relay.socket().to_owned());
        let (concurrency, waits) = (self.concurrency, !self.broker_away);
        let around = (&broker, domain.kdc.realm());
        let yaml = self.fit(&certificates, upstream.port(), &socket, lab_key.as_ref(), around)?;
        let envoy = start_envoy(&yaml, concurrency, folder.path())?;
        if waits {
            wait_for_keys(&envoy, concurrency, lab_key.is_some())?;
        }
        let port = envoy.listener_port("https")?;
        Ok(World {
            envoy,
            yaml,
            concurrency,
            relay,
            broker,
            upstream,
            apache,
            kdc: domain.kdc,
            certificates,
            tickets: domain.tickets,
            lab_key,
            port,
            folder,
        })
    }

    /// The configuration that Envoy would be started with, with nothing running behind it.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn yaml_in(self, folder: &Path) -> Result<ShippedYaml, HarnessError> {
        let certificates = Certificates::create(folder)?;
        let broker = self.broker(folder, REALM, &domain::keytab_in(folder))?;
        let socket = broker.socket();
        self.fit(&certificates, 1, &socket, None, (&broker, REALM))
    }

    fn lab_key(&self, upstream: &Upstream) -> Result<Option<LabKey>, HarnessError> {
        if !self.lab_issuer {
            return Ok(None);
        }
        let key = LabKey::generate()
            .map_err(|_unspecified| HarnessError::io("make a signing key", std::io::Error::other("no randomness")))?;
        upstream.serve_document(LAB_KEYS, &key.key_set().to_string());
        Ok(Some(key))
    }

    /// Whether its broker has tickets made.
    fn acts(&self) -> bool {
        self.broker_more.contains("[delegation]")
    }

    fn broker(&self, folder: &Path, realm: &str, keytab: &Path) -> Result<Broker, HarnessError> {
        let policy = match &self.policy {
            Some(policy) => policy.clone(),
            None if self.acts() => shipped::policy("localhost", realm)?,
            None => shipped::policy_of_a_minter("localhost", realm)?,
        };
        let settings = BrokerSettings {
            issuer: shipped::ISSUER.to_owned(),
            realms: vec![realm.to_owned()],
            acceptors: vec![format!("HTTP/localhost@{realm}")],
            keytab: keytab.to_owned(),
            policy,
            more: self.broker_more.clone(),
        };
        Broker::prepare(folder, &settings)
    }

    fn fit(
        self,
        certificates: &Certificates,
        upstream: u16,
        socket: &Path,
        lab_key: Option<&LabKey>,
        (broker, realm): (&Broker, &str),
    ) -> Result<ShippedYaml, HarnessError> {
        let mut yaml = ShippedYaml::read()?;
        let shown = |path: &Path| path.display().to_string();
        let listener = format!("{{address: 127.0.0.1, port_value: {}}}", self.port);
        yaml.replace("{address: 0.0.0.0, port_value: 8443}", &listener)?;
        yaml.replace("/etc/envoy/tls/tls.crt", &shown(&certificates.certificate))?;
        yaml.replace("/etc/envoy/tls/tls.key", &shown(&certificates.private_key))?;
        yaml.replace("/run/kerbridge/mesh.sock", &shown(socket))?;
        yaml.set_module(&shipped::module()?)?;
        yaml.replace(
            "address: 127.0.0.1, port_value: 8080",
            &format!("address: 127.0.0.1, port_value: {upstream}"),
        )?;
        yaml.replace(
            "address: 127.0.0.1, port_value: 8444",
            &format!("address: 127.0.0.1, port_value: {}", self.legacy),
        )?;
        yaml.replace("/etc/envoy/tls/legacy-ca.crt", &shown(&certificates.authority))?;
        for name in ["sni: ", "exact: "] {
            yaml.replace(&format!("{name}legacy.example.com"), &format!("{name}localhost"))?;
        }
        yaml.name_legacy(&shipped::legacy(realm));
        let configuration = match &self.policy {
            Some(_) => render(broker)?,
            None => yaml.filter_configuration()?.replace(shipped::HOST, "localhost"),
        };
        let mut configuration: Value =
            serde_json::from_str(&configuration).map_err(|error| HarnessError::UnexpectedAnswer {
                what: "the filter's configuration".to_owned(),
                answer: error.to_string(),
            })?;
        if let Some(issuers) = configuration.pointer_mut("/issuers").and_then(Value::as_array_mut) {
            issuers.extend(lab_key.map(|key| {
                json!({
                    "issuer": LAB_ISSUER,
                    "name": "lab",
                    "audiences": {"orders": [], "reports": [], "legacy": []},
                    "jwks": {"cluster": "upstream", "path": LAB_KEYS, "inline": key.key_set().to_string()},
                })
            }));
        }
        // As it is rendered of that policy.
        if self.policy.is_none() && !self.acts() && self.legacy == NOBODY {
            let another = json!({"cluster": shipped::BROKERS, "authority": "kerbridge", "timeout": "2s"});
            if let Some(broker) = configuration.pointer_mut("/broker").and_then(Value::as_object_mut) {
                broker.insert("delegation".to_owned(), another);
            }
        }
        for edit in self.filter_edits {
            edit(&mut configuration);
        }
        yaml.set_filter_configuration(&configuration.to_string())?;
        for edit in self.yaml_edits {
            edit(&mut yaml)?;
        }
        Ok(yaml)
    }
}

/// Starts Envoy in the lab's folder.
pub(super) fn start_envoy(yaml: &ShippedYaml, concurrency: u32, folder: &Path) -> Result<Envoy, HarnessError> {
    let options = EnvoyOptions {
        concurrency,
        // Tests read the access log at once; Envoy would keep it for ten seconds.
        args: vec!["--file-flush-interval-msec".into(), "20".into()],
        folder: Some(folder.to_owned()),
        ..EnvoyOptions::default()
    };
    Envoy::start(yaml.text(), &options)
}

/// Waits until every worker and Envoy's main thread have the keys of each issuer.
fn wait_for_keys(envoy: &Envoy, concurrency: u32, lab_issuer: bool) -> Result<(), HarnessError> {
    let vms = u64::from(concurrency).saturating_add(1);
    let issuers: &[&str] = if lab_issuer {
        &["kerbridge", "lab"]
    } else {
        &["kerbridge"]
    };
    for issuer in issuers {
        let taken = format!("wasmcustom.kerbridge.key_sets_taken.issuer.{issuer}");
        envoy.wait_for_stat(&taken, vms, KEYS_WITHIN)?;
    }
    Ok(())
}

fn render(broker: &Broker) -> Result<String, HarnessError> {
    let config = broker.config();
    let (status, printed) = Broker::run(
        broker.folder(),
        &[
            "policy",
            "render",
            "--format",
            "json",
            "--config",
            &config.to_string_lossy(),
        ],
    )?;
    if status.success() {
        Ok(printed)
    } else {
        Err(HarnessError::Exited {
            name: "kerbridge policy render".to_owned(),
            status,
            log: printed,
        })
    }
}
