//! Gives a KDC resource-based delegation, which MIT's has since 1.18 and none of the databases that come with it: a module of
//! the tests' own in front of the directory's says yes where a service's attribute names who asks. All else is MIT's.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Kdc;
use crate::error::HarnessError;

const SOURCE: &str = include_str!("resource_based.c");
/// Where Debian and Fedora keep the directory's module.
const DIRECTORY_MODULES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/krb5/plugins/kdb/kldap.so",
    "/usr/lib/aarch64-linux-gnu/krb5/plugins/kdb/kldap.so",
    "/usr/lib64/krb5/plugins/kdb/kldap.so",
];

impl Kdc {
    /// Serves its realm, which is in a directory, by that module from now on.
    ///
    /// # Errors
    ///
    /// As [`Kdc::start`]; [`HarnessError::Exited`] with what the compiler said.
    pub fn take_resource_based(&mut self) -> Result<(), HarnessError> {
        self.stop()?;
        let modules = self.folder.join("modules");
        std::fs::create_dir(&modules).map_err(|source| HarnessError::io("create a folder of modules", source))?;
        compile(&modules)?;
        let path = self.folder.join("kdc.conf");
        let conf = std::fs::read_to_string(&path).map_err(|source| HarnessError::io("read kdc.conf", source))?;
        let conf = conf
            .replace(
                "[dbmodules]\n",
                &format!("[dbmodules]\ndb_module_dir = {}\n", modules.display()),
            )
            .replace("db_library = kldap", "db_library = resource_based");
        self.write("kdc.conf", &conf)?;
        self.start_again()
    }

    /// Says at a service who may act for users towards it.
    ///
    /// # Errors
    ///
    /// As [`Kdc::kadmin`].
    pub fn let_act(&self, service: &str, delegate: &str) -> Result<(), HarnessError> {
        let delegate = format!("{delegate}@{}", self.realm());
        self.kadmin(&format!("setstr \"{service}\" delegates \"{delegate}\"\n"))
            .map(drop)
    }

    /// Takes that back.
    ///
    /// # Errors
    ///
    /// As [`Kdc::kadmin`].
    pub fn let_nobody_act(&self, service: &str) -> Result<(), HarnessError> {
        self.kadmin(&format!("delstr \"{service}\" delegates\n")).map(drop)
    }
}

fn compile(folder: &Path) -> Result<(), HarnessError> {
    let source = folder.join("resource_based.c");
    std::fs::write(&source, SOURCE).map_err(|source| HarnessError::io("write the module's source", source))?;
    let directory = DIRECTORY_MODULES.iter().find(|path| Path::new(path).is_file());
    let directory = directory.ok_or_else(|| HarnessError::FileMissing {
        path: PathBuf::from(DIRECTORY_MODULES[0]),
        remedy: "install the package krb5-kdc-ldap",
    })?;
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(folder.join("resource_based.so"))
        .arg(format!("-DDIRECTORY_MODULE=\"{directory}\""))
        .arg(&source)
        .args(["-lkdb5", "-lkrb5"])
        .output()
        .map_err(|source| HarnessError::io("run cc", source))?;
    if output.status.success() {
        return Ok(());
    }
    Err(HarnessError::Exited {
        name: "cc".to_owned(),
        status: output.status,
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
