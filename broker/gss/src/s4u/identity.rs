//! Reads from the ticket to ourselves who its user is: the same ticket that is traded for others, so nothing more is trusted. And
//! tells by our keys whether a ticket that is not to ourselves by its name is so all the same.
//!
//! A KDC may leave the name that was asked for as it is in the ticket. Active Directory's and Samba's say the account in the PAC,
//! under the signature of our own key; so the ticket is accepted as any service would accept it.

use std::ffi::CString;
use std::path::Path;

use super::{DelegationError, DelegationErrorKind, DelegationStep, Delegator, ServiceToken, UserCredential};
use crate::accept::accept_from_ourselves;
use crate::attribute::LogonInfo;
use crate::credential::{CredentialHandle, prefixed};
use crate::name::Name;
use crate::principal::Principal;
use crate::status::StatusText;
use crate::sys;

/// Who a user is to the KDC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The name in the ticket; absent where that is still the enterprise name that was asked.
    pub principal: Option<Principal>,
    /// The user's realm.
    pub realm: String,
    /// What the ticket's PAC says.
    pub logon_info: LogonInfo,
}

impl ServiceToken {
    /// Whether the key that this principal has in this keytab opens the ticket: then it is to that principal's account, whatever
    /// name the KDC knows it by. The name stands outside of what is encrypted, so that whoever has the token could write
    /// another one there. Nobody is asked.
    ///
    /// A key that the keytab does not have opens nothing: one whose number or type is missing is as often that of a service
    /// which is rightly another as it is a newer one of the account's own, and neither can be told. Who has this keytab can no
    /// more accept such a ticket than we can here, until the newer key is put into it.
    pub fn is_opened_by(&self, own: &Principal, keytab: &Path) -> Result<bool, DelegationError> {
        let failed = |detail| DelegationError::of(DelegationStep::Proxy, detail);
        let keytab = prefixed(b"FILE:", keytab).map_err(|_| failed(StatusText::of_our_own(sys::GSS_S_FAILURE)))?;
        match opened(own, &keytab, self.token.as_bytes()) {
            Ok(_) => Ok(true),
            Err(detail) if is_about_the_key(&detail) || is_about_the_name(&detail) => Ok(false),
            Err(detail) => Err(failed(detail)),
        }
    }
}

impl Delegator {
    /// What the PAC of a user's ticket to ourselves says of them. Nobody is asked: the ticket is there, and so must its key be.
    pub fn logon_info(&self, user: &UserCredential) -> Result<LogonInfo, DelegationError> {
        user.logon_info(&self.keytab_name)
    }
}

impl UserCredential {
    pub(super) fn identified(self, keytab: &CString, is_enterprise: bool) -> Result<Identified, DelegationError> {
        let logon_info = self.logon_info(keytab)?;
        let is_resolved = !(is_enterprise && self.user.name().contains("\\@"));
        Ok(Identified {
            realm: self.user.realm().to_owned(),
            principal: is_resolved.then_some(self.user),
            logon_info,
        })
    }

    /// The PAC of the ticket to ourselves.
    fn logon_info(&self, keytab: &CString) -> Result<LogonInfo, DelegationError> {
        self.accepted(keytab).map_err(|detail| {
            let is_key = is_about_the_key(&detail);
            let error = DelegationError::of(DelegationStep::Impersonate, detail);
            // The KDC's ticket is for a key of ours that is not there.
            if is_key {
                error.with_kind(DelegationErrorKind::KeytabUnavailable)
            } else {
                error
            }
        })
    }

    fn accepted(&self, keytab: &CString) -> Result<LogonInfo, StatusText> {
        let token = self.initiate(Name::import(&self.own)?, None)?.token;
        opened(&self.own, keytab, token.as_bytes())?.logon_info()
    }
}

/// Accepts a token that was made here. Its replay is nobody's gain: it goes no further than this.
fn opened(own: &Principal, keytab: &CString, token: &[u8]) -> Result<Name, StatusText> {
    let own = Name::import(own)?;
    let store = [(c"keytab", keytab.clone()), (c"rcache", c"none:".to_owned())];
    let acceptor = CredentialHandle::acquire(Some(&own), sys::GSS_C_ACCEPT, &store)?;
    accept_from_ourselves(&acceptor, token)
}

/// The key of that name was tried, and is not that of the ticket's name.
fn is_about_the_name(detail: &StatusText) -> bool {
    matches!(
        detail.code(),
        Some(sys::KRB5KRB_AP_ERR_NOT_US | sys::KRB5KRB_AP_WRONG_PRINC)
    )
}

/// Whether no key of the keytab is the ticket's.
fn is_about_the_key(detail: &StatusText) -> bool {
    matches!(
        detail.code(),
        Some(
            sys::KRB5KRB_AP_ERR_BADKEYVER
                | sys::KRB5_KT_KVNONOTFOUND
                | sys::KRB5KRB_AP_ERR_NOKEY
                | sys::KRB5_KT_NOTFOUND
                | sys::KRB5KRB_AP_ERR_BAD_INTEGRITY
        )
    )
}
