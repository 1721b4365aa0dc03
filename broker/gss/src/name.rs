//! Owns GSSAPI names: from a principal, and to a principal.

#![expect(unsafe_code, reason = "calls GSSAPI's name functions")]

use std::ptr;

use crate::buffer::{OwnedBuffer, borrowed};
use crate::host_service::HostService;
use crate::oid::{self, Mechanism};
use crate::principal::{EnterpriseName, Principal};
use crate::status::StatusText;
use crate::sys;

/// A `gss_name_t`, released on drop; null before the library has filled it.
pub(crate) struct Name(sys::gss_name_t);

// SAFETY: MIT's names are plain memory without thread affinity; ownership of the handle moves with the value.
unsafe impl Send for Name {}

impl Name {
    /// Imports a full principal: an acceptor is never a host-based name, since those are canonicalised through DNS and match any
    /// realm.
    pub(crate) fn import(principal: &Principal) -> Result<Self, StatusText> {
        Self::import_as(principal.as_str(), oid::NT_KRB5_PRINCIPAL)
    }

    /// Imports an enterprise name, which its realm's KDC resolves to a principal.
    pub(crate) fn import_enterprise(name: &EnterpriseName) -> Result<Self, StatusText> {
        // The first `@` belongs to the name, the second begins the realm.
        Self::import_as(&format!("{}@{}", name.name(), name.realm()), oid::NT_KRB5_ENTERPRISE)
    }

    /// Imports the name of a service that is asked for a ticket. Which realm it is in, and whether DNS is asked for its host's name,
    /// is for krb5.conf to say (`domain_realm`, `dns_canonicalize_hostname`), as for every client on this machine.
    pub(crate) fn import_host_service(service: &HostService) -> Result<Self, StatusText> {
        Self::import_as(service.as_str(), oid::NT_HOSTBASED_SERVICE)
    }

    fn import_as(text: &str, form: &[u8]) -> Result<Self, StatusText> {
        let mut text = borrowed(text.as_bytes());
        let mut form = oid::borrowed(form);
        let mut imported = Self::null();
        let mut minor = 0;
        // SAFETY: text and form describe memory that outlives the call, which only reads them; the out pointers are valid.
        let major =
            unsafe { sys::gss_import_name(&raw mut minor, &raw mut text, &raw mut form, imported.as_mut_ptr()) };
        StatusText::check(major, minor)?;
        Ok(imported)
    }

    pub(crate) const fn null() -> Self {
        Self(ptr::null_mut())
    }

    pub(crate) const fn is_null(&self) -> bool {
        self.0.is_null()
    }

    pub(crate) const fn as_ptr(&self) -> sys::gss_name_t {
        self.0
    }

    /// For the C call that fills it. Not to be used twice: the first name would leak.
    pub(crate) const fn as_mut_ptr(&mut self) -> *mut sys::gss_name_t {
        &raw mut self.0
    }

    /// The display form, or `None` if it is not UTF-8.
    pub(crate) fn display(&self) -> Result<Option<String>, StatusText> {
        let mut text = OwnedBuffer::empty();
        let mut minor = 0;
        if self.0.is_null() {
            return Ok(None);
        }
        // SAFETY: the name is not null and owned; the buffer is empty; the name type is not asked for (null is allowed).
        let major = unsafe { sys::gss_display_name(&raw mut minor, self.0, text.as_mut_ptr(), ptr::null_mut()) };
        StatusText::check(major, minor)?;
        Ok(std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned))
    }

    /// What the rules of krb5.conf call it on this machine, or `None` where they have no name for it.
    fn local(&self) -> Option<String> {
        let mut text = OwnedBuffer::empty();
        let krb5 = oid::borrowed(Mechanism::Krb5.der_content());
        let mut minor = 0;
        // SAFETY: the name is not null (it was imported) and owned; the mechanism is only read and outlives the call; the
        // buffer is empty.
        let major = unsafe { sys::gss_localname(&raw mut minor, self.0, &raw const krb5, text.as_mut_ptr()) };
        // MIT has one number for all that can go wrong here, KRB5_NO_LOCALNAME.
        StatusText::check(major, minor).ok()?;
        std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned)
    }
}

/// The local name of a principal by the `auth_to_local` rules of krb5.conf (those of the default realm) and by MIT's local
/// authorization modules, or `None` where they have none for it. Nothing but their word says that no other principal has it.
pub fn local_name(principal: &Principal) -> Option<String> {
    Name::import(principal).ok()?.local()
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut minor = 0;
        if !self.0.is_null() {
            // SAFETY: the handle is not null, is owned by this value and is not used again.
            unsafe { sys::gss_release_name(&raw mut minor, &raw mut self.0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_survives_the_way_through_gssapi() {
        for text in [
            "alice@LAB.TEST",
            r"a\@b\/c/d\\e@LAB.TEST",
            "HTTP/localhost@LAB.TEST",
            "ærø@LAB.TEST",
        ] {
            let name = Name::import(&Principal::parse(text).unwrap()).unwrap();
            assert_eq!(name.display().unwrap().as_deref(), Some(text));
        }
    }

    #[test]
    fn an_enterprise_name_is_imported_with_the_realm_that_is_asked() {
        let name = EnterpriseName::parse("alice@example.com", "LAB.TEST").unwrap();
        let imported = Name::import_enterprise(&name).unwrap();
        assert_eq!(
            imported.display().unwrap().as_deref(),
            Some("alice@example.com@LAB.TEST")
        );
    }
}
