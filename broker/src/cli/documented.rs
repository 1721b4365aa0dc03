//! Holds every `kerbridge …` line of the documents to the command line, its commands, its options and their values; and each
//! command and option to the documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, Parser as _};

use super::Cli;

/// Options of other programs that documents name, each with its program. Those of `kerbridge-lab` stand on its own page, which
/// another test holds to it.
const OTHERS: &[(&str, &str)] = &[
    ("--auth-server-allowlist", "chromium"),
    ("--build-arg", "podman build"),
    ("--raw", "skopeo inspect"),
    ("--file-flush-interval-msec", "envoy"),
    ("--mode", "envoy"),
    ("--http1.1", "curl"),
    ("--negotiate", "curl"),
    ("--oidc-issuer-url", "kube-apiserver"),
    ("--pass-authorization-header", "oauth2-proxy"),
    ("--force", "ipa host-add"),
    ("--help", "of every command"),
];
/// The page of `kerbridge-lab`.
const LAB: &str = "lab.md";

/// The words of a command line, by the shell's rules as far as documents use them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for letter in line.chars() {
        match (quote, letter) {
            (None, '\'' | '"') => (quote, begun) = (Some(letter), true),
            (Some(open), _) if open == letter => quote = None,
            // What comes from here on is a comment, or another command's.
            (None, '#') if !begun => break,
            (None, '|' | ';' | '>' | '<' | '&') => break,
            (None, ' ') => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            _ => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// A command line, and whether it stands in a sentence, which may name a command without all that it takes.
type Named = (String, bool);

/// The command lines of a page: in blocks for a shell, and between backticks in its text.
fn command_lines(page: &str) -> Vec<Named> {
    let (mut found, mut block) = (Vec::new(), None);
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            block = match block {
                None => Some(info.to_owned()),
                Some(_) => None,
            };
            continue;
        }
        let Some(language) = &block else {
            // A line that ends between two backticks goes on in the next one: such a one is looked at where it is whole.
            if line.matches('`').count() % 2 == 0 {
                found.extend(line.split('`').skip(1).step_by(2).map(|line| (line.to_owned(), true)));
            }
            continue;
        };
        if matches!(language.split(" ").next(), Some("sh" | "console" | "bash")) {
            let mut whole = line.trim().trim_start_matches("$ ").to_owned();
            while let Some(begun) = whole.strip_suffix('\\') {
                whole = format!("{begun} {}", lines.next().unwrap_or_default().trim());
            }
            found.push((whole, false));
        }
    }
    let runs = |(line, _): &Named| {
        let program = line.trim_start_matches("sudo ").split(' ').next().unwrap_or_default();
        // An option or a command must follow: the name alone is the program.
        program.rsplit('/').next() == Some("kerbridge") && line.trim().contains(' ')
    };
    found.into_iter().filter(runs).collect()
}

/// The pages that readers are led through.
fn pages() -> Vec<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = fs::read_dir(repository.join("docs")).unwrap();
    let mut pages: Vec<_> = pages.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.extend(["README.md", "SECURITY.md"].map(|page| repository.join(page)));
    pages
}

/// The command lines of all pages, as words.
fn all_words() -> Vec<Vec<String>> {
    let lines = pages()
        .into_iter()
        .flat_map(|page| command_lines(&fs::read_to_string(page).unwrap()));
    lines.map(|(line, _)| words(line.trim_start_matches("sudo "))).collect()
}

/// Each command that can be given, as the words that lead to it: all that have none below them, and those that need none.
fn commands(command: &Command, path: &[String], found: &mut Vec<(Vec<String>, Command)>) {
    let below: Vec<&Command> = command
        .get_subcommands()
        .filter(|one| one.get_name() != "help")
        .collect();
    let is_whole = below.is_empty() || !(command.is_subcommand_required_set() || options(command).is_empty());
    if is_whole {
        found.push((path.to_vec(), command.clone()));
    }
    for one in below {
        commands(one, &[path, &[one.get_name().to_owned()]].concat(), found);
    }
}

/// The long options of a command, as they are written.
fn options(command: &Command) -> Vec<String> {
    let names = command.get_arguments().filter_map(|argument| argument.get_long());
    names.map(|name| format!("--{name}")).collect()
}

