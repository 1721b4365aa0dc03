//! Reads what an established context proves: who came, to whom, by what, and until when.

#![expect(unsafe_code, reason = "calls GSSAPI's context functions")]

use std::fmt;
use std::ptr;

use crate::attribute::LogonInfo;
use crate::buffer::MechToken;
use crate::name::Name;
use crate::oid::{Mechanism, Oid};
use crate::principal::{Principal, ServicePrincipal};
use crate::status::StatusText;
use crate::sys;

/// A client's ticket, accepted. Only [`accept`](crate::AcceptorCredential::accept) builds one. The security context itself is
/// gone: reading the ticket's end consumes it, and nothing here wraps messages.
#[derive(Debug)]
pub struct EstablishedContext {
    pub(crate) initiator: Principal,
    pub(crate) target: ServicePrincipal,
    pub(crate) facts: Facts,
    pub(crate) reply: Option<MechToken>,
    pub(crate) logon_info: LogonInfo,
}

impl EstablishedContext {
    /// Who came.
    pub const fn initiator(&self) -> &Principal {
        &self.initiator
    }

    /// For whom the ticket is: always the principal of the credential that accepted it.
    pub const fn target(&self) -> &ServicePrincipal {
        &self.target
    }

    /// The mechanism that authenticated: krb5, under either identifier.
    pub const fn mechanism(&self) -> &Mechanism {
        &self.facts.mechanism
    }

    /// What the context offers.
    pub const fn flags(&self) -> ContextFlags {
        self.facts.flags
    }

    /// What the KDC noted in the ticket.
    pub const fn ticket_flags(&self) -> TicketFlags {
        self.facts.ticket_flags
    }

    /// When the user authenticated to the KDC (RFC 4120 §5.3 `authtime`), in seconds since 1970.
    pub const fn auth_time(&self) -> u64 {
        self.facts.auth_time
    }

    /// When the ticket ends (`endtime`), in seconds since 1970, exactly. It may lie in the past: MIT accepts an ended ticket
    /// for as long as `clockskew`, so compare it with the time.
    pub const fn ticket_end(&self) -> u64 {
        self.facts.ticket_end
    }

    /// The lifetime that MIT reports, in seconds: what is left of the ticket **plus** `clockskew`. For diagnosis only.
    pub const fn reported_lifetime(&self) -> u32 {
        self.facts.reported_lifetime
    }

    /// The token that completes the exchange at the client (mutual authentication), if there is one.
    pub const fn reply(&self) -> Option<&MechToken> {
        self.reply.as_ref()
    }

    /// What the ticket's PAC says of the client's groups, where the credential reads it.
    pub const fn logon_info(&self) -> &LogonInfo {
        &self.logon_info
    }
}

/// What is read from the context before it is consumed.
#[derive(Debug)]
pub(crate) struct Facts {
    mechanism: Mechanism,
    flags: ContextFlags,
    ticket_flags: TicketFlags,
    auth_time: u64,
    ticket_end: u64,
    reported_lifetime: u32,
}

impl Facts {
    pub(crate) const fn ticket_end(&self) -> u64 {
        self.ticket_end
    }

    pub(crate) const fn ticket_flags(&self) -> TicketFlags {
        self.ticket_flags
    }
}

/// The flags of a context (RFC 2744 §5.1 and MIT's extensions).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContextFlags(u32);

impl ContextFlags {
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// All bits, `GSS_C_*_FLAG`.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The acceptor proves itself too.
    pub const fn mutual(self) -> bool {
        self.0 & sys::GSS_C_MUTUAL_FLAG != 0
    }

    /// The client's bindings were there and matched ours.
    pub const fn channel_bound(self) -> bool {
        self.0 & sys::GSS_C_CHANNEL_BOUND_FLAG != 0
    }

    /// The client handed over a ticket of its own. It is never read.
    pub const fn delegated(self) -> bool {
        self.0 & sys::GSS_C_DELEG_FLAG != 0
    }

    /// The client is anonymous.
    pub const fn anonymous(self) -> bool {
        self.0 & sys::GSS_C_ANON_FLAG != 0
    }
}

impl fmt::Debug for ContextFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContextFlags({:#x})", self.0)
    }
}

/// The flags of a ticket (RFC 4120 §5.3, bit 0 is the highest).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TicketFlags(u32);

impl TicketFlags {
    /// All bits, `TKT_FLG_*`.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The ticket could be forwarded.
    pub const fn forwardable(self) -> bool {
        self.0 & sys::TKT_FLG_FORWARDABLE != 0
    }

    /// The ticket was forwarded.
    pub const fn forwarded(self) -> bool {
        self.0 & sys::TKT_FLG_FORWARDED != 0
    }

    /// Issued by password or key, without a ticket-granting ticket.
    pub const fn initial(self) -> bool {
        self.0 & sys::TKT_FLG_INITIAL != 0
    }

    /// The user was authenticated before the ticket was issued.
    pub const fn pre_authenticated(self) -> bool {
        self.0 & sys::TKT_FLG_PRE_AUTH != 0
    }

