//! Acts for a user towards a service, where the KDC lets us (MS-SFU): one token comes out, and never a ticket.
//!
//! S4U2Self gives this service a ticket of the user's to itself, on its word alone; S4U2Proxy trades that for a ticket to
//! the target. MIT keeps both, **and our own ticket-granting ticket**, in the cache of one credential: [`UserCredential`]
//! therefore has no way out but [`UserCredential::token`], which makes one AP-REQ.
//!
//! Whether the KDC lets us is its administrator's business: by a list at our account (constrained delegation) or at the
//! target's (resource-based). Both are asked for in the same words.

mod error;
mod identity;

use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::buffer::MechToken;
use crate::channel_bindings::ChannelBindings;
use crate::context::TicketFlags;
use crate::credential::{AcquireError, CredentialHandle, memory_cache, prefixed};
use crate::initiate::{InitiatorContext, Terms};
use crate::keytab::{Keytab, KeytabEntry};
use crate::name::Name;
use crate::oid::Mechanism;
use crate::principal::{EnterpriseName, Principal, ServicePrincipal};
use crate::status::StatusText;
use crate::sys;

pub use error::{DelegationError, DelegationErrorKind, DelegationStep};
pub use identity::Identified;

/// Services of the KDC itself. A ticket to one of them is as good as the user's password or key.
const OF_THE_KDC: [&str; 3] = ["krbtgt", "kadmin", "changepw"];

/// Whom to act for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DelegatedUser {
    /// This principal.
    Principal(Principal),
    /// Whom the KDC knows by this name.
    Enterprise(EnterpriseName),
}

/// A service towards which to act for a user: none of the KDC's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DelegationTarget(ServicePrincipal);

/// The service is one of the KDC's own, or is spelt so that it could be read as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATarget;

impl DelegationTarget {
    /// Takes any service but `krbtgt`, `kadmin` and `changepw`, in upper or lower case: Active Directory folds it.
    pub fn new(service: ServicePrincipal) -> Result<Self, NotATarget> {
        let name = service.service();
        if name.contains('\\') || OF_THE_KDC.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            Err(NotATarget)
        } else {
            Ok(Self(service))
        }
    }

    /// The service.
    pub const fn service(&self) -> &ServicePrincipal {
        &self.0
    }
}

impl fmt::Display for DelegationTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NotATarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a service of the KDC itself, or one with an escape in its name, is no target")
    }
}

impl std::error::Error for NotATarget {}

/// This service, as it acts for users: its principal and its keys. It logs in when it is first needed; from half of its own
/// ticket's life on it logs in anew, with what the keytab then holds. MIT looks at that only when a credential is acquired, so
/// one is acquired for each question; its ticket is in the cache, which stays.
///
/// It may move between threads and is not shared between them: MIT locks it while the KDC is asked.
pub struct Delegator {
    principal: Principal,
    name: Name,
    keytab: PathBuf,
    keytab_name: CString,
    cache: CString,
}

/// What acts for one user.
pub struct UserCredential {
    handle: CredentialHandle,
    user: Principal,
    own: Principal,
}

/// A finished token for the target, in SPNEGO, without mutual authentication.
#[derive(Debug)]
pub struct ServiceToken {
    /// What to send.
    pub token: MechToken,
    /// When its ticket ends (`endtime`), in seconds since 1970, exactly.
    pub ticket_end: u64,
    /// What the KDC noted in its ticket.
    pub ticket_flags: TicketFlags,
}

impl Delegator {
    /// This service by its principal, as it logs in (in Active Directory its account, not its service principal name), and
    /// the keytab with its keys. Asks nobody and reads nothing yet.
    pub fn new(principal: &Principal, keytab: &Path) -> Result<Self, AcquireError> {
        Ok(Self {
            principal: principal.clone(),
            name: Name::import(principal).map_err(AcquireError::refused)?,
            keytab: keytab.to_owned(),
            keytab_name: prefixed(b"FILE:", keytab)?,
            cache: memory_cache(),
        })
    }

    /// Who this is.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Asks the KDC for what acts for this user (S4U2Self), after our own log-in where that is due. Look at
    /// [`UserCredential::user`]: the KDC may know a principal by another name.
    pub fn impersonate(&mut self, user: &Principal) -> Result<UserCredential, DelegationError> {
        self.evidence(Name::import(user), user.realm())
    }

    /// Asks the KDC who this is (S4U2Self), in the words of its ticket and of the PAC in it.
    pub fn identify(&mut self, user: &DelegatedUser) -> Result<Identified, DelegationError> {
        let (evidence, is_enterprise) = match user {
            DelegatedUser::Principal(principal) => (self.impersonate(principal)?, false),
            DelegatedUser::Enterprise(name) => (self.evidence(Name::import_enterprise(name), name.realm())?, true),
        };
        evidence.identified(&self.keytab_name, is_enterprise)
    }

