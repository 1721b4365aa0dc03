//! Runs the KDC whose tickets all acceptors are shown, and the brokers that are shown them.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_tests::HarnessError;
use kerbridge_tests::apache::DOCUMENT;
use kerbridge_tests::broker::Broker;
use kerbridge_tests::exchange_world::{self, broker_settings, keytab_in, request};
use kerbridge_tests::http::Request;
use kerbridge_tests::initiator::tokens_in_child;
use kerbridge_tests::kdc::{Ccache, Kdc};
use kerbridge_tests::port;
use kerbridge_tests::world::{SERVICE, lab_program};
use tempfile::TempDir;

/// A realm with a user's tickets and a service's keys.
pub(crate) struct Realm {
    kdc: Kdc,
    tickets: Ccache,
    folder: TempDir,
    measured: u32,
}

/// A broker on the measured core.
pub(crate) struct Running {
    pub(crate) broker: Broker,
    /// The port of its public listener, where it has one.
    pub(crate) port: Option<u16>,
}

/// Tickets that nobody was shown yet, each with an authenticator of its own.
pub(crate) struct Tickets(Vec<String>);

impl Realm {
    /// Starts the KDC; brokers will run on this core.
    pub(crate) fn start(measured: u32) -> Result<Self, HarnessError> {
        let folder =
            tempfile::tempdir().map_err(|source| HarnessError::io("create a folder for the benchmark", source))?;
        let (kdc, tickets) = exchange_world::realm(folder.path())?;
        Ok(Self {
            tickets,
            kdc,
            folder,
            measured,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The service's keys.
    pub(crate) fn keytab(&self) -> PathBuf {
        keytab_in(self.folder())
    }

    /// The krb5.conf under which all acceptors run, as one of the realm's machines has it.
    pub(crate) fn krb5_config(&self) -> &Path {
        self.kdc.krb5_config()
    }

    /// Starts a broker in a folder of this name.
    pub(crate) fn broker(&self, name: &str, store: bool, tcp: bool) -> Result<Running, HarnessError> {
        let folder = self.folder().join(name);
        std::fs::create_dir(&folder).map_err(|source| HarnessError::io("create a broker's folder", source))?;
        let port = if tcp { Some(port::free_tcp()?) } else { None };
        let public = port.map_or_else(String::new, |port| {
            format!("[listen.public]\ntcp = \"127.0.0.1:{port}\"\nclear_text = true\n")
        });
        let settings = broker_settings(self.folder(), &format!("[replay]\nstore = {store}\n{public}"))?;
        let mut broker = Broker::prepare(&folder, &settings)?;
        broker.set_krb5_config(self.krb5_config());
        // From the start: the broker sees how many cores it has.
        broker.start_through(&["taskset", "-c", &self.measured.to_string()]);
        broker.start()?;
        Ok(Running { broker, port })
    }

    /// So many fresh tickets.
    pub(crate) fn tickets(&self, count: u32) -> Result<Tickets, HarnessError> {
        tokens_in_child(&lab_program()?, &self.kdc, &self.tickets, SERVICE, count).map(Tickets)
    }
}

impl Running {
    /// The broker's process.
    pub(crate) fn pid(&self) -> Result<u32, HarnessError> {
        self.broker.pid().ok_or_else(|| HarnessError::UnexpectedAnswer {
            what: "a broker that runs".to_owned(),
            answer: "it does not".to_owned(),
        })
    }
}

impl Tickets {
    /// The requests by which the filter trades them.
    pub(crate) fn exchanges(&self) -> Vec<Vec<u8>> {
        self.0.iter().map(|token| request(token).encode()).collect()
    }

    /// Requests for Apache's document.
    pub(crate) fn requests(&self) -> Vec<Vec<u8>> {
        let target = format!("/{DOCUMENT}");
        let request = |token: &String| Request::get(&target).header("authorization", format!("Negotiate {token}"));
        self.0.iter().map(|token| request(token).encode()).collect()
    }

    /// All of them in bytes, each behind its length, as `accept.c` reads them.
    pub(crate) fn with_lengths(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for token in self.0.iter().filter_map(|token| STANDARD.decode(token).ok()) {
            let length = u32::try_from(token.len()).unwrap_or(u32::MAX);
            bytes.extend(length.to_le_bytes());
            bytes.extend(token);
        }
        bytes
    }
}
