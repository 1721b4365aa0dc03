//! Acquires credentials by name through the credential store, so that no environment variable and no default chooses them.

#![expect(unsafe_code, reason = "calls GSSAPI's credential functions")]

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::configuration::KeptConfiguration;
use crate::forwarded;
use crate::keytab::{Keytab, KeytabError};
use crate::name::Name;
use crate::oid::{self, Mechanism};
use crate::principal::{Principal, ServicePrincipal};
use crate::status::StatusText;
use crate::sys;

/// What accepts: the keys of one service principal, from one keytab, with one replay cache. The library reads the keytab
/// anew for every token, so a replaced file is in force at once.
///
/// It may move between threads and is not shared between them: MIT locks a credential for the length of each call, so each
/// thread is better off with its own.
pub struct AcceptorCredential {
    pub(crate) handle: CredentialHandle,
    pub(crate) service: ServicePrincipal,
    pub(crate) keytab: PathBuf,
    pub(crate) reads_logon_info: bool,
    /// Every call on the credential would read krb5.conf anew without it.
    _configuration: KeptConfiguration,
}

/// Why a credential was not acquired.
#[derive(Debug)]
pub struct AcquireError {
    kind: AcquireErrorKind,
    detail: Option<StatusText>,
}

/// What was wrong.
#[derive(Debug)]
pub enum AcquireErrorKind {
    /// The keytab cannot be read.
    Keytab(KeytabError),
    /// The keytab holds no key of that principal, but keys of these.
    PrincipalAbsent {
        /// The principals that the keytab holds, each once.
        held: Vec<Principal>,
    },
    /// The credential cache cannot be read or is empty.
    NoCredential,
    /// A path holds a NUL byte.
    BadPath,
    /// krb5.conf cannot be read.
    Configuration,
    /// libkrb5 would read tickets that clients hand over, and could be made to end the process by one.
    Unguarded,
    /// GSSAPI refused; the detail says why.
    Refused,
}

impl AcquireError {
    /// What was wrong.
    pub const fn kind(&self) -> &AcquireErrorKind {
        &self.kind
    }

    /// What GSSAPI said, where it was asked.
    pub const fn detail(&self) -> Option<&StatusText> {
        self.detail.as_ref()
    }

    const fn bare(kind: AcquireErrorKind) -> Self {
        Self { kind, detail: None }
    }

    const fn unconfigured(detail: StatusText) -> Self {
        Self {
            kind: AcquireErrorKind::Configuration,
            detail: Some(detail),
        }
    }

    pub(crate) const fn refused(detail: StatusText) -> Self {
        Self {
            kind: AcquireErrorKind::Refused,
            detail: Some(detail),
        }
    }
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            AcquireErrorKind::Keytab(error) => error.fmt(f)?,
            AcquireErrorKind::PrincipalAbsent { .. } => f.write_str("the keytab has no key of this principal")?,
            AcquireErrorKind::NoCredential => f.write_str("the credential cache cannot be used")?,
            AcquireErrorKind::BadPath => f.write_str("a path holds a nul byte")?,
            AcquireErrorKind::Configuration => f.write_str("the krb5 configuration cannot be read")?,
            AcquireErrorKind::Unguarded => {
                f.write_str("this program is linked so that libkrb5 would read tickets that clients hand over")?;
            }
            AcquireErrorKind::Refused => f.write_str("gssapi gave no credential")?,
        }
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for AcquireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            AcquireErrorKind::Keytab(error) => Some(error),
            AcquireErrorKind::PrincipalAbsent { .. }
            | AcquireErrorKind::NoCredential
            | AcquireErrorKind::BadPath
            | AcquireErrorKind::Configuration
            | AcquireErrorKind::Unguarded
            | AcquireErrorKind::Refused => None,
        }
    }
}

