//! Somebody's own Envoy, broker and KDC: asked as any client asks, and not changed.

use std::ffi::OsString;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::capture::without_runs;
use super::kdc_relay::KdcRelay;
use super::versions;
use crate::curl::Curl;
use crate::error::HarnessError;
use crate::process::find_program;
use crate::report::model::{self, Setup};

/// Where it is, as its owner says.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// `https://HOST[:PORT]` of Envoy.
    pub origin: String,
    /// A path that a ticket opens.
    pub path: String,
    /// A path of another audience.
    pub other_path: Option<String>,
    /// The audience of `path`.
    pub audience: Option<String>,
    /// The authority of Envoy's certificate.
    pub authority: Option<PathBuf>,
    /// The realm of the ticket.
    pub realm: Option<String>,
    /// The service principal of Envoy.
    pub service: Option<String>,
    /// `HOST[:PORT]` of a KDC.
    pub kdc: Option<String>,
    /// The mesh listener of a broker: `unix:PATH` or `http://HOST:PORT`.
    pub broker: Option<String>,
}

/// The port of a KDC (RFC 4120 §7.2.1).
const KERBEROS: &str = "88";
/// The copy of the credential cache.
const TICKETS: &str = "tickets";

/// Where to ask, and as whom.
pub struct Yours {
    /// `https://HOST[:PORT]` of Envoy.
    pub origin: String,
    /// A path that a ticket opens.
    pub path: String,
    /// A path of another audience, which a token for `path` must not open.
    pub other_path: Option<String>,
    /// The audience of `path`, where it is known.
    pub audience: Option<String>,
    /// The authority of Envoy's certificate, where the system does not trust it.
    pub authority: Option<PathBuf>,
    /// `KRB5_CONFIG` and `KRB5CCNAME` of the client.
    pub environment: Vec<(String, OsString)>,
    /// Whose ticket it is, where there is one.
    pub principal: Option<String>,
    /// Why there is no ticket, and what to do.
    pub no_ticket: Option<(String, String)>,
    /// What stands before the KDC, where it was named.
    pub relay: Option<KdcRelay>,
}

impl Yours {
    /// Looks for the ticket, for the KDC and for the broker. What is missing is told, and no reason to stop: sentences of what
    /// will not be seen.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Io`] where `folder` cannot be written to, [`HarnessError::ProgramMissing`] without klist.
    pub fn find(place: &Place, folder: &Path) -> Result<(Self, Vec<String>), HarnessError> {
        let mut notices = vec![
            "Between Envoy, its broker and the service nothing was captured: that would change your Envoy.".to_owned(),
        ];
        let mut yours = Self {
            origin: place.origin.trim_end_matches('/').to_owned(),
            path: place.path.clone(),
            other_path: place.other_path.clone(),
            audience: place.audience.clone(),
            authority: place.authority.clone(),
            environment: Vec::new(),
            principal: None,
            no_ticket: None,
            relay: None,
        };
        let (principal, complaint) = principal(folder)?;
        yours.principal = principal;
        if let Some(complaint) = complaint {
            let remedy = "kinit USER, or name the cache in KRB5CCNAME";
            yours.no_ticket = Some((format!("there is no ticket: {complaint}"), remedy.to_owned()));
        }
        yours.look_at_realm(place);
        yours.copy_cache(folder)?;
        match &place.kdc {
            Some(kdc) => notices.extend(yours.stand_before(kdc, folder)?),
            None => notices.push("What the KDC was asked was not captured: name it with --kdc HOST[:PORT].".to_owned()),
        }
        if yours.no_ticket.is_none() {
            yours.look_for_service(place, folder)?;
        }
        if let Some(broker) = &place.broker {
            notices.push(ready(broker));
        }
        if let Some((why, remedy)) = &yours.no_ticket {
            notices.push(format!("Nothing that needs a ticket was tried: {why}. {remedy}"));
        }
        Ok((yours, notices))
    }

    fn look_at_realm(&mut self, place: &Place) {
        let own = self
            .principal
            .as_deref()
            .and_then(|name| name.rsplit_once('@'))
            .map(|(_, realm)| realm);
        if let (Some(own), Some(wanted)) = (own, &place.realm)
            && own != wanted
        {
            let why = format!("the ticket is of the realm {own}, and --realm says {wanted}");
            self.no_ticket = Some((why, format!("kinit USER@{wanted}, or --realm {own}")));
        }
    }

    /// Tickets that are got meanwhile go into a copy, where the cache is a file.
    fn copy_cache(&mut self, folder: &Path) -> Result<(), HarnessError> {
        let named = std::env::var("KRB5CCNAME").unwrap_or_default();
        let file = match named
            .strip_prefix("FILE:")
            .or_else(|| named.starts_with('/').then_some(named.as_str()))
        {
            Some(file) => PathBuf::from(file),
            None if named.is_empty() => PathBuf::from(format!("/tmp/krb5cc_{}", rustix::process::geteuid().as_raw())),
            None => return Ok(()),
        };
        if !file.is_file() {
            return Ok(());
        }
        let copy = folder.join(TICKETS);
        std::fs::copy(&file, &copy).map_err(|source| HarnessError::io("copy your credential cache", source))?;
        let mut name = OsString::from("FILE:");
        name.push(copy);
        self.environment.push(("KRB5CCNAME".to_owned(), name));
        Ok(())
    }

