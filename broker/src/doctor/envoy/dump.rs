//! Finds what an Envoy runs in its own account of it: connection managers with our filter and without, filters of clusters,
//! clusters, and rules of routes about a filter.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// The name of the listener's filter, as it is rendered.
const LISTENERS: &str = "kerbridge";
/// That of a cluster's.
const CLUSTERS: &str = "kerbridge_upstream";

/// An answer of `/config_dump`, of which only what runs is looked at.
pub(super) struct Dump<'a> {
    whole: &'a Value,
    running: Vec<&'a Value>,
}

/// A network filter that takes requests or connections somewhere, and the listener that it stands in.
#[derive(Clone, Copy)]
pub(super) struct Manager<'a> {
    listener: &'a Value,
    pub(super) settings: &'a Value,
}

/// An entry of `http_filters` that is ours.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// As it stands in the list.
    pub(super) entry: &'a Value,
    /// `PluginConfig`.
    pub(super) plugin: &'a Value,
    /// Its place in the list.
    pub(super) place: usize,
}

/// Where requests are sent to.
#[derive(Default)]
pub(super) struct Destinations<'a> {
    /// By name.
    pub(super) clusters: BTreeSet<&'a str>,
    /// To whatever cluster one of these says, request by request: a header, or a plug-in.
    pub(super) chosen_by: BTreeSet<&'a str>,
}

impl<'a> Dump<'a> {
    pub(super) fn of(answer: &'a Value) -> Self {
        // A static listener and a static cluster stand in the bootstrap as well, in a form that says less.
        let is_bootstrap = |part: &&Value| kind(part).is_some_and(|kind| kind.ends_with(".BootstrapConfigDump"));
        let parts = answer.get("configs").and_then(Value::as_array).into_iter().flatten();
        Self {
            whole: answer,
            running: parts.filter(|part| !is_bootstrap(part)).collect(),
        }
    }

