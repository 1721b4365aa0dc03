//! Finds whose tickets are here, and makes of them what proves that person to the broker.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbridge_gss::{
    AcquireError, AcquireErrorKind, ChannelBindings, HostService, InitiateError, InitiateErrorKind, InitiateRequest,
    Initiation, InitiatorContext, InitiatorCredential, Keytab, KeytabError, Mechanism, Principal, ServicePrincipal,
};
use zeroize::Zeroizing;

use super::address::Address;
use super::krb5_conf;
use super::trouble::{Kind, Trouble};

/// Where tickets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A cache, by its name or this machine's default; of one principal where it holds several's.
    Cache {
        name: Option<String>,
        principal: Option<Principal>,
    },
    /// A log-in with keys of a file.
    Keytab { file: PathBuf, principal: Principal },
}

/// What the broker is to Kerberos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// HTTP on the host that answers.
    OfHost,
    /// This principal.
    Named(ServicePrincipal),
}

/// Somebody's tickets.
pub(super) struct Tickets {
    credential: InitiatorCredential,
    source: Source,
}

/// What was made for one exchange, and what checks the answer.
pub(super) struct Proof<'t> {
    /// In base64, as the Negotiate header has it.
    pub(super) token: Zeroizing<String>,
    context: InitiatorContext<'t>,
}

impl Tickets {
    pub(super) fn find(source: &Source) -> Result<Self, Trouble> {
        let found = match source {
            Source::Cache { name: None, principal } => InitiatorCredential::of_user(principal.as_ref()),
            Source::Cache {
                name: Some(name),
                principal,
            } => InitiatorCredential::from_named_ccache(name, principal.as_ref()),
            Source::Keytab { file, principal } => {
                has_key(file, principal)?;
                InitiatorCredential::from_keytab(principal, file)
            }
        };
        let credential = found.map_err(|error| source.no_tickets(&error))?;
        Ok(Self {
            credential,
            source: source.clone(),
        })
    }

    /// Whose they are.
    pub(super) fn principal(&self) -> &Principal {
        self.credential.principal()
    }

    /// Makes a token for the broker at an address, of a ticket that is here or that the KDC gives; nothing is delegated.
    pub(super) fn prove(
        &self,
        service: &Service,
        at: &Address,
        bindings: Option<ChannelBindings>,
    ) -> Result<Proof<'_>, Trouble> {
        let (made, name) = match service {
            Service::OfHost => {
                let host = HostService::http(at.host()).map_err(|error| {
                    Trouble::new(
                        Kind::ServiceUnknown,
                        error.to_string(),
                        "name the broker's principal with --service",
                    )
                })?;
                let name = host.to_string();
                (self.credential.initiate_to_host(&host, bindings), name)
            }
            Service::Named(principal) => {
                let request = InitiateRequest {
                    target: principal.clone(),
                    mechanism: Mechanism::Spnego,
                    mutual: true,
                    bindings,
                };
                (self.credential.initiate(&request), principal.to_string())
            }
        };
        let Initiation { token, context } = made.map_err(|error| self.source.no_ticket_for(&name, &error))?;
        Ok(Proof {
            token: Zeroizing::new(STANDARD.encode(token.as_bytes())),
            context,
        })
    }
}

impl Proof<'_> {
    /// Whether the answer is of who has the service's key, which no certificate says.
    pub(super) fn answered_by(mut self, reply: Option<&str>) -> bool {
        let reply = reply.and_then(|reply| STANDARD.decode(reply).ok());
        reply.is_some_and(|reply| self.context.answer(&reply).is_ok() && self.context.is_established())
    }
}

/// Whether the keytab has a key of the principal. GSSAPI would say of one without, and of a file that is not there, that there are
/// no tickets.
fn has_key(file: &Path, principal: &Principal) -> Result<(), Trouble> {
    let shown = file.display();
    match Keytab::open(file) {
        Ok(keytab) if keytab.principals().contains(principal) => Ok(()),
        Ok(keytab) => {
            let held: Vec<String> = keytab.principals().iter().map(Principal::to_string).collect();
            Err(Trouble::new(
                Kind::LoginRefused,
                format!(
                    "the keytab {shown} has no key of {principal}, but of {}",
                    held.join(", ")
                ),
                "name one of these with --principal, or a keytab that has the key with --keytab",
            ))
        }
        // A name that this program does not read beside others: libkrb5 may find the one that is meant.
        Err(KeytabError::Principal(_)) => Ok(()),
        Err(error) => Err(Trouble::new(
            Kind::FileUnusable,
            format!("the keytab {shown} cannot be used: {error}"),
            "name a keytab that you may read with --keytab",
        )),
    }
}