impl AcceptorCredential {
    /// Acquires the keys of `service` from `keytab`, with SPNEGO (which may negotiate only krb5) and krb5. `replay_cache` is
    /// a file of MIT's `file2` format; it is created, mode 0600, with the first token, in a folder that must exist.
    ///
    /// Acquired by full principal, so that the token of any other key in the keytab is refused, whatever
    /// `ignore_acceptor_hostname` says.
    pub fn acquire(service: &ServicePrincipal, keytab: &Path, replay_cache: &Path) -> Result<Self, AcquireError> {
        Self::acquire_with(service, keytab, prefixed(b"file2:", replay_cache)?)
    }

    /// As [`AcceptorCredential::acquire`], but remembers no token. For [`BindingsProbe`](crate::BindingsProbe) alone, whose
    /// contexts open nothing.
    pub(crate) fn without_replay_cache(service: &ServicePrincipal, keytab: &Path) -> Result<Self, AcquireError> {
        Self::acquire_with(service, keytab, c"none:".to_owned())
    }

    fn acquire_with(service: &ServicePrincipal, keytab: &Path, replay_cache: CString) -> Result<Self, AcquireError> {
        if !forwarded::is_kept_out() {
            return Err(AcquireError::bare(AcquireErrorKind::Unguarded));
        }
        let held = Keytab::open(keytab).map_err(|error| AcquireError::bare(AcquireErrorKind::Keytab(error)))?;
        if !held
            .entries()
            .iter()
            .any(|entry| entry.principal() == service.as_principal())
        {
            let held = held.principals();
            return Err(AcquireError::bare(AcquireErrorKind::PrincipalAbsent { held }));
        }
        let store = [(c"keytab", prefixed(b"FILE:", keytab)?), (c"rcache", replay_cache)];
        let configuration = KeptConfiguration::read().map_err(AcquireError::refused)?;
        let name = Name::import(service.as_principal()).map_err(AcquireError::refused)?;
        let handle =
            CredentialHandle::acquire(Some(&name), sys::GSS_C_ACCEPT, &store).map_err(AcquireError::refused)?;
        Ok(Self {
            handle,
            service: service.clone(),
            keytab: keytab.to_owned(),
            reads_logon_info: false,
            _configuration: configuration,
        })
    }

    /// Reads the groups in the PAC of each ticket too ([`EstablishedContext::logon_info`](crate::EstablishedContext::logon_info)).
    #[must_use]
    pub fn reading_logon_info(self) -> Self {
        Self {
            reads_logon_info: true,
            ..self
        }
    }

    /// The principal whose keys these are.
    pub const fn service(&self) -> &ServicePrincipal {
        &self.service
    }

    /// The keytab with the keys.
    pub fn keytab(&self) -> &Path {
        &self.keytab
    }
}

impl fmt::Debug for AcceptorCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptorCredential")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// What initiates: the tickets of one credential cache.
pub struct InitiatorCredential {
    pub(crate) handle: CredentialHandle,
    principal: Principal,
}

impl InitiatorCredential {
    /// Acquires the default principal's tickets from a cache file (`FILE:` format).
    pub fn from_ccache(ccache: &Path) -> Result<Self, AcquireError> {
        Self::held(None, &[(c"ccache", prefixed(b"FILE:", ccache)?)])
    }

    /// Acquires the tickets that a user of this machine has (`KRB5CCNAME`, otherwise krb5.conf's default, of any type), of one
    /// principal where the user has tickets of several.
    ///
    /// A cache that is one file is named to GSSAPI. Left to find it, MIT 1.20 (`krb5_cccol_have_content`) frees a principal
    /// that it never read where the file cannot be read.
    pub fn of_user(principal: Option<&Principal>) -> Result<Self, AcquireError> {
        let configuration = KeptConfiguration::read().map_err(AcquireError::unconfigured)?;
        match configuration.default_cache() {
            Some(name) if is_one_file(&name) => Self::held(principal, &[(c"ccache", name)]),
            Some(_) | None => Self::held(principal, &[]),
        }
    }