    /// Has this process's clients ask the KDC through a relay, by a krb5.conf of their own before yours.
    fn stand_before(&mut self, kdc: &str, folder: &Path) -> Result<Option<String>, HarnessError> {
        let Some(realm) = self
            .principal
            .as_deref()
            .and_then(|name| name.rsplit_once('@'))
            .map(|(_, realm)| realm)
        else {
            return Ok(Some(
                "What the KDC was asked was not captured: without a ticket its realm is not known.".to_owned(),
            ));
        };
        let with_port = if kdc.contains(':') {
            kdc.to_owned()
        } else {
            format!("{kdc}:{KERBEROS}")
        };
        let address = with_port
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next());
        let listens = address.filter(|address| std::net::TcpStream::connect_timeout(address, PATIENCE).is_ok());
        let Some(address) = listens else {
            return Ok(Some(format!(
                "What the KDC was asked was not captured: nobody answers over TCP at {with_port}; look at --kdc."
            )));
        };
        let relay = match KdcRelay::start(address) {
            Ok(relay) => relay,
            Err(error) => {
                return Ok(Some(format!(
                    "What the KDC was asked was not captured: {}. The relay needs a port of 127.0.0.1; the scenarios ask the KDC without it.",
                    without_runs(&error.to_string())
                )));
            }
        };
        let config = folder.join("krb5.conf");
        let text = format!(
            "[libdefaults]\nudp_preference_limit = 1\n[realms]\n{realm} = {{\nkdc = {}\n}}*\n",
            relay.address()
        );
        std::fs::write(&config, text).map_err(|source| HarnessError::io("write a krb5.conf", source))?;
        let theirs = std::env::var_os("KRB5_CONFIG").unwrap_or_else(|| "/etc/krb5.conf".into());
        let mut both = config.into_os_string();
        both.push(":");
        both.push(theirs);
        self.environment.push(("KRB5_CONFIG".to_owned(), both));
        self.relay = Some(relay);
        Ok(None)
    }

    /// Whether a ticket for Envoy's service is to be had.
    fn look_for_service(&mut self, place: &Place, folder: &Path) -> Result<(), HarnessError> {
        let host = self
            .origin
            .split_once("://")
            .map_or(self.origin.as_str(), |(_, rest)| rest);
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let service = place.service.clone().unwrap_or_else(|| format!("HTTP/{host}"));
        // What it gets is put aside: the scenarios are to be seen asking.
        let aside = folder.join("tickets-tried");
        let mut environment = self.environment.clone();
        for (_, cache) in environment.iter_mut().filter(|(name, _)| name == "KRB5CCNAME") {
            std::fs::copy(folder.join(TICKETS), &aside)
                .map_err(|source| HarnessError::io("copy your credential cache", source))?;
            cache.clone_from(&aside.clone().into_os_string());
        }
        let output = Command::new(find_program("kvno")?)
            .arg(&service)
            .envs(environment)
            .env("LC_ALL", "C")
            .output()
            .map_err(|source| HarnessError::io("run kvno", source))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            self.no_ticket = Some((
                format!("no ticket for {service} is to be had: {}", without_runs(&said)),
                "register the service principal (docs/active-directory.md, docs/mit-kerberos.md), or name it with --spn; for another realm, [domain_realm] in krb5.conf"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// A request without credentials.
    #[must_use]
    pub fn curl(&self, path: &str) -> Curl {
        let curl = Curl::new(format!("{}{path}", self.origin));
        match &self.authority {
            Some(authority) => curl.trusting(authority),
            None => curl,
        }
    }

    /// One with the ticket.
    #[must_use]
    pub fn curl_with_ticket(&self, path: &str) -> Curl {
        self.curl(path).negotiate(self.environment.clone())
    }

    pub(super) fn setup(&self) -> Setup {
        let programs = [("MIT krb5", "klist", "-V"), ("curl", "curl", "--version")];
        Setup {
            kdc: model::Kdc::Yours,
            brokers: 0,
            store: model::Store::Yours,
            yours: true,
            broken: None,
            versions: versions::of(programs.map(|(name, program, option)| (name, Path::new(program), option))),
        }
    }
}

/// How long somebody may take to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

/// Whose tickets the cache holds, and what is wrong with them.
fn principal(folder: &Path) -> Result<(Option<String>, Option<String>), HarnessError> {
    let klist = |arguments: &[&str]| {
        let output = Command::new(find_program("klist")?)
            .args(arguments)
            .env("LC_ALL", "C")
            .current_dir(folder)
            .output();
        output.map_err(|source| HarnessError::io("run klist", source))
    };
    let shown = klist(&[])?;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let principal = text.lines().find_map(|line| line.strip_prefix("Default principal: "));
    let Some(principal) = principal else {
        let complaint = String::from_utf8_lossy(&shown.stderr).trim().to_owned();
        return Ok((None, Some(complaint)));
    };
    let is_good = klist(&["-s"])?.status.success();
    let complaint = (!is_good).then(|| format!("the ticket of {principal} has expired"));
    Ok((Some(principal.to_owned()), complaint))
}

/// Whether a broker says that it is ready.
fn ready(place: &str) -> String {
    let (url, socket) = match place.strip_prefix("unix:") {
        Some(socket) => ("http://kerbridge".to_owned(), Some(socket)),
        None => (place.trim_end_matches('/').to_owned(), None),
    };
    let mut curl = Curl::new(format!("{url}/readyz")).arg("--connect-timeout").arg("3");
    if let Some(socket) = socket {
        curl = curl.arg("--unix-socket").arg(socket);
    }
    match curl.send() {
        Ok(answer) if answer.status == 200 => format!("The broker at {place} says that it is ready."),
        Ok(answer) if answer.status > 0 => {
            let text = answer.text();
            format!(
                "The broker at {place} is not ready: {} {}",
                answer.status,
                without_runs(text.trim())
            )
        }
        Ok(answer) => format!(
            "The broker at {place} was not asked: {}; the socket is open to its group, see docs/deployment.md.",
            without_runs(&answer.complaint)
        ),
        Err(error) => format!(
            "The broker at {place} was not asked: {}",
            without_runs(&error.to_string())
        ),
    }
}
