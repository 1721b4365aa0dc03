//! What the repository ships in `envoy/` is what the programs make and take.

use std::path::Path;

use kerbridge_tests::World;
use kerbridge_tests::broker::{Broker, BrokerSettings};
use kerbridge_tests::shipped::{self, HOST, ISSUER, LEGACY, REALM, ShippedYaml};

/// `kerbridge policy render` for the shipped policy.
fn render(folder: &Path, arguments: &[&str]) -> String {
    policy(folder, "render", arguments)
}

/// A command of `kerbridge policy` for the shipped policy.
fn policy(folder: &Path, command: &str, arguments: &[&str]) -> String {
    let settings = BrokerSettings {
        issuer: ISSUER.to_owned(),
        realms: vec![REALM.to_owned()],
        acceptors: vec![format!("HTTP/{HOST}@{REALM}")],
        keytab: folder.join("http.keytab"),
        policy: shipped::policy(HOST, REALM).unwrap(),
        more: String::new(),
    };
    let broker = Broker::prepare(folder, &settings).unwrap();
    let config = broker.config();
    let mut all = vec!["policy", command, "--config", config.to_str().unwrap()];
    all.extend(arguments);
    let (status, printed) = Broker::run(folder, &all).unwrap();
    assert!(status.success(), "{printed}");
    printed
}

/// The lines of a YAML text without comments, as deep as their first one.
fn lines(yaml: &str) -> Vec<String> {
    let lines = yaml.lines().filter(|line| !line.trim_start().starts_with('#'));
    let lines: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
    let depth = lines[0].chars().take_while(|c| *c == ' ').count();
    lines.iter().map(|line| line.chars().skip(depth).collect()).collect()
}

#[test]
fn the_filter_in_the_shipped_envoy_yaml_is_what_policy_render_makes() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = ShippedYaml::read().unwrap();
    let json = render(folder.path(), &["--format", "json"]);
    assert_eq!(yaml.filter_configuration().unwrap(), json.trim_end());

    let rendered = render(
        folder.path(),
        &[
            "--format",
            "envoy",
            "--deployed-module",
            "/etc/envoy/kerbridge_filter.wasm",
        ],
    );
    let from = yaml.text().find("          - name: kerbridge\n").unwrap();
    let to = yaml
        .text()
        .find("          - name: envoy.filters.http.router\n")
        .unwrap();
    assert_eq!(lines(yaml.text().get(from..to).unwrap()), lines(&rendered));
}

#[test]
fn policy_check_finds_nothing_in_the_shipped_policy() {
    let folder = tempfile::tempdir().unwrap();
    let said = policy(folder.path(), "check", &["--output", "json"]);
    assert_eq!(said.trim(), "[]");
}

#[test]
fn the_shipped_envoy_yaml_says_what_the_requirements_ask_of_it() {
    let yaml = ShippedYaml::read().unwrap();
    let times = |setting: &str| {
        let lines = yaml.text().lines();
        lines
            .filter(|line| line.trim_start().trim_start_matches("- ") == setting)
            .count()
    };
    for setting in [
        "normalize_path: true",
        "merge_slashes: true",
        "path_with_escaped_slashes_action: REJECT_REQUEST",
        "headers_with_underscores_action: REJECT_REQUEST",
        "max_request_headers_kb: 96",
        "use_remote_address: true",
        "remove_on_match: {key_matcher: {prefix: x-kerbridge-}}",
        "stream_idle_timeout: 30s",
        "request_timeout: 30s",
    ] {
        assert_eq!(times(setting), 1, "{setting}");
    }
    // The listener's filter and the cluster's are in one VM.
    for setting in ["failure_policy: FAIL_RELOAD", "vm_id: kerbridge"] {
        assert_eq!(times(setting), 2, "{setting}");
    }
    // The same ticket twice is a replay: only where each attempt gets its own may anything be repeated.
    let retried: Vec<_> = yaml
        .text()
        .split("- match: ")
        .filter(|route| route.contains("retry_policy"))
        .collect();
    assert_eq!(retried.len(), 1);
    assert!(retried[0].contains("cluster: legacy\n"));
    assert!(!retried[0].contains("5xx") && retried[0].contains("retriable_status_codes: [401]"));
}

#[test]
fn the_filter_of_the_legacy_cluster_is_what_policy_render_makes() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = ShippedYaml::read().unwrap();
    let rendered = render(
        folder.path(),
        &[
            "--upstream",
            LEGACY,
            "--deployed-module",
            "/etc/envoy/kerbridge_filter.wasm",
        ],
    );
    let (_, from) = yaml.text().split_once("        - name: kerbridge_upstream\n").unwrap();
    let (entries, _) = from.split_once("    load_assignment:").unwrap();
    let shipped = format!("        - name: kerbridge_upstream\n{entries}");
    assert_eq!(lines(&shipped), lines(&rendered));
    let json = render(folder.path(), &["--upstream", LEGACY, "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json, serde_json::json!({"upstream": {"kerberos": {"spn": LEGACY}}}));
}

#[test]
fn an_idle_connection_to_the_broker_is_closed_by_envoy_first() {
    // The broker's keep-alive is longer than Envoy's idle time-out: after the time-out the next call opens a connection
    // of its own, and none ever fails on one that the broker was closing.
    let mut world = World::builder()
        .yaml(|yaml| yaml.replace("{idle_timeout: 30s}", "{idle_timeout: 1s}"))
        .filter(|filter| {
            for polled in ["jwks", "feed"] {
                filter["issuers"][0][polled]["poll"] = serde_json::json!("10s");
            }
        })
        .start()
        .unwrap();
    let idle = "cluster.kerbridge_broker.upstream_cx_idle_timeout";
    world
        .envoy()
        .wait_for_stat(idle, 1, std::time::Duration::from_secs(10))
        .unwrap();
    assert_eq!(world.curl_as("alice", "/orders/1").send().unwrap().status, 200);
    assert_eq!(
        world
            .envoy()
            .stat("cluster.kerbridge_broker.upstream_cx_destroy_remote"),
        Some(0)
    );
}

#[test]
fn an_access_log_line_names_the_subject_and_the_reason_and_no_query() {
    let world = World::start().unwrap();
    assert_eq!(world.curl_as("alice", "/orders/1?hush=1").send().unwrap().status, 200);
    let refused = world.curl("/orders/2?hush=1").send().unwrap();
    let id = refused.json()["request_id"].as_str().unwrap().to_owned();
    let line = world.access_log(&id).unwrap();
    assert_eq!(
        (line["status"].as_u64(), line["details"].as_str()),
        (Some(401), Some("kerbridge_no_credentials"))
    );
    assert_eq!(line["path"], "/orders/2");
    let passed = world
        .access_lines()
        .into_iter()
        .find(|line| line["path"] == "/orders/1")
        .unwrap();
    assert_eq!(
        (passed["status"].as_u64(), passed["subject"].as_str()),
        (Some(200), Some("alice@LAB.TEST"))
    );
    assert!(!world.envoy_log().contains("hush"));
}
