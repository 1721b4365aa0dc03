//! Says what the clusters need that the filter asks, and those of Kerberos services: that they are there, that nobody in between
//! can listen, and that the filter of each service is in the machine of the listener's.

use std::collections::{BTreeMap, BTreeSet};

use kerbridge_wire::Spn;
use serde_json::Value;

use super::dump::{Destinations, Dump, Entry, Manager, is_here};
use super::{CHECK, Gap, plugin};
use crate::doctor::finding::{Finding, Remedy};

/// Seconds for which the broker keeps a connection that nothing uses.
const KEPT: f64 = 75.0;

/// Where the filter's configuration says how brokers are reached.
const BROKERS: [&str; 2] = ["/broker", "/broker/delegation"];

/// Where the filter calls out to: the field of its configuration, and the cluster.
fn calls(configuration: &Value) -> Vec<(String, &str)> {
    let mut places = BROKERS.map(str::to_owned).to_vec();
    let issuers = configuration.get("issuers").and_then(Value::as_array);
    for place in 0..issuers.map_or(0, Vec::len) {
        places.extend(["jwks", "feed"].map(|part| format!("/issuers/{place}/{part}")));
    }
    let cluster = |place: String| {
        let name = configuration.pointer(&format!("{place}/cluster"))?.as_str()?;
        Some((
            format!("{}.cluster", place.trim_start_matches('/').replace('/', ".")),
            name,
        ))
    };
    places.into_iter().filter_map(cluster).collect()
}

/// The clusters of the filter's configuration that Envoy does not have.
pub(super) fn absent(configuration: &Value, clusters: &BTreeMap<&str, &Value>) -> Vec<Gap> {
    let calls = calls(configuration).into_iter();
    calls
        .filter(|(_, cluster)| !clusters.contains_key(cluster))
        .map(|(field, cluster)| {
            Gap::of(
                &field,
                format!("Envoy has no cluster {cluster:?}, so that the filter cannot ask there"),
                "the name of a cluster in static_resources.clusters, such as that of the shipped envoy.yaml",
            )
        })
        .collect()
}

/// The clusters to which tickets and tokens go.
pub(super) fn judge_brokers(configuration: &Value, clusters: &BTreeMap<&str, &Value>) -> Vec<Finding> {
    let name = |place| configuration.pointer(&format!("{place}/cluster"))?.as_str();
    let names: BTreeSet<&str> = BROKERS.into_iter().filter_map(name).collect();
    let known = names.iter().filter_map(|name| Some((*name, *clusters.get(name)?)));
    let mut findings: Vec<Finding> = known.flat_map(|(name, cluster)| judge_broker(name, cluster)).collect();
    // A feed is signed by these.
    let keys: BTreeSet<&str> = calls(configuration)
        .into_iter()
        .filter(|(field, name)| field.ends_with(".jwks.cluster") && !names.contains(name))
        .map(|(_, name)| name)
        .collect();
    for name in keys {
        if clusters.get(name).is_some_and(|cluster| is_overheard(cluster)) {
            findings.push(
                Gap::of(
                    "transport_socket",
                    "keys are fetched from another machine without TLS, or whoever answers is believed: anybody in between can be anybody",
                    PROOF,
                )
                .found(name),
            );
        }
    }
    findings
}

/// What proves who answers.
const PROOF: &str = "UpstreamTlsContext with validation_context.trusted_ca and match_typed_subject_alt_names, as in the comments of \
                     the shipped envoy.yaml";

fn judge_broker(name: &str, cluster: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    if is_overheard(cluster) {
        findings.push(
            Gap::of(
                "transport_socket",
                "another machine is asked without TLS, or whoever answers is believed: anybody in between can take the tickets",
                PROOF,
            )
            .found(name),
        );
    }
    let idle = options(cluster).find_map(|one| one.pointer("/common_http_protocol_options/idle_timeout")?.as_str());
    let seconds = idle.and_then(|idle| idle.strip_suffix('s')?.parse::<f64>().ok());
    if seconds.is_none_or(|seconds| seconds <= 0.0 || seconds >= KEPT) {
        let found = idle.unwrap_or("not set (1h)");
        findings.push(
            Finding::warning(
                CHECK,
                name,
                format!(
                    "idle_timeout: {found}; the broker closes an unused connection after {KEPT} s, and a ticket that is on its \
                     way then gets 503"
                ),
            )
            .mended_by([Remedy::any("common_http_protocol_options: {idle_timeout: 30s}")]),
        );
    }
    findings
}

