//! What goes wrong for whoever types a command, for every command there is: options that are none, and a configuration that is not there
//! or not to be read. What clients meet besides is in `tests/tests/scenarios/login/trouble.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{Folder, Serving, text};

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
    (cause, remedy): (&str, &str),
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
    assert!(
        complaint.starts_with("kerbridge: --config: ") && complaint.contains(cause) && complaint.contains(remedy),
        "{command}: {complaint}"
    );
    assert_eq!(complaint.lines().count(), 1, "{command}: {complaint}");
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

/// A folder with the program in it, where anybody can reach it.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_kerbridge"), place.path().join("kerbridge")).unwrap();
    place
}

/// Root may read everything: it becomes somebody else.
fn run_as_nobody(place: &TempDir, words: &[&str]) -> Output {
    let mut command = Command::new(place.path().join("kerbridge"));
    command.current_dir(place.path()).args(words);
    command.env_remove("KRB5_CONFIG").env_remove("CREDENTIALS_DIRECTORY");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output().unwrap()
}

/// Nothing came of a command, which says why and what mends it: in one line, and as an object where JSON is asked for.
fn assert_undone(run: &dyn Fn(&[&str]) -> Output, line: &[&str], code: i32, (cause, remedy): (&str, &str)) {
    let said = run(line);
    let complaint = text(&said.stderr);
    assert_eq!(
        (said.status.code(), said.stdout.len(), complaint.lines().count()),
        (Some(code), 0, 1),
        "{line:?}: {complaint}"
    );
    let expected = (cause, remedy);
    let (problem, mends) = complaint.rsplit_once("; ").unwrap_or_default();
    assert!(
        problem.contains(cause) && mends.starts_with(remedy),
        "{line:?}: {complaint}, not {expected:?}"
    );
    let said = run(&[line, &["--output", "json"]].concat());
    assert_eq!(
        (said.status.code(), text(&said.stderr).as_str()),
        (Some(code), ""),
        "{line:?}"
    );
    let told: Value = serde_json::from_slice(&said.stdout).unwrap();
    let (problem, mends) = (told["problem"].as_str().unwrap(), told["remedy"].as_str().unwrap());
    assert!(
        problem.contains(cause) && mends.starts_with(remedy),
        "{line:?}: {told}, not {expected:?}"
    );
}

#[test]
fn what_an_administrator_does_not_get_is_said_with_its_remedy_as_it_was_asked_for() {
    let folder = folder();
    let config = folder.path("made/kerbridge.toml");
    let config = config.to_str().unwrap();
    let run = |words: &[&str]| folder.run(words);
    assert_undone(
        &run,
        &["status", "--config", config],
        75,
        (
            "admin.sock: no broker listens there",
            "start it: systemctl start kerbridge",
        ),
    );
    assert_undone(
        &run,
        &["store", "import", "nowhere", "--config", config],
        64,
        ("nowhere: No such file", "name a file that kerbridge store export wrote"),
    );
    let _broker = Serving::start(&folder);
    assert!(folder.run(&["keys", "rotate", "--config", config]).status.success());
    assert_undone(
        &run,
        &["keys", "rotate", "--config", config],
        64,
        ("admin.sock: the next key is published already", "wait until it signs"),
    );
    assert_undone(
        &run,
        &["keys", "retire", "a-key", "--config", config],
        1,
        (
            "no key has this identifier",
            "write an identifier as kerbridge keys list shows it",
        ),
    );
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // The socket is there, and not for them.
    let place = place();
    let socket = folder.path("made/admin.sock");
    let there = fs::read_to_string(config).unwrap();
    let there = there.replace("unix = \"admin.sock\"", &format!("unix = {socket:?}"));
    fs::write(place.path().join("kerbridge.toml"), there).unwrap();
    for (command, arguments, _) in COMMANDS {
        if ["status", "keys list", "keys rotate", "keys retire", "revoke"].contains(&command) {
            assert_undone(
                &|words| run_as_nobody(&place, words),
                &words(command, arguments, &["--config", "kerbridge.toml"]),
                77,
                (
                    "admin.sock: it is for root and the broker's user",
                    "run this as root or as the broker's user",
                ),
            );
        }
    }
}

#[test]
fn a_module_that_is_none_and_places_that_nothing_can_be_written_to_are_said_with_their_remedies() {
    let folder = folder();
    fs::write(folder.path("passwd"), "root:x:0:0").unwrap();
    let render = ["policy", "render", "--config", "made/kerbridge.toml"];
    for (line, code, cause, remedy) in [
        (
            [&render[..], &["--module", "passwd"]].concat(),
            64,
            "--module passwd: it is no WebAssembly module",
            "; name the file kerbridge_filter.wasm",
        ),
        (
            [&render[..], &["--module", "nowhere.wasm"]].concat(),
            64,
            "--module nowhere.wasm: No such file",
            "; name the file kerbridge_filter.wasm",
        ),
        (
            [&render[..], &["--output", "nowhere/filter.yaml"]].concat(),
            70,
            "--output nowhere/filter.yaml: No such file",
            "; name a file in a folder that is there",
        ),
        (
            [&render[..], &["--output", "json"]].concat(),
            64,
            "--output json: here it names a file",
            "--format json",
        ),
        (
            vec!["manual", "passwd/pages"],
            70,
            "passwd/pages: Not a directory",
            "; name a folder",
        ),
    ] {
        let said = folder.run(&line);
        let complaint = text(&said.stderr);
        assert_eq!(
            (said.status.code(), said.stdout.len()),
            (Some(code), 0),
            "{line:?}: {complaint}"
        );
        assert!(
            complaint.contains(cause) && complaint.contains(remedy),
            "{line:?}: {complaint}"
        );
        assert_eq!(complaint.lines().count(), 1, "{line:?}: {complaint}");
    }
    assert!(!folder.path("json").exists());
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
            assert_problem(
                command,
                reads,
                &|words| folder.run(words),
                &line,
                ("No such file", "; name a "),
            );
        }
    }
}

#[test]
fn a_configuration_that_somebody_may_not_read_is_one_problem_with_its_remedy() {
    let folder = folder();
    let place = place();
    for (name, contents) in [("export.txt", EXPORT), ("cases.toml", "")] {
        fs::write(place.path().join(name), contents).unwrap();
    }
    let config = folder.path("made/kerbridge.toml");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o000)).unwrap();
    let run = |words: &[&str]| run_as_nobody(&place, words);
    for (command, arguments, reads) in COMMANDS {
        if reads != Reads::Nothing {
            let line = with_config(command, arguments, config.to_str().unwrap());
            assert_problem(
                command,
                reads,
                &run,
                &line,
                ("Permission denied", "; run this as root or as the broker's user"),
            );
        }
    }
}
