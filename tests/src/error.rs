//! Lists everything that can fail in a fixture, each with what a person needs to see the cause.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::http::HttpError;

/// A fixture could not do what was asked of it.
///
/// `Debug` prints the same text as `Display`: tests unwrap, and a log tail is unreadable when escaped.
pub enum HarnessError {
    /// A program is not on this machine.
    ProgramMissing {
        /// The program's name or path.
        program: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A file the test needs was not built or not found.
    FileMissing {
        /// The path that was looked at.
        path: PathBuf,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The operating system refused an operation.
    Io {
        /// The operation, as a verb and its object.
        what: String,
        /// The reason given.
        source: std::io::Error,
    },
    /// A condition did not come true in time.
    TimedOut {
        /// The condition.
        what: String,
        /// How long it was waited for.
        within: Duration,
        /// The last lines of the log of the process in question, or nothing.
        log: String,
    },
    /// A process ended that should have gone on, or failed where it should have succeeded.
    Exited {
        /// The process's name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log: String,
    },
    /// A peer broke HTTP, or the connection to it failed.
    Http {
        /// The request, as a method and its target.
        what: String,
        /// What went wrong.
        source: HttpError,
    },
    /// The laboratory's certificates could not be made.
    Certificate(rcgen::Error),
    /// TLS towards a listener failed before a byte of HTTP.
    Tls(rustls::Error),
    /// A file of the repository no longer holds what a fixture changes in it.
    Drifted {
        /// The file.
        file: &'static str,
        /// The text that should be there exactly once.
        expected: String,
    },
    /// Something that anybody may read holds a credential.
    Leaked {
        /// What was printed, and by whom.
        what: String,
        /// Where the credential stands in it.
        place: String,
    },
    /// A peer answered, but not with what the fixture relies on.
    UnexpectedAnswer {
        /// The question.
        what: String,
        /// The answer, cut short.
        answer: String,
    },
}

impl HarnessError {
    /// An operating system's refusal of `what`.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }
}

impl fmt::Display for HarnessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProgramMissing { program, remedy } => write!(f, "{program} is not on this machine: {remedy}"),
            Self::FileMissing { path, remedy } => write!(f, "{} does not exist: {remedy}", path.display()),
            Self::Io { what, source } => write!(f, "could not {what}: {source}"),
            Self::TimedOut { what, within, log } => {
                write!(f, "{what} did not happen within {within:?}")?;
                write_log(f, log)
            }
            Self::Exited { name, status, log } => {
                write!(f, "{name} ended with {status}")?;
                write_log(f, log)
            }
            Self::Http { what, source } => write!(f, "{what}: {source}"),
            Self::Certificate(source) => write!(f, "could not make a certificate: {source}"),
            Self::Tls(source) => write!(f, "tls failed: {source}"),
            Self::Drifted { file, expected } => {
                write!(f, "{file} should hold this text exactly once: {expected:?}")
            }
            Self::Leaked { what, place } => write!(f, "{what} holds a credential {place}"),
            Self::UnexpectedAnswer { what, answer } => write!(f, "{what} was answered with {answer}"),
        }
    }
}

fn write_log(f: &mut fmt::Formatter<'_>, log: &str) -> fmt::Result {
    if log.is_empty() {
        Ok(())
    } else {
        write!(f, "\n--- end of its log ---\n{log}\n---")
    }
}

impl fmt::Debug for HarnessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for HarnessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Http { source, .. } => Some(source),
            Self::Certificate(source) => Some(source),
            Self::Tls(source) => Some(source),
            Self::ProgramMissing { .. }
            | Self::Drifted { .. }
            | Self::FileMissing { .. }
            | Self::TimedOut { .. }
            | Self::Exited { .. }
            | Self::Leaked { .. }
            | Self::UnexpectedAnswer { .. } => None,
        }
    }
}