impl Source {
    /// What gets new tickets.
    fn log_in(&self) -> String {
        match self {
            Self::Cache {
                principal: Some(principal),
                ..
            } => format!("run kinit {principal}"),
            Self::Cache {
                name: Some(name),
                principal: None,
            } => format!("run kinit -c {name}"),
            Self::Cache { .. } => "run kinit".to_owned(),
            Self::Keytab { file, principal } => {
                format!("try kinit -k -t {} {principal}", file.display())
            }
        }
    }

    fn no_tickets(&self, error: &AcquireError) -> Trouble {
        if matches!(error.kind(), AcquireErrorKind::Configuration) {
            return krb5_conf::unusable(error);
        }
        let ended = error.detail().cloned().map(InitiateError::from);
        let ended = ended.filter(|error| error.kind() != InitiateErrorKind::Other);
        match (error.kind(), ended) {
            (_, Some(error)) => self.refused("there is no ticket", &error),
            (AcquireErrorKind::BadPath, None) => {
                Trouble::new(Kind::FileUnusable, error.to_string(), "name a file without zero bytes")
            }
            (
                AcquireErrorKind::Keytab(_)
                | AcquireErrorKind::PrincipalAbsent { .. }
                | AcquireErrorKind::Configuration
                | AcquireErrorKind::NoCredential
                | AcquireErrorKind::Unguarded
                | AcquireErrorKind::Refused,
                None,
            ) => {
                let why = error
                    .detail()
                    .map_or_else(|| error.to_string(), |detail| detail.minor_text().to_owned());
                self.closed_cache().unwrap_or_else(|| {
                    Trouble::new(Kind::NoTicket, format!("there is no ticket: {why}"), self.log_in())
                })
            }
        }
    }

    /// Says that the cache is a file that is not to be read, which kinit does not mend.
    fn closed_cache(&self) -> Option<Trouble> {
        let (name, remedy) = match self {
            Self::Cache { name: Some(name), .. } => (name.clone(), "name a cache of your own with --ccache"),
            Self::Cache { name: None, .. } => (
                InitiatorCredential::cache_of_user()?,
                "unset KRB5CCNAME where it names somebody else's cache (klist shows which it is), and run kinit",
            ),
            Self::Keytab { .. } => return None,
        };
        let error = std::fs::File::open(name.strip_prefix("FILE:").unwrap_or(&name)).err()?;
        (error.kind() != std::io::ErrorKind::NotFound).then(|| {
            let problem = format!("there is no ticket: the cache {name} cannot be read: {error}");
            Trouble::new(Kind::NoTicket, problem, remedy)
        })
    }

    fn no_ticket_for(&self, service: &str, error: &InitiateError) -> Trouble {
        if error.kind() == InitiateErrorKind::ServiceUnknown {
            return Trouble::new(
                Kind::ServiceUnknown,
                format!("the KDC knows no service {service}: {error}"),
                "name the broker's principal with --service HTTP/HOST@REALM, as whoever runs it says",
            );
        }
        self.refused(&format!("there is no ticket for {service}"), error)
    }

    fn refused(&self, what: &str, error: &InitiateError) -> Trouble {
        let problem = format!("{what}: {error}");
        match error.kind() {
            // Without preauthentication it is this side that cannot open the KDC's answer.
            InitiateErrorKind::MutualAuthenticationFailed if matches!(self, Self::Keytab { .. }) => Trouble::new(
                Kind::LoginRefused,
                format!("{problem}: the KDC has another key than the keytab"),
                format!("{}, and have the keytab made anew", self.log_in()),
            ),
            InitiateErrorKind::TicketExpired => Trouble::new(
                Kind::TicketExpired,
                format!("the tickets have ended: {error}"),
                self.log_in(),
            ),
            InitiateErrorKind::ClientUnknown
            | InitiateErrorKind::ClientKeyRefused
            | InitiateErrorKind::ClientRevoked => Trouble::new(
                Kind::LoginRefused,
                problem,
                format!("{}, and have the account looked at", self.log_in()),
            ),
            InitiateErrorKind::KdcUnreachable => Trouble::new(
                Kind::KdcUnreachable,
                problem,
                format!("check the network, and [realms] in {}", krb5_conf::named()),
            ),
            InitiateErrorKind::ClockSkew => Trouble::new(Kind::ClockSkew, problem, "set this machine's clock"),
            InitiateErrorKind::ServiceUnknown => Trouble::new(
                Kind::ServiceUnknown,
                problem,
                "check [domain_realm] in krb5.conf, or name the broker's principal with --service HTTP/HOST@REALM",
            ),
            InitiateErrorKind::Other if error.detail().routine() == kerbridge_gss::RoutineError::NoCred => {
                Trouble::new(Kind::NoTicket, problem, self.log_in())
            }
            InitiateErrorKind::EnctypeUnsupported
            | InitiateErrorKind::MutualAuthenticationFailed
            | InitiateErrorKind::Other => Trouble::new(Kind::KerberosFailed, problem, self.log_in()),
        }
    }
}
