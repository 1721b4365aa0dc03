//! What goes wrong for whoever types a command, for every command there is: options that are none, and a configuration that is not there
//! or not to be read. What clients meet besides is in `tests/tests/scenarios/login/trouble.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use serde_json::Value;

use crate::fixture::{Folder, text};

/// Somebody who owns nothing.
const NOBODY: u32 = 65_534;

/// A whole export of a store that knows of nothing: what is wrong must be the configuration.
const EXPORT: &str = concat!(
    r#"{"kerbridge_store":{"format":1,"epoch":"03030303030303030303030303030303","version":9,"tokens_end":5000}}"#,
    "\n",
    r#"{"end":{"revoked":0,"used":0,"sha256":"Rbs4MPDPjCoSDiYbo0SkiuxxDRdXrvpAYBVaXN_7q0c"}}"#,
    "\n"
);

/// What a command does with the broker's configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// It reads it, and says problems as JSON where that is asked for.
    WithJson,
    /// It reads it, and has no JSON: its output is something else.
    AsText,
    /// It does not read it.
    Nothing,
}

/// Every command that does something, with the least that it takes, and what it reads.
const COMMANDS: [(&str, &[&str], Reads); 27] = [
    ("serve", &[], Reads::AsText),
    ("init", &["--keytab", "http.keytab"], Reads::Nothing),
    ("config check", &[], Reads::WithJson),
    ("policy check", &[], Reads::WithJson),
    ("policy explain", &["alice@A.TEST", "orders"], Reads::WithJson),
    ("policy test", &["cases.toml"], Reads::WithJson),
    ("policy render", &[], Reads::AsText),
    ("principal map", &["alice@A.TEST"], Reads::WithJson),
    ("doctor", &[], Reads::WithJson),
    ("doctor delegation", &[], Reads::WithJson),
    ("revoke", &["--jti", "AAAAAAAAAAAAAAAAAAAAAA"], Reads::WithJson),
    ("status", &[], Reads::WithJson),
    ("keys list", &[], Reads::WithJson),
    ("keys rotate", &[], Reads::WithJson),
    ("keys retire", &["a-key"], Reads::WithJson),
    ("keys rewrap", &[], Reads::WithJson),
    ("store check", &[], Reads::WithJson),
    ("store export", &[], Reads::AsText),
    ("store import", &["export.txt"], Reads::WithJson),
    ("store begin", &[], Reads::WithJson),
    ("login", &["https://localhost/"], Reads::Nothing),
    ("token print", &["https://localhost/"], Reads::Nothing),
    ("logout", &[], Reads::Nothing),
    ("completion", &["bash"], Reads::Nothing),
    ("manual", &["pages"], Reads::Nothing),
    // They say which of the commands below them there are.
    ("keys", &[], Reads::Nothing),
    ("store", &[], Reads::Nothing),
];

fn words<'w>(command: &'w str, arguments: &[&'w str], more: &[&'w str]) -> Vec<&'w str> {
    command
        .split(' ')
        .chain(arguments.iter().copied())
        .chain(more.iter().copied())
        .collect()
}

/// A folder in which commands find what they are told of besides the configuration.
fn folder() -> Folder {
    let folder = Folder::new();
    assert!(folder.init().status.success());
    assert!(folder.run(&["manual", "pages"]).status.success());
    fs::write(folder.path("cases.toml"), "").unwrap();
    fs::write(folder.path("export.txt"), EXPORT).unwrap();
    folder
}

#[test]
fn every_command_is_in_the_table() {
    let folder = folder();
    let pages = fs::read_dir(folder.path("pages")).unwrap();
    let names: BTreeSet<String> = pages
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter_map(|name| Some(name.strip_prefix("kerbridge-")?.strip_suffix(".1")?.replace('-', " ")))
        .collect();
    let is_group = |name: &String| names.iter().any(|other| other.starts_with(&format!("{name} ")));
    let leaves: BTreeSet<&str> = names
        .iter()
        .filter(|name| !is_group(name))
        .map(String::as_str)
        .collect();
    let listed: BTreeSet<&str> = COMMANDS.iter().map(|(command, ..)| *command).collect();
    assert!(leaves.len() > 20 && leaves.is_subset(&listed), "{leaves:?}");
}

