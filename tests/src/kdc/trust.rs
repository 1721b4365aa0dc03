//! Lets one realm trust another: users of the one get tickets for services of the other.

use std::path::PathBuf;

use super::Kdc;
use crate::error::HarnessError;

impl Kdc {
    /// Trusts the users of another realm, one way: both get the key of `krbtgt/THIS@OTHER`, and clients of this realm's
    /// configuration find the other's KDC.
    ///
    /// # Errors
    ///
    /// As [`Kdc::kadmin`].
    pub fn trust(&self, other: &Self) -> Result<(), HarnessError> {
        let key = format!("krbtgt/{}@{}", self.realm, other.realm);
        for kdc in [self, other] {
            kdc.kadmin(&format!("addprinc -pw \"one password for {key}\" \"{key}\""))?;
        }
        self.know(other)
    }

    /// Tells clients of this realm's configuration where another realm's KDC is.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn know(&self, other: &Self) -> Result<(), HarnessError> {
        let kdc = read(&other.krb5_config)?
            .lines()
            .find(|line| line.starts_with("kdc = "))
            .map(str::to_owned)
            .unwrap_or_default();
        let known = format!("[realms]\n{} = {{\n{kdc}\n}}\n", other.realm);
        self.write("krb5.conf", &format!("{}{known}", read(&self.krb5_config)?))
    }

    /// Another configuration for clients: this realm's with more lines, which its KDC does not read.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn client_config(&self, name: &str, more: &str) -> Result<PathBuf, HarnessError> {
        self.write(name, &format!("{}{more}", read(&self.krb5_config)?))?;
        Ok(self.folder.join(name))
    }
}

fn read(path: &std::path::Path) -> Result<String, HarnessError> {
    std::fs::read_to_string(path).map_err(|source| HarnessError::io(format!("read {}", path.display()), source))
}
