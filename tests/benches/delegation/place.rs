//! Runs everything on the measured core: KDC, broker, Envoy as it ships but in clear text, and an Apache that does little; and
//! prepares what clients show.

use std::collections::BTreeMap;
use std::path::Path;

use kerbridge_tests::apache::{Apache, DOCUMENT};
use kerbridge_tests::bench::delegation::Shares;
use kerbridge_tests::bench::processor::{pin, used};
use kerbridge_tests::bench::program::say;
use kerbridge_tests::bench::settings::Settings;
use kerbridge_tests::delegation::{ACCEPTOR, BRIDGE, DelegationRealm, Kind, LEGACY, crowd_member};
use kerbridge_tests::exchange_world::{Exchanged, exchange};
use kerbridge_tests::http::Request;
use kerbridge_tests::initiator::{token_in_child, tokens_in_child};
use kerbridge_tests::kdc::{Ccache, Kdc};
use kerbridge_tests::world::lab_program;
use kerbridge_tests::{HarnessError, World};
use serde_json::{Value, json};

use crate::{NEW_USERS, USERS};

/// Who takes part, and who each is to the system.
pub(crate) struct Place {
    // Dropped in this order.
    pub(crate) world: World,
    pub(crate) apache: Apache,
    pub(crate) realm: DelegationRealm,
    direct: Ccache,
    envoy: u32,
    broker: u32,
    service: u32,
    kdc: Vec<u32>,
}

/// Processor time that each has used so far, in microseconds, and what the KDC answered.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    envoy: f64,
    broker: f64,
    service: f64,
    kdc: f64,
    kdc_requests: usize,
}

impl Place {
    pub(crate) fn start(settings: &Settings) -> Result<Self, HarnessError> {
        let new = settings.rounds.saturating_add(1).saturating_mul(NEW_USERS);
        let crowd = USERS.saturating_add(new) as usize;
        say(&format!(
            "starting a realm with {crowd} users, a broker, Envoy and Apache"
        ));
        let realm = DelegationRealm::start(Kind::Mit, crowd)?;
        let mut apache = Apache::start_bare(&realm.keytab(LEGACY), realm.clients().krb5_config())?;
        let tickets = BTreeMap::from([("alice".to_owned(), realm.kinit("alice")?)]);
        let mut world = World::builder()
            .domain(Kdc::attach(realm.folder())?, realm.keytab(ACCEPTOR), tickets)
            .policy(&policy(&realm))
            .broker_table(&realm.table(BRIDGE))
            .legacy_in_clear(apache.port())
            .filter(in_clear_text)
            .yaml(|yaml| {
                yaml.remove_block_below("- name: tls", "transport_socket:")?;
                // The service knows the document by its own name.
                yaml.replace(
                    "cluster: legacy\n                  timeout: 30s\n",
                    "cluster: legacy\n                  timeout: 30s\n                  regex_rewrite: {pattern: {regex: \"^/legacy\"}, substitution: \"\"}\n",
                )
            })
            .start()?;
        let place = Self {
            direct: realm.kinit("alice")?,
            envoy: world.envoy().process().pid(),
            broker: world.broker().pid().unwrap_or_default(),
            service: apache.process().pid(),
            kdc: realm.pids(),
            world,
            apache,
            realm,
        };
        for pid in [place.envoy, place.broker, place.service]
            .into_iter()
            .chain(place.kdc.iter().copied())
        {
            pin(pid, settings.cores.measured)?;
        }
        Ok(place)
    }

    /// Requests with these users' tokens, in turn.
    pub(crate) fn by_token(
        &mut self,
        users: impl Iterator<Item = u32>,
        count: u32,
    ) -> Result<Vec<Vec<u8>>, HarnessError> {
        let socket = self.world.broker().socket();
        let lab = lab_program()?;
        let mut requests = Vec::new();
        for user in users {
            requests.push(self.request(&socket, &lab, user)?);
        }
        Ok(requests.iter().cycle().take(count as usize).cloned().collect())
    }

    fn request(&self, socket: &Path, lab: &Path, user: u32) -> Result<Vec<u8>, HarnessError> {
        let name = crowd_member(user as usize);
        let tickets = self.realm.kinit(&name)?;
        let ticket = token_in_child(lab, self.realm.clients(), &tickets, &self.realm.principal(ACCEPTOR))?;
        let traded = exchange(socket, &ticket).map_err(|source| HarnessError::Http {
            what: format!("a token for {name}"),
            source,
        })?;
        match traded {
            Exchanged::Token(token) => Ok(request("/legacy/document", &format!("Bearer {token}"))),
            Exchanged::Refused(status, reason) => Err(HarnessError::UnexpectedAnswer {
                what: format!("a token for {name}"),
                answer: format!("{status} {reason}"),
            }),
        }
    }

    /// Requests with fresh tickets of a client's own.
    pub(crate) fn by_ticket(&self, count: u32) -> Result<Vec<Vec<u8>>, HarnessError> {
        let service = self.realm.principal(LEGACY);
        let tokens = tokens_in_child(&lab_program()?, self.realm.clients(), &self.direct, &service, count)?;
        let target = format!("/{DOCUMENT}");
        Ok(tokens
            .iter()
            .map(|token| request(&target, &format!("Negotiate {token}")))
            .collect())
    }

    pub(crate) fn used(&self) -> Result<Used, HarnessError> {
        let mut kdc = 0.0;
        for pid in &self.kdc {
            kdc += used(*pid)?;
        }
        Ok(Used {
            envoy: used(self.envoy)?,
            broker: used(self.broker)?,
            service: used(self.service)?,
            kdc,
            kdc_requests: self.realm.requests(),
        })
    }
}

impl Used {
    /// What was used since, for each of so many requests.
    pub(crate) fn since(&self, before: &Self, requests: u64) -> Shares {
        let each = |now: f64, before: f64| (now - before) / requests as f64;
        let asked = self.kdc_requests.saturating_sub(before.kdc_requests);
        Shares {
            envoy: each(self.envoy, before.envoy),
            broker: each(self.broker, before.broker),
            service: each(self.service, before.service),
            kdc: each(self.kdc, before.kdc),
            kdc_requests: asked as f64 * 1000.0 / requests as f64,
        }
    }
}

fn request(target: &str, authorization: &str) -> Vec<u8> {
    Request::get(target)
        .host("localhost")
        .header("authorization", authorization)
        .encode()
}

fn policy(realm: &DelegationRealm) -> String {
    let name = realm.realm();
    format!(
        r#"
        [[audience]]
        name = "orders"
        [[grant]]
        principals = ["*@{name}"]
        audience = "orders"
        [[delegation]]
        target = "{LEGACY}@{name}"
        audience = "orders"
        principals = ["*@{name}"]
        clients = ["*"]
        [[route]]
        host = "localhost"
        path_prefix = "/legacy"
        accept = ["bearer"]
        audience = "orders"
        upstream = {{ kerberos = {{ spn = "{LEGACY}@{name}" }} }}
        [filter]
        underscores_rejected = true
        "#
    )
}

/// The load comes in clear text, on both ways.
fn in_clear_text(configuration: &mut Value) {
    let routes = configuration.pointer_mut("/routes").and_then(Value::as_array_mut);
    for route in routes.into_iter().flatten().filter_map(Value::as_object_mut) {
        route.insert("allow_insecure".to_owned(), json!(true));
    }
}
