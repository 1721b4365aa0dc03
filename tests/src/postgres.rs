//! Runs a PostgreSQL server of its own in a folder of its own: on a Unix socket, and on loopback over TLS or in clear text.
//!
//! The server refuses to run as root, so where the tests do it runs as `nobody`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::error::HarnessError;
use crate::port;
use crate::process::{OwnedProcess, Signal, Spawn};

/// The role that owns each database, and its password over TCP.
pub const ROLE: &str = "kerbridge";
/// The password of [`ROLE`] over TCP.
pub const PASSWORD: &str = "Correct-horse-8";

/// Of Debian, Fedora and whoever puts them on the path.
const PLACES: [&str; 3] = ["/usr/lib/postgresql", "/usr/pgsql", "/usr/bin"];
/// `nobody` everywhere.
const NOBODY: u32 = 65534;
/// How long it may take to start; it takes some hundred milliseconds, and longer after a crash.
const START: Duration = Duration::from_secs(30);

/// A server, which ends with this.
#[derive(Debug)]
pub struct Postgres {
    // Dropped in this order: the process, then its folder.
    process: OwnedProcess,
    binaries: PathBuf,
    port: u16,
    databases: AtomicU32,
    is_frozen: bool,
    certificates: Certificates,
    folder: TempDir,
}

impl Postgres {
    /// Makes a cluster and serves it.
    ///
    /// # Errors
    ///
    /// [`HarnessError::FileMissing`] without the package, or what the server said.
    pub fn start() -> Result<Self, HarnessError> {
        let server = Self::made(|binaries, data| {
            let mut command = as_nobody(&binaries.join("initdb"));
            command.args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ]);
            run(command.arg("--pgdata").arg(data))?;
            let rules = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
            std::fs::write(data.join("pg_hba.conf"), rules)
                .map_err(|source| HarnessError::io("write pg_hba.conf", source))
        })?;
        server.sql("postgres", &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"))?;
        Ok(server)
    }

    /// A standby of this server, which follows it and can be read.
    ///
    /// # Errors
    ///
    /// What either server said.
    pub fn standby(&self) -> Result<Self, HarnessError> {
        Self::made(|binaries, data| {
            let mut command = as_nobody(&binaries.join("pg_basebackup"));
            command
                .args([
                    "--checkpoint=fast",
                    "--wal-method=stream",
                    "--write-recovery-conf",
                    "--no-sync",
                ])
                .args(["--username=postgres", "--port", &self.port.to_string(), "--host"])
                .arg(self.socket_folder())
                .arg("--pgdata")
                .arg(data);
            run(&mut command).map(drop)
        })
    }

    /// Lets a standby take over.
    ///
    /// # Errors
    ///
    /// What the server said.
    pub fn promote(&self) -> Result<(), HarnessError> {
        self.sql("postgres", "SELECT pg_promote()").map(drop)
    }

    fn made(make: impl FnOnce(&Path, &Path) -> Result<(), HarnessError>) -> Result<Self, HarnessError> {
        let binaries = binaries()?;
        let folder = tempfile::Builder::new()
            .prefix("kerbridge-postgres-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .map_err(|source| HarnessError::io("create PostgreSQL's folder", source))?;
        let certificates = Certificates::create_for("127.0.0.2", folder.path())?;
        let data = folder.path().join("data");
        // Brokers of other users come to the socket.
        for (path, mode) in [(data.clone(), 0o700), (folder.path().join("run"), 0o755)] {
            std::fs::create_dir(&path).map_err(|source| HarnessError::io("create PostgreSQL's folders", source))?;
            give(&path, mode)?;
        }
        make(&binaries, &data)?;
        let key = folder.path().join("server.key");
        std::fs::copy(&certificates.private_key, &key)
            .map_err(|source| HarnessError::io("copy PostgreSQL's key", source))?;
        give(&key, 0o600)?;
        let port = port::free_tcp()?;
        let process = serve(&binaries, folder.path(), port, &certificates)?;
        Ok(Self {
            process,
            binaries,
            port,
            databases: AtomicU32::new(0),
            is_frozen: false,
            certificates,
            folder,
        })
    }

    /// The folder of the socket.
    #[must_use]
    pub fn socket_folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Of the socket, and on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The authority of its certificate, which is for `localhost`, in PEM.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.certificates.authority
    }

    /// A new empty database of [`ROLE`], and its name.
    ///
    /// # Errors
    ///
    /// What the server said.
    pub fn new_database(&self) -> Result<String, HarnessError> {
        let name = format!("store_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER {ROLE}"))?;
        Ok(name)
    }

    /// Runs statements as the superuser, and says what they print: values without any frame.
    ///
    /// # Errors
    ///
    /// What the server said.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String, HarnessError> {
        let mut command = self.client("psql");
        command.args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
        ]);
        command.args(["--dbname", database, "--command", statements]);
        run(&mut command)
    }

    /// A client program of the server's release, which comes to it as its superuser.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command
            .env("PGHOST", self.socket_folder())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres");
        command
    }

    /// The process, to be killed or frozen.
    pub const fn process(&mut self) -> &mut OwnedProcess {
        &mut self.process
    }

    /// Stops all of it where it stands (SIGSTOP): connections stay and are taken, and nobody answers.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn freeze(&mut self) -> Result<(), HarnessError> {
        self.is_frozen = true;
        // First whoever would begin others.
        self.process.signal(Signal::STOP)?;
        self.process.signal_children(Signal::STOP)
    }

    /// Lets a frozen one go on.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn thaw(&mut self) -> Result<(), HarnessError> {
        if std::mem::take(&mut self.is_frozen) {
            self.process.signal_children(Signal::CONT)?;
            self.process.signal(Signal::CONT)?;
        }
        Ok(())
    }

    /// Serves the same cluster at the same place again; what still runs is stopped.
    ///
    /// # Errors
    ///
    /// What the server said.
    pub fn restart(&mut self) -> Result<(), HarnessError> {
        if self.process.try_wait()?.is_none() {
            // Whoever is connected is not waited for.
            self.process.signal(Signal::INT)?;
            self.process.wait_exit(START)?;
        }
        self.process = serve(&self.binaries, self.folder.path(), self.port, &self.certificates)?;
        Ok(())
    }
}

