//! Starts a child that ends with its owner, with the test, and with a test that is killed.
//!
//! A child is ended in three ways: by its owner's drop (SIGTERM, then SIGKILL to its whole group), by the kernel when
//! the thread that forked it ends (`setpriv --pdeathsig`), and by itself. The kernel ties the second to the thread,
//! not to the process, and libtest's threads end with their test: one thread that lives as long as the process forks
//! all children. The kernel's way reaches the child alone: a daemon that forks workers must run as one process to die
//! with a killed test (`httpd -X`, `samba -M single`).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::io::Errno;
pub use rustix::process::Signal;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use crate::canary;
use crate::error::HarnessError;
use crate::wait::{Deadline, POLL, wait_for};

mod fork;
mod program;
mod spawn;

pub use program::{copy_program, find_program};
pub use spawn::Spawn;

/// How long a child has between SIGTERM and SIGKILL when its owner is dropped.
const GRACE: Duration = Duration::from_secs(2);

/// How much of a log an error or a failed test shows, in bytes.
const TAIL: usize = 8 * 1024;

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
        let child = fork::fork(spawn.command(&program, file)?)
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

#[cfg(test)]
mod tests;
