//! Adds users and services to a realm, changes them, and logs users in.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{Ccache, Kdc};
use crate::error::HarnessError;

impl Kdc {
    /// Adds a user, whose password is kept for [`Kdc::kinit`].
    ///
    /// # Errors
    ///
    /// As [`Kdc::kadmin`].
    pub fn add_user(&self, name: &str, password: &str) -> Result<(), HarnessError> {
        self.write_secret(&password_file(name), password)?;
        self.kadmin(&format!("addprinc -pw \"{password}\" \"{name}\""))
            .map(drop)
    }

    /// Adds many users in one go. Each one's password is made of the name.
    ///
    /// # Errors
    ///
    /// As [`Kdc::kadmin`].
    pub fn add_users(&self, names: &[impl AsRef<str>]) -> Result<(), HarnessError> {
        // So few that the lines fit into a pipe.
        for some in names.chunks(200) {
            let mut lines = String::new();
            for name in some.iter().map(AsRef::as_ref) {
                let password = format!("password of {name}");
                self.write_secret(&password_file(name), &password)?;
                lines.push_str(&format!("addprinc -pw \"{password}\" \"{name}\"\n"));
            }
            self.kadmin(&lines)?;
        }
        Ok(())
    }

    /// Adds a service with a random key: `HTTP/localhost`.
    ///
    /// # Errors
    ///
    /// As [`Kdc::kadmin`].
    pub fn add_service(&self, service: &str) -> Result<(), HarnessError> {
        self.kadmin(&format!("addprinc -randkey \"{service}\"")).map(drop)
    }

    /// Adds the services' present keys to a keytab, which is created where there is none. The keys stay as they are.
    ///
    /// # Errors
    ///
    /// As [`Kdc::kadmin`].
    pub fn extract_keytab(&self, services: &[&str], keytab: &Path) -> Result<(), HarnessError> {
        let services = services
            .iter()
            .map(|service| format!(" \"{service}\""))
            .collect::<String>();
        self.kadmin(&format!("ktadd -norandkey -k \"{}\"{services}", keytab.display()))
            .map(drop)
    }

    /// Gives a service a new key, so that its kvno grows by one. Keytabs do not follow.
    ///
    /// # Errors
    ///
    /// As [`Kdc::kadmin`].
    pub fn rotate_key(&self, service: &str) -> Result<(), HarnessError> {
        self.kadmin(&format!("cpw -randkey \"{service}\"")).map(drop)
    }

    /// Changes a principal by options of `modprinc`: `-maxlife 60s`.
    ///
    /// # Errors
    ///
    /// As [`Kdc::kadmin`].
    pub fn modify(&self, principal: &str, options: &str) -> Result<(), HarnessError> {
        self.kadmin(&format!("modprinc {options} \"{principal}\"")).map(drop)
    }

    /// Logs a user of [`Kdc::add_user`] in, with a cache of its own.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with what `kinit` said.
    pub fn kinit(&self, user: &str) -> Result<Ccache, HarnessError> {
        self.kinit_with(user, &[])
    }

    /// The same with more options of `kinit`: `["-l", "60s"]`.
    ///
    /// # Errors
    ///
    /// As [`Kdc::kinit`].
    pub fn kinit_with(&self, user: &str, options: &[&str]) -> Result<Ccache, HarnessError> {
        let password = std::fs::read_to_string(self.folder.join(password_file(user)))
            .map_err(|source| HarnessError::io(format!("find the password of {user}"), source))?;
        let ccache = tempfile::Builder::new()
            .prefix("ccache-")
            .tempfile_in(&self.folder)
            .and_then(|file| file.into_temp_path().keep().map_err(std::io::Error::from))
            .map_err(|source| HarnessError::io("create a credential cache", source))?;
        let arguments = [OsStr::new("-c"), ccache.as_os_str()];
        let arguments = arguments
            .into_iter()
            .chain(options.iter().map(OsStr::new))
            .chain([OsStr::new(user)]);
        self.run("kinit", arguments, format!("{password}\n").as_bytes())?;
        Ok(Ccache(ccache))
    }

    /// A file that only we can read, from its first byte on.
    fn write_secret(&self, name: &str, text: &str) -> Result<(), HarnessError> {
        let path = self.folder.join(name);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| HarnessError::io(format!("write {}", path.display()), source))
    }
}

/// Where [`Kdc::kinit`] finds a user's password, in the folder.
pub(crate) fn password_file(user: &str) -> String {
    format!("password-of-{}", user.replace('/', "-"))
}
