//! Runs a real OpenLDAP server with a tree of its own in a temporary folder: over TLS, in clear text on loopback, and on a
//! socket.
//!
//! What it runs is a copy of `slapd`: where AppArmor confines the program by its path, it may open no files of a test.

use std::fs::Permissions;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::error::HarnessError;
use crate::port;
use crate::process::{OwnedProcess, Spawn, copy_program, find_program};
use crate::tool::{run, write};

/// The password of [`OpenLdap::administrator`], and of whoever a tree gives it to.
pub const PASSWORD: &str = "Correct-horse-7";
/// What FreeIPA, 389 and MIT say of accounts and groups: a schema for [`Tree::schemas`].
pub const ACCOUNTS: &str = include_str!("openldap/accounts.schema");
/// Who binds over the socket by SASL EXTERNAL, whatever user that is, below the suffix.
pub const BY_SOCKET: &str = "cn=by-socket";

/// How long it may take to listen. It takes some tens of milliseconds.
const START: Duration = Duration::from_secs(20);
/// How often other ports are tried.
const ROUNDS: usize = 3;
/// Where Debian and Fedora keep the schemas and the modules.
const SCHEMAS: [&str; 2] = ["/etc/ldap/schema", "/etc/openldap/schema"];
const MODULES: [&str; 2] = ["/usr/lib/ldap", "/usr/lib64/openldap"];

/// What a directory holds, and how it behaves.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// The name of its root: `dc=lab,dc=test`.
    pub suffix: String,
    /// Texts of schemas beside OpenLDAP's own (core, cosine, nis, inetorgperson).
    pub schemas: Vec<String>,
    /// Modules beside the database: `memberof`, `ppolicy`.
    pub modules: Vec<String>,
    /// Lines of `slapd.conf` before its database: `idletimeout 1`, limits.
    pub settings: String,
    /// Lines of the database: overlays, access, indices.
    pub database: String,
    /// The entries, as LDIF, each behind its parent.
    pub entries: String,
}

/// A running server and its folder.
#[derive(Debug)]
pub struct OpenLdap {
    // Dropped in this order: the process, then its folder.
    process: OwnedProcess,
    suffix: String,
    clear_port: u16,
    tls_port: u16,
    certificates: Certificates,
    folder: TempDir,
}

impl OpenLdap {
    /// Fills a database with the tree and serves it.
    ///
    /// # Errors
    ///
    /// [`HarnessError::ProgramMissing`] without the packages, or what `slapd` said of the tree.
    pub fn start(tree: &Tree) -> Result<Self, HarnessError> {
        let folder = tempfile::Builder::new()
            .prefix("kerbridge-slapd-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|source| HarnessError::io("create slapd's folder", source))?;
        let at = |name: &str| folder.path().join(name);
        // For `localhost`, and not for the address at which it listens: a client that looks sees the difference.
        let certificates = Certificates::create_for("127.0.0.2", folder.path())?;
        std::fs::create_dir(at("database")).map_err(|source| HarnessError::io("create slapd's database", source))?;
        copy_program(&find_program("slapd")?, &at("slapd"))?;
        for (number, schema) in tree.schemas.iter().enumerate() {
            write(&at(&format!("{number}.schema")), schema)?;
        }
        write(&at("slapd.conf"), &configuration(folder.path(), tree, &certificates)?)?;
        write(&at("tree.ldif"), &tree.entries)?;
        fill(folder.path())?;
        let mut round = 0_usize;
        let (process, clear_port, tls_port) = loop {
            round = round.saturating_add(1);
            let (clear, tls) = (port::free_tcp()?, port::free_tcp()?);
            match serve(folder.path(), clear, tls) {
                Ok(process) => break (process, clear, tls),
                Err(HarnessError::Exited { log, .. }) if round < ROUNDS && log.contains("in use") => {}
                Err(error) => return Err(error),
            }
        };
        Ok(Self {
            process,
            suffix: tree.suffix.clone(),
            clear_port,
            tls_port,
            certificates,
            folder,
        })
    }

    /// `ldaps://localhost:PORT`, whose certificate [`OpenLdap::authority`] signed.
    #[must_use]
    pub fn ldaps(&self) -> String {
        format!("ldaps://localhost:{}", self.tls_port)
    }

    /// `ldap://localhost:PORT`, in clear text until TLS is asked for.
    #[must_use]
    pub fn ldap(&self) -> String {
        format!("ldap://localhost:{}", self.clear_port)
    }

    /// The port of [`OpenLdap::ldap`], on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.clear_port
    }

    /// `ldapi://` with the socket's path.
    #[must_use]
    pub fn ldapi(&self) -> String {
        ldapi(self.folder.path())
    }

