//! Initiates a context towards a service: one token to send, and the proof that the answer is the service's.

#![expect(unsafe_code, reason = "calls gss_init_sec_context")]

use std::fmt;
use std::ptr;

use crate::buffer::{MechToken, OwnedBuffer, borrowed};
use crate::channel_bindings::ChannelBindings;
use crate::context::{ContextFlags, ContextHandle, Facts};
use crate::credential::{CredentialHandle, InitiatorCredential};
use crate::host_service::HostService;
use crate::name::Name;
use crate::oid::{self, Mechanism};
use crate::principal::ServicePrincipal;
use crate::status::{RoutineError, StatusText};
use crate::sys;

/// What to ask for.
#[derive(Clone, Debug)]
pub struct InitiateRequest {
    /// The service.
    pub target: ServicePrincipal,
    /// SPNEGO or krb5.
    pub mechanism: Mechanism,
    /// Whether the service has to prove itself too.
    pub mutual: bool,
    /// The channel to bind to.
    pub bindings: Option<ChannelBindings>,
}

/// A first token and the context that awaits the answer to it.
#[derive(Debug)]
pub struct Initiation<'c> {
    /// What to send to the service.
    pub token: MechToken,
    /// What remains here.
    pub context: InitiatorContext<'c>,
}

/// The initiator's side of a context.
pub struct InitiatorContext<'c> {
    credential: &'c CredentialHandle,
    handle: ContextHandle,
    target: Name,
    terms: Terms,
    flags: ContextFlags,
    established: bool,
}

/// What is asked of a context beside its target.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) mechanism: Mechanism,
    pub(crate) mutual: bool,
    pub(crate) bindings: Option<ChannelBindings>,
}

impl fmt::Debug for InitiatorContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitiatorContext")
            .field("terms", &self.terms)
            .field("established", &self.established)
            .finish_non_exhaustive()
    }
}

/// Why there is no token, or why the answer proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitiateError {
    kind: InitiateErrorKind,
    detail: StatusText,
}

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InitiateErrorKind {
    /// The KDC does not know the service.
    ServiceUnknown,
    /// The KDC does not know the client.
    ClientUnknown,
    /// The KDC has another key of the client than it logged in with.
    ClientKeyRefused,
    /// The client's account is locked, disabled or has ended.
    ClientRevoked,
    /// The KDC and this side share no encryption type.
    EnctypeUnsupported,
    /// The KDC's clock is too far from this side's.
    ClockSkew,
    /// The tickets have ended.
    TicketExpired,
    /// No KDC answers, or none is known for the realm.
    KdcUnreachable,
    /// The answer is not the service's.
    MutualAuthenticationFailed,
    /// None of these; the detail says what.
    Other,
}

impl InitiateError {
    /// What was wrong.
    pub const fn kind(&self) -> InitiateErrorKind {
        self.kind
    }

    /// What GSSAPI said.
    pub const fn detail(&self) -> &StatusText {
        &self.detail
    }
}

impl fmt::Display for InitiateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.detail.fmt(f)
    }
}

impl std::error::Error for InitiateError {}

impl From<StatusText> for InitiateError {
    fn from(detail: StatusText) -> Self {
        let kind = match detail.code() {
            // A cache whose tickets have ended has no code of Kerberos'.
            _ if detail.routine() == RoutineError::CredentialsExpired => InitiateErrorKind::TicketExpired,
            Some(sys::KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN) => InitiateErrorKind::ServiceUnknown,
            Some(sys::KRB5KDC_ERR_C_PRINCIPAL_UNKNOWN) => InitiateErrorKind::ClientUnknown,
            Some(sys::KRB5KDC_ERR_PREAUTH_FAILED) => InitiateErrorKind::ClientKeyRefused,
            Some(sys::KRB5KDC_ERR_CLIENT_REVOKED | sys::KRB5KDC_ERR_NAME_EXP) => InitiateErrorKind::ClientRevoked,
            Some(sys::KRB5KDC_ERR_ETYPE_NOSUPP) => InitiateErrorKind::EnctypeUnsupported,
            Some(sys::KRB5KRB_AP_ERR_SKEW) => InitiateErrorKind::ClockSkew,
            Some(sys::KRB5KRB_AP_ERR_TKT_EXPIRED) => InitiateErrorKind::TicketExpired,
            Some(sys::KRB5_KDC_UNREACH | sys::KRB5_REALM_UNKNOWN | sys::KRB5_REALM_CANT_RESOLVE) => {
                InitiateErrorKind::KdcUnreachable
            }
            Some(
                sys::KRB5_MUTUAL_FAILED
                | sys::KRB5KRB_AP_ERR_MUT_FAIL
                | sys::KRB5KRB_AP_ERR_BAD_INTEGRITY
                | sys::KRB5KRB_AP_ERR_MODIFIED,
            ) => InitiateErrorKind::MutualAuthenticationFailed,
            Some(_) | None => InitiateErrorKind::Other,
        };
        Self { kind, detail }
    }
}

