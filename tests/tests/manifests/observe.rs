//! Alert rules and dashboard: promtool's word on them, and that every metric they name exists.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use kerbridge_tests::document::{quoted, tables};
use kerbridge_tests::process::find_program;
use kerbridge_tests::shipped::repository;
use serde_json::Value;

fn read(file: &str) -> String {
    std::fs::read_to_string(repository().join(file)).unwrap()
}

/// What promtool prints in a folder, and whether it is content.
fn promtool(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(find_program("promtool").unwrap());
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

#[test]
fn promtool_takes_the_alerts_and_each_fires_when_it_should_and_only_then() {
    let shipped = repository().join("envoy/observe");
    let (good, printed) = promtool(&shipped, &["check", "rules", "alerts.yaml"]);
    assert!(good, "{printed}");
    let (good, printed) = promtool(&shipped, &["test", "rules", "alerts.test.yaml"]);
    assert!(good, "{printed}");
    let (rules, cases) = (
        read("envoy/observe/alerts.yaml"),
        read("envoy/observe/alerts.test.yaml"),
    );
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(
            cases.contains(&format!("    alertname: {alert}\n")),
            "{alert} is never fired"
        );
        assert!(
            cases.contains(&format!("alertname: {alert}, exp_alerts: []")),
            "{alert} is never silent"
        );
    }
    // The cases can fail: one rule asks for more than its case has.
    let folder = tempfile::tempdir().unwrap();
    let wrong = rules.replace("kerbridge_keys_age_seconds) > 60", "kerbridge_keys_age_seconds) > 600");
    assert_ne!(wrong, rules);
    std::fs::write(folder.path().join("alerts.yaml"), wrong).unwrap();
    std::fs::write(folder.path().join("alerts.test.yaml"), cases).unwrap();
    let (good, printed) = promtool(folder.path(), &["test", "rules", "alerts.test.yaml"]);
    assert!(!good && printed.contains("KerbridgeKeysStale"), "{printed}");
}

/// The metrics that are documented, which other tests hold to the programs.
fn metrics() -> BTreeSet<String> {
    let page = read("docs/metrics.md");
    let rows = ["metric of the filter", "metric of the broker"]
        .into_iter()
        .flat_map(|header| tables(&page, header));
    rows.filter_map(|row| quoted(row.first()?).first().cloned()).collect()
}

/// The words of an expression that are metrics of ours, without the suffix of a histogram's series.
fn named(expression: &str) -> impl Iterator<Item = &str> {
    const LABELS: [&str; 2] = ["kerbridge_reason", "kerbridge_issuer"];
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("kerbridge_") && !LABELS.contains(word))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("expr").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| expressions(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

#[test]
fn every_metric_of_alerts_and_dashboard_exists() {
    let known = metrics();
    assert!(known.len() > 40, "{known:?}");
    let rules = read("envoy/observe/alerts.yaml");
    let mut asked: Vec<String> = rules
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("expr: ").map(str::to_owned))
        .collect();
    let before = asked.len();
    let dashboard: Value = serde_json::from_str(&read("envoy/observe/dashboard.json")).unwrap();
    expressions(&dashboard, &mut asked);
    assert!(before > 10 && asked.len() > before + 20, "{asked:#?}");
    for expression in &asked {
        let unknown: Vec<&str> = named(expression).filter(|name| !known.contains(*name)).collect();
        assert!(unknown.is_empty(), "{expression}: {unknown:?}");
        assert!(named(expression).next().is_some(), "{expression} names no metric");
    }
}

#[test]
fn each_alert_has_its_row_with_its_expression_and_no_other_has() {
    let rules = read("envoy/observe/alerts.yaml");
    let value = |word: &str| -> Vec<String> {
        let lines = rules.lines().filter_map(|line| line.trim_start().strip_prefix(word));
        lines.map(str::to_owned).collect()
    };
    let shipped: Vec<_> = value("- alert: ").into_iter().zip(value("expr: ")).collect();
    // A bar in a cell of a table has a backslash before it.
    let page = read("docs/metrics.md").replace("\\|", "\u{1}");
    let rows = tables(&page, "alert");
    let documented: Vec<_> = rows
        .iter()
        .map(|row| {
            let cell = |at: usize| row.get(at).map(|cell| quoted(cell).concat().replace('\u{1}', "|"));
            (cell(0).unwrap_or_default(), cell(1).unwrap_or_default())
        })
        .collect();
    assert!(shipped.len() > 10, "{shipped:?}");
    assert_eq!(documented, shipped, "docs/metrics.md, and the alerts");
}

#[test]
fn prometheus_can_compute_every_expression_of_the_dashboard() {
    let dashboard: Value = serde_json::from_str(&read("envoy/observe/dashboard.json")).unwrap();
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    let rules: Vec<Value> = asked
        .iter()
        .enumerate()
        .map(|(at, expression)| {
            let expression = expression.replace("$__rate_interval", "5m");
            serde_json::json!({"record": format!("dashboard:{at}"), "expr": expression})
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    std::fs::write(folder.path().join("dashboard.yaml"), groups.to_string()).unwrap();
    let (good, printed) = promtool(folder.path(), &["check", "rules", "dashboard.yaml"]);
    assert!(good, "{printed}");
}
