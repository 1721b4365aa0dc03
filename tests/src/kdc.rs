//! Runs a real MIT KDC with a realm of its own in a temporary folder, and speaks to it with MIT's own tools.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use crate::error::HarnessError;
use crate::openldap::OpenLdap;
use crate::port;
use crate::process::{OwnedProcess, Spawn, find_program};
use crate::tool;

mod configuration;
mod directory;
mod principals;
mod resource_based;
mod trust;

pub(crate) use principals::password_file;

/// How long a KDC may take to listen. It takes some tens of milliseconds.
const START: Duration = Duration::from_secs(20);

const MASTER_PASSWORD: &str = "master password of a realm that lives for one test";

/// How often another port is tried.
const ROUNDS: usize = 3;

/// A realm: its database, its two configuration files, and the KDC that serves it.
#[derive(Debug)]
pub struct Kdc {
    realm: String,
    folder: PathBuf,
    krb5_config: PathBuf,
    kdc_profile: PathBuf,
    owned: Option<Owned>,
}

/// What ends with its owner: first the KDC, then the directory that it asks, then their folder.
#[derive(Debug)]
struct Owned {
    process: OwnedProcess,
    directory: Option<OpenLdap>,
    _folder: TempDir,
}

/// Where a KDC keeps its realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Database<'a> {
    /// In a file, which holds no targets of delegation.
    Db2,
    /// In a directory, by its URL.
    Ldap(&'a str),
}

/// A file with one user's tickets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ccache(PathBuf);

impl Ccache {
    /// The file, as `KRB5CCNAME` or `kinit -c` take it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Kdc {
    /// Creates a realm (`LAB.TEST`) and serves it on a free loopback port. It has no principals but its own.
    ///
    /// # Errors
    ///
    /// [`HarnessError::ProgramMissing`] without the packages, or what the tools said.
    pub fn start(realm: &str) -> Result<Self, HarnessError> {
        Self::create(realm, None)
    }

    /// The same with the realm in a directory of its own, which can hold who may delegate to whom
    /// ([`Kdc::allow_delegation`]): a file cannot, and a KDC on one refuses all delegation.
    ///
    /// # Errors
    ///
    /// As [`Kdc::start`].
    pub fn start_with_directory(realm: &str) -> Result<Self, HarnessError> {
        Self::create(realm, Some(directory::start()?))
    }

