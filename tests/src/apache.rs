//! Runs a real Apache with `mod_auth_gssapi`: a service that takes Kerberos tickets and nothing else, and says whom it saw.
//!
//! It is one process (`-X`), so that it dies with a killed test, and as Apache refuses to serve as root, it runs as the
//! system's `www-data` where the test is root. It needs no KDC: its keytab is enough to accept.

use std::fs::Permissions;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::error::HarnessError;
use crate::port;
use crate::process::{OwnedProcess, Signal, Spawn};
use crate::scripted_server::Incoming;
use crate::tool::write;

/// How long Apache may take to listen. It takes some tens of milliseconds.
const START: Duration = Duration::from_secs(20);
/// How often another port is tried.
const ROUNDS: usize = 3;
/// Requests that are served at the same time; a connection that is idle holds no thread.
const THREADS: usize = 64;
/// Where Debian, Fedora and openSUSE keep the modules.
const MODULES: [&str; 3] = [
    "/usr/lib/apache2/modules",
    "/usr/lib64/httpd/modules",
    "/usr/lib64/apache2",
];
/// Who serves where the test is root.
const USER: &str = "www-data";

/// The document of [`Apache::start_bare`].
pub const DOCUMENT: &str = "document";

/// What Apache answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// What it was asked.
    Echo,
    /// A file of two bytes.
    Document,
}

/// A running Apache and its folder.
#[derive(Debug)]
pub struct Apache {
    // Dropped in this order: the process, then its folder.
    process: OwnedProcess,
    port: u16,
    folder: TempDir,
}

/// What Apache noted of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The principal that it saw, with its realm; nothing where it refused.
    pub user: Option<String>,
    /// The status of its answer.
    pub status: u16,
    /// The request target.
    pub target: String,
    /// The client's port: one for each connection.
    pub client_port: u16,
    /// All of `Authorization`, a secret as long as the ticket lives; nothing where none came.
    pub authorization: Option<String>,
    /// All of `WWW-Authenticate` of its answer.
    pub challenge: Option<String>,
}

impl Apache {
    /// Serves http on a free port of 127.0.0.1 with the keys of this keytab.
    ///
    /// Every request needs a ticket. The answer is JSON with `remote_user` (the principal and its realm), `method`, `target`
    /// and `headers`; Apache joins lines of one name with a comma. `?fail=NAME` is 503 the first time that NAME comes.
    ///
    /// # Errors
    ///
    /// [`HarnessError::ProgramMissing`] without the packages, or what Apache said.
    pub fn start(keytab: &Path) -> Result<Self, HarnessError> {
        Self::serve(keytab, None, Answer::Echo, None)
    }

    /// The same under this krb5.conf, with nothing in the answer and little in the logs: what an Apache does at least, to be
    /// measured.
    ///
    /// # Errors
    ///
    /// As [`Apache::start`].
    pub fn start_bare(keytab: &Path, krb5_config: &Path) -> Result<Self, HarnessError> {
        Self::serve(keytab, None, Answer::Document, Some(krb5_config))
    }

    /// The same over TLS, with the listener's certificate (`localhost`) of the lab's authority.
    ///
    /// # Errors
    ///
    /// As [`Apache::start`].
    pub fn start_with_tls(keytab: &Path, certificates: &Certificates) -> Result<Self, HarnessError> {
        Self::serve(keytab, Some(certificates), Answer::Echo, None)
    }

