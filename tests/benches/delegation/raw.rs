//! Runs the library alone: `init.c`, compiled when it is needed, on the measured core.

use std::path::PathBuf;

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::raw::{Looped, compile, looped, run};
use kerbridge_tests::delegation::{BRIDGE, DelegationRealm, LEGACY, crowd_member};
use kerbridge_tests::process::Spawn;
use tempfile::TempDir;

/// The compiled loop.
pub(crate) struct RawLoop {
    program: PathBuf,
    folder: TempDir,
    measured: u32,
}

impl RawLoop {
    pub(crate) fn new(measured: u32) -> Result<Self, HarnessError> {
        let folder = tempfile::tempdir().map_err(|source| HarnessError::io("create the raw loop's folder", source))?;
        let program = compile("tests/benches/delegation/init.c", folder.path())?;
        Ok(Self {
            program,
            folder,
            measured,
        })
    }

    /// Gets these users' tickets, and makes so many tokens of them: both are counted.
    pub(crate) fn round(
        &self,
        realm: &DelegationRealm,
        users: impl Iterator<Item = u32>,
        count: u32,
    ) -> Result<[Looped; 2], HarnessError> {
        let users: Vec<String> = users
            .map(|user| realm.principal(&crowd_member(user as usize)))
            .collect();
        let log = run(Spawn::new("taskset", self.folder.path())
            .name("loop")
            .env("KRB5_CONFIG", realm.clients().krb5_config())
            .args(["-c", &self.measured.to_string()])
            .arg(&self.program)
            .arg(realm.keytab(BRIDGE))
            .args([realm.principal(BRIDGE), realm.principal(LEGACY), count.to_string()])
            .args(users))?;
        Ok([looped(&log, "tickets ")?, looped(&log, "tokens ")?])
    }
}
