//! Says what the lab's parts are made of: who is in the realm, the policy, the tables of a broker, and a second one behind Envoy.

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;

use super::{Broken, CLERKS, GROUPS, MANY};
use crate::broker::{Broker, BrokerSettings};
use crate::delegation::{ACCEPTOR, BRIDGE, DelegationRealm, LEGACY};
use crate::engine::kdc_relay::KdcRelay;
use crate::error::HarnessError;
use crate::kdc::Kdc;
use crate::postgres::Postgres;
use crate::relay::Relay;
use crate::samba::Plan;
use crate::shipped;
use crate::shipped::ShippedYaml;
use crate::world::World;

/// Where the certificate that Envoy shows is, beside the configuration of each broker.
const LISTENER: &str = "listener.pem";
/// The tables by which a broker knows it, and takes clients that bind their tickets and those that do not.
pub(super) const BINDINGS: &str = "[kerberos.channel_bindings]\nmode = \"allow\"\n\n[[kerberos.channel_bindings.certificate]]\n\
     server_names = [\"localhost\"]\nfile = \"listener.pem\"\n\n";

/// Another broker beside the world's.
pub(super) struct Second {
    pub(super) relay: Relay,
    pub(super) broker: Broker,
    _folder: TempDir,
}

/// Has all clients of a krb5.conf ask the relay.
pub(super) fn in_between(krb5_config: &Path, kdc: &str, relay: &KdcRelay) -> Result<(), HarnessError> {
    let failed = |source| HarnessError::io(format!("put a relay into {}", krb5_config.display()), source);
    let text = std::fs::read_to_string(krb5_config).map_err(failed)?;
    let moved = text.replace(&format!("kdc = {kdc}\n"), &format!("kdc = {}\n", relay.address()));
    std::fs::write(krb5_config, moved).map_err(failed)
}

/// In a domain: somebody in many groups.
pub(super) fn crowd(plan: &mut Plan) {
    plan.users.push(MANY.to_owned());
    let bulk: Vec<String> = (0..GROUPS).map(|number| format!("bulk-{number:03}")).collect();
    plan.groups.push(CLERKS.to_owned());
    plan.groups.extend(bulk.iter().cloned());
    let members = bulk.into_iter().chain([CLERKS.to_owned()]);
    plan.members.extend(members.map(|group| (group, MANY.to_owned())));
    // Up to 64 KiB of UTF-16 may stand in a PAC.
    let path = [MANY.to_owned(), "profilePath".to_owned(), "p".repeat(21_000)];
    let [account, attribute, value] = path;
    plan.attributes.push((account, attribute, value));
}

/// The table by which a broker reads groups of tickets, where the realm's have any.
pub(super) fn groups(realm: &DelegationRealm) -> String {
    match realm.sid(CLERKS) {
        Some(sid) => format!("[groups]\nsource = \"pac\"\n[groups.sid_names]\n{sid:?} = {CLERKS:?}\n"),
        None => String::new(),
    }
}

pub(super) fn table(server: &Postgres) -> Result<String, HarnessError> {
    Ok(format!(
        "[store.postgres]\nhosts = [\"{}:{}\"]\ndatabase = {:?}\n",
        server.socket_folder().display(),
        server.port(),
        server.new_database()?
    ))
}

