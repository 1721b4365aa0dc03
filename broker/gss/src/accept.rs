//! Accepts a client's token, or says in a closed list why not.

#![expect(unsafe_code, reason = "calls gss_accept_sec_context")]

use std::fmt;
use std::ptr;

use crate::attribute::LogonInfo;
use crate::buffer::{MechToken, OwnedBuffer, borrowed};
use crate::channel_bindings::ChannelBindings;
use crate::context::{ContextHandle, EstablishedContext};
use crate::credential::{AcceptorCredential, CredentialHandle};
use crate::keytab::Keytab;
use crate::name::Name;
use crate::principal::{Principal, ServicePrincipal};
use crate::status::{LARGEST_ERRNO, RoutineError, StatusText};
use crate::sys;

/// Longest token that is passed to the library, in bytes. A ticket with a PAC of 64 KiB fits twice.
pub const LONGEST_TOKEN: usize = 128 * 1024;

/// A context that waits for another token from the same client.
pub struct SecurityContext(ContextHandle);

impl fmt::Debug for SecurityContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecurityContext")
    }
}

/// What a token led to.
#[derive(Debug)]
pub enum AcceptOutcome {
    /// The client is who it says.
    Established(EstablishedContext),
    /// The client has to answer `reply`; its next token goes to [`SecurityContext::accept`].
    ContinueNeeded {
        /// The half-open context. It lives in this process only: MIT cannot export it.
        context: SecurityContext,
        /// What to send to the client.
        reply: MechToken,
    },
}

/// Why a token was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptError {
    kind: AcceptErrorKind,
    detail: StatusText,
    reply: Option<MechToken>,
}

/// What was wrong with a token, or with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AcceptErrorKind {
    /// No token of a known form: empty, too long, cut off, or not well-formed inside.
    DefectiveToken,
    /// Only mechanisms that we do not speak.
    BadMechanism,
    /// A ticket for another service.
    WrongPrincipal,
    /// The ticket's key version is not in the keytab.
    KvnoMismatch,
    /// The ticket's encryption type has no key in the keytab, or is not permitted.
    EnctypeUnavailable,
    /// The keytab has gone, cannot be read, or no longer holds the principal.
    KeytabUnavailable,
    /// The ticket has ended, by more than the clock skew.
    TicketExpired,
    /// The ticket begins later, by more than the clock skew, or is postdated and not validated.
    TicketNotYetValid,
    /// The client's clock is off by more than the clock skew.
    ClockSkew,
    /// This authenticator was accepted before.
    Replay,
    /// The client's channel bindings are another channel's.
    BindingsMismatch,
    /// The keytab's key of the ticket's version and type does not open the ticket: it is another key, or the ticket was altered.
    TicketNotOpened,
    /// The ticket opens, but the authenticator beside it does not by the ticket's session key, or is another client's.
    BadAuthenticator,
    /// A checksum is wrong: over the list of mechanisms (RFC 4178 §5), which was changed on the way, or over the request.
    BadMic,
    /// The ticket came through a realm that krb5.conf does not allow.
    TransitRefused,
    /// The credential has no part for the token's mechanism.
    NoCredential,
    /// The client's or the service's name cannot be represented ([`crate::PrincipalError`]).
    UnusableName,
    /// The operating system refused, as when the replay cache cannot be written.
    System,
    /// None of these; the detail says what.
    Other,
}

impl AcceptError {
    /// What was wrong.
    pub const fn kind(&self) -> AcceptErrorKind {
        self.kind
    }

    /// What GSSAPI said. It may name the ticket's service, kvno and enctype.
    pub const fn detail(&self) -> &StatusText {
        &self.detail
    }

    /// The error token for the client, where the library made one (RFC 2743 §2.2.2).
    pub const fn reply(&self) -> Option<&MechToken> {
        self.reply.as_ref()
    }

    fn ours(kind: AcceptErrorKind, major: u32) -> Self {
        Self {
            kind,
            detail: StatusText::of_our_own(major),
            reply: None,
        }
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.detail.fmt(f)
    }
}

impl std::error::Error for AcceptError {}

impl AcceptorCredential {
    /// Accepts a first token: SPNEGO with Kerberos in its list, or Kerberos itself.
    ///
    /// Tickets that a client hands over are not read. Bindings are compared only where the client sent some: look at
    /// [`ContextFlags::channel_bound`](crate::ContextFlags::channel_bound). The result may hold an ended ticket: look at
    /// [`EstablishedContext::ticket_end`].
    pub fn accept(&self, token: &[u8], bindings: Option<&ChannelBindings>) -> Result<AcceptOutcome, AcceptError> {
        self.step(ContextHandle::none(), token, bindings)
    }

