//! Runs named cases as libtest does: the same filters, the same lines of output.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::ExitCode;

/// What a case came to.
pub(crate) enum Verdict {
    /// All is as it should be.
    Passed,
    /// Something is not.
    Failed(String),
}

/// Which cases are wanted.
pub(crate) struct Plan {
    wanted: BTreeSet<String>,
    left_out: usize,
    only_list: bool,
}

/// Arguments of libtest that have a value behind them.
const WITH_VALUE: [&str; 6] = ["--skip", "--color", "--format", "--test-threads", "--logfile", "-Z"];

impl Plan {
    /// Reads the command line: words that names must contain, `--skip`, `--exact`, `--list`, `--ignored`.
    pub(crate) fn read(names: impl Iterator<Item = String>) -> Self {
        let mut arguments = std::env::args().skip(1);
        let (mut words, mut skipped, mut flags) = (Vec::new(), Vec::new(), BTreeSet::new());
        while let Some(argument) = arguments.next() {
            if WITH_VALUE.contains(&argument.as_str()) {
                let value = arguments.next();
                skipped.extend(value.filter(|_| argument == "--skip"));
            } else if argument.starts_with('-') {
                flags.insert(argument);
            } else {
                words.push(argument);
            }
        }
        let is_exact = flags.contains("--exact");
        let fits = |name: &str, word: &String| if is_exact { name == word } else { name.contains(word) };
        let is_wanted = |name: &String| {
            // No case is one that others leave out.
            !flags.contains("--ignored")
                && (words.is_empty() || words.iter().any(|word| fits(name, word)))
                && !skipped.iter().any(|word| fits(name, word))
        };
        let (wanted, left_out): (Vec<_>, Vec<_>) = names.partition(is_wanted);
        Self {
            wanted: wanted.into_iter().collect(),
            left_out: left_out.len(),
            only_list: flags.contains("--list"),
        }
    }

    /// Whether this case is to be run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wanted.contains(name)
    }

    /// Runs the cases, and prints what came of each.
    pub(crate) fn run(&self, cases: impl FnOnce(&mut dyn FnMut(&str, Result<(), String>))) -> ExitCode {
        let mut out = std::io::stdout();
        // A broken pipe is no reason to leave processes behind.
        let mut say = move |line: &str| writeln!(out, "{line}").unwrap_or(());
        if self.only_list {
            self.wanted.iter().for_each(|name| say(&format!("{name}: test")));
            return ExitCode::SUCCESS;
        }
        say(&format!("\nrunning {} tests", self.wanted.len()));
        let (mut passed, mut failures) = (0_usize, Vec::new());
        if !self.wanted.is_empty() {
            cases(&mut |name, check| match Verdict::from(check) {
                Verdict::Passed => {
                    passed += 1;
                    say(&format!("test {name} ... ok"));
                }
                Verdict::Failed(why) => {
                    say(&format!("test {name} ... FAILED"));
                    failures.push((name.to_owned(), why));
                }
            });
        }
        if !failures.is_empty() {
            say("\nfailures:\n");
            failures
                .iter()
                .for_each(|(name, why)| say(&format!("---- {name} ----\n{why}\n")));
        }
        let word = if failures.is_empty() { "ok" } else { "FAILED" };
        let (failed, left_out) = (failures.len(), self.left_out);
        say(&format!(
            "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {left_out} filtered out\n"
        ));
        if failures.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
