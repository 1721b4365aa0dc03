//! Reads Envoy's own account of its configuration and names what kerbridge relies on and is not there.

mod admin;

use serde_json::Value;

use super::finding::{Finding, Remedy};
use super::revocations;

const CHECK: &str = "envoy";
/// The first that has `failure_policy`.
const OLDEST: (u32, u32) = (1, 33);
/// A ticket with many groups takes up to 64 KiB of base64.
const HEADERS_KB: u64 = 96;

/// Asks Envoy's admin address. Its filter is to know what the broker of this issuer revokes, where that serves a feed.
pub fn look(admin: Option<&str>, issuer: &str, is_served: bool) -> Vec<Finding> {
    let Some(address) = admin else {
        return vec![Finding::skipped(
            CHECK,
            "listener",
            "name Envoy's admin address with --envoy-admin HOST:PORT to look at header limits and the rest",
        )];
    };
    let info = admin::get(address, "/server_info");
    let dump = admin::get(address, "/config_dump");
    match (info, dump) {
        (Ok(info), Ok(dump)) => judge(address, &info, &dump, (issuer, is_served)),
        (Err(error), _) | (_, Err(error)) => {
            vec![Finding::warning(
                CHECK,
                address,
                format!("Envoy's admin address does not answer: {error}"),
            )]
        }
    }
}

fn judge(address: &str, info: &Value, dump: &Value, feed: (&str, bool)) -> Vec<Finding> {
    let mut findings = vec![version(
        address,
        info.get("version").and_then(Value::as_str).unwrap_or_default(),
    )];
    let mut managers = Vec::new();
    collect(dump, &mut managers);
    if managers.is_empty() {
        findings.push(
            Finding::gap(CHECK, address, "no connection manager has the kerbridge filter").mended_by([Remedy::any(
                "kerbridge policy render --config kerbridge.toml, and put the entry before the router",
            )]),
        );
    }
    // The dump shows a static listener twice: as it stands in the bootstrap, and as it runs.
    let judged = managers.into_iter().flat_map(|manager| {
        let mut findings = judge_manager(manager);
        findings.extend(judge_feed(manager, feed));
        findings
    });
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
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST => {
            Finding::good(CHECK, address, format!("Envoy {version}"))
        }
        (Some(Ok(_)), Some(Ok(_))) => Finding::gap(
            CHECK,
            address,
            format!("Envoy {version} is older than {}.{}", OLDEST.0, OLDEST.1),
        ),
        _ => Finding::warning(CHECK, address, format!("Envoy's version {text:?} is not understood")),
    }
}

