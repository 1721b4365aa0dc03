//! Says by the exit code whose fault a failure is (sysexits.h): one table for the code, the help of each command and the documents.

use clap::{Command, CommandFactory as _};

use super::Cli;

/// How a command failed; said already, where there is something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing went wrong, and the answer is no.
    No,
    /// The doctor found something bad: none of sysexits.h, whose words are about the command itself.
    Ill,
    /// `EX_USAGE`.
    Usage,
    /// `EX_SOFTWARE`.
    Running,
    /// `EX_TEMPFAIL`.
    TryAgain,
    /// `EX_PROTOCOL`.
    NotTrusted,
    /// `EX_NOPERM`.
    NotAllowed,
    /// `EX_CONFIG`.
    Configuration,
}

impl Failure {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::No | Self::Ill => 1,
            Self::Usage => 64,
            Self::Running => 70,
            Self::TryAgain => 75,
            Self::NotTrusted => 76,
            Self::NotAllowed => 77,
            Self::Configuration => 78,
        }
    }
}

/// Each code, what it says, and the commands that may end with it where not all do.
pub(super) const CODES: [(u8, &str, &str); 8] = [
    (0, "done, and the answer is yes", ""),
    (
        Failure::No.code(),
        "the answer is no; of doctor: something is bad",
        "doctor, keys retire, policy explain, policy test, principal map, revoke --lift",
    ),
    (
        Failure::Usage.code(),
        "the command line, or what it names, is wrong",
        "",
    ),
    (Failure::Running.code(), "it failed while running", ""),
    (
        Failure::TryAgain.code(),
        "it cannot be done now: try again",
        "keys, login, logout, revoke, status, token print",
    ),
    (
        Failure::NotTrusted.code(),
        "the other side is not to be trusted, or does not speak as it should",
        "login, token print",
    ),
    (
        Failure::NotAllowed.code(),
        "it is not allowed: no ticket, or no grant, or a folder or socket that is not yours",
        "keys, login, logout, revoke, status, token print",
    ),
    (
        Failure::Configuration.code(),
        "the configuration, or the state that it leads to, is wrong",
        "",
    ),
];

/// What stands below the help of every command.
fn help() -> String {
    let mut text = String::from("Exit codes:");
    for (code, says, commands) in CODES {
        let only = if commands.is_empty() {
            String::new()
        } else {
            format!(" ({commands})")
        };
        text.push_str(&format!("\n  {code:<4}{says}{only}"));
    }
    text
}

/// The command line, with the codes below the help of each command.
pub(super) fn command() -> Command {
    with_codes(Cli::command(), &help())
}

fn with_codes(command: Command, help: &str) -> Command {
    command
        .after_help(help.to_owned())
        .mut_subcommands(|one| with_codes(one, help))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(command: &Command) -> Vec<String> {
        let own = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let below = command.get_subcommands().flat_map(all);
        std::iter::once(own).chain(below).collect()
    }

    #[test]
    fn every_help_and_the_document_say_the_codes_of_the_table() {
        let helps = all(&command());
        assert!(helps.len() > 20, "{}", helps.len());
        assert!(helps.iter().all(|text| *text == help()), "{helps:#?}");
        let page = include_str!("../../../docs/exit-codes.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
        let expected = CODES.map(|(code, says, commands)| {
            let commands = if commands.is_empty() {
                "every command".to_owned()
            } else {
                format!("`{}`", commands.replace(", ", "`, `"))
            };
            format!("| {code} | {says} | {commands} |")
        });
        assert_eq!(rows, expected);
    }

    #[test]
    fn each_failure_has_a_code_of_the_table() {
        use Failure::{Configuration, Ill, No, NotAllowed, NotTrusted, Running, TryAgain, Usage};
        for failure in [No, Ill, Usage, Running, TryAgain, NotTrusted, NotAllowed, Configuration] {
            assert!(CODES.iter().any(|(code, ..)| *code == failure.code()), "{failure:?}");
        }
    }

    #[test]
    fn the_commands_that_are_named_exist() {
        let root = command();
        for (_, _, commands) in CODES {
            for name in commands.split(", ").filter(|name| !name.is_empty()) {
                let words = name.split(' ').filter(|word| !word.starts_with("--"));
                let mut words = words;
                let found = words.try_fold(&root, |at, word| at.find_subcommand(word));
                assert!(found.is_some(), "{name}");
            }
        }
    }
}