/// The clusters with our filter, and the services of the policy that have none.
pub(super) fn judge_services(
    services: &BTreeSet<&Spn>,
    listeners: Entry<'_>,
    clusters: &BTreeMap<&str, &Value>,
    dump: &Dump<'_>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut served = BTreeSet::new();
    for (name, cluster) in clusters {
        let Some(entry) = dump.entry_of(cluster) else { continue };
        findings.extend(plugin::judge(entry, dump).into_iter().map(|gap| gap.found(name)));
        if machine(entry) != machine(listeners) {
            findings.push(
                Gap::of(
                    "vm_config",
                    "its vm_id, configuration or code are not those of the listener's filter: every request gets 503 internal",
                    "the vm_config of the listener's filter",
                )
                .found(name),
            );
        }
        if is_overheard(cluster) {
            findings.push(
                Finding::warning(
                    CHECK,
                    *name,
                    "transport_socket: TLS does not prove which service takes the tickets and answers",
                )
                .mended_by([Remedy::any(
                    "UpstreamTlsContext with validation_context.trusted_ca and match_typed_subject_alt_names",
                )]),
            );
        }
        let own = plugin::configuration(entry.plugin);
        served.extend(own.and_then(|own| own.pointer("/upstream/kerberos/spn")?.as_str().map(str::to_owned)));
    }
    for service in services.iter().filter(|service| !served.contains(service.as_str())) {
        findings.push(
            Finding::gap(
                CHECK,
                service.as_str(),
                "no cluster has the filter of this service: requests to it get 503 internal",
            )
            .mended_by([Remedy::any(format!(
                "kerbridge policy render --config kerbridge.toml --upstream {service}, and put the entries into the http_filters \
                 of the cluster's HttpProtocolOptions"
            ))]),
        );
    }
    findings
}

/// What makes two filters share a machine.
fn machine(entry: Entry<'_>) -> [Option<&Value>; 3] {
    ["vm_id", "configuration", "code"].map(|field| entry.plugin.get("vm_config")?.get(field))
}

/// Whether requests leave this machine on a connection whose other end proves nothing.
fn is_overheard(cluster: &Value) -> bool {
    if let Some(socket) = cluster.get("transport_socket") {
        let context = socket.pointer("/typed_config/common_tls_context");
        return context.is_none_or(|context| {
            let own = [
                "/validation_context",
                "/combined_validation_context/default_validation_context",
            ];
            // Without a name every certificate of the authority is good.
            let names_by_sni = socket.pointer("/typed_config/auto_sni_san_validation") == Some(&Value::Bool(true));
            let has_names = |rules: &Value| {
                let names = rules.get("match_typed_subject_alt_names").and_then(Value::as_array);
                names_by_sni || names.is_some_and(|names| !names.is_empty())
            };
            let is_checked = |rules: &Value| {
                rules.get("trust_chain_verification").and_then(Value::as_str) != Some("ACCEPT_UNTRUSTED")
            };
            let has_authority = own.iter().any(|pointer| {
                context.pointer(pointer).is_some_and(|rules| {
                    let authority = ["trusted_ca", "ca_certificate_provider_instance", "system_root_certs"];
                    authority.iter().any(|field| rules.get(field).is_some()) && has_names(rules) && is_checked(rules)
                })
            });
            let is_fetched = context.get("validation_context_sds_secret_config").is_some()
                || context
                    .pointer("/combined_validation_context/validation_context_sds_secret_config")
                    .is_some();
            !has_authority && !is_fetched
        });
    }
    // Where endpoints come from elsewhere, what is between is said elsewhere too.
    if cluster.get("transport_socket_matches").is_some() {
        return false;
    }
    let endpoints = cluster.pointer("/load_assignment/endpoints").and_then(Value::as_array);
    let mut addresses = endpoints
        .into_iter()
        .flatten()
        .filter_map(|locality| locality.get("lb_endpoints")?.as_array())
        .flatten()
        .filter_map(|one| one.pointer("/endpoint/address"));
    addresses.any(|address| !is_here(address))
}

fn options(cluster: &Value) -> impl Iterator<Item = &Value> {
    let options = cluster
        .get("typed_extension_protocol_options")
        .and_then(Value::as_object);
    options.into_iter().flat_map(serde_json::Map::values)
}

