//! Keeps a KDC's realm in a directory of its own, which holds what a file cannot: who may delegate to whom.
//!
//! KDC and administration come over the directory's socket and are known by their user, so no password is needed.

use super::Kdc;
use crate::error::HarnessError;
use crate::openldap::{BY_SOCKET, OpenLdap, Tree};

/// The entry that holds everything.
pub(super) const ROOT: &str = "cn=krb5";

/// An empty directory for a realm.
pub(super) fn start() -> Result<OpenLdap, HarnessError> {
    OpenLdap::start(&Tree {
        suffix: ROOT.to_owned(),
        schemas: vec![include_str!("kerberos.schema").to_owned()],
        database: format!(
            "index krbPrincipalName eq\n\
             access to * by dn.exact=\"{BY_SOCKET},{ROOT}\" write by * none\n\
             limits dn.exact=\"{BY_SOCKET},{ROOT}\" size=unlimited"
        ),
        entries: format!("dn: {ROOT}\nobjectClass: krbContainer\ncn: krb5\n"),
        ..Tree::default()
    })
}

/// The part of `kdc.conf` that says where the realm is.
pub(super) fn module(url: &str) -> String {
    format!(
        "[dbmodules]\n\
         directory = {{\n\
         db_library = kldap\n\
         ldap_kerberos_container_dn = {ROOT}\n\
         ldap_servers = {url}\n\
         ldap_kdc_sasl_mech = EXTERNAL\n\
         ldap_kadmind_sasl_mech = EXTERNAL\n\
         ldap_conns_per_server = 2\n\
         }}\n"
    )
}

impl Kdc {
    /// The `ldapi://` of the directory that holds the realm below `cn=krb5`: whoever comes over it may read and write all of it.
    /// Nothing where the realm is in a file, or another process owns the KDC.
    #[must_use]
    pub fn directory(&self) -> Option<String> {
        let owned = self.owned.as_ref()?;
        owned.directory.as_ref().map(OpenLdap::ldapi)
    }

    /// Lets a service act for users who showed it no ticket (`+ok_to_auth_as_delegate`), or no longer.
    ///
    /// # Errors
    ///
    /// As [`Kdc::kadmin`].
    pub fn allow_protocol_transition(&self, service: &str, allowed: bool) -> Result<(), HarnessError> {
        let sign = if allowed { '+' } else { '-' };
        self.modify(service, &format!("{sign}ok_to_auth_as_delegate"))
    }

    /// Lets a service act for users towards another (`krbAllowedToDelegateTo`).
    ///
    /// # Errors
    ///
    /// [`HarnessError::Exited`] with what the directory said; [`HarnessError::UnexpectedAnswer`] where this KDC has none, or
    /// another process owns it.
    pub fn allow_delegation(&self, service: &str, target: &str) -> Result<(), HarnessError> {
        self.change_targets(service, "add", target)
    }

    /// Takes that right away.
    ///
    /// # Errors
    ///
    /// As [`Kdc::allow_delegation`].
    pub fn forbid_delegation(&self, service: &str, target: &str) -> Result<(), HarnessError> {
        self.change_targets(service, "delete", target)
    }

    fn change_targets(&self, service: &str, verb: &str, target: &str) -> Result<(), HarnessError> {
        let directory = self.owned.as_ref().and_then(|owned| owned.directory.as_ref());
        let directory = directory.ok_or_else(|| HarnessError::UnexpectedAnswer {
            what: format!("the directory of {}", self.realm),
            answer: "a KDC that keeps its realm in a file, or that another process owns".to_owned(),
        })?;
        let realm = &self.realm;
        directory.change(&format!(
            "dn: krbPrincipalName={service}@{realm},cn={realm},{ROOT}\nchangetype: modify\n\
             {verb}: krbAllowedToDelegateTo\nkrbAllowedToDelegateTo: {target}@{realm}\n"
        ))
    }
}
