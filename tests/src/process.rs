//! Starts a child that ends with its owner, with the test, and with a test that is killed.
//!
//! A child is ended in three ways: by its owner's drop (SIGTERM, then SIGKILL to its whole group), by the kernel when
//! the thread that forked it ends (`setpriv --pdeathsig`), and by itself. The kernel ties the second to the thread,
//! not to the process, and libtest's threads end with their test: one thread that lives as long as the process forks
//! all children. The kernel's way reaches the child alone: a daemon that forks workers must run as one process to die
//! with a killed test (`httpd -X`, `samba -M single`).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use rustix::io::Errno;
pub use rustix::process::Signal;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use crate::canary;
use crate::error::HarnessError;
use crate::wait::{Deadline, POLL, wait_for};

/// How long a child has between SIGTERM and SIGKILL when its owner is dropped.
const GRACE: Duration = Duration::from_secs(2);

/// How much of a log an error or a failed test shows, in bytes.
const TAIL: usize = 8 * 1024;

/// What to start, and where its output goes.
#[derive(Clone, Debug)]
pub struct Spawn {
    name: String,
    program: OsString,
    folder: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    clear_env: bool,
    is_watched: bool,
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

    /// What it prints must hold none of the credentials that passed by then, see [`canary`].
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.is_watched = true;
        self
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn command(&self, program: &Path, log: File) -> Result<Command, HarnessError> {
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

/// A running child and its log.
#[derive(Debug)]
pub struct OwnedProcess {
    name: String,
    child: Child,
    log: PathBuf,
    exit: Option<ExitStatus>,
    /// Its log is yet to be searched.
    is_watched: bool,
}

impl OwnedProcess {
    /// Starts the child. A log of the same name is truncated.
    ///
    /// # Errors
    ///
    /// [`HarnessError::ProgramMissing`], or [`HarnessError::Io`] when the log cannot be written or the fork fails.
    pub fn start(spawn: Spawn) -> Result<Self, HarnessError> {
        let log = spawn.log_path();
        let program = find_program(&spawn.program)?;
        let file = File::create(&log)
            .map_err(|source| HarnessError::io(format!("create the log file {}", log.display()), source))?;
        let child = fork(spawn.command(&program, file)?)
            .map_err(|source| HarnessError::io(format!("start {}", spawn.name), source))?;
        Ok(Self {
            name: spawn.name,
            child,
            log,
            exit: None,
            is_watched: spawn.is_watched,
        })
    }

    /// The process's id; valid until it was reaped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process's name, as in its log file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where stdout and stderr go.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything that the process has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The end of the log, cut to what fits on a screen or two.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let tail = log.as_bytes().get(log.len().saturating_sub(TAIL)..).unwrap_or_default();
        String::from_utf8_lossy(tail).trim_end().to_owned()
    }

    /// Waits until the log contains `pattern`.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`], or [`HarnessError::Exited`] when the process ended without printing it; both with
    /// the end of the log.
    pub fn wait_for_log(&mut self, pattern: &str, within: Duration) -> Result<(), HarnessError> {
        let what = format!("{:?} in the log of {}", pattern, self.name);
        self.wait_alive_until(&what, within, |process| process.log().contains(pattern))
    }

    /// Waits until `condition` holds, and gives up at once when the process ends.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`] or [`HarnessError::Exited`], both with the end of the log.
    pub fn wait_alive_until(
        &mut self,
        what: &str,
        within: Duration,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> Result<(), HarnessError> {
        let deadline = Deadline::after(within);
        loop {
            // The order matters: what was printed just before the end still counts.
            let ended = self.try_wait()?;
            if condition(self) {
                return Ok(());
            }
            if let Some(status) = ended {
                return Err(HarnessError::Exited {
                    name: self.name.clone(),
                    status,
                    log: self.log_tail(),
                });
            }
            if deadline.passed() {
                return Err(HarnessError::TimedOut {
                    what: what.to_owned(),
                    within,
                    log: self.log_tail(),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// How the process ended, or nothing while it runs.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] when the kernel does not know the child.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, HarnessError> {
        if self.exit.is_none() {
            self.exit = self
                .child
                .try_wait()
                .map_err(|source| HarnessError::io(format!("wait for {}", self.name), source))?;
        }
        Ok(self.exit)
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`] when it still runs after `within`.
    pub fn wait_exit(&mut self, within: Duration) -> Result<ExitStatus, HarnessError> {
        let deadline = Deadline::after(within);
        loop {
            if let Some(status) = self.try_wait()? {
                self.search_log()?;
                return Ok(status);
            }
            if deadline.passed() {
                let what = format!("the end of {}", self.name);
                return Err(HarnessError::TimedOut {
                    what,
                    within,
                    log: self.log_tail(),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Looks for credentials in what it has printed, where that is watched; once.
    fn search_log(&mut self) -> Result<(), HarnessError> {
        if std::mem::take(&mut self.is_watched) {
            canary::search(&format!("the log of {}", self.name), self.log().as_bytes())
        } else {
            Ok(())
        }
    }

    /// Sends a signal to the process; one that has ended is left alone.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] when the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<(), HarnessError> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|source| HarnessError::io(format!("signal {}", self.name), source.into()))
    }

    /// Sends a signal to each child of the process, also one in a group of its own.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] when the kernel refuses, or does not say which they are.
    pub fn signal_children(&mut self, signal: Signal) -> Result<(), HarnessError> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        let failed = |source| HarnessError::io(format!("signal the children of {}", self.name), source);
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).map_err(failed)?;
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            match Pid::from_raw(child).map(|child| kill_process(child, signal)) {
                // One that has ended meanwhile is in no need of it.
                None | Some(Ok(()) | Err(Errno::SRCH)) => {}
                Some(Err(refused)) => return Err(failed(refused.into())),
            }
        }
        Ok(())
    }

    /// Sends SIGTERM and waits ten seconds at most.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`] when the process ignores it.
    pub fn terminate(&mut self) -> Result<ExitStatus, HarnessError> {
        self.signal(Signal::TERM)?;
        self.wait_exit(Duration::from_secs(10))
    }

    /// Sends SIGKILL to the process and all its children that stayed in its group, and reaps it.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] when the kernel does not know the child.
    pub fn kill(&mut self) -> Result<ExitStatus, HarnessError> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        kill_process_group(Pid::from_child(&self.child), Signal::KILL)
            .map_err(|source| HarnessError::io(format!("kill {}", self.name), source.into()))?;
        self.wait_exit(Duration::from_secs(10))
    }
}

impl Drop for OwnedProcess {
    #[expect(
        clippy::print_stderr,
        reason = "a failed test is understood from the logs of its processes"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- {}: end of {} ---\n{}\n---",
                self.name,
                self.log.display(),
                self.log_tail()
            );
        }
        if self.exit.is_none() {
            self.end();
        }
        if !std::thread::panicking() {
            let searched = self.search_log();
            assert!(searched.is_ok(), "{searched:?}");
        }
    }
}

impl OwnedProcess {
    #[expect(clippy::print_stderr, reason = "a child that outlives its owner is to be seen")]
    fn end(&mut self) {
        // The dead leader is not reaped yet: while it is there, its group's number cannot be given to anybody else.
        let leader = Pid::from_child(&self.child);
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = || matches!(waitid(WaitId::Pid(leader), look), Ok(Some(_)) | Err(_)).then_some(());
        let polite = kill_process(leader, Signal::TERM).is_ok() && wait_for("its end", GRACE, ended).is_ok();
        let group = kill_process_group(leader, Signal::KILL);
        if self.child.wait().is_err() || (group.is_err() && !polite) {
            eprintln!("{} could not be ended", self.name);
        }
    }
}

/// Copies a program so that it can be started at once. `cp` does it: a file that this process had open to write would be so
/// in whatever another thread starts meanwhile, and Linux runs no file that anybody may write to (`ETXTBSY`).
///
/// # Errors
///
/// [`HarnessError::Io`], also where `cp` fails.
pub fn copy_program(from: &Path, to: &Path) -> Result<(), HarnessError> {
    let action = "copy a program";
    let copied = std::process::Command::new("cp").arg("--").args([from, to]).status();
    let status = copied.map_err(|source| HarnessError::io(action, source))?;
    let failed = || HarnessError::io(action, std::io::Error::other(format!("cp ended with {status}")));
    status.success().then_some(()).ok_or_else(failed)
}

/// The path of a program: itself where it has a slash, else from PATH or one of the sbin folders.
///
/// # Errors
///
/// [`HarnessError::ProgramMissing`].
pub fn find_program(program: impl AsRef<OsStr>) -> Result<PathBuf, HarnessError> {
    let program = Path::new(program.as_ref());
    let missing = || HarnessError::ProgramMissing {
        program: program.display().to_string(),
        remedy: "run `make setup`",
    };
    if program.components().count() > 1 {
        return if program.is_file() {
            Ok(program.to_owned())
        } else {
            Err(missing())
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(missing)
}

type ForkRequest = (Command, mpsc::Sender<std::io::Result<Child>>);

/// The thread that forks: its end, and so every child's, is the end of this process.
static FORKER: LazyLock<mpsc::Sender<ForkRequest>> = LazyLock::new(|| {
    let (sender, requests) = mpsc::channel::<ForkRequest>();
    std::thread::spawn(move || {
        for (mut command, reply) in requests {
            if let Err(mpsc::SendError(Ok(mut orphan))) = reply.send(command.spawn()) {
                // Nobody took the child, so nobody would end it; a failure to kill means that it ended by itself.
                drop(orphan.kill());
                drop(orphan.wait());
            }
        }
    });
    sender
});

fn fork(command: Command) -> std::io::Result<Child> {
    let gone = || std::io::Error::other("the forking thread is gone");
    let (reply, answer) = mpsc::channel();
    FORKER.send((command, reply)).map_err(|_closed| gone())?;
    answer.recv().map_err(|_closed| gone())?
}

#[cfg(test)]
mod tests;
