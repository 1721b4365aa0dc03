//! Runs the library alone: `accept.c`, compiled when it is needed, on the measured core.

use std::path::PathBuf;

use kerbridge_tests::HarnessError;
use kerbridge_tests::bench::raw::{Looped, compile, looped, run};
use kerbridge_tests::bench::record::Round;
use kerbridge_tests::process::Spawn;
use kerbridge_tests::world::SERVICE;

use crate::realm::{Realm, Tickets};

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
        let program = compile("tests/benches/exchange/accept.c", &folder)?;
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
        let log = run(Spawn::new("taskset", &self.folder)
            .name("accept")
            .env("KRB5_CONFIG", &self.krb5_config)
            .args(["-c", &self.measured.to_string()])
            .arg(&self.program)
            .arg(&self.keytab)
            .arg(format!("file2:{}", self.folder.join("replay").display()))
            .arg(SERVICE)
            .arg(&tokens))?;
        let Looped { counted, cpu } = looped(&log, "")?;
        Ok(Round {
            cpu_microseconds: cpu,
            beside_microseconds: 0.0,
            counted,
        })
    }
}