    fn evidence(&mut self, name: Result<Name, StatusText>, realm: &str) -> Result<UserCredential, DelegationError> {
        let is_abroad = realm != self.principal.realm();
        let failed = |detail: StatusText| {
            let is_service = detail.code() == Some(sys::KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN);
            let error = DelegationError::of(DelegationStep::Impersonate, detail);
            // What the KDC does not know there is the way to the user's realm.
            if is_abroad && is_service {
                error.with_kind(DelegationErrorKind::UserUnknown)
            } else {
                error
            }
        };
        let name = name.map_err(failed)?;
        let handle = self.acquire()?.impersonate(&name).map_err(failed)?;
        let user = handle
            .name()
            .and_then(|name| name.display())
            .map_err(failed)?
            .and_then(|name| Principal::parse(&name).ok())
            .ok_or_else(|| {
                failed(StatusText::of_our_own(sys::GSS_S_BAD_NAME)).with_kind(DelegationErrorKind::UnusableName)
            })?;
        Ok(UserCredential {
            handle,
            user,
            own: self.principal.clone(),
        })
    }

    /// Logs in, where that was not done: for who wants to know whether the keytab does.
    pub fn log_in(&mut self) -> Result<(), DelegationError> {
        self.acquire().map(drop)
    }

    /// The cache keeps its name for good: a new one each time would leave the old ones behind in memory.
    fn acquire(&self) -> Result<CredentialHandle, DelegationError> {
        let store = [
            (c"client_keytab", self.keytab_name.clone()),
            (c"ccache", self.cache.clone()),
        ];
        CredentialHandle::acquire(Some(&self.name), sys::GSS_C_INITIATE, &store).map_err(|detail| {
            let error = DelegationError::of(DelegationStep::LogIn, detail);
            // MIT's words for a keytab without the key are those for an empty cache.
            if error.kind() == DelegationErrorKind::LogInRefused && !self.keytab_is_usable() {
                error.with_kind(DelegationErrorKind::KeytabUnavailable)
            } else {
                error
            }
        })
    }

    fn keytab_is_usable(&self) -> bool {
        let is_ours = |entry: &KeytabEntry| entry.principal() == &self.principal;
        Keytab::open(&self.keytab).is_ok_and(|keytab| keytab.entries().iter().any(is_ours))
    }
}

impl fmt::Debug for Delegator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delegator")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

impl UserCredential {
    /// For whom this acts, as the KDC calls them.
    pub const fn user(&self) -> &Principal {
        &self.user
    }

    /// Makes one token for the target, and asks the KDC for a ticket (S4U2Proxy) where none is there. Each call makes
    /// another one, of the same ticket while that lasts.
    pub fn token(
        &self,
        target: &DelegationTarget,
        bindings: Option<&ChannelBindings>,
    ) -> Result<ServiceToken, DelegationError> {
        let failed = |detail| DelegationError::of(DelegationStep::Proxy, detail);
        // To ourselves MIT would give out the ticket to ourselves without asking anybody.
        if target.service().as_principal() == &self.own {
            return Err(
                failed(StatusText::of_our_own(sys::GSS_S_UNAUTHORIZED)).with_kind(DelegationErrorKind::NotAllowed)
            );
        }
        let name = Name::import(target.service().as_principal()).map_err(failed)?;
        self.initiate(name, bindings).map_err(|detail| {
            let error = failed(detail);
            if error.kind() == DelegationErrorKind::NotAllowed && self.evidence_is_forwardable() == Some(false) {
                error.with_kind(DelegationErrorKind::EvidenceNotForwardable)
            } else {
                error
            }
        })
    }

    fn initiate(&self, target: Name, bindings: Option<&ChannelBindings>) -> Result<ServiceToken, StatusText> {
        let terms = Terms {
            mechanism: Mechanism::Spnego,
            mutual: false,
            bindings: bindings.cloned(),
        };
        let mut context = InitiatorContext::new(&self.handle, target, terms);
        let token = context.first()?;
        let facts = context.consume()?;
        Ok(ServiceToken {
            token,
            ticket_end: facts.ticket_end(),
            ticket_flags: facts.ticket_flags(),
        })
    }

    /// Whether the user's ticket to ourselves could be traded for another, by the KDC's note in it. A KDC refuses one that
    /// cannot in the same words as a target that is not allowed, so this is asked then: of the cache, not of the KDC.
    pub fn evidence_is_forwardable(&self) -> Option<bool> {
        let own = Name::import(&self.own).ok()?;
        let to_ourselves = self.initiate(own, None).ok()?;
        Some(to_ourselves.ticket_flags.forwardable())
    }
}

impl fmt::Debug for UserCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserCredential")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

const _: () = {
    const fn moves_between_threads<T: Send>() {}
    moves_between_threads::<Delegator>();
    moves_between_threads::<UserCredential>();
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_service_of_the_kdc_is_a_target_however_it_is_spelt() {
        let target = |text| DelegationTarget::new(ServicePrincipal::parse(text).unwrap());
        assert!(target("HTTP/legacy.example.com@EXAMPLE.COM").is_ok());
        for text in [
            "krbtgt/EXAMPLE.COM@EXAMPLE.COM",
            "KRBTGT/EXAMPLE.COM@EXAMPLE.COM",
            "krbtgt/OTHER.COM@EXAMPLE.COM",
            r"\krbtgt/EXAMPLE.COM@EXAMPLE.COM",
            "kadmin/changepw@EXAMPLE.COM",
            "Kadmin/admin@EXAMPLE.COM",
        ] {
            assert_eq!(target(text), Err(NotATarget), "{text}");
        }
    }
}