#[test]
fn an_option_that_is_none_is_64_and_says_where_help_is() {
    let folder = folder();
    for (command, arguments, _) in COMMANDS {
        let said = folder.run(&words(command, arguments, &["--frobnicate"]));
        let complaint = text(&said.stderr);
        assert_eq!(said.status.code(), Some(64), "{command}: {complaint}");
        assert!(said.stdout.is_empty(), "{command}");
        assert!(
            complaint.starts_with("error: ") && complaint.contains("--frobnicate") && complaint.contains("--help"),
            "{command}: {complaint}"
        );
    }
}

/// One problem, of `--config`, with these words and a remedy: a line for people, and an array where JSON is asked for.
fn assert_problem(
    command: &str,
    reads: Reads,
    run: &dyn Fn(&[&str]) -> Output,
    words_of: &dyn Fn(&[&str]) -> Vec<String>,
    cause: &str,
) {
    let line = |more: &[&str]| {
        let words = words_of(more);
        run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let said = line(&[]);
    let complaint = text(&said.stderr);
    assert_eq!(
        (said.status.code(), said.stdout.len()),
        (Some(78), 0),
        "{command}: {complaint}"
    );
    let last = complaint.lines().last().unwrap();
    assert!(
        last.contains("--config: ") && last.contains(cause) && last.contains("; name a "),
        "{command}: {complaint}"
    );
    if reads == Reads::WithJson {
        let said = line(&["--output", "json"]);
        assert_eq!(
            (said.status.code(), text(&said.stderr).as_str()),
            (Some(78), ""),
            "{command}"
        );
        let problems: Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!(problems[0]["field"], "--config", "{command}: {problems}");
        assert!(
            problems[0]["problem"].as_str().unwrap().contains(cause),
            "{command}: {problems}"
        );
        assert!(
            !problems[0]["remedy"].as_str().unwrap().is_empty(),
            "{command}: {problems}"
        );
    }
}

fn with_config(
    command: &'static str,
    arguments: &'static [&'static str],
    config: &str,
) -> impl Fn(&[&str]) -> Vec<String> {
    let config = config.to_owned();
    move |more| {
        words(command, arguments, &["--config"])
            .into_iter()
            .chain([config.as_str()])
            .chain(more.iter().copied())
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn a_configuration_that_is_not_there_is_one_problem_with_its_remedy() {
    let folder = folder();
    for (command, arguments, reads) in COMMANDS {
        if reads != Reads::Nothing {
            let line = with_config(command, arguments, "nowhere/kerbridge.toml");
            assert_problem(command, reads, &|words| folder.run(words), &line, "No such file");
        }
    }
}

#[test]
fn a_configuration_that_somebody_may_not_read_is_one_problem_with_its_remedy() {
    let folder = folder();
    // Root may read everything: it becomes somebody else, who needs the program where they can reach it.
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("kerbridge");
    fs::copy(env!("CARGO_BIN_EXE_kerbridge"), &program).unwrap();
    for (name, contents) in [("export.txt", EXPORT), ("cases.toml", "")] {
        fs::write(place.path().join(name), contents).unwrap();
    }
    let config = folder.path("made/kerbridge.toml");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o000)).unwrap();
    let run = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(place.path()).args(words);
        command.env_remove("KRB5_CONFIG").env_remove("CREDENTIALS_DIRECTORY");
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.output().unwrap()
    };
    for (command, arguments, reads) in COMMANDS {
        if reads != Reads::Nothing {
            let line = with_config(command, arguments, config.to_str().unwrap());
            assert_problem(command, reads, &run, &line, "Permission denied");
        }
    }
}
