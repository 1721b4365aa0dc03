//! Runs the real broker on a Unix socket in a folder of its own, and stops, freezes and starts it again.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::error::HarnessError;
use crate::http::{Connection, HttpError, Request, Response};
use crate::process::{OwnedProcess, Signal, Spawn};
use crate::shipped;
use crate::wait::{Deadline, POLL, wait_until};
use crate::{audit, canary};

mod settings;

pub use settings::BrokerSettings;

const READY_WITHIN: Duration = Duration::from_secs(20);
const IO_TIMEOUT: Duration = Duration::from_secs(10);
const LOG_TIME: Duration = Duration::from_secs(10);

/// A broker that runs or has run; its folder with keys and state stays.
#[derive(Debug)]
pub struct Broker {
    process: Option<OwnedProcess>,
    folder: PathBuf,
    through: Vec<String>,
    krb5_config: Option<PathBuf>,
}

impl Broker {
    /// Writes configuration, policy and key-encryption key into an existing folder, and starts nothing.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn prepare(folder: &Path, settings: &BrokerSettings) -> Result<Self, HarnessError> {
        let broker = Self {
            process: None,
            folder: folder.to_owned(),
            through: Vec::new(),
            krb5_config: None,
        };
        let state = folder.join("state");
        std::fs::create_dir_all(&state)
            .and_then(|()| std::fs::set_permissions(&state, Permissions::from_mode(0o700)))
            .map_err(|source| HarnessError::io("create the broker's state folder", source))?;
        let kek = settings::key_encryption_key()?;
        canary::note(kek.as_bytes());
        broker.write("kek", &kek)?;
        broker.set_policy(&settings.policy)?;
        broker.write("kerbridge.toml", &settings.configuration(&broker))?;
        Ok(broker)
    }

    /// Replaces the policy file; a running broker is not told.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn set_policy(&self, policy: &str) -> Result<(), HarnessError> {
        self.write("policy.toml", policy)
    }

    /// Replaces the one place of `kerbridge.toml` that reads so; a running broker is not told.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] where there is no such place, or [`HarnessError::Io`].
    pub fn configure(&self, from: &str, to: &str) -> Result<(), HarnessError> {
        let path = self.config();
        let text = std::fs::read_to_string(&path)
            .map_err(|source| HarnessError::io(format!("read {}", path.display()), source))?;
        if text.matches(from).count() != 1 {
            return Err(HarnessError::UnexpectedAnswer {
                what: format!("one {from} in kerbridge.toml"),
                answer: text,
            });
        }
        self.write("kerbridge.toml", &text.replace(from, to))
    }

    /// The machine's krb5.conf as it finds it from its next start on, in place of `/etc/krb5.conf`.
    pub fn set_krb5_config(&mut self, path: &Path) {
        self.krb5_config = Some(path.to_owned());
    }

    fn write(&self, name: &str, text: &str) -> Result<(), HarnessError> {
        let path = self.folder.join(name);
        std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o600)))
            .map_err(|source| HarnessError::io(format!("write {}", path.display()), source))
    }

    /// The folder with `kerbridge.toml`, `policy.toml`, `kek`, `state` and the log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("kerbridge.toml")
    }

    /// The socket of the mesh listener.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("mesh.sock")
    }

    /// Has the next start made by a command that becomes the broker, such as `faketime -f +6m`; none is as usual again.
    pub fn start_through(&mut self, command: &[&str]) {
        self.through = command.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Kills it and starts it again through this command, see [`Broker::start_through`]. It then answers.
    ///
    /// # Errors
    ///
    /// As [`Broker::start`].
    pub fn restart_through(&mut self, command: &[&str]) -> Result<(), HarnessError> {
        // faketime does not hand a polite signal on.
        self.kill()?;
        self.start_through(command);
        // What ran through a command that is not itself the broker may outlive that command by a moment, and holds the state
        // until then.
        let clock = Deadline::after(READY_WITHIN);
        loop {
            match self.start() {
                Err(HarnessError::Exited { log, .. }) if log.contains("another broker") && !clock.passed() => {
                    std::thread::sleep(POLL);
                }
                started => return started,
            }
        }
    }

    /// The process, where one runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(OwnedProcess::pid)
    }

    /// The largest file, in bytes, that the running broker may write from now on; `None` is no limit. To a process that does
    /// not heed SIGXFSZ (`env --ignore-signal=XFSZ`) it is as if the disk were full.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn limit_files(&self, largest: Option<u64>) -> Result<(), HarnessError> {
        let failed = |error: rustix::io::Errno| HarnessError::io("limit the broker's files", error.into());
        let pid = self
            .pid()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        let limits = prlimit(pid, Resource::Fsize, getrlimit(Resource::Fsize)).map_err(failed)?;
        let limit = Rlimit {
            current: largest.or(limits.maximum),
            maximum: limits.maximum,
        };
        prlimit(pid, Resource::Fsize, limit).map(drop).map_err(failed)
    }

    /// Starts it and waits until `/readyz` says 200.
    ///
    /// # Errors
    ///
    /// [`HarnessError::FileMissing`], or [`HarnessError::Exited`] or [`HarnessError::TimedOut`] with the end of its log.
    pub fn start(&mut self) -> Result<(), HarnessError> {
        self.start_until("a ready broker", |answer| answer.status == 200)
    }

    /// Starts it and waits until `/readyz` says anything at all.
    ///
    /// # Errors
    ///
    /// As for [`Broker::start`].
    pub fn start_listening(&mut self) -> Result<(), HarnessError> {
        self.start_until("a broker that answers", |_| true)
    }

    fn start_until(&mut self, what: &str, is_there: impl Fn(&Response) -> bool) -> Result<(), HarnessError> {
        let socket = self.socket();
        let kerbridge = find_kerbridge()?;
        let spawn = match self.through.split_first() {
            Some((first, rest)) => Spawn::new(first, &self.folder).args(rest).arg(kerbridge),
            None => Spawn::new(kerbridge, &self.folder),
        };
        let mut process = OwnedProcess::start(
            spawn
                .name("kerbridge")
                .watched()
                .arg("serve")
                .arg("--config")
                .arg(self.folder.join("kerbridge.toml"))
                .envs(self.krb5_config.iter().map(|path| ("KRB5_CONFIG", path))),
        )?;
        process.wait_alive_until(what, READY_WITHIN, |_| {
            ask(&socket, &Request::get("/readyz")).is_ok_and(|answer| is_there(&answer))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Runs `kerbridge` with these arguments to its end, and returns how it ended and what it printed.
    ///
    /// # Errors
    ///
    /// [`HarnessError::FileMissing`] or [`HarnessError::TimedOut`].
    pub fn run(folder: &Path, args: &[&str]) -> Result<(ExitStatus, String), HarnessError> {
        let mut process = OwnedProcess::start(command(folder)?.name("kerbridge-command").watched().args(args))?;
        let status = process.wait_exit(READY_WITHIN)?;
        Ok((status, process.log()))
    }

    /// Revokes as an administrator does, by `kerbridge revoke`, and returns what it printed as JSON.
    ///
    /// # Errors
    ///
    /// As [`Broker::administer`].
    pub fn revoke(&self, args: &[&str]) -> Result<serde_json::Value, HarnessError> {
        self.administer(&["revoke"], args)
    }

    /// Gives a command as an administrator does, such as `keys rotate`, and returns what it printed as JSON.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] where it does not end with 0, and those of [`Broker::run`].
    pub fn administer(&self, command: &[&str], args: &[&str]) -> Result<serde_json::Value, HarnessError> {
        let config = self.config().to_string_lossy().into_owned();
        let options = ["--config", config.as_str(), "--output", "json"];
        let all: Vec<&str> = [command, &options, args].concat();
        let (status, printed) = Self::run(&self.folder, &all)?;
        match serde_json::from_str(&printed) {
            Ok(value) if status.success() => Ok(value),
            Ok(_) | Err(_) => Err(HarnessError::Exited {
                name: format!("kerbridge {}", command.join(" ")),
                status,
                log: printed,
            }),
        }
    }

    /// One request to the mesh listener, on a connection of its own.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Http`].
    pub fn ask(&self, request: &Request) -> Result<Response, HarnessError> {
        ask(&self.socket(), request).map_err(|source| HarnessError::Http {
            what: "a request to the broker".to_owned(),
            source,
        })
    }

    /// Ends it politely (SIGTERM). It must exit with 0, and have said nothing on standard error: what is not a log line of
    /// its own comes from a library that found something wrong, such as libkrb5 in use after its end.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`] when it does not end, [`HarnessError::Exited`] when it ends otherwise.
    pub fn stop(&mut self) -> Result<(), HarnessError> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let status = process.terminate()?;
        let log = process.log();
        for line in log.lines() {
            audit::check(&serde_json::from_str(line).unwrap_or_default())?;
        }
        audit::check_files(&self.folder)?;
        let stray = log
            .lines()
            .find(|line| serde_json::from_str::<serde_json::Value>(line).is_err());
        match stray {
            None if status.success() => Ok(()),
            None => Err(HarnessError::Exited {
                name: process.name().to_owned(),
                status,
                log: process.log_tail(),
            }),
            Some(line) => Err(HarnessError::UnexpectedAnswer {
                what: "SIGTERM to the broker".to_owned(),
                answer: line.to_owned(),
            }),
        }
    }

    /// Ends it as a crash would (SIGKILL).
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Freezes it (SIGSTOP): its socket still takes connections, nobody answers.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn freeze(&mut self) -> Result<(), HarnessError> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen one go on.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn thaw(&mut self) -> Result<(), HarnessError> {
        self.signal(Signal::CONT)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn signal(&mut self, signal: Signal) -> Result<(), HarnessError> {
        match &mut self.process {
            Some(process) => process.signal(signal),
            None => Ok(()),
        }
    }

    /// What it has printed once `pattern` is in it, or after 10 s without. Lines are written behind the answers that they
    /// are about, so that a log that is read at once may lack them.
    #[must_use]
    pub fn logged(&self, pattern: &str) -> String {
        let found = wait_until(pattern, LOG_TIME, || self.log().contains(pattern));
        // Whoever reads the log says better what it lacks.
        drop(found);
        self.log()
    }

    /// What the present process has printed so far; nothing where none runs.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(OwnedProcess::log).unwrap_or_default()
    }
}

/// Every broker that a test leaves running must end well too.
impl Drop for Broker {
    fn drop(&mut self) {
        // A frozen one would not hear the signal; one that cannot be thawed has ended.
        let ended = match self.through.first() {
            // It does not hand a polite signal on, and the broker would outlive it.
            Some(first) if first == "faketime" => self.kill(),
            Some(_) | None => self.thaw().and_then(|()| self.stop()),
        };
        assert!(std::thread::panicking() || ended.is_ok(), "{ended:?}");
    }
}

/// One request over a Unix socket.
///
/// # Errors
///
/// Every [`HttpError`].
pub fn ask(socket: &Path, request: &Request) -> Result<Response, HttpError> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    Connection::new(stream).exchange(request)
}

fn command(folder: &Path) -> Result<Spawn, HarnessError> {
    Ok(Spawn::new(find_kerbridge()?, folder).name("kerbridge"))
}

/// The broker to run: `KERBRIDGE_BIN`, else the release binary in the target folder, else the debug one.
///
/// # Errors
///
/// [`HarnessError::FileMissing`].
pub fn find_kerbridge() -> Result<PathBuf, HarnessError> {
    let candidates = match std::env::var_os("KERBRIDGE_BIN") {
        Some(given) => vec![PathBuf::from(given)],
        None => ["release/kerbridge", "debug/kerbridge"]
            .map(|built| shipped::built("bin/kerbridge", built))
            .to_vec(),
    };
    let missing = candidates.first().cloned().unwrap_or_default();
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .ok_or(HarnessError::FileMissing {
            path: missing,
            remedy: "run `make build`, or name the binary in KERBRIDGE_BIN",
        })
}