    /// The user was authenticated by hardware.
    pub const fn hardware_authenticated(self) -> bool {
        self.0 & sys::TKT_FLG_HW_AUTH != 0
    }
}

impl fmt::Debug for TicketFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketFlags({:#010x})", self.0)
    }
}

/// A `gss_ctx_id_t`, deleted on drop; null before the library has filled it.
pub(crate) struct ContextHandle(sys::gss_ctx_id_t);

// SAFETY: MIT's contexts have no thread affinity; ownership of the handle moves with the value.
unsafe impl Send for ContextHandle {}

impl ContextHandle {
    pub(crate) const fn none() -> Self {
        Self(ptr::null_mut())
    }

    pub(crate) const fn is_none(&self) -> bool {
        self.0.is_null()
    }

    pub(crate) const fn as_ptr(&self) -> sys::gss_ctx_id_t {
        self.0
    }

    pub(crate) const fn as_mut_ptr(&mut self) -> *mut sys::gss_ctx_id_t {
        &raw mut self.0
    }

    /// For whom the ticket is.
    pub(crate) fn target(&self) -> Result<Name, StatusText> {
        let mut target = Name::null();
        let mut minor = 0;
        // SAFETY: the context is owned and established; the out pointer is valid, and null where a fact is not wanted.
        let major = unsafe {
            sys::gss_inquire_context(
                &raw mut minor,
                self.0,
                ptr::null_mut(),
                target.as_mut_ptr(),
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        StatusText::check(major, minor)?;
        Ok(target)
    }

    /// Reads everything but the names and deletes the context, since MIT's way to the ticket's end does.
    pub(crate) fn consume(mut self) -> Result<Facts, StatusText> {
        let (mut minor, mut lifetime, mut flags) = (0, 0, 0);
        let mut mechanism = ptr::null_mut();
        // SAFETY: the context is owned and established; the out pointers are valid, or null where the fact is not wanted.
        let major = unsafe {
            sys::gss_inquire_context(
                &raw mut minor,
                self.0,
                ptr::null_mut(),
                ptr::null_mut(),
                &raw mut lifetime,
                &raw mut mechanism,
                &raw mut flags,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        StatusText::check(major, minor)?;
        // SAFETY: the library answered with a pointer to a static identifier, or null.
        let mechanism = unsafe { Oid::copy_from(mechanism) }.map(Mechanism::from_oid);
        let mechanism = mechanism.ok_or_else(|| StatusText::of_our_own(sys::GSS_S_BAD_MECH))?;

        let mut auth_time = 0;
        // SAFETY: the context is owned and established; the out pointers are valid.
        let major =
            unsafe { sys::gsskrb5_extract_authtime_from_sec_context(&raw mut minor, self.0, &raw mut auth_time) };
        StatusText::check(major, minor)?;
        let mut ticket_flags = 0;
        // SAFETY: as above.
        let major = unsafe { sys::gss_krb5_get_tkt_flags(&raw mut minor, self.0, &raw mut ticket_flags) };
        StatusText::check(major, minor)?;
        let ticket_end = self.export_end()?;
        Ok(Facts {
            mechanism,
            flags: ContextFlags(flags),
            ticket_flags: TicketFlags(ticket_flags.cast_unsigned()),
            // krb5's timestamps are 32 bits and count on past 2038 as unsigned.
            auth_time: u64::from(auth_time.cast_unsigned()),
            ticket_end: u64::from(ticket_end),
            reported_lifetime: lifetime,
        })
    }

    fn export_end(&mut self) -> Result<u32, StatusText> {
        const VERSION: u32 = 1;
        let mut lucid = ptr::null_mut();
        let mut minor = 0;
        // SAFETY: the context is owned and established; on success the library deletes it and sets the handle to null, so
        // that `drop` finds nothing.
        let major =
            unsafe { sys::gss_krb5_export_lucid_sec_context(&raw mut minor, &raw mut self.0, VERSION, &raw mut lucid) };
        StatusText::check(major, minor)?;
        if lucid.is_null() {
            return Err(StatusText::of_our_own(sys::GSS_S_FAILURE));
        }
        // SAFETY: the library returned a context of the version that was asked for, of which the head is readable.
        let (version, end) = unsafe {
            let head = &*lucid.cast::<sys::lucid_context_v1_head>();
            (head.version, head.endtime)
        };
        // SAFETY: the pointer came from the export and is not used again; this wipes the keys in it.
        unsafe { sys::gss_krb5_free_lucid_sec_context(&raw mut minor, lucid) };
        if version == VERSION {
            Ok(end)
        } else {
            Err(StatusText::of_our_own(sys::GSS_S_UNAVAILABLE))
        }
    }
}

impl Drop for ContextHandle {
    fn drop(&mut self) {
        let mut minor = 0;
        if !self.0.is_null() {
            // SAFETY: the handle is owned by this value and not used again; no token for the peer is wanted (null).
            unsafe { sys::gss_delete_sec_context(&raw mut minor, &raw mut self.0, ptr::null_mut()) };
        }
    }
}
