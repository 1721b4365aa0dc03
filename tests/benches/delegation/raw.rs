//! Runs the library alone: `init.c`, compiled when it is needed, on the measured core.

use std::time::Duration;

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::machine::output;
use kerbridge_tests::bench::wrk::{Counted, counted};
use kerbridge_tests::delegation::{BRIDGE, DelegationRealm, LEGACY, crowd_member};
use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::shipped::repository;
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(120);

/// The compiled loop.
pub(crate) struct RawLoop {
    folder: TempDir,
    measured: u32,
}

/// What was counted, and the loop's own processor time, in microseconds for each.
#[derive(Clone, Copy)]
pub(crate) struct Looped {
    pub(crate) counted: Counted,
    pub(crate) cpu: f64,
}

impl RawLoop {
    pub(crate) fn new(measured: u32) -> Result<Self, HarnessError> {
        let folder = tempfile::tempdir().map_err(|source| HarnessError::io("create the raw loop's folder", source))?;
        let flags = output("krb5-config", &["--cflags", "--libs", "gssapi"])?;
        let mut compiler = OwnedProcess::start(
            Spawn::new("cc", folder.path())
                .args(["-O2", "-o"])
                .arg(folder.path().join("init"))
                .arg(repository().join("tests/benches/delegation/init.c"))
                .args(flags.split_whitespace()),
        )?;
        succeed(&mut compiler)?;
        Ok(Self { folder, measured })
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
        let mut process = OwnedProcess::start(
            Spawn::new("taskset", self.folder.path())
                .name("loop")
                .env("KRB5_CONFIG", realm.clients().krb5_config())
                .args(["-c", &self.measured.to_string()])
                .arg(self.folder.path().join("init"))
                .arg(realm.keytab(BRIDGE))
                .args([realm.principal(BRIDGE), realm.principal(LEGACY), count.to_string()])
                .args(users),
        )?;
        succeed(&mut process)?;
        let log = process.log();
        let looped = |prefix: &str| {
            let line = log.lines().find_map(|line| line.strip_prefix(prefix))?;
            let counted = counted(line)?;
            let cpu: f64 = line.split("cpu=").nth(1)?.trim().parse().ok()?;
            Some(Looped {
                counted,
                cpu: cpu / counted.requests as f64,
            })
        };
        let both = || Some([looped("tickets ")?, looped("tokens ")?]);
        both().ok_or_else(|| HarnessError::UnexpectedAnswer {
            what: "the raw loop".to_owned(),
            answer: log.clone(),
        })
    }
}

fn succeed(process: &mut OwnedProcess) -> Result<(), HarnessError> {
    let status = process.wait_exit(WITHIN)?;
    if status.success() {
        return Ok(());
    }
    Err(HarnessError::Exited {
        name: process.name().to_owned(),
        status,
        log: process.log_tail(),
    })
}