    /// The cache in which [`InitiatorCredential::of_user`] looks, as `KRB5CCNAME` names one.
    pub fn cache_of_user() -> Option<String> {
        let name = KeptConfiguration::read().ok()?.default_cache()?;
        Some(name.to_string_lossy().into_owned())
    }

    /// The same from a cache that is named as `KRB5CCNAME` names one: `FILE:/tmp/krb5cc_0`, `KCM:`, a path.
    pub fn from_named_ccache(name: &str, principal: Option<&Principal>) -> Result<Self, AcquireError> {
        Self::held(principal, &[(c"ccache", prefixed(b"", name.as_ref())?)])
    }

    fn held<const N: usize>(
        principal: Option<&Principal>,
        store: &[(&CStr, CString); N],
    ) -> Result<Self, AcquireError> {
        let unusable = |detail| AcquireError {
            kind: AcquireErrorKind::NoCredential,
            detail: Some(detail),
        };
        let _configuration = KeptConfiguration::read().map_err(AcquireError::unconfigured)?;
        let name = principal.map(Name::import).transpose().map_err(unusable)?;
        let handle = CredentialHandle::acquire(name.as_ref(), sys::GSS_C_INITIATE, store).map_err(unusable)?;
        let principal = handle
            .name()
            .and_then(|name| name.display())
            .map_err(unusable)?
            .and_then(|name| Principal::parse(&name).ok())
            .ok_or(AcquireError::bare(AcquireErrorKind::NoCredential))?;
        Ok(Self { handle, principal })
    }

    /// Logs `principal` in with its keys from `keytab`, when the first ticket is asked for. The tickets are kept in memory,
    /// in a cache of this credential's own.
    pub fn from_keytab(principal: &Principal, keytab: &Path) -> Result<Self, AcquireError> {
        let store = [
            (c"client_keytab", prefixed(b"FILE:", keytab)?),
            (c"ccache", memory_cache()),
        ];
        let _configuration = KeptConfiguration::read().map_err(AcquireError::unconfigured)?;
        let name = Name::import(principal).map_err(AcquireError::refused)?;
        let handle =
            CredentialHandle::acquire(Some(&name), sys::GSS_C_INITIATE, &store).map_err(AcquireError::refused)?;
        Ok(Self {
            handle,
            principal: principal.clone(),
        })
    }

    /// Whose tickets these are.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }
}

impl fmt::Debug for InitiatorCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitiatorCredential")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

/// Whether a cache of this name is a file, and no collection: `FILE:`, or a path alone.
fn is_one_file(name: &CStr) -> bool {
    let name = name.to_bytes();
    name.starts_with(b"FILE:") || !name.contains(&b':')
}