/// Ways around the filter: what leads to a cluster behind it and does not have it.
pub(super) fn ways_around(dump: &Dump<'_>) -> Vec<Finding> {
    let (ours, others): (Vec<Manager<'_>>, Vec<Manager<'_>>) = dump
        .managers()
        .into_iter()
        .partition(|manager| dump.entry(*manager).is_some());
    let behind: Vec<Destinations<'_>> = ours.iter().map(|manager| dump.destinations(*manager)).collect();
    let clusters: BTreeSet<&str> = behind.iter().flat_map(|one| one.clusters.iter().copied()).collect();
    let is_any_chosen = behind.iter().any(|one| !one.chosen_by.is_empty());
    let mut findings = Vec::new();
    for other in others.into_iter().filter(|_| !behind.is_empty()) {
        let led = dump.destinations(other);
        let listener = other.listener();
        let reached: Vec<&str> = led.clusters.intersection(&clusters).copied().collect();
        let chosen_by: Vec<&str> = led.chosen_by.into_iter().collect();
        let (found, is_certain) = if !reached.is_empty() {
            let found = format!(
                "listener {listener:?} leads to {} without the kerbridge filter: who comes this way says who they are",
                reached.join(", ")
            );
            (found, true)
        } else if !chosen_by.is_empty() {
            let found = format!(
                "listener {listener:?} leads to whatever cluster {} says, without the kerbridge filter: who comes this way may \
                 reach the services behind the filter, and says who they are",
                chosen_by.join(" or ")
            );
            (found, true)
        } else if is_any_chosen && !led.clusters.is_empty() {
            let found = format!(
                "listener {listener:?} leads to {} without the kerbridge filter, and routes behind the filter choose their cluster \
                 by each request: that may be the same one",
                led.clusters.into_iter().collect::<Vec<_>>().join(", ")
            );
            (found, false)
        } else {
            continue;
        };
        let finding = if is_certain && !other.is_inside() {
            Finding::gap(CHECK, other.name(), found)
        } else {
            Finding::warning(CHECK, other.name(), found)
        };
        findings.push(finding.mended_by([Remedy::any(
            "put the entry of kerbridge policy render into this listener too, or let its routes name other clusters",
        )]));
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(address: &str) -> Value {
        json!({"load_assignment": {"endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
            "address": address, "port_value": 1}}}}]}]}})
    }

    #[test]
    fn the_cluster_of_tickets_is_looked_at_as_that_of_tokens_is() {
        let configuration = json!({"broker": {"cluster": "a", "delegation": {"cluster": "b"}}});
        let (here, away) = (at("127.0.0.1"), at("192.0.2.1"));
        let missing = BTreeMap::from([("a", &here)]);
        assert_eq!(absent(&configuration, &missing).len(), 1);
        let found = |b| judge_brokers(&configuration, &BTreeMap::from([("a", &here), ("b", b)])).len();
        // Neither says how long it keeps a connection.
        assert_eq!((found(&here), found(&away)), (2, 3));
        let same = json!({"broker": {"cluster": "a", "delegation": {"cluster": "a"}}});
        assert_eq!(judge_brokers(&same, &missing).len(), 1);
    }

    #[test]
    fn what_leaves_the_machine_must_prove_where_it_arrives() {
        assert!(!is_overheard(&at("127.0.0.1")));
        assert!(!is_overheard(&at("::1")));
        assert!(is_overheard(&at("192.0.2.1")));
        assert!(is_overheard(&at("broker.example.com")));
        for (context, overheard) in [
            (json!({}), true),
            (
                json!({"validation_context": {"match_typed_subject_alt_names": []}}),
                true,
            ),
            (json!({"validation_context": {"trusted_ca": {"filename": "ca"}}}), true),
            (
                json!({"validation_context": {
                    "trusted_ca": {"filename": "ca"},
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "broker.example.com"}}],
                }}),
                false,
            ),
            (
                json!({"validation_context": {
                    "trusted_ca": {"filename": "ca"},
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "broker.example.com"}}],
                    "trust_chain_verification": "ACCEPT_UNTRUSTED",
                }}),
                true,
            ),
            (
                json!({"validation_context_sds_secret_config": {"name": "ROOTCA"}}),
                false,
            ),
        ] {
            let mut cluster = at("192.0.2.1");
            cluster["transport_socket"] = json!({"typed_config": {"common_tls_context": context}});
            assert_eq!(is_overheard(&cluster), overheard, "{cluster}");
        }
    }
    #[test]
    fn keys_that_are_fetched_from_whoever_answers_are_no_keys() {
        let configuration = json!({"issuers": [{"jwks": {"cluster": "idp"}, "feed": {"cluster": "feeds"}}]});
        let (near, far) = (at("127.0.0.1"), at("192.0.2.1"));
        let found = |idp: &Value| judge_brokers(&configuration, &BTreeMap::from([("idp", idp), ("feeds", &far)])).len();
        assert_eq!((found(&near), found(&far)), (0, 1));
    }
}