/// The connection managers that hold our filter, wherever they stand.
fn collect<'a>(value: &'a Value, managers: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, managers)),
        Value::Object(members) => {
            let is_manager = members
                .get("@type")
                .and_then(Value::as_str)
                .is_some_and(|kind| kind.ends_with(".HttpConnectionManager"));
            if is_manager && filter(value).is_some() {
                managers.push(value);
            } else {
                members.values().for_each(|member| collect(member, managers));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Our filter's plugin in a connection manager.
fn filter(manager: &Value) -> Option<&Value> {
    let filters = manager.get("http_filters")?.as_array()?;
    filters.iter().find_map(|filter| {
        let plugin = filter.pointer("/typed_config/config")?;
        let named = |name: &str| plugin.get(name).and_then(Value::as_str) == Some("kerbridge");
        (named("root_id") || named("name")).then_some(plugin)
    })
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

/// Whether the filter's own configuration names the broker's feed.
fn judge_feed(manager: &Value, (issuer, is_served): (&str, bool)) -> Option<Finding> {
    let name = manager.get("stat_prefix").and_then(Value::as_str).unwrap_or("unnamed");
    let text = filter(manager)?.pointer("/configuration/value")?.as_str()?;
    revocations::compare(name, &serde_json::from_str(text).ok()?, issuer, is_served)
}

fn judge_manager(manager: &Value) -> Vec<Finding> {
    let name = manager.get("stat_prefix").and_then(Value::as_str).unwrap_or("unnamed");
    let mut findings = Vec::new();
    let mut gap = |field: &str, problem: String, wanted: &str| {
        findings.push(
            Finding::gap(CHECK, name, format!("{field}: {problem}"))
                .mended_by([Remedy::any(format!("{field}: {wanted}"))]),
        );
    };
    for (pointer, wanted, otherwise) in WANTED {
        let found = manager
            .pointer(pointer)
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        if found.as_deref() != Some(wanted) {
            let found = found.unwrap_or_else(|| "not set".into());
            gap(
                pointer.rsplit('/').next().unwrap_or(pointer),
                format!("{found}, so that {otherwise}"),
                wanted,
            );
        }
    }
    let policy = filter(manager)
        .and_then(|plugin| plugin.get("failure_policy"))
        .and_then(Value::as_str);
    if policy != Some("FAIL_RELOAD") {
        let found = policy.unwrap_or("not set");
        gap(
            "failure_policy",
            format!("{found}, so that a module that fails is not loaded again, or lets requests pass"),
            "FAIL_RELOAD",
        );
    }
    let headers = manager.get("max_request_headers_kb").and_then(Value::as_u64);
    if headers.is_none_or(|kb| kb < HEADERS_KB) {
        let found = headers.map_or_else(|| "not set (60)".to_owned(), |kb| kb.to_string());
        findings.push(
            Finding::warning(
                CHECK,
                name,
                format!("max_request_headers_kb: {found}; tickets of users in many groups get 431"),
            )
            .mended_by([Remedy::any(format!("max_request_headers_kb: {HEADERS_KB}"))]),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            name,
            "paths, headers and failures are as kerbridge needs them",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Verdict;
    use super::*;

    fn manager() -> Value {
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "https",
            "normalize_path": true,
            "merge_slashes": true,
            "path_with_escaped_slashes_action": "REJECT_REQUEST",
            "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
            "max_request_headers_kb": 96,
            "http_filters": [{"name": "kerbridge", "typed_config": {"config": {
                "name": "kerbridge", "root_id": "kerbridge", "failure_policy": "FAIL_RELOAD"}}}],
        })
    }

    fn judged(manager: &Value) -> Vec<Finding> {
        let dump = json!({"configs": [{"static_listeners": [{"listener": {"filter_chains": [{"filters": [
            {"typed_config": manager}]}]}}]}]});
        judge(
            "admin",
            &json!({"version": "abc/1.40.0/Clean/RELEASE/BoringSSL"}),
            &dump,
            ("https://broker.test", true),
        )
    }

    #[test]
    fn the_shipped_settings_are_good_and_each_that_is_missing_is_named() {
        assert!(
            judged(&manager())
                .iter()
                .all(|finding| finding.verdict == Verdict::Good)
        );
        for (pointer, field) in [
            ("/normalize_path", "normalize_path"),
            ("/merge_slashes", "merge_slashes"),
            ("/path_with_escaped_slashes_action", "path_with_escaped_slashes_action"),
            (
                "/common_http_protocol_options/headers_with_underscores_action",
                "headers_with_underscores_action",
            ),
            ("/http_filters/0/typed_config/config/failure_policy", "failure_policy"),
            ("/max_request_headers_kb", "max_request_headers_kb"),
        ] {
            let mut wrong = manager();
            *wrong.pointer_mut(pointer).unwrap() = Value::Null;
            let found: Vec<Finding> = judged(&wrong)
                .into_iter()
                .filter(|finding| finding.verdict > Verdict::Skipped)
                .collect();
            assert_eq!(found.len(), 1, "{field}: {found:?}");
            assert!(found[0].found.starts_with(field), "{found:?}");
        }
    }

    #[test]
    fn a_filter_that_does_not_read_the_brokers_feed_is_named() {
        for (feed, verdict) in [("", Verdict::Bad), (r#", "feed": {"cluster": "b"}"#, Verdict::Good)] {
            let mut manager = manager();
            let own = format!(r#"{{"issuers": [{{"issuer": "https://broker.test"{feed}}}]}}"#);
            manager["http_filters"][0]["typed_config"]["config"]["configuration"] = json!({"value": own});
            let found = judged(&manager);
            let found = found.iter().find(|finding| finding.check == "revocations").unwrap();
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
    }

    #[test]
    fn an_envoy_without_the_filter_or_too_old_is_said() {
        let mut without = manager();
        without["http_filters"] = json!([]);
        assert_eq!(judged(&without).last().unwrap().verdict, Verdict::Bad);
        for (text, verdict) in [
            ("a/1.33.0/Clean", Verdict::Good),
            ("a/1.32.9/Clean", Verdict::Bad),
            ("a/2.0.0", Verdict::Good),
            ("odd", Verdict::Warning),
        ] {
            assert_eq!(version("admin", text).verdict, verdict, "{text}");
        }
    }
}