/// The name of a cache in memory that nobody else has.
pub(crate) fn memory_cache() -> CString {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("MEMORY:kerbridge-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    // A number has no zero byte; the default, an empty name, is none that MIT takes.
    CString::new(name).unwrap_or_default()
}

pub(crate) fn prefixed(prefix: &[u8], path: &Path) -> Result<CString, AcquireError> {
    CString::new([prefix, path.as_os_str().as_bytes()].concat())
        .map_err(|_| AcquireError::bare(AcquireErrorKind::BadPath))
}

/// A `gss_cred_id_t`, released on drop; never null.
pub(crate) struct CredentialHandle(sys::gss_cred_id_t);

// SAFETY: MIT's credentials have no thread affinity (they carry their own lock); ownership moves with the value.
unsafe impl Send for CredentialHandle {}

impl CredentialHandle {
    /// Longest credential store that is passed.
    const STORE: usize = 2;

    pub(crate) fn acquire<const N: usize>(
        name: Option<&Name>,
        usage: u32,
        store: &[(&CStr, CString); N],
    ) -> Result<Self, StatusText> {
        const { assert!(N <= Self::STORE, "the count below is a small number") };
        let mut elements = store.each_ref().map(|(key, value)| sys::gss_key_value_element_desc {
            key: key.as_ptr(),
            value: value.as_ptr(),
        });
        #[expect(clippy::as_conversions, reason = "at most STORE")]
        let set = sys::gss_key_value_set_desc {
            count: N as u32,
            elements: elements.as_mut_ptr(),
        };
        // An empty set is an error to MIT; none is the user's defaults.
        let store = if N == 0 { ptr::null() } else { &raw const set };
        let mut mechanisms = [
            oid::borrowed(Mechanism::Krb5.der_content()),
            oid::borrowed(Mechanism::Spnego.der_content()),
        ];
        let mut both = sys::gss_OID_set_desc {
            count: mechanisms.len(),
            elements: mechanisms.as_mut_ptr(),
        };
        let mut handle = ptr::null_mut();
        let mut minor = 0;
        // SAFETY: name, store and mechanisms are only read and outlive the call; the out pointers are valid, and those that
        // are not wanted are null, which the function allows.
        let major = unsafe {
            sys::gss_acquire_cred_from(
                &raw mut minor,
                name.map_or(ptr::null_mut(), Name::as_ptr),
                sys::GSS_C_INDEFINITE,
                &raw mut both,
                usage.cast_signed(),
                store,
                &raw mut handle,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        StatusText::check(major, minor)?;
        let handle = Self(handle);
        handle.negotiate_only_krb5()?;
        Ok(handle)
    }

    /// Asks the KDC for a credential of `user`'s, on our word alone (S4U2Self). It is for SPNEGO only: for each mechanism more
    /// the KDC would be asked once more.
    pub(crate) fn impersonate(&self, user: &Name) -> Result<Self, StatusText> {
        let mut mechanism = oid::borrowed(Mechanism::Spnego.der_content());
        let mut spnego = sys::gss_OID_set_desc {
            count: 1,
            elements: &raw mut mechanism,
        };
        let mut handle = ptr::null_mut();
        let mut minor = 0;
        // SAFETY: the credential is owned and not null, as is the name; the set is only read and outlives the call; the out
        // pointers are valid, and those that are not wanted are null, which the function allows.
        let major = unsafe {
            sys::gss_acquire_cred_impersonate_name(
                &raw mut minor,
                self.0,
                user.as_ptr(),
                sys::GSS_C_INDEFINITE,
                &raw mut spnego,
                sys::GSS_C_INITIATE.cast_signed(),
                &raw mut handle,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        StatusText::check(major, minor)?;
        let handle = Self(handle);
        handle.negotiate_only_krb5()?;
        Ok(handle)
    }

    fn negotiate_only_krb5(&self) -> Result<(), StatusText> {
        let mut mechanism = oid::borrowed(Mechanism::Krb5.der_content());
        let mut krb5 = sys::gss_OID_set_desc {
            count: 1,
            elements: &raw mut mechanism,
        };
        let mut minor = 0;
        // SAFETY: the credential is owned and not null; the set's one element is krb5, which the library copies.
        let major = unsafe { sys::gss_set_neg_mechs(&raw mut minor, self.0, &raw mut krb5) };
        StatusText::check(major, minor)
    }

    pub(crate) const fn as_ptr(&self) -> sys::gss_cred_id_t {
        self.0
    }

    pub(crate) fn name(&self) -> Result<Name, StatusText> {
        let mut name = Name::null();
        let mut minor = 0;
        // SAFETY: the credential is owned and not null; the out pointers that are not wanted are null, which is allowed.
        let major = unsafe {
            sys::gss_inquire_cred(
                &raw mut minor,
                self.0,
                name.as_mut_ptr(),
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        StatusText::check(major, minor)?;
        Ok(name)
    }
}

impl Drop for CredentialHandle {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle is owned by this value and not used again; releasing a null handle does nothing.
        unsafe { sys::gss_release_cred(&raw mut minor, &raw mut self.0) };
    }
}
