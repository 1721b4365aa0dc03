//! Decides whether a Negotiate token proves a client, by GSSAPI, and maps every way in which it may not to one reason.

mod binding;
mod pool;
pub(crate) mod wrong_key;

use std::path::Path;
use std::sync::Arc;

use kerbridge_gss::{
    AcceptError, AcceptErrorKind, AcceptOutcome, AcceptorCredential, AcquireError, EstablishedContext, LogonInfo,
    MechToken, Principal, SecurityContext, local_name,
};
use kerbridge_wire::Reason;

pub use pool::AcceptorPool;
pub use wrong_key::OpenedKeys;

use self::binding::Bindings;
use crate::channel_bindings::{Channel, ChannelBindingRules};
use crate::config::{AcceptorConfig, KerberosConfig};
use crate::negotiate::{NegotiateToken, OpeningToken};
use crate::principal::mapping::NameRules;
use crate::time::UnixTime;

/// Name of MIT's replay cache in the state directory.
pub const REPLAY_CACHE: &str = "replay";

/// Accepts tokens. Calls block; each thread has one of its own.
pub trait Acceptor: Send {
    /// Accepts one leg of a handshake, which came over this channel, or says why not. [`Accepted::channel_bound`] says
    /// whether the client bound its ticket to the channel.
    fn accept(&self, leg: Leg, channel: &Channel) -> Result<Progress, Rejection>;
}

/// What a client has sent, and what it belongs to. A handshake has two legs at most.
#[derive(Debug)]
pub enum Leg {
    /// The only leg: a token with its ticket.
    Only(Arc<NegotiateToken>),
    /// The first of two: its ticket is yet to come.
    First(OpeningToken),
    /// The second of two, with the ticket.
    Second(HalfOpen, Arc<NegotiateToken>),
}

/// How far a leg led.
#[derive(Debug)]
pub enum Progress {
    /// The client is who it says.
    Established(Accepted),
    /// The client is to answer. Only [`Leg::First`] leads here.
    ContinueNeeded(HalfOpen),
}

/// A handshake that waits for its second leg. It cannot leave this process; dropping it ends it.
#[derive(Debug)]
pub struct HalfOpen {
    context: SecurityContext,
    reply: MechToken,
}

impl HalfOpen {
    /// What the client is to answer.
    pub fn reply(&self) -> &MechToken {
        &self.reply
    }
}

/// What an established context proved, as plain values. Only an [`Acceptor`] makes one.
#[derive(Debug)]
pub struct Accepted {
    client: Principal,
    local_name: Option<String>,
    auth_time: UnixTime,
    ticket_end: UnixTime,
    channel_bound: bool,
    reply: Option<MechToken>,
    logon_info: LogonInfo,
}

/// Why a token was not accepted.
#[derive(Debug)]
pub struct Rejection {
    /// The word of the closed list.
    pub reason: Reason,
    /// What GSSAPI or we say about it, for the log; it may name the ticket's service, key version and encryption type.
    pub detail: String,
    /// The acceptor's error token for the client, where there is one.
    pub reply: Option<MechToken>,
}

impl Accepted {
    fn of(context: &EstablishedContext) -> Self {
        Self {
            client: context.initiator().clone(),
            local_name: None,
            auth_time: UnixTime::from_seconds(context.auth_time()),
            ticket_end: UnixTime::from_seconds(context.ticket_end()),
            channel_bound: context.flags().channel_bound(),
            reply: context.reply().cloned(),
            logon_info: context.logon_info().clone(),
        }
    }

    /// The client, as the ticket names it.
    pub fn client(&self) -> &Principal {
        &self.client
    }

    /// What krb5.conf's `auth_to_local` calls the client, where the configuration wants it asked and it knows.
    pub fn local_name(&self) -> Option<&str> {
        self.local_name.as_deref()
    }

    /// When the client authenticated to its KDC.
    pub fn auth_time(&self) -> UnixTime {
        self.auth_time
    }

    /// When the ticket ends, exactly, without any clock skew.
    pub fn ticket_end(&self) -> UnixTime {
        self.ticket_end
    }

    /// The client bound its ticket to the channel.
    pub fn channel_bound(&self) -> bool {
        self.channel_bound
    }

    /// The token that completes the exchange at the client, for mutual authentication.
    pub fn reply(&self) -> Option<&MechToken> {
        self.reply.as_ref()
    }

