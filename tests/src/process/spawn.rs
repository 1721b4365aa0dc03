//! Says what a child is to be: program, arguments, environment, and where its output goes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::program::find_program;
use crate::error::HarnessError;

/// What to start, and where its output goes.
#[derive(Clone, Debug)]
pub struct Spawn {
    pub(super) name: String,
    pub(super) program: OsString,
    folder: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    clear_env: bool,
    pub(super) is_watched: bool,
}

impl Spawn {
    /// `program` (a path, or a name looked up on PATH and in the sbin folders), logging to `folder/<name>.log`.
    ///
    /// The name is the program's file name unless [`Spawn::name`] gives another.
    pub fn new(program: impl AsRef<OsStr>, folder: impl Into<PathBuf>) -> Self {
        let program = program.as_ref().to_owned();
        let name = Path::new(&program)
            .file_name()
            .unwrap_or(&program)
            .to_string_lossy()
            .into_owned();
        let (args, env, cwd) = (Vec::new(), Vec::new(), None);
        Self {
            name,
            program,
            folder: folder.into(),
            args,
            env,
            cwd,
            clear_env: false,
            is_watched: false,
        }
    }

    /// Names the process in errors and its log file; two processes in one folder need two names.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one variable beside those of the test's own environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets variables beside those of the test's own environment.
    #[must_use]
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        for (name, value) in pairs {
            self = self.env(name, value);
        }
        self
    }

    /// Starts from an empty environment but for PATH.
    #[must_use]
    pub fn clear_env(mut self) -> Self {
        self.clear_env = true;
        self
    }

    /// The child's working folder; the test's own unless given.
    #[must_use]
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cwd = Some(folder.into());
        self
    }

    /// What it prints must hold none of the credentials that passed by then, see [`crate::canary`].
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.is_watched = true;
        self
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    pub(super) fn command(&self, program: &Path, log: File) -> Result<Command, HarnessError> {
        let second = log
            .try_clone()
            .map_err(|source| HarnessError::io("share the log file", source))?;
        let mut command = Command::new(find_program("setpriv")?);
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(&self.args);
        if self.clear_env {
            command
                .env_clear()
                .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command.stdin(Stdio::null()).stdout(log).stderr(second).process_group(0);
        Ok(command)
    }
}
