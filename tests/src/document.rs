//! Reads the tables and blocks of the repository's documents, and follows their commands.

mod front;
mod reader;

use std::path::{Path, PathBuf};

pub use front::Front;
pub use reader::{Reader, walk};

use crate::shipped::repository;

/// The set-ups in which blocks of commands are run, by the word behind `lab=`, each with the test that runs all of its blocks.
pub const LABS: &[(&str, &str)] = &[
    ("running", RUNNING),
    ("stopped", RUNNING),
    (
        "delegating",
        "tests/tests/scenarios/documented/brokers.rs::every_step_with_an_account_that_acts_for_users_does_what_it_says",
    ),
    (
        "public",
        "tests/tests/scenarios/documented/brokers.rs::every_step_of_people_and_clients_gets_what_it_says",
    ),
    (
        "files",
        "tests/tests/scenarios/documented/files.rs::every_command_that_needs_files_alone_answers_as_it_says",
    ),
    (
        "up",
        "tests/tests/scenarios/documented/lab_up.rs::every_step_in_a_lab_that_is_up_does_what_it_says",
    ),
    (
        "mit",
        "tests/tests/scenarios/documented/first_request.rs::the_page_on_mit_kerberos_leads_to_the_first_protected_request",
    ),
    (
        "keytab",
        "tests/tests/scenarios/documented/first_request.rs::a_keytab_and_the_readme_make_a_broker_that_runs",
    ),
    (
        "samba",
        "tests/tests/samba/documented.rs::the_page_on_active_directory_leads_to_the_first_protected_request",
    ),
    (
        "mesh",
        "tests/tests/delegation/broker.rs::the_request_of_the_page_gets_a_ticket",
    ),
];
const RUNNING: &str =
    "tests/tests/scenarios/documented/brokers.rs::every_step_with_a_broker_that_runs_or_is_stopped_does_what_it_says";

/// The Markdown files that readers are led through, by their paths in the repository.
#[must_use]
pub fn pages() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(repository().join("docs"));
    let mut found: Vec<PathBuf> = folder
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(PathBuf::from("docs").join(entry.ok()?.file_name())))
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    found.extend(["README.md", "SECURITY.md", "CONTRIBUTING.md", "envoy/chart/README.md"].map(PathBuf::from));
    found.sort();
    found
}

/// The text of a page.
#[must_use]
pub fn text_of(page: &Path) -> String {
    std::fs::read_to_string(repository().join(page)).unwrap_or_default()
}

/// The pages that have blocks for one of these labs, each with all of its blocks.
#[must_use]
pub fn pages_in(labs: &[&str]) -> Vec<(PathBuf, Vec<Block>)> {
    let read = |page: PathBuf| {
        let found = blocks(&text_of(&page));
        (page, found)
    };
    let is_wanted = |block: &Block| block.lab().is_some_and(|lab| labs.contains(&lab));
    pages()
        .into_iter()
        .map(read)
        .filter(|(_, blocks)| blocks.iter().any(is_wanted))
        .collect()
}

/// What stands between backticks.
#[must_use]
pub fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Rows of every table whose header's first cell is this word, as cells.
#[must_use]
pub fn tables(document: &str, first: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_start_matches('|').trim_end_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut rows = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('|') && cells(line).first().is_some_and(|cell| cell == first) {
            // The line of dashes goes with the header.
            let body = lines.by_ref().skip(1).take_while(|line| line.starts_with('|'));
            rows.extend(body.map(cells));
        }
    }
    rows
}

/// A block between fences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What stands behind the opening fence: the language, and more.
    pub info: String,
    /// Its lines, without the indent that the fence has.
    pub text: String,
}

impl Block {
    /// The set-up in which its commands are run, as the word behind `lab=` names it.
    #[must_use]
    pub fn lab(&self) -> Option<&str> {
        self.info.strip_prefix("sh lab=")
    }

    /// The file that it is, where its first line says so: `# policy.toml`, and what else stands on that line.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        let first = self.text.lines().next()?.strip_prefix("# ")?;
        let name = first.split([',', ' ', ':']).next()?;
        (self.info == "toml" && name.ends_with(".toml")).then_some(name)
    }

    /// Its commands, each as one line: without comments of their own, and with the lines that a `\` at the end continues.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            let mut whole = line.trim().to_owned();
            while let Some(begun) = whole.strip_suffix('\\') {
                whole = format!("{begun} {}", lines.next().unwrap_or_default().trim());
            }
            if !whole.is_empty() && !whole.starts_with('#') {
                found.push(whole);
            }
        }
        found
    }
}

/// The fenced blocks of a document, in their order.
#[must_use]
pub fn blocks(document: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let indent = line.len().saturating_sub(line.trim_start().len());
        let body = lines.by_ref().take_while(|line| line.trim() != "```");
        let body: Vec<&str> = body.map(|line| line.get(indent..).unwrap_or_default()).collect();
        found.push(Block {
            info: info.trim().to_owned(),
            text: body.join("\n"),
        });
    }
    found
}

/// Whether a program printed what a document says: each line of it in order, where `…` stands for anything.
#[must_use]
pub fn prints(printed: &str, expected: &str) -> bool {
    let mut lines = printed.lines();
    expected.lines().all(|line| {
        let parts: Vec<&str> = line.trim().split('…').collect();
        lines.any(|printed| {
            let mut rest = Some(printed.trim());
            for (at, part) in parts.iter().enumerate() {
                rest = rest.and_then(|text| match at {
                    0 => text.strip_prefix(part),
                    _ => text.split_once(part).map(|(_, rest)| rest),
                });
            }
            rest.is_some_and(|rest| rest.is_empty() || parts.last() == Some(&""))
        })
    })
}
