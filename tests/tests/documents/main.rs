//! Holds the documents to the code: the table of behaviours in ARCHITECTURE.md, and the reasons that documents name.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails in a test ends the test"
)]

mod access_log;
mod fences;
mod links;

use std::collections::BTreeSet;
use std::path::Path;

use kerbridge_tests::document::{quoted, tables};
use kerbridge_tests::faults::{self, Asked};
use kerbridge_tests::scenarios::{ALL, Reach};
use kerbridge_tests::shipped::repository;
use kerbridge_wire::Reason;

/// Names that begin like a response-code detail and are none.
const NAMES: &[&str] = &[
    "kerbridge_filter",
    "kerbridge_gate",
    "kerbridge_broker",
    "kerbridge_tests",
    "kerbridge_wire",
    "kerbridge_gss",
    "kerbridge_probe",
    "kerbridge_cb",
    "kerbridge_delegation",
    "kerbridge_issuer",
    "kerbridge_loaded_for",
    "kerbridge_principal",
    "kerbridge_reason",
    "kerbridge_store",
    "kerbridge_requests",
    "kerbridge_upstream",
];

fn read(file: &str) -> String {
    std::fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The Markdown files of the repository, by their paths in it.
fn documents() -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(repository().join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_string_lossy()))
        .collect();
    found.extend(
        [
            "README.md",
            "ARCHITECTURE.md",
            "SECURITY.md",
            "CONTRIBUTING.md",
            "CHANGELOG.md",
        ]
        .map(str::to_owned),
    );
    found.retain(|name| name.ends_with(".md"));
    found.sort();
    found
}

/// All source files of the repository, relative to it.
fn sources(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.insert(path.strip_prefix(repository()).unwrap().to_string_lossy().into_owned());
        }
    }
}

/// Whether the file has a test function of this name.
fn has_test(file: &str, name: &str) -> bool {
    let text = read(file);
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let head = format!("fn {name}(");
    lines.iter().enumerate().any(|(at, line)| {
        let attributes = lines
            .iter()
            .take(at)
            .rev()
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        let is_test = |line: &&str| line.contains("test]") || line.contains("test(");
        line.trim_start_matches("async ").starts_with(&head) && attributes.clone().any(is_test)
    })
}

