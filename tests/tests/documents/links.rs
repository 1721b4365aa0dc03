//! Holds the links between documents to their places, and the index to what there is.

use std::collections::BTreeSet;
use std::path::Path;

use kerbridge_tests::shipped::repository;

use super::{documents, read};

/// A document without its blocks and, where that is wanted, what stands between backticks.
fn prose(text: &str, without_code: bool) -> String {
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    let line = |line: &str| match without_code {
        true => line.split('`').step_by(2).collect::<Vec<_>>().join("`"),
        false => line.to_owned(),
    };
    lines.map(line).collect::<Vec<_>>().join("\n")
}

/// The anchors that a document's headings make: lower case, without punctuation, a hyphen for a space, and a number where one
/// comes again.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for heading in prose(text, false).lines().filter_map(|line| line.strip_prefix('#')) {
        let plain: String = heading
            .trim_start_matches('#')
            .trim()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
            .collect();
        let numbered = (1..).map(|number| format!("{plain}-{number}"));
        let free = std::iter::once(plain.clone())
            .chain(numbered)
            .find(|name| !found.contains(name));
        found.extend(free);
    }
    found
}

#[test]
fn each_link_between_documents_leads_somewhere() {
    let (mut wrong, mut seen) = (Vec::new(), 0_u32);
    for document in documents() {
        let text = prose(&read(&document), true);
        let folder = Path::new(&document).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            seen = seen.saturating_add(1);
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => folder.join(file).to_string_lossy().into_owned(),
            };
            // `docs/../README.md`
            let target = target.strip_prefix("docs/../").unwrap_or(&target).to_owned();
            if !repository().join(&target).exists() {
                wrong.push(format!("{document}: there is no {target}"));
            } else if !anchor.is_empty() && !anchors(&read(&target)).contains(anchor) {
                wrong.push(format!("{document}: {target} has no heading #{anchor}"));
            }
        }
    }
    assert!(seen > 200, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_document_is_in_the_index() {
    let index = read("docs/README.md");
    let missing: Vec<_> = documents()
        .into_iter()
        .filter_map(|name| name.strip_prefix("docs/").map(str::to_owned))
        .filter(|name| name != "README.md" && !index.contains(&format!("]({name})")))
        .collect();
    assert!(missing.is_empty(), "docs/README.md does not name {missing:?}");
}

#[test]
fn headings_have_the_anchors_that_links_use() {
    let text = "# A `b_c`, d!\n## A `b_c`, d!\n```sh\n# no heading\n```\n### `[[route.claims]]`\n";
    let found: Vec<String> = anchors(text).into_iter().collect();
    assert_eq!(found, ["a-b_c-d", "a-b_c-d-1", "routeclaims"]);
    assert_eq!(prose("a `b](c)` d\n```\n[x](y)\n```\ne", true), "a ` d\ne");
}