    /// The authority of its certificate, in PEM.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.certificates.authority
    }

    /// Who may do everything, with [`PASSWORD`].
    #[must_use]
    pub fn administrator(&self) -> String {
        administrator(&self.suffix)
    }

    /// Changes the running tree: LDIF with `changetype`.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with what `ldapmodify` said.
    pub fn change(&self, ldif: &str) -> Result<(), HarnessError> {
        let mut command = Command::new(find_program("ldapmodify")?);
        command
            .args(["-x", "-H", &self.ldapi(), "-D", &self.administrator(), "-w", PASSWORD])
            .env("LDAPNOINIT", "1");
        run("ldapmodify", &mut command, ldif.as_bytes()).map(drop)
    }

    /// What it has logged so far: connections, requests and results.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its process's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The process, to be stopped or frozen.
    pub fn process(&mut self) -> &mut OwnedProcess {
        &mut self.process
    }

    /// Serves the same tree at the same places again, once its process has ended.
    ///
    /// # Errors
    ///
    /// As [`OpenLdap::start`].
    pub fn restart(&mut self) -> Result<(), HarnessError> {
        self.process.terminate()?;
        self.process = serve(self.folder.path(), self.clear_port, self.tls_port)?;
        Ok(())
    }
}

fn administrator(suffix: &str) -> String {
    format!("cn=administrator,{suffix}")
}

fn ldapi(folder: &Path) -> String {
    let path = folder.join("ldapi").display().to_string();
    format!("ldapi://{}", path.replace('/', "%2F"))
}

fn first_folder(of: &[&str]) -> Result<PathBuf, HarnessError> {
    let found = of.iter().map(PathBuf::from).find(|folder| folder.is_dir());
    found.ok_or_else(|| HarnessError::FileMissing {
        path: of.first().map(PathBuf::from).unwrap_or_default(),
        remedy: "run `make setup`",
    })
}

fn configuration(folder: &Path, tree: &Tree, certificates: &Certificates) -> Result<String, HarnessError> {
    let (at, suffix) = (folder.display(), &tree.suffix);
    let schemas = first_folder(&SCHEMAS)?;
    let mut lines: Vec<String> = ["core", "cosine", "nis", "inetorgperson"]
        .map(|name| format!("include {}/{name}.schema", schemas.display()))
        .into();
    lines.extend((0..tree.schemas.len()).map(|number| format!("include {at}/{number}.schema")));
    lines.push(format!("modulepath {}", first_folder(&MODULES)?.display()));
    let modules = ["back_mdb"].into_iter().chain(tree.modules.iter().map(String::as_str));
    lines.extend(modules.map(|module| format!("moduleload {module}")));
    lines.extend(
        [
            ("TLSCACertificateFile", &certificates.authority),
            ("TLSCertificateFile", &certificates.certificate),
            ("TLSCertificateKeyFile", &certificates.private_key),
        ]
        .map(|(setting, path)| format!("{setting} {}", path.display())),
    );
    let peer = "gidNumber=[0-9]+[+]uidNumber=[0-9]+,cn=peercred,cn=external,cn=auth";
    lines.push(format!(
        "threads 4\n\
         authz-regexp \"^{peer}$\" \"{BY_SOCKET},{suffix}\"\n\
         {}\n\
         database mdb\n\
         suffix \"{suffix}\"\n\
         rootdn \"{}\"\n\
         rootpw {PASSWORD}\n\
         directory {at}/database\n\
         dbnosync\n\
         index objectClass,entryUUID eq\n\
         {}\n",
        tree.settings,
        administrator(suffix),
        tree.database
    ));
    Ok(lines.join("\n"))
}

/// Fills the database from `tree.ldif`, before anybody serves it.
fn fill(folder: &Path) -> Result<(), HarnessError> {
    let mut command = Command::new(folder.join("slapd"));
    command
        .args(["-Tadd", "-q", "-f"])
        .arg(folder.join("slapd.conf"))
        .arg("-l")
        .arg(folder.join("tree.ldif"));
    run("slapadd", &mut command, b"").map(drop)
}

fn serve(folder: &Path, clear: u16, tls: u16) -> Result<OwnedProcess, HarnessError> {
    let places = format!("ldap://127.0.0.1:{clear} ldaps://127.0.0.1:{tls} {}", ldapi(folder));
    let spawn = Spawn::new(folder.join("slapd"), folder)
        // With a level of debugging it stays in the foreground.
        .args(["-d", "stats", "-h", &places, "-f"])
        .arg(folder.join("slapd.conf"));
    let mut process = OwnedProcess::start(spawn)?;
    // It says that it starts, and listens a little later.
    let socket = folder.join("ldapi");
    let tcp = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
    process.wait_alive_until("an OpenLDAP server that listens", START, |process| {
        process.log().contains("slapd starting") && tcp(clear) && tcp(tls) && UnixStream::connect(&socket).is_ok()
    })?;
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_served_and_changed_and_ends_with_its_owner() {
        let tree = Tree {
            suffix: "dc=lab,dc=test".to_owned(),
            schemas: vec![ACCOUNTS.to_owned()],
            modules: vec!["memberof".to_owned(), "ppolicy".to_owned()],
            database: "overlay memberof".to_owned(),
            entries: "dn: dc=lab,dc=test\nobjectClass: domain\ndc: lab\n".to_owned(),
            ..Tree::default()
        };
        let mut ldap = OpenLdap::start(&tree).unwrap();
        let add = "dn: ou=people,dc=lab,dc=test\nchangetype: add\nobjectClass: organizationalUnit\nou: people\n";
        ldap.change(add).unwrap();
        let twice = ldap.change(add).unwrap_err().to_string();
        assert!(twice.contains("Already exists"), "{twice}");
        ldap.restart().unwrap();
        assert!(ldap.change(add).is_err(), "it is kept");
        let port = ldap.port();
        drop(ldap);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