#[test]
fn each_file_and_test_of_the_table_of_behaviours_exists() {
    let rows = tables(&read("ARCHITECTURE.md"), "behaviour");
    assert!(
        !rows.is_empty(),
        "ARCHITECTURE.md has no table with the header | behaviour | files | tests |"
    );
    let mut wrong = Vec::new();
    for row in &rows {
        let [behaviour, files, tests] = row.as_slice() else {
            panic!("three cells expected: {row:?}");
        };
        let (files, tests) = (quoted(files), quoted(tests));
        if files.is_empty() || tests.is_empty() {
            wrong.push(format!("{behaviour}: names no file or no test"));
        }
        for file in files {
            if !repository().join(&file).is_file() {
                wrong.push(format!("{behaviour}: there is no file {file}"));
            }
        }
        for test in tests {
            let exists = test
                .rsplit_once("::")
                .is_some_and(|(file, name)| repository().join(file).is_file() && has_test(file, name));
            if !exists {
                wrong.push(format!("{behaviour}: there is no test {test}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_source_file_is_missing_from_the_table_of_behaviours() {
    let named: BTreeSet<String> = tables(&read("ARCHITECTURE.md"), "behaviour")
        .iter()
        .flatten()
        .flat_map(|cell| quoted(cell))
        .map(|name| name.split("::").next().unwrap_or_default().to_owned())
        .collect();
    let mut sources_found = BTreeSet::new();
    sources(&repository(), &mut sources_found);
    assert!(sources_found.len() > 50, "{sources_found:?}");
    let missing: Vec<_> = sources_found.difference(&named).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:#?}");
}

#[test]
fn each_test_that_contributing_names_exists() {
    let named = quoted(&read("CONTRIBUTING.md"));
    let tests: Vec<_> = named.iter().filter_map(|name| name.split_once("::")).collect();
    assert!(tests.len() > 10, "{tests:?}");
    let missing: Vec<_> = tests.iter().filter(|(file, test)| !has_test(file, test)).collect();
    assert!(missing.is_empty(), "CONTRIBUTING.md names {missing:#?}");
}

#[test]
fn every_reason_and_every_metric_that_a_document_names_exists() {
    let metrics: BTreeSet<String> = ["metric of the filter", "metric of the broker"]
        .iter()
        .flat_map(|header| tables(&read("docs/metrics.md"), header))
        .filter_map(|row| quoted(row.first()?).first().cloned())
        .map(|name| name.split('{').next().unwrap_or_default().to_owned())
        .collect();
    assert!(metrics.len() > 30, "{metrics:?}");
    let mut wrong = Vec::new();
    let mut all = documents();
    all.extend(["envoy/envoy.yaml", "envoy/policy.toml"].map(str::to_owned));
    for document in all {
        let text = read(&document);
        for row in tables(&text, "reason") {
            let words = row.first().map(|cell| quoted(cell)).unwrap_or_default();
            let unknown = words.iter().filter(|word| Reason::from_word(word).is_none());
            wrong.extend(unknown.map(|word| format!("{document}: {word} is no reason")));
        }
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("kerbridge_") && *word != "kerbridge_") {
            let known = word
                .strip_prefix("kerbridge_")
                .is_some_and(|reason| Reason::from_word(reason).is_some());
            // A series of a histogram.
            let metric = word.strip_suffix("_bucket").unwrap_or(word);
            if !known && !NAMES.contains(&word) && !metrics.contains(metric) {
                wrong.push(format!(
                    "{document}: {word} is neither a response-code detail nor a metric"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_reason_has_one_entry_with_what_to_do_about_it() {
    let rows = tables(&read("docs/reasons.md"), "reason");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for row in &rows {
        let [reason, seen_by_the_client, cause, remedy] = row.as_slice() else {
            panic!("four cells expected: {row:?}");
        };
        let word = quoted(reason).concat();
        let Some(reason) = Reason::from_word(&word) else {
            wrong.push(format!("{word} is no reason"));
            continue;
        };
        if !seen.insert(reason) {
            wrong.push(format!("{word} has two entries"));
        }
        let status = reason.status().to_string();
        if reason != Reason::Ok && !seen_by_the_client.starts_with(&status) && !seen_by_the_client.starts_with("as `") {
            wrong.push(format!("{word}: {status} expected, not {seen_by_the_client:?}"));
        }
        if cause.is_empty() || remedy.is_empty() {
            wrong.push(format!("{word}: no cause or no remedy"));
        }
    }
    let missing = Reason::ALL.iter().filter(|reason| !seen.contains(reason));
    wrong.extend(missing.map(|reason| format!("{reason} has no entry")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The metrics that the filter's source names, without `kerbridge.` and what follows.
fn metrics_of_the_filter() -> BTreeSet<String> {
    let text = read("filter/src/metrics.rs");
    let is_name = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let literals = text
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"))
        .flat_map(|line| line.split('"').skip(1).step_by(2));
    literals
        .filter_map(|literal| literal.strip_prefix("kerbridge.").unwrap_or(literal).split('.').next())
        .filter(is_name)
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_metric_of_the_filter_has_its_row_and_no_other_has() {
    let rows = tables(&read("docs/metrics.md"), "metric of the filter");
    let written: BTreeSet<String> = rows
        .iter()
        .filter_map(|row| {
            quoted(row.first()?)
                .first()?
                .strip_prefix("kerbridge_")
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(written, metrics_of_the_filter());
    assert!(
        written.contains("requests") && written.contains("keys_age_seconds"),
        "{written:?}"
    );
}

/// The audit events of a source file: the name of each, and its fields in their order. Each is one macro with a field in a line.
fn audit_events(source: &str) -> Vec<(String, Vec<String>)> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let begins = |line: &str| line == "target: audit::TARGET,";
    let places = lines.iter().enumerate().filter(|(_, line)| begins(line));
    places
        .map(|(at, _)| {
            let body = lines.iter().skip(at).skip(1).take_while(|line| **line != ");");
            let (mut name, mut fields) = (String::new(), Vec::new());
            for line in body {
                let word: String = line
                    .trim_start_matches(['%', '?'])
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                    .collect();
                let rest = line
                    .trim_start_matches(['%', '?'])
                    .strip_prefix(&word)
                    .unwrap_or_default();
                if line.starts_with('"') {
                    line.trim_matches('"').clone_into(&mut name);
                } else if rest.starts_with(" = ") || rest == "," {
                    fields.push(word);
                }
            }
            (name, fields)
        })
        .collect()
}

#[test]
fn the_audit_events_of_the_sources_are_those_of_their_document() {
    let mut files = BTreeSet::new();
    sources(&repository().join("broker/src"), &mut files);
    let mut written: Vec<(String, Vec<String>)> = files.iter().flat_map(|file| audit_events(&read(file))).collect();
    written.retain(|(name, _)| name != "an audit event");
    // Those of keys have one macro for all of them.
    for line in read("broker/src/keyring/rotation.rs").lines().map(str::trim) {
        let named = |call: &str| line.strip_prefix(call).and_then(|rest| rest.split('"').next());
        let key = named("log(\"").map(|name| (name, "kid"));
        let key = key.or_else(|| named("log_kek(\"").map(|name| (name, "key_encryption_key")));
        written.extend(key.map(|(name, field)| (name.to_owned(), [field, "by", "uid"].map(str::to_owned).to_vec())));
    }
    written.sort();
    written.dedup();
    let document = read("docs/audit.md");
    let mut documented: Vec<(String, Vec<String>)> = tables(&document, "event")
        .iter()
        .filter_map(|row| Some((quoted(row.first()?).concat(), quoted(row.get(2)?))))
        .collect();
    documented.sort();
    assert!(written.len() > 5, "{written:#?}");
    assert_eq!(written, documented, "the sources, and docs/audit.md");
    let known: BTreeSet<String> = tables(&document, "field")
        .iter()
        .flat_map(|row| row.first().map(|cell| quoted(cell)).unwrap_or_default())
        .collect();
    let used: BTreeSet<String> = documented.into_iter().flat_map(|(_, fields)| fields).collect();
    assert_eq!(
        used, known,
        "the fields of events, and those that docs/audit.md explains"
    );
}

#[test]
fn the_faults_that_are_documented_are_those_that_are_tried() {
    let document = read("docs/faults.md");
    for asked in Asked::ALL {
        let rows = tables(&document, &format!("{} fault", asked.name()));
        assert_eq!(rows, faults::documented(asked), "{}", asked.name());
    }
    let number = faults::cells().count();
    assert!(document.contains(&format!("{number} cases in all")), "{number} cases");
}

#[test]
fn each_scenario_of_the_lab_has_its_row_and_no_other_has() {
    let reach = |reach: &Reach| match reach {
        Reach::Anywhere => "yes",
        Reach::Own(_) => "no",
    };
    let expected: Vec<Vec<String>> = ALL
        .iter()
        .map(|one| {
            vec![
                format!("`{}`", one.name),
                one.purpose.to_owned(),
                reach(&one.reach).to_owned(),
            ]
        })
        .collect();
    assert!(expected.len() > 10, "{expected:?}");
    assert_eq!(
        tables(&read("docs/lab.md"), "scenario"),
        expected,
        "docs/lab.md, and the scenarios"
    );
}

#[test]
fn each_threat_of_the_security_model_has_tests_that_exist() {
    let rows = tables(&read("docs/security-model.md"), "threat");
    assert!(rows.len() > 30, "{}", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let [threat, answer, tests] = row.as_slice() else {
            panic!("three cells expected: {row:?}");
        };
        let tests = quoted(tests);
        if tests.is_empty() || answer.is_empty() {
            wrong.push(format!("{threat}: no answer or no test"));
        }
        for test in tests {
            let exists = test
                .rsplit_once("::")
                .is_some_and(|(file, name)| repository().join(file).is_file() && has_test(file, name));
            if !exists {
                wrong.push(format!("{threat}: there is no test {test}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_table_is_found_by_its_first_word_and_ends_with_its_last_row() {
    let text = "# t\n| reason | x |\n|---|---|\n| `ok` `replay` | 1 |\n\n| other | y |\n|---|---|\n| `z` | 2 |\n";
    let rows = tables(text, "reason");
    assert_eq!(rows, [["`ok` `replay`", "1"]]);
    assert_eq!(quoted(&rows.first().unwrap().join(" ")), ["ok", "replay"]);
    assert!(has_test(
        "tests/tests/documents/main.rs",
        "a_table_is_found_by_its_first_word_and_ends_with_its_last_row"
    ));
    assert!(!has_test("tests/tests/documents/main.rs", "tables"));
}
