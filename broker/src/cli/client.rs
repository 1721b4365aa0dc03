//! Reads what the commands of people have in common, and says by the exit code whose fault it is where they get no token.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, Output, output};
use crate::client;
use crate::client::settings::{self, Said, Settings, Wanted};
use crate::client::trouble::{Kind, Trouble};

/// For which service, and where what is known of it stands.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The address that you want to use; its service says where its tokens come from. Where none is named, login and token print
    /// take KERBRIDGE_URL, what the last login was for, or url in client.toml, and logout takes back all tokens.
    #[arg(value_name = "URL", conflicts_with = "audience")]
    url: Option<String>,
    /// The broker's address, where the service does not say (KERBRIDGE_ISSUER).
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    issuer: Option<String>,
    /// The service's name at the broker (KERBRIDGE_AUDIENCE).
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
    /// The folder in which tokens are kept [default: kerbridge in $XDG_RUNTIME_DIR, otherwise in ~/.cache].
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// The file of your settings [default: ~/.config/kerbridge/client.toml and /etc/kerbridge/client.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How a token is had.
#[derive(Debug, Args)]
pub(super) struct How {
    #[command(flatten)]
    target: Target,
    /// A scope that the token is to have; repeat it for more. Otherwise all that are granted.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Whose tickets, where there are several's; with --keytab whose keys.
    #[arg(long, value_name = "NAME@REALM")]
    principal: Option<String>,
    /// Log in with keys of this file, in place of tickets that are here.
    #[arg(long, value_name = "FILE", requires = "principal", conflicts_with = "ccache")]
    keytab: Option<PathBuf>,
    /// The cache of tickets, as KRB5CCNAME names it.
    #[arg(long, value_name = "CACHE")]
    ccache: Option<String>,
    /// The file of the certificate authorities to trust, in place of this machine's (KERBRIDGE_CACERT).
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The broker's principal, where it is not HTTP on the broker's host (KERBRIDGE_SERVICE).
    #[arg(long, value_name = "HTTP/HOST@REALM")]
    service: Option<String>,
    /// Do not bind the ticket to the TLS connection: where something before the broker takes TLS off.
    #[arg(long)]
    no_channel_binding: bool,
}

impl Target {
    pub(super) fn cache(&self) -> Result<PathBuf, Trouble> {
        self.cache.clone().map_or_else(settings::cache, Ok)
    }

    fn said(&self) -> Said {
        Said {
            url: self.url.clone(),
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            ..Said::default()
        }
    }

    /// What is named here; nothing where it is not.
    pub(super) fn named(&self) -> Result<Option<Wanted>, Trouble> {
        let said = self.said();
        if said.url.is_none() && said.audience.is_none() {
            return match said.issuer {
                None => Ok(None),
                Some(_) => Err(Trouble::new(
                    Kind::NoTarget,
                    "a broker is named, and no service",
                    "name the service with --audience, or leave --issuer out",
                )),
            };
        }
        let places = self.places(said, Some(client::remembered(&self.cache()?)))?;
        Wanted::of(&places).map(Some)
    }

    /// All that is said, here and elsewhere, in the order in which it counts.
    fn places(&self, said: Said, remembered: Option<Said>) -> Result<Vec<Said>, Trouble> {
        let places = [said, settings::of_environment()].into_iter().chain(remembered);
        Ok(places.chain(settings::of_files(self.config.as_deref())?).collect())
    }
}

impl How {
    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    /// What the command line says. Files are named so that they are found from other folders as well.
    pub(super) fn said(&self) -> Said {
        let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Said {
            scopes: self.scopes.clone(),
            ca: self.cacert.as_ref().map(whole),
            service: self.service.clone(),
            channel_binding: self.no_channel_binding.then_some(false),
            principal: self.principal.clone(),
            keytab: self.keytab.as_ref().map(whole),
            ccache: self.ccache.clone(),
            ..self.target.said()
        }
    }

    /// All that is said, here and elsewhere.
    pub(super) fn settings(&self, remembered: Option<Said>) -> Result<Settings, Trouble> {
        Settings::of(&self.target.places(self.said(), remembered)?)
    }

    pub(super) fn remembered(&self) -> Result<Option<Said>, Trouble> {
        Ok(Some(client::remembered(&self.target.cache()?)))
    }
}

/// Prints why there is no token.
pub(super) fn failed(trouble: &Trouble, form: Output) -> Failure {
    match form {
        Output::Text => output::complain(trouble),
        Output::Json => {
            if let Err(failure) = output::print_as(form, trouble, String::new) {
                return failure;
            }
        }
    }
    match trouble.kind {
        Kind::NoTarget | Kind::FileUnusable | Kind::NotDescribed => Failure::Usage,
        Kind::SettingsWrong => Failure::Configuration,
        Kind::NoTicket
        | Kind::TicketExpired
        | Kind::LoginRefused
        | Kind::ServiceUnknown
        | Kind::TicketRefused
        | Kind::Denied
        | Kind::CacheUnusable => Failure::NotAllowed,
        Kind::KdcUnreachable | Kind::Unreachable | Kind::BrokerUnavailable | Kind::NotRevoked => Failure::TryAgain,
        Kind::CertificateRefused | Kind::ServerNotProven | Kind::AnswerNotUnderstood => Failure::NotTrusted,
        Kind::ClockSkew | Kind::KerberosFailed => Failure::Running,
    }
}
