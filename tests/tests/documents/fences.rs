//! Holds every block of the documents to something: it is run, or read by what would read it, or says to its reader why it is not
//! run here.

use std::collections::BTreeSet;
use std::process::Command;

use kerbridge_tests::document::{Block, LABS, blocks, pages, quoted, text_of};
use kerbridge_tests::world::lab_program;

use super::{has_test, read};

/// The words behind the fence of what is no command, each with the test that takes every such block.
const READ: &[(&str, &str)] = &[
    (
        "toml",
        "broker/src/config/tests/documented/pages.rs::every_toml_block_of_the_documents_is_read_without_a_mistake",
    ),
    (
        "yaml of a kubeconfig",
        "tests/tests/documents/fences.rs::the_kubeconfig_of_the_documents_calls_a_command_that_is_one",
    ),
    (
        "yaml",
        "tests/tests/scenarios/documented/configurations.rs::every_envoy_configuration_of_the_documents_is_taken_by_envoy",
    ),
    (
        "sql",
        "tests/tests/scenarios/documented/languages.rs::every_sql_of_the_documents_is_taken_by_a_server",
    ),
    (
        "json",
        "tests/tests/scenarios/documented/languages.rs::every_json_of_the_documents_is_what_is_rendered",
    ),
    (
        "html",
        "tests/tests/scenarios/documented/languages.rs::every_form_of_the_documents_is_that_of_the_filters_own_page",
    ),
    (
        "python",
        "tests/tests/scenarios/documented/languages.rs::every_python_of_the_documents_stands_in_the_client_that_is_run",
    ),
];

/// What begins a block that is not run; the reason follows.
const NOT_RUN: &str = "# not run here: ";

/// How a line of a shell begins that stands in a block which says that it is none.
const COMMANDS: &[&str] = &["$ ", "kerbridge ", "curl ", "kinit", "make ", "sudo ", "envoy "];

fn split(test: &str) -> (&str, &str) {
    test.rsplit_once("::").unwrap()
}

/// What is wrong with a block; `before` is the one before it on its page.
fn wrong(block: &Block, before: Option<&Block>, targets: &BTreeSet<String>) -> Option<String> {
    let language = block.info.split(' ').next().unwrap_or_default();
    match language {
        "sh" | "powershell" => wrong_with_commands(block, targets),
        "text" if block.info == "text prints" => {
            let follows = before.is_some_and(|before| before.lab().is_some());
            (!follows).then(|| "says what is printed, and follows no block that is run".to_owned())
        }
        "text" => {
            let is_command = |line: &&str| COMMANDS.iter().any(|word| line.starts_with(word));
            let found = block.text.lines().find(is_command);
            found.map(|line| format!("{line:?} is a command: let the fence say sh"))
        }
        _ => {
            let is_read = READ
                .iter()
                .any(|(info, _)| block.info == *info || block.info.starts_with(&format!("{info} ")));
            (!is_read).then(|| format!("`{}`: nothing reads such a block", block.info))
        }
    }
}

fn wrong_with_commands(block: &Block, targets: &BTreeSet<String>) -> Option<String> {
    if let Some(lab) = block.lab() {
        let is_known = LABS.iter().any(|(word, _)| *word == lab);
        return (!is_known).then(|| format!("there is no lab {lab}"));
    }
    if let Some(reason) = block.text.strip_prefix(NOT_RUN) {
        let is_given = reason.lines().next().is_some_and(|reason| reason.trim().len() > 5);
        return (!is_given).then(|| "gives no reason".to_owned());
    }
    let commands = block.commands();
    // The product's own commands are read by its command line, see broker/src/cli/documented.rs.
    let unknown = commands.iter().find(|line| {
        let mut words = line.split(' ');
        match words.next() {
            Some("kerbridge") => false,
            Some("make") => !words.next().is_some_and(|target| targets.contains(target)),
            _ => true,
        }
    });
    unknown.map(|line| {
        format!("{line:?} is neither run nor read; name its lab, or begin the block with {NOT_RUN:?} and why")
    })
}

/// What `make` can make.
fn targets() -> BTreeSet<String> {
    let makefile = read("Makefile");
    let names = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name);
    let is_name = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    names.filter(is_name).map(str::to_owned).collect()
}