/// Its children have sessions of their own: those that are frozen would outlive it.
impl Drop for Postgres {
    fn drop(&mut self) {
        let thawed = self.thaw();
        assert!(std::thread::panicking() || thawed.is_ok(), "{thawed:?}");
    }
}

fn serve(binaries: &Path, folder: &Path, port: u16, certificates: &Certificates) -> Result<OwnedProcess, HarnessError> {
    let setting = |name: &str, value: &str| [String::from("-c"), format!("{name}={value}")];
    let path = |path: &Path| path.display().to_string();
    let run = folder.join("run");
    let settings = [
        setting("listen_addresses", "127.0.0.1"),
        setting("port", &port.to_string()),
        setting("unix_socket_directories", &path(&run)),
        setting("ssl", "on"),
        setting("ssl_cert_file", &path(&certificates.certificate)),
        setting("ssl_key_file", &path(&folder.join("server.key"))),
        setting("max_connections", "200"),
        setting("shared_buffers", "16MB"),
        setting("wal_level", "replica"),
    ];
    let (program, before) = as_nobody_words(&binaries.join("postgres"));
    let spawn = Spawn::new(program, folder)
        .name("postgres")
        .args(before)
        .arg("-D")
        .arg(folder.join("data"))
        .args(settings.as_flattened());
    let mut process = OwnedProcess::start(spawn)?;
    // A standby says that it takes read-only ones.
    process.wait_for_log("ready to accept", START)?;
    Ok(process)
}

/// The newest release of the server that is on this machine.
fn binaries() -> Result<PathBuf, HarnessError> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for place in PLACES {
        let releases = std::fs::read_dir(place).into_iter().flatten().flatten();
        for release in releases {
            let number = release.file_name().to_str().and_then(|name| name.parse().ok());
            let folder = release.path().join("bin");
            if let Some(number) = number
                && folder.join("postgres").is_file()
            {
                found.push((number, folder));
            }
        }
    }
    let newest = found.into_iter().max().map(|(_, folder)| folder);
    newest.ok_or_else(|| HarnessError::FileMissing {
        path: PathBuf::from("/usr/lib/postgresql/*/bin/postgres"),
        remedy: "install the package postgresql",
    })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program and what stands before its arguments.
fn as_nobody_words(program: &Path) -> (PathBuf, Vec<String>) {
    if !is_root() {
        return (program.to_owned(), Vec::new());
    }
    let words = [
        format!("--reuid={NOBODY}"),
        format!("--regid={NOBODY}"),
        "--clear-groups".into(),
        "--pdeathsig=KILL".into(),
        program.display().to_string(),
    ];
    (PathBuf::from("/usr/bin/setpriv"), words.into())
}

fn as_nobody(program: &Path) -> Command {
    let (program, before) = as_nobody_words(program);
    let mut command = Command::new(program);
    command.args(before).current_dir("/");
    command
}

/// Gives a file or folder to whom the server runs as.
fn give(path: &Path, mode: u32) -> Result<(), HarnessError> {
    let given = std::fs::set_permissions(path, Permissions::from_mode(mode)).and_then(|()| {
        if is_root() {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))
        } else {
            Ok(())
        }
    });
    given.map_err(|source| HarnessError::io(format!("give {} to PostgreSQL", path.display()), source))
}

fn run(command: &mut Command) -> Result<String, HarnessError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|source| HarnessError::io(format!("run {name}"), source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(HarnessError::Exited {
        name,
        status: output.status,
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
