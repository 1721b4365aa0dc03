//! Writes the demonstration: in colour on a terminal, plainly elsewhere, and all of it again into the capture.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

/// What a piece of text is; decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// A heading.
    Title,
    /// Something to read past.
    Faint,
    /// A name that leads a line.
    Name,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// Everything else.
    Plain,
}

impl Tone {
    /// The SGR parameters (ECMA-48 §8.3.117).
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Title => Some("1"),
            Self::Faint => Some("2"),
            Self::Name => Some("36"),
            Self::Good => Some("32"),
            Self::Bad => Some("1;31"),
            Self::Plain => None,
        }
    }
}

/// Standard output and the capture.
pub(crate) struct Screen {
    colour: bool,
    capture: String,
    failures: Vec<String>,
    checks: usize,
    steps: usize,
    step: String,
}

/// How far values stand from the left, in columns.
const COLUMN: usize = 22;

impl Screen {
    /// Colour only on a terminal, and not where `NO_COLOR` is set to anything.
    pub(crate) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            colour: wanted && !dumb && std::io::stdout().is_terminal(),
            capture: String::new(),
            failures: Vec::new(),
            checks: 0,
            steps: 0,
            step: String::new(),
        }
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        match tone.code() {
            Some(code) if self.colour && !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            Some(_) | None => text.to_owned(),
        }
    }

    fn print(&self, pieces: &[(Tone, &str)]) {
        let painted: String = pieces.iter().map(|(tone, text)| self.paint(*tone, text)).collect();
        // A closed pipe is no reason to leave a lab running half-way: the story goes on unseen.
        writeln!(std::io::stdout(), "{}", painted.trim_end()).unwrap_or(());
    }

    /// One line of pieces.
    pub(crate) fn line(&mut self, pieces: &[(Tone, &str)]) {
        self.print(pieces);
        let plain: String = pieces.iter().map(|(_, text)| *text).collect();
        self.keep(plain.trim_end());
    }

    /// A line for the capture only.
    pub(crate) fn keep(&mut self, line: &str) {
        writeln!(self.capture, "{line}").unwrap_or(());
    }

    /// An empty line.
    pub(crate) fn gap(&mut self) {
        self.line(&[]);
    }

    /// What the next steps are about.
    pub(crate) fn chapter(&mut self, title: &str) {
        self.gap();
        self.line(&[(Tone::Title, &format!("== {title}"))]);
    }

    /// The first line of the next step.
    pub(crate) fn step(&mut self, title: &str) {
        self.steps = self.steps.saturating_add(1);
        self.step = format!("{} ({title})", self.steps);
        self.gap();
        self.line(&[(Tone::Title, &format!("{:>2}  {title}", self.steps))]);
    }

    /// A name and what belongs to it.
    pub(crate) fn field(&mut self, name: &str, value: &str) {
        let name = format!("    {name:<width$}", width = COLUMN.saturating_sub(4));
        self.line(&[(Tone::Name, &name), (Tone::Plain, value)]);
    }

    /// More of the field before.
    pub(crate) fn more(&mut self, tone: Tone, value: &str) {
        self.line(&[(Tone::Plain, &" ".repeat(COLUMN)), (tone, value)]);
    }

    /// The same for the screen only.
    pub(crate) fn show_more(&mut self, tone: Tone, value: &str) {
        self.print(&[(Tone::Plain, &" ".repeat(COLUMN)), (tone, value)]);
    }

    /// The same for the capture only.
    pub(crate) fn keep_more(&mut self, value: &str) {
        self.keep(&format!("{}{value}", " ".repeat(COLUMN)));
    }

    /// What must be so, and whether it is; `found` is shown where it is not.
    pub(crate) fn check(&mut self, claim: &str, holds: bool, found: &str) {
        self.checks = self.checks.saturating_add(1);
        if holds {
            self.line(&[(Tone::Good, "    ok    "), (Tone::Plain, claim)]);
        } else {
            self.line(&[(Tone::Bad, "    FAILED "), (Tone::Bad, claim)]);
            self.more(Tone::Bad, found);
            self.failures.push(format!("step {}: {claim}", self.step));
        }
    }

    /// Everything that was written, without colour.
    pub(crate) fn capture(&self) -> &str {
        &self.capture
    }

    /// How many claims were checked.
    pub(crate) fn checks(&self) -> usize {
        self.checks
    }

    /// The claims that did not hold, with their steps.
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_is_kept_with_its_step() {
        let mut screen = Screen::new();
        screen.step("a step");
        screen.check("it holds", true, "");
        screen.check("it does not", false, "found 500");
        assert_eq!(screen.failures(), ["step 1 (a step): it does not"]);
        assert!(screen.capture().contains("found 500"));
        assert!(!screen.capture().contains('\x1b'));
    }
}