    /// Every connection manager and every TCP proxy.
    pub(super) fn managers(&self) -> Vec<Manager<'a>> {
        let mut found = Vec::new();
        for listener in self.all("Listener") {
            let mut settings = Vec::new();
            collect(
                listener,
                &|value| is(value, "HttpConnectionManager") || is(value, "TcpProxy"),
                &mut settings,
            );
            found.extend(settings.into_iter().map(|settings| Manager { listener, settings }));
        }
        found
    }

    /// Our entry of a connection manager, which Istio keeps elsewhere (ECDS).
    pub(super) fn entry(&self, manager: Manager<'a>) -> Option<Entry<'a>> {
        let filters = manager.settings.get("http_filters")?.as_array()?;
        self.ours(filters, LISTENERS)
    }

    /// What a cluster's own filter list says of ours.
    pub(super) fn entry_of(&self, cluster: &'a Value) -> Option<Entry<'a>> {
        let options = cluster.get("typed_extension_protocol_options")?.as_object()?;
        let lists = options.values().filter_map(|one| one.get("http_filters")?.as_array());
        lists.into_iter().find_map(|filters| self.ours(filters, CLUSTERS))
    }

    fn ours(&self, filters: &'a [Value], name: &str) -> Option<Entry<'a>> {
        filters.iter().enumerate().find_map(|(place, entry)| {
            let plugin = self.typed(entry)?.get("config")?;
            let named = |field: &str| plugin.get(field).and_then(Value::as_str) == Some(name);
            (named("root_id") || named("name")).then_some(Entry { entry, plugin, place })
        })
    }

    /// The configuration of an entry of a filter list, wherever it is kept.
    pub(super) fn typed(&self, entry: &'a Value) -> Option<&'a Value> {
        if entry.get("config_discovery").is_none() {
            return entry.get("typed_config");
        }
        let name = entry.get("name")?;
        self.all("TypedExtensionConfig")
            .into_iter()
            .find(|extension| extension.get("name") == Some(name))?
            .get("typed_config")
    }

    /// All clusters by name.
    pub(super) fn clusters(&self) -> BTreeMap<&'a str, &'a Value> {
        let named = |cluster: &'a Value| Some((cluster.get("name")?.as_str()?, cluster));
        self.all("Cluster").into_iter().filter_map(named).collect()
    }

    /// The routes of a connection manager, in its own settings or fetched.
    fn routes(&self, manager: Manager<'a>) -> Vec<&'a Value> {
        if let Some(own) = manager.settings.get("route_config") {
            return vec![own];
        }
        let Some(name) = manager.settings.pointer("/rds/route_config_name") else {
            return Vec::new();
        };
        let fetched = self.all("RouteConfiguration").into_iter();
        fetched.filter(|routes| routes.get("name") == Some(name)).collect()
    }

    /// Where a connection manager or TCP proxy sends to.
    pub(super) fn destinations(&self, manager: Manager<'a>) -> Destinations<'a> {
        let mut found = Destinations::default();
        let mut left = self.routes(manager);
        if is(manager.settings, "TcpProxy") {
            left.push(manager.settings);
        }
        each(left, |members| {
            found.clusters.extend(members.get("cluster").and_then(Value::as_str));
            let weighted = members.get("weighted_clusters").and_then(|all| all.get("clusters"));
            let weighted = weighted.and_then(Value::as_array).into_iter().flatten();
            found
                .clusters
                .extend(weighted.filter_map(|one| one.get("name")?.as_str()));
            found
                .chosen_by
                .extend(members.get("cluster_header").and_then(Value::as_str));
            let plugins = ["cluster_specifier_plugin", "inline_cluster_specifier_plugin"];
            found
                .chosen_by
                .extend(plugins.into_iter().filter(|plugin| members.contains_key(*plugin)));
        });
        found
    }

    /// Whether a route of a connection manager switches off the filter of this name.
    pub(super) fn is_switched_off(&self, manager: Manager<'a>, name: &str) -> bool {
        let mut found = false;
        each(self.routes(manager), |members| {
            let rule = members.get("typed_per_filter_config").and_then(|rules| rules.get(name));
            found |= rule.and_then(|rule| rule.get("disabled")) == Some(&Value::Bool(true));
        });
        found
    }

    /// The machines of all wasm plugins that are not ours, each as its `vm_id`.
    pub(super) fn other_machines(&self) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        each(vec![self.whole], |members| {
            let is_ours = |name: &str| name == LISTENERS || name == CLUSTERS;
            let root = members.get("root_id").or_else(|| members.get("name"));
            if !root.and_then(Value::as_str).is_some_and(is_ours) {
                let machine = members.get("vm_config").filter(|machine| machine.get("code").is_some());
                found.extend(machine.map(|machine| word(machine, "vm_id")));
            }
        });
        found
    }

    fn all(&self, kind: &str) -> Vec<&'a Value> {
        let mut found = Vec::new();
        for part in &self.running {
            collect(part, &|value| is(value, kind), &mut found);
        }
        found
    }
}

impl Manager<'_> {
    /// What it is called in statistics.
    pub(super) fn name(&self) -> String {
        let name = self.settings.get("stat_prefix").and_then(Value::as_str);
        name.unwrap_or("unnamed").to_owned()
    }

    /// Whether only this machine's processes, or Envoy itself, come in.
    pub(super) fn is_inside(&self) -> bool {
        self.listener.get("internal_listener").is_some() || self.listener.get("address").is_some_and(is_here)
    }

    /// What its listener is called.
    pub(super) fn listener(&self) -> &str {
        word(self.listener, "name")
    }
}

/// Whether an address is a Unix socket, of Envoy itself, or loopback.
pub(super) fn is_here(address: &Value) -> bool {
    let host = address.pointer("/socket_address/address").and_then(Value::as_str);
    address.get("pipe").is_some()
        || address.get("envoy_internal_address").is_some()
        || host
            .is_some_and(|host| host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()))
}

/// A member's text; empty where it is absent.
pub(super) fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The last word of a type: `Cluster` of `…/envoy.config.cluster.v3.Cluster`.
pub(super) fn is(value: &Value, name: &str) -> bool {
    kind(value).and_then(|kind| kind.rsplit('.').next()) == Some(name)
}

fn kind(value: &Value) -> Option<&str> {
    value.get("@type")?.as_str()
}

/// The outermost values of which something holds, but not what was refused or is going away.
fn collect<'a>(value: &'a Value, wanted: &dyn Fn(&Value) -> bool, found: &mut Vec<&'a Value>) {
    if wanted(value) {
        found.push(value);
        return;
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, wanted, found)),
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "error_state" | "draining_state"))
            .for_each(|(_, member)| collect(member, wanted, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Looks at every object in some values.
fn each<'a>(values: Vec<&'a Value>, mut look: impl FnMut(&'a Map<String, Value>)) {
    let mut left = values;
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(members) => {
                look(members);
                left.extend(members.values());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