    fn step(
        &self,
        mut context: ContextHandle,
        token: &[u8],
        bindings: Option<&ChannelBindings>,
    ) -> Result<AcceptOutcome, AcceptError> {
        // To MIT an empty first token is a request for SPNEGO hints, not an error.
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return Err(AcceptError::ours(
                AcceptErrorKind::DefectiveToken,
                sys::GSS_S_DEFECTIVE_TOKEN,
            ));
        }
        let accepted = accept_once(&self.handle, &mut context, token, bindings);
        let Accepted {
            major,
            minor,
            source,
            output,
        } = accepted;
        let status = StatusText::check(major, minor);
        let reply = output.to_token();
        if let Err(detail) = status {
            return Err(AcceptError {
                kind: self.kind_of(&detail),
                detail,
                reply,
            });
        }
        if major & sys::GSS_S_CONTINUE_NEEDED == 0 {
            return self
                .established(context, &source, reply)
                .map(AcceptOutcome::Established);
        }
        match reply {
            Some(reply) => Ok(AcceptOutcome::ContinueNeeded {
                context: SecurityContext(context),
                reply,
            }),
            // MIT's krb5 asks for more, with nothing to send, when a token that is not the first comes first.
            None => Err(AcceptError::ours(
                AcceptErrorKind::DefectiveToken,
                sys::GSS_S_DEFECTIVE_TOKEN,
            )),
        }
    }

    fn established(
        &self,
        context: ContextHandle,
        source: &Name,
        reply: Option<MechToken>,
    ) -> Result<EstablishedContext, AcceptError> {
        let other = |detail| AcceptError {
            kind: AcceptErrorKind::Other,
            detail,
            reply: None,
        };
        let principal = |name: &Name| Ok(name.display()?.and_then(|name| Principal::parse(&name).ok()));
        // Their texts are compared: for the library to compare the names costs three times as much.
        let target = context.target().and_then(|name| principal(&name)).map_err(other)?;
        if target.as_ref() != Some(self.service.as_principal()) {
            return Err(AcceptError::ours(
                AcceptErrorKind::WrongPrincipal,
                sys::GSS_S_UNAUTHORIZED,
            ));
        }
        let facts = context.consume().map_err(other)?;
        let initiator = principal(source)
            .map_err(other)?
            .ok_or_else(|| AcceptError::ours(AcceptErrorKind::UnusableName, sys::GSS_S_BAD_NAME))?;
        // The name carries the ticket's authorization data of its own; the context is gone.
        let logon_info = if self.reads_logon_info {
            source.logon_info().map_err(other)?
        } else {
            LogonInfo::NotRead
        };
        let established = EstablishedContext {
            initiator,
            target: self.service.clone(),
            facts,
            reply,
            logon_info,
        };
        if !established.mechanism().is_kerberos() {
            return Err(AcceptError::ours(AcceptErrorKind::BadMechanism, sys::GSS_S_BAD_MECH));
        }
        Ok(established)
    }

    fn kind_of(&self, detail: &StatusText) -> AcceptErrorKind {
        use AcceptErrorKind as Kind;
        match detail.routine() {
            RoutineError::BadMech => return Kind::BadMechanism,
            RoutineError::BadBindings => return Kind::BindingsMismatch,
            RoutineError::BadMic => return Kind::BadMic,
            RoutineError::NoCred => return Kind::NoCredential,
            RoutineError::DefectiveToken => return Kind::DefectiveToken,
            RoutineError::BadName
            | RoutineError::BadNameType
            | RoutineError::NoContext
            | RoutineError::DefectiveCredential
            | RoutineError::CredentialsExpired
            | RoutineError::ContextExpired
            | RoutineError::Failure
            | RoutineError::Unauthorized
            | RoutineError::Unavailable
            | RoutineError::Other => {}
        }
        match detail.code() {
            Some(sys::KRB5KRB_AP_ERR_TKT_EXPIRED) => Kind::TicketExpired,
            Some(sys::KRB5KRB_AP_ERR_TKT_NYV | sys::KRB5KRB_AP_ERR_TKT_INVALID) => Kind::TicketNotYetValid,
            Some(sys::KRB5KRB_AP_ERR_SKEW) => Kind::ClockSkew,
            Some(sys::KRB5KRB_AP_ERR_REPEAT) => Kind::Replay,
            Some(sys::KRB5KRB_AP_ERR_NOT_US | sys::KRB5KRB_AP_WRONG_PRINC) => Kind::WrongPrincipal,
            Some(sys::KRB5KRB_AP_ERR_BADKEYVER | sys::KRB5_KT_KVNONOTFOUND) => Kind::KvnoMismatch,
            Some(sys::KRB5KRB_AP_ERR_NOKEY | sys::KRB5_KT_NOTFOUND) => self.kind_of_missing_key(),
            Some(sys::KRB5_BAD_ENCTYPE | sys::KRB5_NOPERM_ETYPE | sys::KRB5KDC_ERR_ETYPE_NOSUPP) => {
                Kind::EnctypeUnavailable
            }
            // krb5 has one code for both, and names the service, in whatever language, where it is the ticket.
            Some(sys::KRB5KRB_AP_ERR_BAD_INTEGRITY)
                if detail.minor_text().contains(self.service.as_principal().as_str()) =>
            {
                Kind::TicketNotOpened
            }
            Some(sys::KRB5KRB_AP_ERR_BAD_INTEGRITY | sys::KRB5KRB_AP_ERR_MODIFIED | sys::KRB5KRB_AP_ERR_BADMATCH) => {
                Kind::BadAuthenticator
            }
            Some(sys::KRB5KRB_AP_ERR_ILL_CR_TKT) => Kind::TransitRefused,
            Some(sys::KRB5KRB_AP_ERR_MSG_TYPE | sys::KRB5KRB_AP_ERR_BADVERSION) => Kind::DefectiveToken,
            Some(sys::ASN1_BAD_TIMEFORMAT..=sys::ASN1_OMITTED) => Kind::DefectiveToken,
            Some(sys::G_WRONG_MECH) => Kind::BadMechanism,
            Some(sys::G_BAD_TOK_HEADER | sys::G_TOK_TRUNC | sys::G_WRONG_TOKID | sys::KG_BAD_LENGTH) => {
                Kind::DefectiveToken
            }
            Some(1..=LARGEST_ERRNO) => Kind::System,
            // MIT 1.20 gives no reason when an AP-REQ cannot be decoded.
            None if detail.is_without_reason() => Kind::DefectiveToken,
            Some(_) | None => Kind::Other,
        }
    }

    /// krb5 says "no key" for three things. The keytab was readable and held the principal when this credential was acquired,
    /// so look again: if it still does, the enctype is what is missing.
    fn kind_of_missing_key(&self) -> AcceptErrorKind {
        let held = Keytab::open(&self.keytab).is_ok_and(|keytab| {
            keytab
                .entries()
                .iter()
                .any(|entry| entry.principal() == self.service.as_principal())
        });
        if held {
            AcceptErrorKind::EnctypeUnavailable
        } else {
            AcceptErrorKind::KeytabUnavailable
        }
    }
}

