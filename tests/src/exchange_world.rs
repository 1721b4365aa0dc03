//! Starts a KDC and a broker with nothing before it, and asks the broker as the filter does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::broker::{self, Broker, BrokerSettings};
use crate::error::HarnessError;
use crate::http::{HttpError, Request, Response};
use crate::kdc::{Ccache, Kdc};
use crate::process::{OwnedProcess, Spawn};
use crate::shipped;
use crate::wait::wait_until;
use crate::world::{REALM, SERVICE, lab_program};

/// A user whose tickets are shown.
const USER: &str = "alice";
/// Longest wait for a client that makes tokens.
const TOKENS_WITHIN: Duration = Duration::from_secs(120);
/// Longest wait for a broker whose disk has room again.
const RECOVERS_WITHIN: Duration = Duration::from_secs(20);

/// A realm, a broker and a user's tickets.
#[derive(Debug)]
pub struct ExchangeWorld {
    // Dropped in this order.
    broker: Broker,
    kdc: Kdc,
    tickets: Ccache,
    folder: TempDir,
}

/// What became of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// A token came.
    Token(String),
    /// None came: the status, and the reason.
    Refused(u16, String),
}

impl ExchangeWorld {
    /// Starts all of it; `more` are lines at the end of `kerbridge.toml`.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn start(more: &str) -> Result<Self, HarnessError> {
        let mut world = Self::prepare(more)?;
        world.broker.start()?;
        Ok(world)
    }

    /// The same with a broker that is not started.
    ///
    /// # Errors
    ///
    /// Every [`HarnessError`].
    pub fn prepare(more: &str) -> Result<Self, HarnessError> {
        let folder = tempfile::Builder::new()
            .prefix("kerbridge-")
            .tempdir()
            .map_err(|source| HarnessError::io("create a folder for exchanges", source))?;
        let (kdc, tickets) = realm(folder.path())?;
        let settings = broker_settings(folder.path(), more)?;
        Ok(Self {
            broker: Broker::prepare(folder.path(), &settings)?,
            tickets,
            kdc,
            folder,
        })
    }

    /// The broker, to stop, kill and start it.
    pub fn broker(&mut self) -> &mut Broker {
        &mut self.broker
    }

    /// The realm.
    #[must_use]
    pub fn kdc(&self) -> &Kdc {
        &self.kdc
    }

    /// The folder of broker and keytab.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The service's keys.
    #[must_use]
    pub fn keytab(&self) -> PathBuf {
        keytab_in(self.folder())
    }

    /// A file of the broker's state folder.
    #[must_use]
    pub fn state(&self, name: &str) -> PathBuf {
        self.folder().join("state").join(name)
    }

    /// Takes MIT's replay cache away from a broker that does not run: what it then remembers is in its store.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`].
    pub fn lose_replay_cache(&self) -> Result<(), HarnessError> {
        std::fs::remove_file(self.state("replay")).map_err(|source| HarnessError::io("remove the replay cache", source))
    }

    /// Fresh Negotiate tokens, in base64.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with GSSAPI's words.
    pub fn tokens(&self, count: usize) -> Result<Vec<String>, HarnessError> {
        self.tokens_through(&[], count)
    }

    /// The same from a client whose clock is off, as faketime says it (`+4m`).
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with GSSAPI's words.
    pub fn tokens_at(&self, offset: &str, count: usize) -> Result<Vec<String>, HarnessError> {
        self.tokens_through(&["faketime", "-f", offset], count)
    }

    fn tokens_through(&self, through: &[&str], count: usize) -> Result<Vec<String>, HarnessError> {
        let folder = tempfile::tempdir().map_err(|source| HarnessError::io("create a folder for a client", source))?;
        let lab = lab_program()?;
        let mut command: Vec<OsString> = through.iter().map(OsString::from).collect();
        command.push(lab.into_os_string());
        let (program, args) = command
            .split_first()
            .map_or((OsString::new(), [].as_slice()), |(first, rest)| (first.clone(), rest));
        let mut process = OwnedProcess::start(
            Spawn::new(program, folder.path())
                .name("initiate")
                .args(args)
                .env("KRB5_CONFIG", self.kdc.krb5_config())
                .env("LC_ALL", "C")
                .arg("initiate")
                .arg("--ccache")
                .arg(self.tickets.path())
                .args(["--service", SERVICE, "--count", &count.to_string()]),
        )?;
        let status = process.wait_exit(TOKENS_WITHIN)?;
        if status.success() {
            Ok(process.log().lines().map(str::to_owned).collect())
        } else {
            Err(HarnessError::Exited {
                name: "kerbridge-lab initiate".to_owned(),
                status,
                log: process.log_tail(),
            })
        }
    }

    /// Trades a ticket, on a connection of its own.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Http`], or [`HarnessError::UnexpectedAnswer`] where the answer is no broker's.
    pub fn exchange(&self, token: &str) -> Result<Exchanged, HarnessError> {
        exchange(&self.broker.socket(), token).map_err(|source| HarnessError::Http {
            what: "an exchange".to_owned(),
            source,
        })
    }

    /// Waits until a fresh ticket gives a token again.
    ///
    /// # Errors
    ///
    /// [`HarnessError::TimedOut`], or those of [`ExchangeWorld::tokens`].
    pub fn wait_until_it_exchanges(&self) -> Result<(), HarnessError> {
        let mut tokens = self.tokens(200)?;
        wait_until("a token for a fresh ticket", RECOVERS_WITHIN, || {
            let token = tokens.pop().unwrap_or_default();
            matches!(self.exchange(&token), Ok(Exchanged::Token(_)))
        })
    }
}

