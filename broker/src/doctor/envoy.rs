//! Reads Envoy's own account of its configuration and names what kerbridge relies on and is not there, or is not what the policy makes.

mod admin;
mod agreement;
mod clusters;
mod dump;
mod plugin;

use std::collections::{BTreeMap, BTreeSet};

use kerbridge_wire::Spn;
use kerbridge_wire::filter_config::FilterConfig;
use kerbridge_wire::policy::Policy;
use serde_json::Value;

use self::dump::{Dump, Entry, Manager};
use super::address;
use super::finding::{Finding, Remedy};
use super::revocations::{self, Feed};
use crate::config::Config;
use crate::render::{self, Inline};

const CHECK: &str = "envoy";
/// The first that has `failure_policy`.
const OLDEST: (u32, u32) = (1, 33);
/// The first with which the tests were run.
const TRIED: (u32, u32) = (1, 36);
/// A ticket with many groups takes up to 64 KiB of base64.
const HEADERS_KB: u64 = 96;
/// What makes the filter's configuration anew.
const RENDER: &str = "kerbridge policy render --config kerbridge.toml, and replace the filter's entry";

/// What the filters of a broker's Envoys are to have.
#[derive(Debug)]
pub struct Expected<'a> {
    issuer: &'a str,
    /// What the policy makes, where this broker makes tokens and so serves keys and revocations.
    rendered: Option<FilterConfig>,
    services: BTreeSet<&'a Spn>,
    /// The keys that this broker publishes, where they could be looked at.
    published: Option<String>,
}

impl<'a> Expected<'a> {
    /// By configuration, policy and the keys that are published.
    pub fn of(config: &'a Config, policy: &'a Policy, published: Option<String>) -> Self {
        let issuer = config.issuer();
        let rendered = || render::filter_config(issuer, policy, Inline::default());
        Self {
            issuer,
            rendered: config.keys().map(|_| rendered()),
            services: render::kerberos_upstreams(policy),
            published,
        }
    }
}

/// Asks Envoy's admin address.
pub fn look(admin: Option<&str>, expected: &Expected<'_>) -> Vec<Finding> {
    let Some(text) = admin else {
        return vec![Finding::skipped(
            CHECK,
            "listener",
            "name Envoy's admin address with --envoy-admin HOST:PORT to look at header limits and the rest",
        )];
    };
    if let Some(finding) = address::misread(CHECK, "--envoy-admin", text) {
        return vec![finding];
    }
    let info = admin::get(text, "/server_info");
    let dump = info.and_then(|info| Ok((info, admin::get(text, "/config_dump")?)));
    match dump {
        Ok((info, dump)) => judge(text, &info, &dump, expected),
        Err(error) => vec![
            Finding::gap(CHECK, text, format!("Envoy's admin address does not answer: {error}")).mended_by([
                Remedy::any(format!(
                    "curl http://{text}/server_info; its address is admin.address in Envoy's bootstrap"
                )),
            ]),
        ],
    }
}

fn judge(address: &str, info: &Value, dump: &Value, expected: &Expected<'_>) -> Vec<Finding> {
    let mut findings = vec![version(
        address,
        info.get("version").and_then(Value::as_str).unwrap_or_default(),
    )];
    let dump = Dump::of(dump);
    let clusters = dump.clusters();
    let managers = dump.managers().into_iter();
    let ours: Vec<(Manager<'_>, Entry<'_>)> = managers
        .filter_map(|manager| Some((manager, dump.entry(manager)?)))
        .collect();
    if ours.is_empty() {
        findings.push(
            Finding::gap(CHECK, address, "no connection manager has the kerbridge filter").mended_by([Remedy::any(
                "kerbridge policy render --config kerbridge.toml, and put the entry before the router",
            )]),
        );
    }
    let mut judged = Vec::new();
    for (manager, entry) in &ours {
        judged.extend(judge_manager(*manager, *entry, &clusters, &dump, expected));
    }
    if let Some((_, entry)) = ours.first() {
        judged.extend(clusters::judge_services(&expected.services, *entry, &clusters, &dump));
    }
    judged.extend(clusters::ways_around(&dump));
    // Listeners that share a cluster share what is said of it.
    for finding in judged {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

fn version(address: &str, text: &str) -> Finding {
    let version = text.split('/').nth(1).unwrap_or(text);
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= TRIED => {
            Finding::good(CHECK, address, format!("Envoy {version}"))
        }
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST => Finding::warning(
            CHECK,
            address,
            format!(
                "Envoy {version} has what is needed, and nobody has run the tests with one before {}.{}",
                TRIED.0, TRIED.1
            ),
        )
        .mended_by([Remedy::any(format!("run Envoy {}.{} or later", TRIED.0, TRIED.1))]),
        (Some(Ok(_)), Some(Ok(_))) => Finding::gap(
            CHECK,
            address,
            format!("Envoy {version} is older than {}.{}", OLDEST.0, OLDEST.1),
        )
        .mended_by([Remedy::any(format!("run Envoy {}.{} or later", OLDEST.0, OLDEST.1))]),
        _ => Finding::warning(CHECK, address, format!("Envoy's version {text:?} is not understood")),
    }
}

/// What a connection manager must say: where, what it must be, and what happens otherwise.
const WANTED: [(&str, &str, &str); 4] = [
    (
        "/normalize_path",
        "true",
        "a path may mean one thing to the filter and another to the service",
    ),
    (
        "/merge_slashes",
        "true",
        "a path may mean one thing to the filter and another to the service",
    ),
    (
        "/path_with_escaped_slashes_action",
        "REJECT_REQUEST",
        "an escaped slash may mean one thing to the filter and another to the service",
    ),
    (
        "/common_http_protocol_options/headers_with_underscores_action",
        "REJECT_REQUEST",
        "a client may send x_kerbridge_subject, which many services read as x-kerbridge-subject",
    ),
];

/// Time-outs that end the requests which wait in a module that fails: where, and what Envoy has where none is set.
const TIME_OUTS: [(&str, Option<&str>); 2] = [("request_timeout", None), ("stream_idle_timeout", Some("5m"))];

/// A setting that is not as it must be.
struct Gap {
    field: String,
    problem: String,
    wanted: String,
}

impl Gap {
    fn of(field: &str, problem: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            problem: problem.into(),
            wanted: wanted.into(),
        }
    }

    fn found(self, place: &str) -> Finding {
        let Self { field, problem, wanted } = self;
        Finding::gap(CHECK, place, format!("{field}: {problem}")).mended_by([Remedy::any(format!("{field}: {wanted}"))])
    }
}

