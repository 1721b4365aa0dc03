//! Runs the library alone: `accept.c`, compiled when it is needed, on the measured core.

use std::path::PathBuf;
use std::time::Duration;

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::machine::output;
use kerbridge_tests::bench::record::Round;
use kerbridge_tests::bench::wrk::counted;
use kerbridge_tests::process::{OwnedProcess, Spawn};
use kerbridge_tests::shipped::repository;
use kerbridge_tests::world::SERVICE;

use crate::realm::{Realm, Tickets};

const WITHIN: Duration = Duration::from_secs(120);

/// The compiled loop and its replay cache.
pub(crate) struct RawLoop {
    program: PathBuf,
    folder: PathBuf,
    keytab: PathBuf,
    krb5_config: PathBuf,
    measured: u32,
}

impl RawLoop {
    pub(crate) fn new(realm: &Realm, measured: u32) -> Result<Self, HarnessError> {
        let folder = realm.folder().join("raw");
        std::fs::create_dir(&folder).map_err(|source| HarnessError::io("create the raw loop's folder", source))?;
        let program = folder.join("accept");
        let flags = output("krb5-config", &["--cflags", "--libs", "gssapi"])?;
        let mut compiler = OwnedProcess::start(
            Spawn::new("cc", &folder)
                .args(["-O2", "-o"])
                .arg(&program)
                .arg(repository().join("tests/benches/exchange/accept.c"))
                .args(flags.split_whitespace()),
        )?;
        succeed(&mut compiler)?;
        Ok(Self {
            program,
            folder,
            keytab: realm.keytab(),
            krb5_config: realm.krb5_config().to_owned(),
            measured,
        })
    }

    /// Accepts these tickets.
    pub(crate) fn round(&self, tickets: &Tickets) -> Result<Round, HarnessError> {
        let tokens = self.folder.join("tokens");
        std::fs::write(&tokens, tickets.with_lengths())
            .map_err(|source| HarnessError::io("write the tokens", source))?;
        let mut process = OwnedProcess::start(
            Spawn::new("taskset", &self.folder)
                .name("accept")
                .env("KRB5_CONFIG", &self.krb5_config)
                .args(["-c", &self.measured.to_string()])
                .arg(&self.program)
                .arg(&self.keytab)
                .arg(format!("file2:{}", self.folder.join("replay").display()))
                .arg(SERVICE)
                .arg(&tokens),
        )?;
        succeed(&mut process)?;
        let log = process.log();
        let unread = || HarnessError::UnexpectedAnswer {
            what: "the raw loop".to_owned(),
            answer: log.clone(),
        };
        let counted = counted(&log).ok_or_else(unread)?;
        let cpu = log
            .split("cpu=")
            .nth(1)
            .and_then(|number| number.trim().parse::<f64>().ok());
        Ok(Round {
            cpu_microseconds: cpu.ok_or_else(unread)? / counted.requests as f64,
            beside_microseconds: 0.0,
            counted,
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