/// What the command line's reader has against it. A sentence may leave out what a command needs besides, or a value at its end.
fn refused(line: &str, in_a_sentence: bool) -> Option<clap::Error> {
    let words = words(line.trim_start_matches("sudo "));
    let error = Cli::try_parse_from(&words).err()?;
    let kind = error.kind();
    let incomplete = matches!(
        kind,
        ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let ends_early = kind == ErrorKind::InvalidValue && words.last().is_some_and(|word| word.starts_with("--"));
    (!(in_a_sentence && (incomplete || ends_early))).then_some(error)
}

#[test]
fn every_command_line_of_the_documents_is_one() {
    let (mut wrong, mut seen) = (Vec::new(), 0_u32);
    for page in pages() {
        for (line, in_a_sentence) in command_lines(&fs::read_to_string(&page).unwrap()) {
            seen = seen.saturating_add(1);
            if let Some(error) = refused(&line, in_a_sentence) {
                let shown = page.file_name().unwrap().to_string_lossy();
                wrong.push(format!("{shown}: {line}\n{error}"));
            }
        }
    }
    assert!(seen > 60, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_command_of_the_program_is_in_the_documents() {
    let mut all = Vec::new();
    commands(&Cli::command(), &["kerbridge".to_owned()], &mut all);
    assert!(all.len() > 20, "{all:?}");
    let named = all_words();
    let is_named = |path: &[String]| {
        let same = |line: &Vec<String>| line.get(1..path.len()) == path.get(1..);
        named.iter().any(same)
    };
    let missing: Vec<_> = all
        .iter()
        .filter(|(path, _)| !is_named(path))
        .map(|(path, _)| path.join(" "))
        .collect();
    assert!(missing.is_empty(), "no document names {missing:?}");
}

#[test]
fn each_option_that_a_document_names_is_one_and_each_that_there_is_is_named() {
    let mut all = Vec::new();
    commands(&Cli::command(), &[], &mut all);
    let known: BTreeSet<String> = all.iter().flat_map(|(_, command)| options(command)).collect();
    assert!(known.len() > 30, "{known:?}");
    let (mut wrong, mut written) = (Vec::new(), BTreeSet::new());
    for page in pages() {
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&page).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        written.extend(words.filter(|word| word.starts_with("--")).map(str::to_owned));
        // What stands alone between backticks; whole command lines are read above.
        let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        let options = spans
            .filter(|span| span.starts_with("--"))
            .flat_map(|span| span.split([' ', '=']));
        for option in options.filter(|word| word.starts_with("--") && word.len() > 2) {
            let is_anothers = OTHERS.iter().any(|(other, _)| *other == option);
            if name != LAB && !known.contains(option) && !is_anothers {
                wrong.push(format!("{name}: {option} is no option"));
            }
        }
    }
    let missing = known.difference(&written);
    wrong.extend(missing.map(|option| format!("no document names {option}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_line_is_read_as_a_shell_reads_it() {
    let read = words("kerbridge store import --config 'a b.toml' \"x\" # and a comment");
    assert_eq!(read, ["kerbridge", "store", "import", "--config", "a b.toml", "x"]);
    assert_eq!(
        words("kerbridge store export > store.txt"),
        ["kerbridge", "store", "export"]
    );
    let page = "`kerbridge doctor` and `kerbridge`\n```sh\nkb/kerbridge keys list \\\n    --config x\n```\n```toml\nkerbridge no\n```\n";
    let found = command_lines(page);
    assert_eq!(
        found,
        [
            ("kerbridge doctor".to_owned(), true),
            ("kb/kerbridge keys list  --config x".to_owned(), false)
        ]
    );
    for (line, in_a_sentence, good) in [
        ("kerbridge doctor --no-such-option", true, false),
        ("kerbridge doctors", true, false),
        ("kerbridge revoke", true, true),
        ("kerbridge revoke", false, false),
        ("kerbridge revoke --subject", true, true),
        ("kerbridge keys list --output text", false, true),
        ("kerbridge keys list --output xml", true, false),
    ] {
        assert_eq!(refused(line, in_a_sentence).is_none(), good, "{line}");
    }
}
