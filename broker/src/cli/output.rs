//! Prints what a command has to say, and fails the command where it cannot.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use super::{Failure, Output};
use crate::admin::AdminError;
use crate::admin::client::ClientError;
use crate::problem::Problems;

/// Prints text to standard output, as it is.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(()),
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            complain(format_args!(
                "standard output cannot be written: {error}; look at where it is sent"
            ));
            Err(Failure::Running)
        }
    }
}

/// Prints a value for machines, or what people read of it.
pub(super) fn print_as<T: Serialize + ?Sized>(
    form: Output,
    value: &T,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match form {
        Output::Json => print_json(value),
        Output::Text => print(&text()),
    }
}

fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|_| Failure::Running)?;
    print(&format!("{text}\n"))
}

/// Prints a line to standard error.
pub(super) fn complain(message: impl Display) {
    // Where not even this can be written there is nobody to tell; the exit code says the rest.
    drop(writeln!(io::stderr().lock(), "kerbridge: {message}"));
}

/// Prints all that is wrong with a configuration, one line each, for people.
pub(super) fn complain_all(path: &Path, problems: &Problems) -> Failure {
    if let Some(unreadable) = problems.of_the_file() {
        // It names the file itself.
        complain(unreadable);
        return Failure::Configuration;
    }
    let count = problems.iter().count();
    let noun = if count == 1 { "problem" } else { "problems" };
    complain(format_args!("{count} {noun} in {}", path.display()));
    for problem in problems.iter() {
        drop(writeln!(io::stderr().lock(), "  {problem}"));
    }
    Failure::Configuration
}

/// Prints all that is wrong with a configuration, as it was asked for.
pub(super) fn problems(path: &Path, problems: &Problems, output: Output) -> Failure {
    match output {
        Output::Text => complain_all(path, problems),
        Output::Json => print_json(problems).err().unwrap_or(Failure::Configuration),
    }
}

/// Prints what is wrong and what mends it, as it was asked for: one line for people, an object for machines.
pub(super) fn wrong(problem: impl Display, remedy: impl Display, form: Output, failure: Failure) -> Failure {
    let told = AdminError {
        problem: problem.to_string(),
        remedy: remedy.to_string(),
    };
    undone(&told, form, failure)
}

/// Prints why nothing came of what an administrator asked, as it was asked for.
pub(super) fn undone(told: &AdminError, form: Output, failure: Failure) -> Failure {
    match form {
        Output::Text => complain(told),
        Output::Json => return print_json(told).err().unwrap_or(failure),
    }
    failure
}

/// Prints why the broker behind a socket did not do what an administrator asked.
pub(super) fn refused(error: &ClientError, socket: &Path, form: Output) -> Failure {
    let failure = match error {
        ClientError::Refused(_) => Failure::Usage,
        ClientError::NotFound(_) => Failure::No,
        ClientError::Nobody | ClientError::Unavailable(_) => Failure::TryAgain,
        ClientError::NotAllowed => Failure::NotAllowed,
        ClientError::Failed(_) => Failure::Running,
    };
    let AdminError { problem, remedy } = error.told();
    wrong(format_args!("{}: {problem}", socket.display()), remedy, form, failure)
}

/// Prints the outcome of a check.
pub(super) fn checked(path: &Path, outcome: Result<(), Problems>, output: Output) -> Result<(), Failure> {
    let problems = outcome.err().unwrap_or_default();
    match output {
        Output::Json => print_json(&problems)?,
        Output::Text if problems.is_empty() => print(&format!("{}: good\n", path.display()))?,
        Output::Text => return Err(complain_all(path, &problems)),
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::Configuration)
    }
}