/// A realm with a user's tickets; the service's keys are in this folder: [`keytab_in`].
///
/// # Errors
///
/// As [`Kdc::start`].
pub fn realm(folder: &Path) -> Result<(Kdc, Ccache), HarnessError> {
    let kdc = Kdc::start(REALM)?;
    kdc.add_user(USER, "of the lab")?;
    kdc.add_service("HTTP/localhost")?;
    kdc.extract_keytab(&["HTTP/localhost"], &keytab_in(folder))?;
    let tickets = kdc.kinit(USER)?;
    Ok((kdc, tickets))
}

/// Where the service's keys are.
#[must_use]
pub fn keytab_in(folder: &Path) -> PathBuf {
    folder.join("http.keytab")
}

/// A broker with the shipped policy and the keys of this folder; `more` are lines at the end of `kerbridge.toml`.
///
/// # Errors
///
/// As [`shipped::policy`].
pub fn broker_settings(folder: &Path, more: &str) -> Result<BrokerSettings, HarnessError> {
    Ok(BrokerSettings {
        issuer: shipped::ISSUER.to_owned(),
        realms: vec![REALM.to_owned()],
        acceptors: vec![SERVICE.to_owned()],
        keytab: keytab_in(folder),
        policy: shipped::policy_of_a_minter("localhost", REALM)?,
        more: more.to_owned(),
    })
}

/// Trades a ticket at a broker's socket.
///
/// # Errors
///
/// Every [`HttpError`].
pub fn exchange(socket: &Path, token: &str) -> Result<Exchanged, HttpError> {
    broker::ask(socket, &request(token)).map(|response| exchanged(&response))
}

/// The request by which the filter trades a ticket.
#[must_use]
pub fn request(token: &str) -> Request {
    let escaped = token.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let body = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
         &subject_token_type=urn%3Akerbridge%3Atoken-type%3Anegotiate&audience=orders&subject_token={escaped}"
    );
    Request::post("/oauth2/token", body).header("content-type", "application/x-www-form-urlencoded")
}

/// What an answer says.
#[must_use]
pub fn exchanged(response: &Response) -> Exchanged {
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let member = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if response.status == 200 {
        Exchanged::Token(member("access_token"))
    } else {
        Exchanged::Refused(response.status, member("reason"))
    }
}

impl Exchanged {
    /// Refused as a replay.
    #[must_use]
    pub fn replay() -> Self {
        Self::Refused(400, "replay".to_owned())
    }

    /// Refused because it cannot be known whether it is one.
    #[must_use]
    pub fn store_unavailable() -> Self {
        Self::Refused(503, "store_unavailable".to_owned())
    }

    /// The token, where one came.
    #[must_use]
    pub fn token(self) -> Option<String> {
        match self {
            Self::Token(token) => Some(token),
            Self::Refused(..) => None,
        }
    }

    /// Whether a token came.
    #[must_use]
    pub fn is_token(&self) -> bool {
        matches!(self, Self::Token(token) if !token.is_empty())
    }
}