#[test]
fn each_block_of_the_documents_is_run_or_read_or_says_why_it_is_not() {
    let targets = targets();
    let (mut found, mut seen) = (Vec::new(), 0_u32);
    for page in pages() {
        let blocks = blocks(&text_of(&page));
        let mut before = None;
        for block in &blocks {
            seen = seen.saturating_add(1);
            if let Some(problem) = wrong(block, before, &targets) {
                found.push(format!("{}: {problem}\n{}", page.display(), block.text));
            }
            before = Some(block);
        }
    }
    assert!(seen > 120, "{seen}");
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

#[test]
fn what_runs_and_reads_the_blocks_is_there_and_has_some() {
    let all: Vec<Block> = pages().iter().flat_map(|page| blocks(&text_of(page))).collect();
    let mut problems = Vec::new();
    for (lab, test) in LABS {
        if !all.iter().any(|block| block.lab() == Some(lab)) {
            problems.push(format!("no block is for the lab {lab}"));
        }
        let (file, name) = split(test);
        if !has_test(file, name) {
            problems.push(format!("{lab}: there is no test {test}"));
        }
    }
    for (info, test) in READ {
        if !all.iter().any(|block| block.info.starts_with(info)) {
            problems.push(format!("no block is {info}"));
        }
        let (file, name) = split(test);
        if !has_test(file, name) {
            problems.push(format!("{info}: there is no test {test}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_block_that_nothing_holds_is_found() {
    let targets = targets();
    let is_wrong = |info: &str, text: &str| {
        let block = Block {
            info: info.to_owned(),
            text: text.to_owned(),
        };
        wrong(&block, None, &targets).is_some()
    };
    for (info, text) in [
        ("", "anything"),
        ("sh", "curl http://127.0.0.1/"),
        ("sh", "kerbridge keys list\nkinit alice"),
        ("sh", "make nothing-of-the-kind"),
        ("sh", "# not run here: \ncurl x"),
        ("sh", "# not run here\ncurl x"),
        ("sh lab=nowhere", "true"),
        ("bash", "true"),
        ("text", "$ klist"),
        ("text prints", "what nobody printed"),
        ("rust", "fn main() {}"),
    ] {
        assert!(is_wrong(info, text), "{info}: {text}");
    }
    for (info, text) in [
        ("sh", "kerbridge keys \\\n  list # and why\nmake demo"),
        ("sh", "# not run here: Windows\nnltest"),
        ("sh lab=running", "true"),
        ("text", "a picture"),
        ("toml in [[route]]", "path = \"/\""),
    ] {
        assert!(!is_wrong(info, text), "{info}: {text}");
    }
}

#[test]
fn the_kubeconfig_of_the_documents_calls_a_command_that_is_one() {
    let all = pages().into_iter().flat_map(|page| blocks(&text_of(&page)));
    for block in all.filter(|block| block.info == "yaml of a kubeconfig") {
        let value = |name: &str| {
            let line = block.text.lines().find_map(|line| line.trim().strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let args = value("args:");
        let args: Vec<&str> = args
            .trim_matches(['[', ']'])
            .split(',')
            .map(|word| word.trim().trim_matches('"'))
            .collect();
        // With `--help` behind it a command line is read and nothing is done.
        let output = Command::new(kerbridge_tests::broker::find_kerbridge().unwrap())
            .args(args.iter().take(2))
            .arg("--help")
            .output()
            .unwrap();
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && value("command:") == "kerbridge",
            "{}",
            block.text
        );
        for option in args.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{option}: {help}");
        }
    }
}

#[test]
fn each_option_of_the_labs_page_is_one_of_its_program() {
    let mut help = String::new();
    for command in ["run", "up", "report"] {
        let output = Command::new(lab_program().unwrap())
            .args([command, "--help"])
            .output()
            .unwrap();
        help.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    let known: BTreeSet<&str> = help
        .split(|c: char| !(c.is_ascii_lowercase() || c == '-'))
        .filter(|word| word.starts_with("--"))
        .collect();
    let page = read("docs/lab.md");
    let mut named: Vec<String> = quoted(&page);
    named.extend(blocks(&page).iter().flat_map(Block::commands));
    let options = named
        .iter()
        .flat_map(|text| text.split([' ', '"', '=']))
        .filter(|word| word.starts_with("--"));
    let options: BTreeSet<&str> = options.collect();
    assert!(options.len() > 8, "{options:?}");
    let unknown: Vec<_> = options.difference(&known).collect();
    assert!(unknown.is_empty(), "docs/lab.md names {unknown:?}");
    let run = Command::new(lab_program().unwrap())
        .args(["run", "--help"])
        .output()
        .unwrap();
    let run = String::from_utf8_lossy(&run.stdout).into_owned();
    let is_option = |word: &&str| word.starts_with("--") && *word != "--help";
    let all: BTreeSet<&str> = run
        .split(|c: char| !(c.is_ascii_lowercase() || c == '-'))
        .filter(is_option)
        .collect();
    let missing: Vec<_> = all.iter().filter(|option| !page.contains(**option)).collect();
    assert!(missing.is_empty(), "docs/lab.md does not name {missing:?}");
}
