//! Asks programs for their versions.

use std::path::Path;
use std::process::Command;

use crate::process::find_program;

/// What a program says of its version, in a line.
fn version(program: &Path, option: &str) -> Option<String> {
    let output = Command::new(find_program(program).ok()?).arg(option).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().next()?;
    let number = line
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    Some(number.unwrap_or(line).to_owned())
}

/// Those of the programs that can be asked, each with its name: by what is run, and with which option.
pub(super) fn of<'a>(programs: impl IntoIterator<Item = (&'a str, &'a Path, &'a str)>) -> Vec<(String, String)> {
    let said = programs
        .into_iter()
        .filter_map(|(name, program, option)| Some((name.to_owned(), version(program, option)?)));
    said.collect()
}
