//! Holds the shipped access logs to the page that explains their fields.

use std::collections::BTreeSet;

use kerbridge_tests::document::{quoted, tables};

use super::read;

/// The fields of the first JSON log format of a text.
fn fields(yaml: &str) -> BTreeSet<String> {
    let lines = yaml.lines().skip_while(|line| line.trim() != "json_format:").skip(1);
    let field = |line: &str| line.trim().split_once(": \"%").map(|(name, _)| name.to_owned());
    lines.map_while(field).collect()
}

#[test]
fn each_field_of_the_access_log_is_explained_and_the_smaller_one_has_no_other() {
    let page = read("docs/outcomes.md");
    let explained: BTreeSet<String> = tables(&page, "field")
        .iter()
        .flat_map(|row| row.first().map(|cell| quoted(cell)).unwrap_or_default())
        .collect();
    let whole = fields(&read("envoy/observe/access-log.yaml"));
    assert!(whole.len() > 15, "{whole:?}");
    assert_eq!(whole, explained, "envoy/observe/access-log.yaml, and docs/outcomes.md");
    let smaller = fields(&read("envoy/envoy.yaml"));
    assert!(smaller.len() > 10 && smaller.is_subset(&whole), "{smaller:?}");
}