/// Accepts a token that this process made with the user's ticket to this very service, for the name in that ticket.
pub(crate) fn accept_from_ourselves(own: &CredentialHandle, token: &[u8]) -> Result<Name, StatusText> {
    let mut context = ContextHandle::none();
    let accepted = accept_once(own, &mut context, token, None);
    StatusText::check(accepted.major, accepted.minor)?;
    // Without mutual authentication the first leg is the last.
    if accepted.major & sys::GSS_S_CONTINUE_NEEDED == 0 {
        Ok(accepted.source)
    } else {
        Err(StatusText::of_our_own(sys::GSS_S_DEFECTIVE_TOKEN))
    }
}

struct Accepted {
    major: u32,
    minor: u32,
    source: Name,
    output: OwnedBuffer,
}

fn accept_once(
    credential: &CredentialHandle,
    context: &mut ContextHandle,
    token: &[u8],
    bindings: Option<&ChannelBindings>,
) -> Accepted {
    let mut input = borrowed(token);
    let mut bindings = bindings.map(ChannelBindings::describe);
    let mut output = OwnedBuffer::empty();
    let mut source = Name::null();
    let mut minor = 0;
    // SAFETY: the credential is owned; token and bindings are only read and outlive the call; context is null or a
    // half-open context of ours; name and buffer are empty; the null pointers are optional results, among them the credential
    // that a client hands over, which the module `forwarded` keeps from being read too.
    let major = unsafe {
        sys::gss_accept_sec_context(
            &raw mut minor,
            context.as_mut_ptr(),
            credential.as_ptr(),
            &raw mut input,
            bindings.as_mut().map_or(ptr::null_mut(), ptr::from_mut),
            source.as_mut_ptr(),
            ptr::null_mut(),
            output.as_mut_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    Accepted {
        major,
        minor,
        source,
        output,
    }
}

impl SecurityContext {
    /// Accepts the client's next token. SPNEGO looks for a key only where a ticket is: after a first token without one, the
    /// credential may be another than the first token's.
    pub fn accept(
        self,
        credential: &AcceptorCredential,
        token: &[u8],
        bindings: Option<&ChannelBindings>,
    ) -> Result<AcceptOutcome, AcceptError> {
        credential.step(self.0, token, bindings)
    }
}

const _: () = {
    const fn moves_between_threads<T: Send>() {}
    moves_between_threads::<AcceptorCredential>();
    moves_between_threads::<SecurityContext>();
    moves_between_threads::<EstablishedContext>();
    moves_between_threads::<AcceptError>();
    moves_between_threads::<ServicePrincipal>();
};