    fn create(realm: &str, directory: Option<OpenLdap>) -> Result<Self, HarnessError> {
        let folder = tempfile::Builder::new()
            .prefix("kerbridge-kdc-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|source| HarnessError::io("create the KDC's folder", source))?;
        let mut kdc = Self::at(realm, folder.path());
        kdc.write("realm", realm)?;
        let url = directory.as_ref().map(OpenLdap::ldapi);
        let database = url.as_deref().map_or(Database::Db2, Database::Ldap);
        let mut round = 0_usize;
        let process = loop {
            round = round.saturating_add(1);
            kdc.configure(port::free_tcp_and_udp()?, database)?;
            if round == 1 {
                kdc.create_database(database)?;
            }
            match kdc.serve() {
                Ok(process) => break process,
                Err(HarnessError::Exited { log, .. }) if round < ROUNDS && log.contains("in use") => {}
                Err(error) => return Err(error),
            }
        };
        kdc.owned = Some(Owned {
            process,
            directory,
            _folder: folder,
        });
        Ok(kdc)
    }

    fn create_database(&self, database: Database<'_>) -> Result<(), HarnessError> {
        let stash = self.folder.join("stash").to_string_lossy().into_owned();
        let realm = ["-s", "-r", self.realm(), "-P", MASTER_PASSWORD];
        match database {
            Database::Db2 => self.run("kdb5_util", ["create"].into_iter().chain(realm), b""),
            Database::Ldap(_) => {
                let options = ["create", "-subtrees", directory::ROOT, "-sf", &stash];
                self.run("kdb5_ldap_util", options.into_iter().chain(realm), b"")
            }
        }
        .map(drop)
    }

    /// A KDC that another process owns, by its [`Kdc::folder`]: for a child of the test that started it.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] when the folder is none of a KDC.
    pub fn attach(folder: &Path) -> Result<Self, HarnessError> {
        let realm = std::fs::read_to_string(folder.join("realm"))
            .map_err(|source| HarnessError::io(format!("find a realm in {}", folder.display()), source))?;
        Ok(Self::at(&realm, folder))
    }

    fn at(realm: &str, folder: &Path) -> Self {
        Self {
            realm: realm.to_owned(),
            folder: folder.to_owned(),
            krb5_config: folder.join("krb5.conf"),
            kdc_profile: folder.join("kdc.conf"),
            owned: None,
        }
    }

    /// The realm's name.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The folder with everything that belongs to the realm; a test may add files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The clients' configuration, for `KRB5_CONFIG`. It knows this realm only, asks no DNS and maps `localhost` to it.
    #[must_use]
    pub fn krb5_config(&self) -> &Path {
        &self.krb5_config
    }

    /// The KDC's own configuration, for `KRB5_KDC_PROFILE`: what `kadmin.local` needs beside `KRB5_CONFIG`.
    #[must_use]
    pub fn kdc_profile(&self) -> &Path {
        &self.kdc_profile
    }

    /// What the KDC has logged so far; nothing where another process owns it.
    #[must_use]
    pub fn log(&self) -> String {
        self.owned.as_ref().map(|owned| owned.process.log()).unwrap_or_default()
    }

    /// The processes that are the KDC: itself, and its directory where it has one; none where another process owns it.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let Some(owned) = &self.owned else {
            return Vec::new();
        };
        let directory = owned.directory.as_ref().map(OpenLdap::pid);
        std::iter::once(owned.process.pid()).chain(directory).collect()
    }

    /// How many requests it has answered so far, of both kinds, refused ones too; 0 where another process owns it.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.log().matches("_REQ (").count()
    }

    /// Runs lines of `kadmin.local`, in one process.
    ///
    /// # Errors
    ///
    /// [`HarnessError::UnexpectedAnswer`] when one of them failed; those before it are done.
    pub fn kadmin(&self, lines: &str) -> Result<String, HarnessError> {
        let output = self.run("kadmin.local", ["-r", self.realm()], format!("{lines}\n").as_bytes())?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        // It reads on after a line that failed, and its exit status tells of none.
        let failed =
            |line: &&str| line.contains(" while ") || line.contains("Unknown request") || line.contains("usage:");
        if let Some(line) = complaint.lines().find(failed) {
            let what = format!("kadmin.local {lines:?}");
            return Err(HarnessError::UnexpectedAnswer {
                what,
                answer: line.to_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Ends the KDC before its owner does: tickets that were issued stay good, new ones are not to be had.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`] when it does not end.
    pub fn stop(&mut self) -> Result<(), HarnessError> {
        match &mut self.owned {
            Some(owned) => owned.process.terminate().map(drop),
            None => Ok(()),
        }
    }

    /// Serves the realm again at the same port, after [`Kdc::stop`]. What was logged before is gone.
    ///
    /// # Errors
    ///
    /// As [`Kdc::start`].
    pub fn start_again(&mut self) -> Result<(), HarnessError> {
        let process = self.serve()?;
        if let Some(owned) = &mut self.owned {
            owned.process = process;
        }
        Ok(())
    }

    fn serve(&self) -> Result<OwnedProcess, HarnessError> {
        let spawn = Spawn::new("krb5kdc", &self.folder)
            .args(["-n", "-r", self.realm()])
            .envs(self.environment());
        let mut process = OwnedProcess::start(spawn)?;
        process.wait_for_log("commencing operation", START)?;
        Ok(process)
    }

    fn run(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &[u8],
    ) -> Result<Output, HarnessError> {
        let mut command = Command::new(find_program(program)?);
        command
            .args(arguments)
            .envs(self.environment())
            .env_remove("KRB5CCNAME");
        tool::run(program, &mut command, input)
    }

    /// The environment of every tool: this realm, and messages in English, since some are read here.
    fn environment(&self) -> [(&'static str, &OsStr); 3] {
        [
            ("KRB5_CONFIG", self.krb5_config.as_os_str()),
            ("KRB5_KDC_PROFILE", self.kdc_profile.as_os_str()),
            ("LC_ALL", OsStr::new("C")),
        ]
    }

    fn configure(&self, port: u16, database: Database<'_>) -> Result<(), HarnessError> {
        let (realm, folder) = (self.realm(), self.folder());
        self.write("krb5.conf", &configuration::krb5_conf(realm, folder, port))?;
        self.write("kdc.conf", &configuration::kdc_conf(realm, folder, port, database))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), HarnessError> {
        tool::write(&self.folder.join(name), text)
    }
}

#[cfg(test)]
mod tests;
