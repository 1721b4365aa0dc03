//! Makes Kerberos tokens that no client makes, by a small program in C (`tests/clients/odd_tokens.c`), which is compiled first.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::HarnessError;
use crate::shipped::repository;

/// The compiled program.
#[derive(Debug)]
pub struct OddTokens(PathBuf);

impl OddTokens {
    /// Compiles it into this folder.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with what the compiler said.
    pub fn compile(folder: &Path) -> Result<Self, HarnessError> {
        let program = folder.join("odd_tokens");
        let source = repository().join("tests/clients/odd_tokens.c");
        compile(&source, &program, &["-lkrb5", "-lk5crypto", "-lcom_err"])?;
        Ok(Self(program))
    }

    /// Runs it with the environment of a client, and returns what it made: a token, and what stands behind it.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with libkrb5's words, or [`HarnessError::UnexpectedAnswer`].
    pub fn make(
        &self,
        arguments: &[&str],
        client: impl IntoIterator<Item = (&'static str, OsString)>,
    ) -> Result<Vec<Vec<u8>>, HarnessError> {
        let printed = output(Command::new(&self.0).args(arguments).envs(client), "odd_tokens")?;
        let made = printed.split(' ').map(bytes).collect::<Option<Vec<_>>>();
        made.ok_or_else(|| HarnessError::UnexpectedAnswer {
            what: "odd_tokens".to_owned(),
            answer: printed,
        })
    }
}

/// Compiles C.
///
/// # Errors
///
/// [`HarnessError::Exited`] with what the compiler said.
pub fn compile(source: &Path, result: &Path, more: &[&str]) -> Result<(), HarnessError> {
    let mut command = Command::new("cc");
    command.arg(source).arg("-o").arg(result).args(more);
    output(&mut command, "cc").map(drop)
}

fn output(command: &mut Command, name: &str) -> Result<String, HarnessError> {
    let output = command
        .output()
        .map_err(|source| HarnessError::io(format!("run {name}"), source))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(HarnessError::Exited {
            name: name.to_owned(),
            status: output.status,
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// Bytes in hexadecimal.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}