/// The shipped policy, one more audience whose sessions are cookies, and in a domain one for members of a group. Who asks from this
/// machine is told the decision.
fn policy(realm: &DelegationRealm, broken: Option<Broken>) -> Result<String, HarnessError> {
    let audience = |name: &str, who: &str, accept: &str, deliver: &str| {
        format!(
            "\n[[audience]]\nname = {name:?}\nttl = \"15m\"\n\n[[grant]]\n{who}\naudience = {name:?}\n\n[[route]]\nname = {name:?}\n\
             host = \"localhost\"\npath_prefix = \"/{name}\"\naccept = [{accept}]\naudience = {name:?}\ndeliver = {deliver:?}\n"
        )
    };
    let everybody = format!("principals = [\"*@{}\"]", realm.realm());
    let mut policy = shipped::policy("localhost", realm.realm())?;
    policy.push_str("explain = { sources = [\"127.0.0.1/32\"] }\n");
    policy.push_str(&audience(
        "web",
        &everybody,
        "\"negotiate\", \"bearer\", \"cookie\"",
        "cookie",
    ));
    if realm.sid(CLERKS).is_some() {
        let clerks = format!("groups = [{CLERKS:?}]");
        policy.push_str(&audience("clerks", &clerks, "\"negotiate\", \"bearer\"", "header"));
    }
    match broken {
        Some(broken) => broken.policy(&policy),
        None => Ok(policy),
    }
}

pub(super) fn world(
    realm: &DelegationRealm,
    tables: &str,
    (port, second): (u16, Option<&Path>),
    broken: Option<Broken>,
) -> Result<World, HarnessError> {
    let many = realm.sid(CLERKS).map(|_| MANY);
    let mut tickets = BTreeMap::new();
    for user in ["alice", "bob"].into_iter().chain(many) {
        tickets.insert(user.to_owned(), realm.kinit(user)?);
    }
    let kdc = Kdc::attach(realm.folder())?;
    let mut builder = World::builder()
        .domain(kdc, realm.keytab(ACCEPTOR), tickets)
        .acting(&realm.table(BRIDGE), realm.keytab(LEGACY))
        .policy(&policy(realm, broken)?)
        .broker_table(tables)
        .port(port)
        .record();
    if let Some(socket) = second.map(Path::to_owned) {
        builder = builder.yaml(move |yaml| two_endpoints(yaml, &socket));
    }
    builder.start()
}

/// One more broker in the cluster; which of them is away is found out by the first call that fails.
fn two_endpoints(yaml: &mut ShippedYaml, socket: &Path) -> Result<(), HarnessError> {
    const CLUSTER: &str = "  - name: kerbridge_broker\n    type: STATIC\n";
    const ENDPOINT: &str = "        - endpoint: {address: {pipe: {path: ";
    yaml.replace(
        CLUSTER,
        &format!(
            "{CLUSTER}    outlier_detection: {{split_external_local_origin_errors: true, \
             consecutive_local_origin_failure: 1, base_ejection_time: 10s, max_ejection_time: 10s, interval: 0.5s, max_ejection_percent: 50}}\n"
        ),
    )?;
    let other = format!("{ENDPOINT}{}}}}}}}\n", socket.display());
    yaml.replace(ENDPOINT, &format!("{other}{ENDPOINT}"))
}

pub(super) fn second(
    world: &mut World,
    realm: &DelegationRealm,
    tables: &str,
    folder: TempDir,
    broken: Option<Broken>,
) -> Result<Second, HarnessError> {
    let first = world.broker().folder().to_owned();
    let settings = BrokerSettings {
        issuer: shipped::ISSUER.to_owned(),
        realms: vec![realm.realm().to_owned()],
        acceptors: vec![realm.principal(ACCEPTOR)],
        keytab: realm.keytab(ACCEPTOR),
        policy: policy(realm, broken)?,
        more: format!("{}{tables}", realm.table(BRIDGE)),
    };
    let mut broker = Broker::prepare(folder.path(), &settings)?;
    for file in ["kek", LISTENER] {
        std::fs::copy(first.join(file), folder.path().join(file))
            .map_err(|source| HarnessError::io("give the second broker the files of the first one", source))?;
    }
    broker.set_krb5_config(realm.clients().krb5_config());
    broker.start()?;
    let relay = Relay::start(
        &folder.path().join("relay.sock"),
        &broker.socket(),
        Box::new(|_call| None),
    )?;
    Ok(Second {
        relay,
        broker,
        _folder: folder,
    })
}