    /// What the ticket's PAC says of the client's groups, where it was read.
    pub fn logon_info(&self) -> &LogonInfo {
        &self.logon_info
    }

    /// Somebody whose ticket began at 1000 and ends at 10,000.
    #[cfg(test)]
    pub(crate) fn for_test(client: Principal) -> Self {
        Self {
            client,
            local_name: None,
            auth_time: UnixTime::from_seconds(1000),
            ticket_end: UnixTime::from_seconds(10_000),
            channel_bound: false,
            reply: MechToken::new(b"reply".to_vec()),
            logon_info: LogonInfo::NotRead,
        }
    }

    /// The same, with this PAC.
    #[cfg(test)]
    pub(crate) fn with_logon_info(self, logon_info: LogonInfo) -> Self {
        Self { logon_info, ..self }
    }
}

impl Rejection {
    /// A rejection without an error token.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            reply: None,
        }
    }
}

/// Accepts through the system's GSSAPI, with one credential for each configured principal.
#[derive(Debug)]
pub struct GssAcceptor {
    credentials: Vec<AcceptorCredential>,
    bindings: Bindings,
    local_names: bool,
    opened: Arc<OpenedKeys>,
}

impl GssAcceptor {
    /// Acquires the credentials of every configured principal, or says of all that cannot be had why, each with its place
    /// in the configuration. `opened` is shared by the acceptors of all threads.
    pub fn acquire(
        kerberos: &KerberosConfig,
        rules: &Arc<ChannelBindingRules>,
        names: &NameRules,
        state_dir: &Path,
        opened: &Arc<OpenedKeys>,
    ) -> Result<Self, Vec<(usize, AcquireError)>> {
        let replay_cache = state_dir.join(REPLAY_CACHE);
        let (mut credentials, mut refused) = (Vec::new(), Vec::new());
        let mut bindings = Bindings::new(rules);
        for (index, acceptor) in kerberos.acceptors.iter().enumerate() {
            let AcceptorConfig { principal, keytab } = acceptor;
            let acquired = AcceptorCredential::acquire(principal, keytab, &replay_cache);
            match acquired.and_then(|credential| bindings.add(acceptor).map(|()| credential)) {
                // A name alone does not say whether it is a machine's.
                Ok(credential) => credentials.push(credential.reading_logon_info()),
                Err(error) => refused.push((index, error)),
            }
        }
        if refused.is_empty() {
            Ok(Self {
                credentials,
                bindings,
                local_names: names.asks_local_names(),
                opened: Arc::clone(opened),
            })
        } else {
            Err(refused)
        }
    }
}

impl GssAcceptor {
    /// The ticket's own word for its service only chooses the key that must then decrypt it.
    fn credential_for(&self, token: &NegotiateToken) -> Result<&AcceptorCredential, Rejection> {
        let service = token.service();
        self.credentials
            .iter()
            .find(|credential| credential.service().as_principal() == service)
            .ok_or_else(|| Rejection::new(Reason::SpnUnknown, format!("the ticket is for {service}")))
    }

    /// The local name is asked for here, and not where it is needed: it may read files and ask modules, so it blocks.
    fn accepted(&self, context: &EstablishedContext) -> Accepted {
        let mut accepted = Accepted::of(context);
        if self.local_names {
            accepted.local_name = local_name(&accepted.client);
        }
        accepted
    }

    /// Asks for the ticket. No credential is used before it is there, so that any will do, and nothing is bound yet.
    fn open(&self, token: &OpeningToken) -> Result<Progress, Rejection> {
        let credential = self.credentials.first();
        let credential = credential.ok_or_else(|| Rejection::new(Reason::Internal, "there is no credential"))?;
        match credential.accept(token.as_bytes(), None) {
            Ok(AcceptOutcome::ContinueNeeded { context, reply }) => {
                Ok(Progress::ContinueNeeded(HalfOpen { context, reply }))
            }
            Ok(AcceptOutcome::Established(_)) => Err(Rejection::new(
                Reason::MechUnsupported,
                "GSSAPI wants no ticket where we saw none",
            )),
            Err(error) => Err(rejection(&error)),
        }
    }
}