fn judge_manager(
    manager: Manager<'_>,
    entry: Entry<'_>,
    clusters: &BTreeMap<&str, &Value>,
    dump: &Dump<'_>,
    expected: &Expected<'_>,
) -> Vec<Finding> {
    let name = manager.name();
    let mut gaps = settings(manager.settings);
    gaps.extend(plugin::judge(entry, dump));
    gaps.extend(plugin::around(entry, manager, dump));
    let configuration = plugin::configuration(entry.plugin).unwrap_or_default();
    gaps.extend(clusters::absent(&configuration, clusters));
    let mut findings: Vec<Finding> = gaps.into_iter().map(|gap| gap.found(&name)).collect();
    findings.extend(limits(&name, manager.settings, &configuration));
    if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            name.as_str(),
            "paths, headers and failures are as kerbridge needs them",
        ));
    }
    findings.extend(clusters::judge_brokers(&configuration, clusters));
    let rendered = expected.rendered.as_ref().filter(|_| !configuration.is_null());
    findings.extend(rendered.and_then(|rendered| agreement::judge(&name, &configuration, rendered)));
    let published = expected.published.as_deref();
    findings.extend(published.and_then(|keys| agreement::judge_inline(&name, &configuration, expected.issuer, keys)));
    let own = expected.rendered.as_ref().and_then(|rendered| rendered.issuers.first());
    let feed = own.map_or(Feed::None, |own| match own.feed {
        Some(_) => Feed::Followed,
        None => Feed::LeftOut,
    });
    findings.extend(revocations::compare(&name, &configuration, expected.issuer, feed));
    findings
}

/// What protects, and is not there.
fn settings(manager: &Value) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for (pointer, wanted, otherwise) in WANTED {
        let found = manager
            .pointer(pointer)
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        if found.as_deref() != Some(wanted) {
            let found = found.unwrap_or_else(|| "not set".into());
            gaps.push(Gap::of(
                pointer.rsplit('/').next().unwrap_or(pointer),
                format!("{found}, so that {otherwise}"),
                wanted,
            ));
        }
    }
    for (field, default) in TIME_OUTS {
        let found = manager.get(field).and_then(Value::as_str);
        if found.or(default).is_none_or(|time| time == "0s") {
            gaps.push(Gap::of(
                field,
                format!(
                    "{}, so that requests which wait in a module that fails are never ended",
                    found.unwrap_or("not set")
                ),
                "30s",
            ));
        }
    }
    gaps
}

/// What works, and not for everybody, or without a second lock.
fn limits(name: &str, manager: &Value, configuration: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut warn = |found: String, remedy: String| {
        findings.push(Finding::warning(CHECK, name, found).mended_by([Remedy::any(remedy)]));
    };
    let let_in = plugin::let_in(manager, configuration);
    if !let_in.is_empty() {
        warn(
            format!(
                "early_header_mutation_extensions: does not remove {}, so that only the filter keeps clients from saying who \
                 they are",
                let_in.join(", ")
            ),
            "early_header_mutation_extensions: the entry of the shipped envoy.yaml, with remove_on_match: {key_matcher: \
             {prefix: x-kerbridge-}}, or remove: NAME for each (Envoy 1.33 to 1.35)"
                .to_owned(),
        );
    }
    let headers = manager.get("max_request_headers_kb").and_then(Value::as_u64);
    if headers.is_none_or(|kb| kb < HEADERS_KB) {
        let found = headers.map_or_else(|| "not set (60)".to_owned(), |kb| kb.to_string());
        warn(
            format!("max_request_headers_kb: {found}; tickets of users in many groups get 431"),
            format!("max_request_headers_kb: {HEADERS_KB}"),
        );
    }
    // Envoy takes the two for each other's contrary: one of them says whom a request is from.
    let is_detected = manager.get("original_ip_detection_extensions").is_some();
    if manager.get("use_remote_address") != Some(&Value::Bool(true)) && !is_detected {
        warn(
            "use_remote_address: not true, so that the address which rules and logs go by is the one that a client writes into \
             x-forwarded-for"
                .to_owned(),
            "use_remote_address: true, and behind other proxies xff_num_trusted_hops: their number".to_owned(),
        );
    }
    findings
}

#[cfg(test)]
mod tests;
