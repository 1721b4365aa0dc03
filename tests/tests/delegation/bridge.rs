//! Starts all of it: the broker that acts for a realm's users, Envoy as it ships, and an Apache that takes Kerberos only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kerbridge_tests::apache::{Apache, remote_user};
use kerbridge_tests::broker;
use kerbridge_tests::curl::Answer;
use kerbridge_tests::delegation::{ACCEPTOR, BRIDGE, DelegationRealm, LEGACY, table};
use kerbridge_tests::http::Request;
use kerbridge_tests::kdc::Kdc;
use kerbridge_tests::shipped::ShippedYaml;
use kerbridge_tests::world::WorldBuilder;
use kerbridge_tests::{HarnessError, World};
use serde_json::json;

/// Whom the policy lets through to the service.
const EVERYBODY: &str = "*";
/// Where Envoy's routes and clusters of the Kerberos service are in its configuration.
const OTHER_ROUTES: &str = "              - match: {prefix: /}\n";
const CLUSTER: &str = "  - name: legacy\n";

/// A world whose `/legacy` is that Apache.
pub(crate) struct Bridge {
    // Dropped in this order.
    pub(crate) world: World,
    pub(crate) apache: Apache,
}

/// What a bridge is to be, before it starts.
pub(crate) struct Plan<'a> {
    /// The broker's account at the KDC.
    pub(crate) account: &'a str,
    /// Its keytab, where it is not the right one.
    pub(crate) keytab: Option<PathBuf>,
    /// For whom the policy lets it act.
    pub(crate) principals: &'a [&'a str],
    /// Who has tickets.
    pub(crate) users: &'a [&'a str],
    /// More of the policy's lines for the service.
    pub(crate) line: String,
    /// More of the filter's settings.
    pub(crate) settings: &'a str,
    /// The broker of the world acts for users; else it makes tokens only.
    pub(crate) acts: bool,
    /// More services, each with the path below which it is: the same Apache.
    pub(crate) services: &'a [Service<'a>],
}

/// A service, as the policy and Envoy know it.
#[derive(Clone, Copy)]
pub(crate) struct Service<'a> {
    /// Without slashes.
    pub(crate) path: &'a str,
    /// Its name without the realm.
    pub(crate) name: &'a str,
    /// The policy has a line for it, or only the filter knows it.
    pub(crate) is_in_policy: bool,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            account: BRIDGE,
            keytab: None,
            principals: &[EVERYBODY],
            users: &["alice"],
            line: String::new(),
            settings: "",
            acts: true,
            services: &[],
        }
    }
}