impl Acceptor for GssAcceptor {
    fn accept(&self, leg: Leg, channel: &Channel) -> Result<Progress, Rejection> {
        let (token, half_open) = match leg {
            Leg::First(token) => return self.open(&token),
            Leg::Only(token) => (token, None),
            Leg::Second(HalfOpen { context, .. }, token) => (token, Some(context)),
        };
        let credential = self.credential_for(&token)?;
        let chosen = self.bindings.choose(&token, channel)?;
        let outcome = match half_open {
            None => credential.accept(token.as_bytes(), chosen.bindings.as_ref()),
            Some(context) => context.accept(credential, token.as_bytes(), chosen.bindings.as_ref()),
        };
        match outcome {
            Ok(AcceptOutcome::Established(context)) if !context.mechanism().is_kerberos() => Err(Rejection::new(
                Reason::MechUnsupported,
                "the context is not of Kerberos",
            )),
            Ok(AcceptOutcome::Established(context)) if context.target() != credential.service() => Err(Rejection::new(
                Reason::SpnUnknown,
                format!("the context is for {}", context.target()),
            )),
            Ok(AcceptOutcome::Established(context)) if context.flags().anonymous() => {
                Err(Rejection::new(Reason::PrincipalNotMapped, "the client is anonymous"))
            }
            Ok(AcceptOutcome::Established(context)) if chosen.is_missed_by(context.flags()) => Err(Rejection::new(
                Reason::ChannelBindingMissing,
                "the client bound its ticket to no channel",
            )),
            Ok(AcceptOutcome::Established(context)) => {
                self.opened.note(credential.service(), token.key(), channel.at);
                Ok(Progress::Established(self.accepted(&context)))
            }
            Ok(AcceptOutcome::ContinueNeeded { .. }) => Err(Rejection::new(
                Reason::MechUnsupported,
                "the handshake needs yet another leg: the client must offer Kerberos first, or not ask for mutual \
                 authentication",
            )),
            Err(error) => {
                let mut rejection = rejection(&error);
                if matches!(rejection.reason, Reason::KvnoMismatch | Reason::EtypeUnavailable) {
                    let opened = self.opened.last(credential.service(), token.key());
                    let before = opened.map(|opened| opened.until(channel.at));
                    let service = credential.service().as_principal();
                    let explained = wrong_key::explain(token.key(), service, credential.keytab(), before);
                    rejection.detail = format!("{explained}: {}", rejection.detail);
                }
                Err(rejection)
            }
        }
    }
}

fn rejection(error: &AcceptError) -> Rejection {
    Rejection {
        reason: reason_of(error.kind()),
        detail: error.detail().to_string(),
        reply: error.reply().cloned(),
    }
}

/// The word of the closed list for what GSSAPI refused a token for.
pub const fn reason_of(kind: AcceptErrorKind) -> Reason {
    match kind {
        // Our key has opened the ticket of a bad authenticator: whoever sends it lacks the session key, or it was altered.
        AcceptErrorKind::DefectiveToken | AcceptErrorKind::BadMic | AcceptErrorKind::BadAuthenticator => {
            Reason::MalformedCredentials
        }
        AcceptErrorKind::BadMechanism | AcceptErrorKind::NoCredential => Reason::MechUnsupported,
        AcceptErrorKind::WrongPrincipal => Reason::SpnUnknown,
        // A ticket that its key version's key does not open was made with another key: a stale keytab, or a forgery.
        AcceptErrorKind::KvnoMismatch | AcceptErrorKind::TicketNotOpened => Reason::KvnoMismatch,
        AcceptErrorKind::EnctypeUnavailable => Reason::EtypeUnavailable,
        AcceptErrorKind::TicketExpired => Reason::TicketExpired,
        AcceptErrorKind::TicketNotYetValid => Reason::TicketNotYetValid,
        AcceptErrorKind::ClockSkew => Reason::ClockSkew,
        AcceptErrorKind::Replay => Reason::Replay,
        AcceptErrorKind::BindingsMismatch => Reason::ChannelBindingMismatch,
        AcceptErrorKind::TransitRefused => Reason::RealmNotAllowed,
        AcceptErrorKind::UnusableName => Reason::PrincipalNotMapped,
        AcceptErrorKind::System => Reason::StoreUnavailable,
        AcceptErrorKind::KeytabUnavailable | AcceptErrorKind::Other => Reason::Internal,
    }
}