    fn serve(
        keytab: &Path,
        certificates: Option<&Certificates>,
        answer: Answer,
        krb5_config: Option<&Path>,
    ) -> Result<Self, HarnessError> {
        let folder = tempfile::Builder::new()
            .prefix("kerbridge-apache-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|source| HarnessError::io("create Apache's folder", source))?;
        let at = folder.path();
        write(&at.join("echo.lua"), include_bytes!("apache/echo.lua"))?;
        write(&at.join(DOCUMENT), b"ok")?;
        copy(keytab, &at.join("http.keytab"))?;
        match krb5_config {
            Some(file) => copy(file, &at.join("krb5.conf"))?,
            // It asks no KDC; without this it would read the machine's, and look names up.
            None => write(
                &at.join("krb5.conf"),
                b"[libdefaults]\ndns_lookup_kdc = false\ndns_lookup_realm = false\nrdns = false\n\
                  dns_canonicalize_hostname = false\n",
            )?,
        }
        if let Some(files) = certificates {
            copy(&files.certificate, &at.join("listener.pem"))?;
            copy(&files.private_key, &at.join("listener.key"))?;
        }
        let modules = modules()?;
        let mut round = 0_usize;
        let (process, port) = loop {
            round = round.saturating_add(1);
            let port = port::free_tcp()?;
            write(
                &at.join("apache.conf"),
                configuration(at, &modules, port, certificates.is_some(), answer).as_bytes(),
            )?;
            match run(at, port) {
                Ok(process) => break (process, port),
                Err(HarnessError::Exited { log, .. }) if round < ROUNDS && log.contains("in use") => {}
                Err(error) => return Err(error),
            }
        };
        Ok(Self { process, port, folder })
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `https://localhost:PORT`, where it serves over TLS.
    #[must_use]
    pub fn https(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Its process, to freeze or end it, or to read what processor time it took.
    pub fn process(&mut self) -> &mut OwnedProcess {
        &mut self.process
    }

    /// What it has said so far: why a ticket was refused, for instance.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    /// All requests that it has answered so far, refused ones too, in the order in which they ended.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] for a line that is not what it was told to write.
    pub fn served(&self) -> Result<Vec<Served>, HarnessError> {
        let log = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        // A line that is being written is not one yet.
        let whole = log.rfind('\n').and_then(|end| log.get(..end)).unwrap_or_default();
        whole.lines().map(read).collect()
    }

    /// Ends Apache before its owner does.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`] when it does not end.
    pub fn stop(&mut self) -> Result<(), HarnessError> {
        self.process.signal(Signal::TERM)?;
        self.process.wait_exit(Duration::from_secs(10)).map(drop)
    }
}

fn read(line: &str) -> Result<Served, HarnessError> {
    let fields: Vec<&str> = line.split('\t').collect();
    let given = |text: &str| (text != "-").then(|| text.to_owned());
    let parsed = match fields.as_slice() {
        [user, status, target, port, authorization, challenge] => {
            status.parse().ok().zip(port.parse().ok()).map(|numbers| Served {
                user: given(user),
                status: numbers.0,
                target: (*target).to_owned(),
                client_port: numbers.1,
                authorization: given(authorization),
                challenge: given(challenge),
            })
        }
        _ => None,
    };
    parsed.ok_or_else(|| HarnessError::UnexpectedAnswer {
        what: "a line of Apache's access log".to_owned(),
        answer: line.to_owned(),
    })
}

fn configuration(folder: &Path, modules: &Path, port: u16, tls: bool, answer: Answer) -> String {
    let (at, modules) = (folder.display(), modules.display());
    let mut text = format!(
        "ServerRoot \"{at}\"\n\
         DefaultRuntimeDir \"{at}\"\n\
         PidFile \"{at}/pid\"\n\
         Mutex pthread default\n\
         ServerName localhost\n\
         Listen 127.0.0.1:{port}\n\
         ErrorLog \"{at}/error.log\"\n"
    );
    for (name, file) in [
        ("mpm_event_module", "mod_mpm_event"),
        ("log_config_module", "mod_log_config"),
        ("authn_core_module", "mod_authn_core"),
        ("authz_core_module", "mod_authz_core"),
        ("authz_user_module", "mod_authz_user"),
        ("auth_gssapi_module", "mod_auth_gssapi"),
        ("lua_module", "mod_lua"),
    ] {
        // What is built in cannot be loaded.
        text.push_str(&format!(
            "<IfModule !{name}>\nLoadModule {name} \"{modules}/{file}.so\"\n</IfModule>\n"
        ));
    }
    // A ticket may be as long as the filter takes. Connections are kept for as long as a proxy likes: what pools them
    // must not mix their users up.
    text.push_str(&format!(
        "ThreadsPerChild {THREADS}\n\
         MaxRequestWorkers {THREADS}\n\
         LimitRequestFieldSize 131072\n\
         LimitRequestLine 16384\n\
         KeepAlive On\n\
         MaxKeepAliveRequests 0\n\
         KeepAliveTimeout 60\n\
         <Location \"/\">\n\
         AuthType GSSAPI\n\
         AuthName lab\n\
         GssapiCredStore \"keytab:{at}/http.keytab\"\n\
         GssapiAllowedMech krb5\n\
         GssapiConnectionBound Off\n\
         Require valid-user\n\
         </Location>\n"
    ));
    text.push_str(&match answer {
        Answer::Echo => format!(
            "LogLevel info\n\
             LogFormat \"%u\\t%>s\\t%U%q\\t%{{remote}}p\\t%{{Authorization}}i\t%{{WWW-Authenticate}}o\" served\n\
             CustomLog \"{at}/access.log\" served\n\
             LuaMapHandler \"^/\" \"{at}/echo.lua\" echo\n"
        ),
        Answer::Document => format!(
            "LogLevel warn\n\
             LogFormat \"%h %l %u %t \\\"%r\\\" %>s %b\" common\n\
             CustomLog \"{at}/access.log\" common\n\
             DocumentRoot \"{at}\"\n"
        ),
    });
    if tls {
        text.push_str(&format!(
            "LoadModule ssl_module \"{modules}/mod_ssl.so\"\n\
             SSLEngine on\n\
             SSLSessionCache none\n\
             SSLCertificateFile \"{at}/listener.pem\"\n\
             SSLCertificateKeyFile \"{at}/listener.key\"\n"
        ));
    }
    text
}

fn run(folder: &Path, port: u16) -> Result<OwnedProcess, HarnessError> {
    let config = folder.join("apache.conf");
    let apache = ["-X".as_ref(), "-f".as_ref(), config.as_os_str()];
    let spawn = match owner()? {
        None => Spawn::new(program(), folder).args(apache),
        // The kernel forgets whose death is to be its own when a process changes its user: asked for once more after that.
        Some((user, group)) => {
            for file in [
                "",
                "echo.lua",
                DOCUMENT,
                "krb5.conf",
                "apache.conf",
                "http.keytab",
                "listener.pem",
                "listener.key",
            ] {
                let path = folder.join(file);
                if path.exists() {
                    chown(&path, Some(user), Some(group))
                        .map_err(|source| HarnessError::io(format!("give {} to {USER}", path.display()), source))?;
                }
            }
            Spawn::new("setpriv", folder)
                .args([format!("--reuid={user}"), format!("--regid={group}")])
                .args(["--clear-groups", "--pdeathsig", "KILL", "--", program()])
                .args(apache)
        }
    };
    let spawn = spawn
        .name("apache")
        .env("KRB5_CONFIG", folder.join("krb5.conf"))
        .env("KRB5RCACHENAME", format!("file2:{}/rcache", folder.display()))
        .env("LC_ALL", "C");
    let mut process = OwnedProcess::start(spawn)?;
    process.wait_alive_until("an Apache that listens", START, |_| {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    })?;
    Ok(process)
}

/// `apache2` of Debian, `httpd` elsewhere.
fn program() -> &'static str {
    if crate::process::find_program("httpd").is_ok() {
        "httpd"
    } else {
        "apache2"
    }
}

fn modules() -> Result<PathBuf, HarnessError> {
    let missing = |path: &str| HarnessError::FileMissing {
        path: path.into(),
        remedy: "run `make setup`",
    };
    let [debian, ..] = MODULES;
    MODULES
        .iter()
        .map(PathBuf::from)
        .find(|folder| folder.join("mod_auth_gssapi.so").is_file())
        .ok_or_else(|| missing(&format!("{debian}/mod_auth_gssapi.so")))
}

/// The numbers of [`USER`] and its group, where this process is root and has to become it.
fn owner() -> Result<Option<(u32, u32)>, HarnessError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users =
        std::fs::read_to_string("/etc/passwd").map_err(|source| HarnessError::io("read /etc/passwd", source))?;
    let numbers = users.lines().find_map(|line| {
        let mut fields = line.strip_prefix(USER)?.strip_prefix(':')?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    numbers.map(Some).ok_or_else(|| HarnessError::UnexpectedAnswer {
        what: format!("the user {USER}, as whom Apache runs"),
        answer: "no such line in /etc/passwd".to_owned(),
    })
}

fn copy(from: &Path, to: &Path) -> Result<(), HarnessError> {
    let bytes = std::fs::read(from).map_err(|source| HarnessError::io(format!("read {}", from.display()), source))?;
    write(to, &bytes)
}

/// What Apache received, of the JSON that it answered.
#[must_use]
pub fn received(body: &Value) -> Option<Incoming> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (method, target) = (text(body.get("method")?)?, text(body.get("target")?)?);
    let headers = body.get("headers")?.as_array()?.iter();
    let pair = |header: &Value| Some((text(header.get(0)?)?.into_bytes(), text(header.get(1)?)?.into_bytes()));
    Some(Incoming {
        line: format!("{method} {target}"),
        headers: headers.map(pair).collect::<Option<_>>()?,
        complete: true,
        ..Incoming::default()
    })
}

/// Whom Apache saw, of the JSON that it answered.
#[must_use]
pub fn remote_user(body: &Value) -> Option<&str> {
    body.get("remote_user")?.as_str()
}

#[cfg(test)]
mod tests;