impl InitiatorCredential {
    /// Makes the first token, after asking the KDC for a ticket where the cache holds none. Nothing is ever delegated.
    pub fn initiate(&self, request: &InitiateRequest) -> Result<Initiation<'_>, InitiateError> {
        let InitiateRequest {
            target,
            mechanism,
            mutual,
            bindings,
        } = request.clone();
        let terms = Terms {
            mechanism,
            mutual,
            bindings,
        };
        self.begin(Name::import(target.as_principal())?, terms)
    }

    /// The same by SPNEGO towards a service of which the address is known and not the realm; it has to prove itself.
    pub fn initiate_to_host(
        &self,
        service: &HostService,
        bindings: Option<ChannelBindings>,
    ) -> Result<Initiation<'_>, InitiateError> {
        let terms = Terms {
            mechanism: Mechanism::Spnego,
            mutual: true,
            bindings,
        };
        self.begin(Name::import_host_service(service)?, terms)
    }

    fn begin(&self, target: Name, terms: Terms) -> Result<Initiation<'_>, InitiateError> {
        let mut context = InitiatorContext::new(&self.handle, target, terms);
        let token = context.first()?;
        Ok(Initiation { token, context })
    }
}

impl<'c> InitiatorContext<'c> {
    pub(crate) const fn new(credential: &'c CredentialHandle, target: Name, terms: Terms) -> Self {
        Self {
            credential,
            handle: ContextHandle::none(),
            target,
            terms,
            flags: ContextFlags::from_bits(0),
            established: false,
        }
    }

    /// The first token.
    pub(crate) fn first(&mut self) -> Result<MechToken, StatusText> {
        self.step(None)?
            .ok_or_else(|| StatusText::of_our_own(sys::GSS_S_FAILURE))
    }

    /// What the context says of its ticket. Nothing can be done with it afterwards.
    pub(crate) fn consume(self) -> Result<Facts, StatusText> {
        self.handle.consume()
    }

    /// Checks the service's answer. Returns what to send next, if anything is left to say.
    pub fn answer(&mut self, reply: &[u8]) -> Result<Option<MechToken>, InitiateError> {
        Ok(self.step(Some(reply))?)
    }

    /// Whether both sides are done. With `mutual`, the service has then proven itself.
    pub const fn is_established(&self) -> bool {
        self.established
    }

    /// What the context offers.
    pub const fn flags(&self) -> ContextFlags {
        self.flags
    }

    /// A MIC over `message` (RFC 2743 §2.3.1), as SPNEGO's `mechListMIC` is one.
    pub fn mic(&self, message: &[u8]) -> Result<Vec<u8>, InitiateError> {
        let mut input = borrowed(message);
        let mut output = OwnedBuffer::empty();
        let mut minor = 0;
        if self.handle.is_none() {
            return Err(StatusText::of_our_own(sys::GSS_S_NO_CONTEXT).into());
        }
        // SAFETY: the context is owned and not null; the message is only read and outlives the call; the buffer is empty.
        let major = unsafe {
            sys::gss_get_mic(
                &raw mut minor,
                self.handle.as_ptr(),
                0,
                &raw mut input,
                output.as_mut_ptr(),
            )
        };
        StatusText::check(major, minor)?;
        Ok(output.as_bytes().to_vec())
    }

    fn step(&mut self, reply: Option<&[u8]>) -> Result<Option<MechToken>, StatusText> {
        let mut input = reply.map(borrowed);
        let mut bindings = self.terms.bindings.as_ref().map(ChannelBindings::describe);
        let mut mechanism = oid::borrowed(self.terms.mechanism.der_content());
        let mut output = OwnedBuffer::empty();
        let (mut minor, mut flags) = (0, 0);
        let wanted = sys::GSS_C_INTEG_FLAG | if self.terms.mutual { sys::GSS_C_MUTUAL_FLAG } else { 0 };
        // SAFETY: credential, context and target are owned; mechanism, bindings and input are only read and outlive the call;
        // the buffer is empty; the null pointers are optional.
        let major = unsafe {
            sys::gss_init_sec_context(
                &raw mut minor,
                self.credential.as_ptr(),
                self.handle.as_mut_ptr(),
                self.target.as_ptr(),
                &raw mut mechanism,
                wanted,
                0,
                bindings.as_mut().map_or(ptr::null_mut(), ptr::from_mut),
                input.as_mut().map_or(ptr::null_mut(), ptr::from_mut),
                ptr::null_mut(),
                output.as_mut_ptr(),
                &raw mut flags,
                ptr::null_mut(),
            )
        };
        StatusText::check(major, minor)?;
        self.flags = ContextFlags::from_bits(flags);
        self.established = major & sys::GSS_S_CONTINUE_NEEDED == 0;
        Ok(output.to_token())
    }
}