impl Plan<'_> {
    fn policy(&self, realm: &DelegationRealm) -> String {
        let name = realm.realm();
        let principals: Vec<String> = self.principals.iter().map(|user| realm.principal(user)).collect();
        let audience = |name: &str, ttl: &str| format!("[[audience]]\nname = \"{name}\"\nttl = \"{ttl}\"\n");
        let grant = |audience: &str| format!("[[grant]]\nprincipals = [\"*@{name}\"]\naudience = \"{audience}\"\n");
        let line = |target: &str, audience: &str| {
            format!(
                "[[delegation]]\ntarget = \"{target}@{name}\"\naudience = \"{audience}\"\nprincipals = {principals:?}\nclients = [\"mesh\"]\n"
            )
        };
        let route = |path: &str, audience: &str, more: &str| {
            format!(
                "[[route]]\nhost = \"localhost\"\npath_prefix = \"/{path}\"\naccept = [\"negotiate\", \"bearer\"]\n\
                 audience = \"{audience}\"\ndeliver = \"header\"\n{more}\n"
            )
        };
        let upstream = |target: &str| format!("upstream = {{ kerberos = {{ spn = \"{target}@{name}\" }} }}");
        let mut policy = [
            audience("legacy", "15m"),
            audience("brief", "5s"),
            audience("orders", "15m"),
            grant("legacy"),
            grant("brief"),
            grant("orders"),
            format!("{}{}\n", line(LEGACY, "legacy"), self.line),
            format!("{}{}\n", line(LEGACY, "brief"), self.line),
        ]
        .concat();
        for service in self.services.iter().filter(|service| service.is_in_policy) {
            policy.push_str(&line(service.name, "legacy"));
            policy.push_str(&route(service.path, "legacy", &upstream(service.name)));
        }
        policy.push_str(&route("legacy/brief", "brief", &upstream(LEGACY)));
        policy.push_str(&route("legacy", "legacy", &upstream(LEGACY)));
        policy.push_str(&route("plain", "legacy", ""));
        policy.push_str(&route("orders", "orders", ""));
        policy.push_str("[filter]\nunderscores_rejected = true\n");
        policy.push_str(self.settings);
        policy
    }

    /// The world without its service.
    pub(crate) fn builder(&self, realm: &DelegationRealm) -> WorldBuilder {
        let tickets: BTreeMap<_, _> = self
            .users
            .iter()
            .map(|&user| (user.to_owned(), realm.kinit(user).unwrap()))
            .collect();
        World::builder()
            .domain(Kdc::attach(realm.folder()).unwrap(), realm.keytab(ACCEPTOR), tickets)
            .policy(&self.policy(realm))
            .broker_table("[listen.observe]\nunix = \"observe.sock\"")
            .broker_table(&self.section(realm))
    }

    /// The configuration's `[delegation]`.
    fn section(&self, realm: &DelegationRealm) -> String {
        if !self.acts {
            return String::new();
        }
        let keytab = self.keytab.clone().unwrap_or_else(|| realm.keytab(self.account));
        table(&realm.principal(self.account), &keytab)
    }

    /// The world in front of this port.
    pub(crate) fn in_front_of(&self, realm: &DelegationRealm, port: u16) -> WorldBuilder {
        let mut builder = self.builder(realm).legacy_in_clear(port);
        for service in self.services {
            let (path, spn) = (service.path.to_owned(), realm.principal(service.name));
            if !service.is_in_policy {
                let route = json!({
                    "host": "localhost", "path_prefix": format!("/{path}"), "accept": ["negotiate", "bearer"],
                    "audience": "legacy", "upstream": {"kerberos": {"spn": spn}},
                });
                builder = builder.filter(move |config| config["routes"].as_array_mut().unwrap().insert(0, route));
            }
            let shipped = realm.principal(LEGACY);
            builder = builder.yaml(move |yaml| another_cluster(yaml, &path, (&shipped, &spn)));
        }
        builder
    }

    pub(crate) fn start(&self, realm: &DelegationRealm) -> Bridge {
        self.start_with(realm, |_| Ok(()))
    }

    /// The same with another change of Envoy's configuration.
    pub(crate) fn start_with(
        &self,
        realm: &DelegationRealm,
        yaml: impl FnOnce(&mut ShippedYaml) -> Result<(), HarnessError> + 'static,
    ) -> Bridge {
        let apache = Apache::start(&realm.keytab(LEGACY)).unwrap();
        let world = self.in_front_of(realm, apache.port()).yaml(yaml).start().unwrap();
        Bridge { world, apache }
    }
}

/// The Kerberos service's cluster once more, by another name and for another service, and a route to it.
fn another_cluster(yaml: &mut ShippedYaml, path: &str, (shipped, spn): (&str, &str)) -> Result<(), HarnessError> {
    let text = yaml.text().to_owned();
    let cluster = text.split_once(CLUSTER).and_then(|(_, rest)| rest.split_once("\n\n"));
    let cluster = cluster.map_or("", |(cluster, _)| cluster).replace(shipped, spn);
    let cluster = cluster.replace("cluster_name: legacy", &format!("cluster_name: {path}"));
    yaml.replace(CLUSTER, &format!("  - name: {path}\n{cluster}\n\n{CLUSTER}"))?;
    let route = format!(
        "              - match: {{path_separated_prefix: /{path}}}\n                route: {{cluster: {path}, timeout: 30s}}\n"
    );
    yaml.replace(OTHER_ROUTES, &format!("{route}{OTHER_ROUTES}"))
}

impl Bridge {
    /// A token of the user's for the service, with which nobody was there yet.
    pub(crate) fn token(&self, user: &str) -> String {
        self.world.token(user, "/plain/token").unwrap()
    }

    /// What comes back for a token.
    pub(crate) fn ask(&self, token: &str, path: &str) -> Answer {
        self.world.curl(path).bearer(token).send().unwrap()
    }

    /// How a request with a token is refused: status and reason.
    pub(crate) fn refused(&self, token: &str, path: &str) -> (u16, String) {
        self.world.reason(&self.ask(token, path)).unwrap()
    }

    /// How often the broker has asked the KDC a question, whatever came of it: `log_in`, `s4u2self`, `s4u2proxy`.
    pub(crate) fn asked(&self, question: &str) -> u64 {
        let socket = self.world.folder().join("observe.sock");
        let metrics = broker::ask(&socket, &Request::get("/metrics")).unwrap().text();
        let line = format!("kerbridge_kdc_requests_total{{question=\"{question}\",");
        let counts = metrics
            .lines()
            .filter_map(|found| found.strip_prefix(&line)?.split(' ').nth(1));
        counts.map(|count| count.parse::<u64>().unwrap()).sum()
    }
}

/// Whom Apache saw, of an answer that must be its own.
pub(crate) fn seen(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    remote_user(&answer.json()).unwrap().to_owned()
}
