//! Sits at a keyboard: runs commands with a home, tickets and a shell of its own, and reads what they print and how they end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::broker::find_kerbridge;
use crate::error::HarnessError;
use crate::process::{OwnedProcess, Spawn};

/// Longest that a command may take.
const WITHIN: Duration = Duration::from_secs(60);

/// Somebody with a home.
#[derive(Debug)]
pub struct Person {
    home: TempDir,
    environment: Vec<(OsString, OsString)>,
}

/// What became of a command.
#[derive(Debug)]
pub struct Said {
    /// The exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// What stands on standard output, as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_default()
    }
}

impl Person {
    /// Somebody whose Kerberos is this environment, and who has never run anything.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn new<N: Into<OsString>, V: Into<OsString>>(
        kerberos: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, HarnessError> {
        let home = tempfile::tempdir().map_err(|source| HarnessError::io("create a home", source))?;
        let mut person = Self {
            home,
            environment: Vec::new(),
        };
        for (name, value) in kerberos {
            person.set(name, value);
        }
        Ok(person)
    }

    /// Their home.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The folder in which their tokens are kept.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.home().join(".cache/kerbridge")
    }

    /// Sets a variable of their environment anew.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let name = name.into();
        self.environment.retain(|(other, _)| *other != name);
        self.environment.push((name, value.into()));
    }

    /// Runs `kerbridge`.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`], or [`HarnessError::Io`].
    pub fn kerbridge(&self, args: &[&str]) -> Result<Said, HarnessError> {
        self.bash(r#"kerbridge "$@""#, args)
    }

    /// Runs a script of bash, in which `kerbridge` is the program under test.
    ///
    /// # Errors
    ///
    /// As [`Person::kerbridge`].
    pub fn bash(&self, script: &str, args: &[&str]) -> Result<Said, HarnessError> {
        let folder = tempfile::tempdir().map_err(|source| HarnessError::io("create a folder for a command", source))?;
        let (out, err) = (folder.path().join("out"), folder.path().join("err"));
        let kerbridge = find_kerbridge()?;
        let programs = folder.path().join("bin");
        let linked = std::fs::create_dir(&programs)
            .and_then(|()| std::os::unix::fs::symlink(&kerbridge, programs.join("kerbridge")));
        linked.map_err(|source| HarnessError::io("link kerbridge", source))?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut search = programs.into_os_string();
        search.push(":");
        search.push(path);
        let spawn = Spawn::new("bash", folder.path())
            .name("person")
            .clear_env()
            .env("PATH", search)
            .env("HOME", self.home())
            .env("LC_ALL", "C")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .cwd(self.home())
            .args(["-c", &format!("exec >\"$OUT\" 2>\"$ERR\"\n{script}"), "person"])
            .env("OUT", &out)
            .env("ERR", &err)
            .args(args);
        let mut process = OwnedProcess::start(spawn)?;
        let status = process.wait_exit(WITHIN)?;
        let read = |path: &Path| {
            let bytes =
                std::fs::read(path).map_err(|source| HarnessError::io("read what a command printed", source))?;
            Ok::<_, HarnessError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Said {
            code: status.code().unwrap_or(-1),
            out: read(&out)?,
            err: read(&err)?,
        })
    }
}
